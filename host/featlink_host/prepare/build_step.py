"""A build as its arguments say: from the command line, from `auto`, or from an extractor's own record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.files import write_whole
from featlink_codec.video.clip import Clip, open_source
from featlink_codec.video.limits import EncoderLimits

from ..model.notes import Notes
from ..prepare_options import detector_options
from .build import DEFAULT_FRAMES, BuildOptions, Built, build
from .build_points import Bench, CodedPoint
from .build_rivals import CRFS
from .build_search import Target
from .calibrate import Progress
from .graph import load_model
from .pipeline import PrepareOptions
from .record import StepRecord, digest_of, package_version, plain, recorded_step, step_key
from .sample_pictures import write_pictures
from .samples import ARRAY_SUFFIXES, Preprocessing, picture_settings, read_labels
from .scoring import Judge
from .shapes import fix_shapes, parse_shapes
from .target_limits import target_limits

#: In the extractor: every step's record, and what `repeat` reads.
RECORD_FILE, PAGE_FILE = "prepare.json", "prepare.html"


@dataclass(frozen=True)
class BuildArguments:
    """What a build was asked for, in what JSON has; see the command's options."""

    model: str
    tensor: str
    images: str
    kbps: float | None = None
    agreement: float | None = None
    target: str | None = None
    labels: str | None = None
    anchors: str | None = None
    label_names: str | None = None
    scale: float | None = None
    offset: float = 0.0
    colour: str = ""
    frames: int = DEFAULT_FRAMES
    fps: float | None = None
    model_qp: int | None = None
    modes: tuple[str, ...] = ("uniform", "logarithmic")
    depths: tuple[int, ...] = (2, 4, 8)
    crfs: tuple[float, ...] = CRFS
    fix_shape: tuple[str, ...] = ()
    name: str = ""
    #: what agreement is measured against, where it is not the model
    reference: str | None = None
    keep_whole: bool = False
    standard_only: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], where: Path) -> BuildArguments:
        """From a record's options (SettingsError: they are not a build's)."""
        known = {one.name for one in fields(cls)}
        if set(options) - known or not {"model", "tensor", "images"} <= set(options):
            raise SettingsError(f"{where}: options: found {', '.join(options) or 'none'}, expected those of a build")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        return cls(**values)

    @property
    def files(self) -> dict[str, Path]:
        """What its result follows from, by the option's name."""
        names = ("model", "images", "labels", "anchors", "label_names", "target", "reference")
        found = {name: Path(value) for name in names if (value := getattr(self, name)) is not None}
        if "target" in found and found["target"].is_dir():
            found["target"] /= "target.toml"
        return found

    def digests(self) -> dict[str, str]:
        """SHA-256 of each (SettingsError: one is not there)."""
        for name, path in self.files.items():
            if not path.exists():
                what = "no images" if name == "images" else f"no {name.replace('_', ' ')}"
                raise SettingsError(f"{path}: {what}: found no such file or folder")
        return {name: digest_of(path) for name, path in self.files.items()}


@dataclass(frozen=True)
class BuildInputs:
    """What a build works on, opened.

    :param model: the network's file, with fixed shapes
    :param clip: its pictures
    :param labels: of them
    """

    model: Path
    clip: Clip
    labels: NDArray[np.int64] | None
    prepare: PrepareOptions


def limits_of(arguments: BuildArguments) -> EncoderLimits | None:
    """Of the target's encoder; None: x265's (SettingsError: no such target; says which there are)."""
    return target_limits(Path(arguments.target)) if arguments.target is not None else None


