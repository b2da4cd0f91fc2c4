"""extractor.toml: the agreement of both ends, read once, checked once, and held in frozen dataclasses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ..errors import SettingsError
from ..tables import parse_toml, read_text
from ..video.sps import MAX_SIDE
from ..video.x265_settings import PRESETS
from .adaptive import partition_of
from .fields import (
    FILE_NAME,
    SHA256,
    Choice,
    FieldError,
    Flag,
    Integer,
    Number,
    Text,
    check_fields,
    read_table,
    refuse,
    write_table,
)
from .maps import MapSettings, read_map
from .task import Task, read_task
from .thresholds import thresholds_of

#: The settings file in an extractor's folder.
SETTINGS_FILE = "extractor.toml"
FORMAT_VERSION = 1

#: What `ExtractorSettings.verify` can look at; the thresholds belong to the backbone's end.
Part = Literal["backbone", "head", "whole", "task"]
#: What an end that has the whole folder checks; a camera needs only the backbone.
PARTS: tuple[Part, ...] = ("backbone", "head", "task")


@dataclass(frozen=True)
class Identity:
    """[extractor]: which extractor this is."""

    TABLE: ClassVar[str] = "extractor"

    #: name for people
    name: Annotated[str, Text()]
    #: feat_extractor_id of the sequence header
    feat_extractor_id: Annotated[int, Integer(0, 7)]
    #: version of this file's format
    format_version: Annotated[int, Choice(FORMAT_VERSION)] = FORMAT_VERSION

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class SourceModel:
    """[source_model]: the whole network that was split."""

    TABLE: ClassVar[str] = "source_model"

    #: its file name (the file itself is in the folder only where [models] whole says so)
    file: Annotated[str, FILE_NAME]
    sha256: Annotated[str, SHA256]
    #: the tensor at which it was split
    split_tensor: Annotated[str, Text()]

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class InputSettings:
    """[input]: the network's input tensor and how a picture becomes one.

    A picture is resized to width x height without keeping its aspect; sample x becomes x * scale + offset, each step
    rounded to binary32.
    """

    TABLE: ClassVar[str] = "input"

    tensor: Annotated[str, Text()]
    width: Annotated[int, Integer(1, MAX_SIDE)]
    height: Annotated[int, Integer(1, MAX_SIDE)]
    layout: Annotated[str, Choice("NCHW", "NHWC")] = "NCHW"
    colour: Annotated[str, Choice("rgb", "bgr", "gray")] = "rgb"
    scale: Annotated[float, Number(single=True)] = 1 / 255
    offset: Annotated[float, Number(single=True)] = 0.0
    dtype: Annotated[str, Choice("float32")] = "float32"

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return 1 if self.colour == "gray" else 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The tensor's shape, the batch axis being 1."""
        size = (self.height, self.width)
        return (1, self.channels, *size) if self.layout == "NCHW" else (1, *size, self.channels)


@dataclass(frozen=True)
class VideoSettings:
    """[video]: how pictures are coded, and what of it the stream does not say itself."""

    TABLE: ClassVar[str] = "video"

    profile: Annotated[str, Choice("standard", "interface", "standard-16", "adaptive")] = "standard"
    session: Annotated[str, Choice("self-contained", "continuous")] = "self-contained"
    lossless: Annotated[bool, Flag()] = True
    #: lossy coding says exactly one of the two
    qp: Annotated[int | None, Integer(0, 51)] = None
    crf: Annotated[float | None, Number(low=0, high=51)] = None
    preset: Annotated[str, Choice(*PRESETS)] = "superfast"
    #: samples = level * 255 / peak instead of the levels themselves
    level_scaling: Annotated[bool, Flag()] = False
    #: continuous sessions: seconds between intra pictures with parameter sets and explicit lists
    refresh_s: Annotated[float, Number(above=0)] = 2.0
    chroma: Annotated[str, Choice("400", "420")] = "400"
    #: every picture carries an MD5 hash, and the host refuses maps without: else most damage passes unseen
    picture_hash: Annotated[bool, Flag()] = True

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        for key in ("qp", "crf"):
            if self.lossless and getattr(self, key) is not None:
                raise refuse(self, key, "nothing where lossless is true")
        if self.qp is not None and self.crf is not None:
            raise refuse(self, "crf", "nothing where qp is given")
        if not self.lossless and self.qp is None and self.crf is None:
            raise refuse(self, "qp", "qp or crf where lossless is false")