def open_inputs(arguments: BuildArguments, work: Path) -> BuildInputs:
    """Files, opened and checked; arrays of samples become pictures in the working folder.

    :raises SettingsError: what does not fit, by name
    """
    if (arguments.anchors is None) != (arguments.label_names is None):
        raise SettingsError("an SSD detector needs both --anchors and --label-names")
    if arguments.labels is not None and arguments.anchors is not None:
        raise SettingsError("--labels: a detector is judged by what the whole network finds: leave --labels out")
    images = Path(arguments.images)
    if not images.exists():
        raise SettingsError(f"{images}: no images: found no such file or folder")
    model = _fixed(arguments, work)
    labels = read_labels(Path(arguments.labels)) if arguments.labels is not None else None
    if images.is_file() and images.name.endswith(ARRAY_SUFFIXES):
        images, labels = write_pictures(images, labels, work / "pictures", arguments.frames)
    clip = open_source(images)
    if labels is not None and len(labels) != clip.count():
        raise SettingsError(f"found {len(labels)} labels for {clip.count()} pictures, expected one each")
    return BuildInputs(model, clip, labels, prepare_options(arguments, load_model(model)))


def run_build(
    arguments: BuildArguments,
    out: Path,
    work: Path,
    *,
    notes: Notes | None = None,
    watch: Callable[[Judge, Bench, CodedPoint], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Built, StepRecord]:
    """Build into `out`, which is replaced, with notes in `work`.

    :raises SettingsError: see `build`
    """
    work.mkdir(parents=True, exist_ok=True)
    limits = limits_of(arguments)
    digests = arguments.digests()
    options = plain(asdict(arguments))
    inputs = open_inputs(arguments, work)
    if notes is None:
        notes = Notes(work / "notes.json", step_key("build", digests, options))
    target = Target(arguments.kbps, arguments.agreement)
    wanted = BuildOptions(
        tensor=arguments.tensor,
        target=target,
        prepare=inputs.prepare,
        limits=limits,
        frames=arguments.frames,
        fps=arguments.fps,
        model_qp=arguments.model_qp,
        modes=arguments.modes,
        depths=arguments.depths,
        crfs=arguments.crfs,
        standard_only=arguments.standard_only,
    )
    reference = Path(arguments.reference) if arguments.reference is not None else None
    built = build(
        inputs.model, inputs.clip, out, wanted, work,
        labels=inputs.labels, reference=reference, notes=notes, force=True, watch=watch,
        progress=progress,
    )  # fmt: skip
    outputs = {file.name: digest_of(file) for file in sorted(out.iterdir())}
    return built, StepRecord("build", package_version(), digests, options, plain(built.figures()), outputs)


def write_records(folder: Path, steps: list[StepRecord], page: str) -> None:
    """prepare.json and prepare.html of an extractor."""
    write_whole(folder / PAGE_FILE, page)
    text = json.dumps({"format_version": 1, "steps": [plain(asdict(step)) for step in steps]}, indent=1)
    write_whole(folder / RECORD_FILE, text + "\n")


def read_build(path: Path) -> tuple[BuildArguments, dict[str, str]]:
    """The build in an extractor's prepare.json: its arguments, and the digests of its inputs.

    :raises SettingsError: not such a file, or no build in it
    """
    step = recorded_step(path, "build")
    if step is None:
        raise SettingsError(f"{path}: found no step 'build' in it")
    return BuildArguments.of(step.get("options") or {}, path), dict(step.get("inputs") or {})


def _fixed(arguments: BuildArguments, work: Path) -> Path:
    path = Path(arguments.model)
    if not arguments.fix_shape:
        return path
    fixed = fix_shapes(load_model(path), parse_shapes(arguments.fix_shape))
    out = work / path.name
    if out.resolve() == path.resolve():
        out = work / f"fixed-{path.name}"
    onnx.save(fixed, str(out))
    return out


def prepare_options(arguments: BuildArguments, model: onnx.ModelProto) -> PrepareOptions:
    """What the model does not say itself."""
    scale = 1 / 255 if arguments.scale is None else arguments.scale
    if arguments.anchors is not None and arguments.label_names is not None:
        anchors, names = Path(arguments.anchors), Path(arguments.label_names)
        options = detector_options(anchors, names, scale, arguments.offset, arguments.colour)
    else:
        found = picture_settings(model, Preprocessing(scale, arguments.offset, arguments.colour))
        options = PrepareOptions(colour=found.colour, scale=scale, offset=arguments.offset)
    return replace(options, name=arguments.name, keep_whole=arguments.keep_whole)