@dataclass(frozen=True)
class ModelFiles:
    """[models]: the two halves, files of the same folder, and their SHA-256."""

    TABLE: ClassVar[str] = "models"

    backbone: Annotated[str, FILE_NAME]
    backbone_sha256: Annotated[str, SHA256]
    head: Annotated[str, FILE_NAME]
    head_sha256: Annotated[str, SHA256]
    #: the whole network where it was kept; its SHA-256 is [source_model]'s
    whole: Annotated[str | None, FILE_NAME] = None

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class ExtractorSettings:
    """extractor.toml, a field a table."""

    extractor: Identity
    source_model: SourceModel
    input: InputSettings
    maps: tuple[MapSettings, ...]
    video: VideoSettings
    models: ModelFiles
    task: Task

    def __post_init__(self) -> None:
        """:raises FieldError: tables that do not fit together."""
        if not self.maps:
            raise FieldError("", "maps", "no map", "at least one [[maps]] table")
        profile = self.video.profile
        ids: set[int] = set()
        for index, feature in enumerate(self.maps):
            table, depth = f"maps[{index}]", feature.quantizer.bit_depth
            if feature.feat_type_id in ids:
                raise FieldError(
                    table, "feat_type_id", f"{feature.feat_type_id} again", "an id of its own for every map"
                )
            ids.add(feature.feat_type_id)
            if depth == 16 and not (profile == "standard-16" and self.video.lossless):
                raise FieldError(
                    f"{table}.quantizer",
                    "bit_depth",
                    "16",
                    "2, 4 or 8, unless [video] is lossless and of profile 'standard-16'",
                )
            if feature.quantizer.mode == "adaptive" and profile != "adaptive":
                expected = f"another than in profile 'adaptive', the profile is {profile!r}"
                raise FieldError(f"{table}.quantizer", "mode", "'adaptive'", expected)
            if profile == "interface" and feature.quantizer.mode == "custom":
                raise FieldError(
                    f"{table}.quantizer", "mode", "'custom'", "'uniform' or 'logarithmic' in profile 'interface'"
                )
            if profile == "interface" and feature.packing.mode == "tile" and feature.channels > 4095:
                raise FieldError(table, "channels", str(feature.channels), "at most 4095, tiled in profile 'interface'")

    @classmethod
    def load(cls, folder: Path | str, parts: Sequence[Part] = PARTS) -> ExtractorSettings:
        """The settings of an extractor's folder.

        :param parts: the files that are verified too, see `verify`; empty for none
        :raises SettingsError: no such file, not TOML, or a field that does not fit: file, table, key, found, expected
        """
        folder = Path(folder)
        file = folder / SETTINGS_FILE
        data = parse_toml(read_text(file, "an extractor is a folder with this file"), file)
        settings = cls.from_dict(data, file)
        settings.verify(folder, parts)
        return settings

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], file: Path | str = SETTINGS_FILE) -> ExtractorSettings:
        """The settings that the tables of a parsed extractor.toml hold; `file` is its name for messages.

        :raises SettingsError: a field that does not fit
        """
        try:
            tables: dict[str, Any] = {}
            for key, kind in _TABLES.items():
                if key in data:
                    tables[key] = read_table(kind, data[key], key)
            if "maps" in data:
                if not isinstance(data["maps"], (list, tuple)):
                    raise FieldError("", "maps", "one table", "an array of tables, [[maps]]")
                tables["maps"] = tuple(read_map(item, f"maps[{index}]") for index, item in enumerate(data["maps"]))
            if "task" in data:
                tables["task"] = read_task(data["task"])
            return read_table(cls, dict(data), "", tables)
        except FieldError as error:
            raise SettingsError(f"{file}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The tables to be written as TOML; `from_dict` of it equals these settings."""
        return write_table(self)

    def verify(self, folder: Path | str, parts: Sequence[Part] = PARTS) -> None:
        """Check that the folder's files are there and are the ones that were agreed on.

        :raises SettingsError: a file that is missing or whose SHA-256 is another, or thresholds that do not fit
        """
        folder = Path(folder)
        file, models = folder / SETTINGS_FILE, self.models
        agreed = {
            "backbone": (models.backbone, models.backbone_sha256),
            "head": (models.head, models.head_sha256),
            "whole": (models.whole, self.source_model.sha256),
        }
        for part in parts:
            if part == "task":
                for key, name in self.task.files:
                    if not (folder / name).is_file():
                        raise SettingsError(f"{file}: [task] {key}: found no file {name!r}, expected one")
                continue
            model, expected = agreed[part]
            if model is None:
                raise SettingsError(f"{file}: [models] {part}: found nothing, expected a file name")
            found = sha256_of(folder / model, f"{file}: [models] {part}: ")
            if found != expected:
                raise SettingsError(f"{file}: [models] {part}: found {model} of SHA-256 {found}, expected {expected}")
            if part == "backbone":
                for settings in self.maps:
                    thresholds_of(folder, settings)
                    if settings.quantizer.mode == "adaptive":
                        partition_of(settings, folder)


_TABLES: dict[str, type] = {
    "extractor": Identity,
    "source_model": SourceModel,
    "input": InputSettings,
    "video": VideoSettings,
    "models": ModelFiles,
}


def sha256_of(path: Path, prefix: str = "") -> str:
    """SHA-256 of a file, in hexadecimal (SettingsError, its text after `prefix`, where it cannot be read)."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise SettingsError(f"{prefix}{path}: {error.strerror or error}") from None
    return digest.hexdigest()
