"""What a video encoder takes: sizes, their multiples, picture formats; and what libx265 takes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..tables import parse_json, parse_toml, read_text
from .sps import MAX_PIXELS, MAX_SIDE
from .x265_settings import CTU

#: Raw pictures that an encoder may take, by V4L2's names; the first has luma alone, the others are 4:2:0.
GRAY_FORMATS = ("GREY",)
FORMATS = (*GRAY_FORMATS, "NV12", "NV12M", "YUV420", "YUV420M")

#: Largest number that a field may say; the stream's own limits (MAX_SIDE, MAX_PIXELS) hold beside it.
_LARGEST = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class EncoderLimits:
    """The pictures that one encoder takes; what is left out is not limited.

    :raises SettingsError: a field that does not fit
    """

    #: for messages
    name: str
    #: of FORMATS
    formats: tuple[str, ...]
    #: luma samples
    min_width: int = 1
    max_width: int = MAX_SIDE
    min_height: int = 1
    max_height: int = MAX_SIDE
    #: the sides are multiples of
    multiple_of_width: int = 1
    multiple_of_height: int = 1
    #: both sides are even
    even: bool = False
    #: luma samples of a picture
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SettingsError(f"encoder limits: name: found {self.name!r}, expected a name")
        if not isinstance(self.even, bool):
            self._refuse("even", "true or false")
        for key in _NUMBERS:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
                self._refuse(key, f"an integer 1..{_LARGEST}")
        for side in ("width", "height"):
            if getattr(self, f"min_{side}") > getattr(self, f"max_{side}"):
                self._refuse(f"max_{side}", f"at least min_{side}, {getattr(self, f'min_{side}')}")
        # From TOML they come as a list.
        formats = tuple(self.formats) if isinstance(self.formats, (list, tuple)) else ()
        if not formats or any(one not in FORMATS for one in formats):
            self._refuse("formats", f"a list of {', '.join(FORMATS)}")
        object.__setattr__(self, "formats", formats)

    def _refuse(self, key: str, expected: str) -> None:
        raise SettingsError(f"encoder limits {self.name!r}: {key}: found {getattr(self, key)!r}, expected {expected}")

    @property
    def width_step(self) -> int:
        """Widths are multiples of this: multiple_of_width and even in one."""
        return math.lcm(self.multiple_of_width, 2 if self.even else 1)

    @property
    def height_step(self) -> int:
        """Heights are multiples of this: multiple_of_height and even in one."""
        return math.lcm(self.multiple_of_height, 2 if self.even else 1)

    def broken_by(self, width: int, height: int) -> str | None:
        """The first limit that a picture breaks, as a sentence; None: it breaks none."""
        for key, side in (("width", width), ("height", height)):
            least, most = getattr(self, f"min_{key}"), getattr(self, f"max_{key}")
            multiple = getattr(self, f"multiple_of_{key}")
            if side < least:
                return f"{self.name}: {key} {side} is below min_{key} {least}"
            if side > most:
                return f"{self.name}: {key} {side} is above max_{key} {most}"
            if side % multiple:
                return f"{self.name}: {key} {side} is not a multiple_of_{key} {multiple}"
            if self.even and side % 2:
                return f"{self.name}: {key} {side} is not even"
        if width * height > self.max_pixels:
            return f"{self.name}: {width} x {height} pixels are more than max_pixels {self.max_pixels}"
        return None

    def takes(self, chroma: str) -> bool:
        """Whether one of the formats carries that chroma.

        :param chroma: "400" (luma alone) or "420"
        """
        return any((one in GRAY_FORMATS) == (chroma == "400") for one in self.formats)

    def narrowed(self, other: EncoderLimits) -> EncoderLimits:
        """Limits on sizes that hold both; formats stay, and the name where the other one adds nothing.

        :raises SettingsError: no side fits both
        """
        both = dataclasses.replace(
            self,
            name=self.name if self.name == other.name else f"{self.name} and {other.name}",
            min_width=max(self.min_width, other.min_width),
            max_width=min(self.max_width, other.max_width),
            min_height=max(self.min_height, other.min_height),
            max_height=min(self.max_height, other.max_height),
            multiple_of_width=math.lcm(self.multiple_of_width, other.multiple_of_width),
            multiple_of_height=math.lcm(self.multiple_of_height, other.multiple_of_height),
            even=self.even or other.even,
            max_pixels=min(self.max_pixels, other.max_pixels),
        )
        return self if both == dataclasses.replace(self, name=both.name) else both

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> EncoderLimits:
        """Limits from a parsed table whose keys are the fields.

        :param where: the table's file, for messages
        :raises SettingsError: an unknown or missing key, or a field that does not fit
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in data:
            if key not in known:
                raise SettingsError(f"{where}: {key}: found an unknown key, expected some of {', '.join(known)}")
        for key in ("name", "formats"):
            if key not in data:
                raise SettingsError(f"{where}: {key}: found nothing, expected one")
        try:
            return cls(**data)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None

    @classmethod
    def load(cls, path: Path | str, encoder: str | None = None) -> EncoderLimits:
        """Limits from a file: TOML whose keys are the fields, or what a board says of its encoders.

        The latter is the JSON of `featlink-device doctor` or `featlink-device encoders`.

        :param encoder: of those in JSON the one of that back end, or BACKEND:NODE; None: the first that works
        :raises SettingsError: no such file, no such encoder in it or none that works, or a field that does not fit
        """
        path = Path(path)
        text = read_text(path)
        if text.lstrip().startswith("{"):  # no TOML begins so
            where, data = choose_encoder(parse_json(text, path), str(path), encoder)
            return cls.from_dict(data, where)
        if encoder is not None:
            raise SettingsError(f"{path}: found the limits of one encoder, expected a board's JSON to choose {encoder}")
        return cls.from_dict(parse_toml(text, path), str(path))

    def as_toml(self) -> str:
        """A file that `load` reads as these limits; what is not limited is left out."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                # JSON's strings, numbers, lists and booleans are TOML's, but for DEL.
                said = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
                lines.append(f"{field.name} = {said}\n")
        return "".join(lines)


def _is_encoder(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("backend"), str)


def choose_encoder(found: Any, where: str, wanted: str | None) -> tuple[str, Mapping[str, Any]]:
    """The limits of one encoder, from what a board says of its encoders.

    :param found: the parsed JSON of `featlink-device encoders` or `doctor`
    :param where: its file, for messages
    :param wanted: a back end, or BACKEND:NODE; None: the first that works
    :returns: where the limits stood, and their fields
    :raises SettingsError: no such encoder, or none that works
    """
    if not isinstance(found, dict):
        raise SettingsError(f"{where}: found no table of encoders")
    findings = found.get("findings")
    for finding in findings if isinstance(findings, list) else ():
        if isinstance(finding, dict) and finding.get("name") == "encoder":
            found = finding.get("facts")
    encoders = found.get("encoders") if isinstance(found, dict) else None
    if not isinstance(encoders, list) or not all(_is_encoder(one) for one in encoders):
        raise SettingsError(
            f"{where}: found no list of encoders, expected the JSON of `featlink-device doctor` or `encoders`"
        )
    names = [one["backend"] + (f":{one['node']}" if one.get("node") else "") for one in encoders]
    refused = []
    for name, one in zip(names, encoders, strict=True):
        if wanted not in (None, name, one["backend"]):
            continue
        if one.get("works") is True and isinstance(one.get("limits"), dict):
            return f"{where}: encoder {name}", one["limits"]
        why = one.get("why")
        refused.append(f"{name} ({why[-1]})" if isinstance(why, list) and why else name)
    if refused:
        raise SettingsError(f"{where}: found no encoder that works: {', '.join(refused)}")
    missing = "no encoder" if wanted is None else f"no encoder {wanted}"
    raise SettingsError(f"{where}: found {missing}, only {', '.join(names)}" if names else f"{where}: found {missing}")


_NUMBERS = tuple(field.name for field in dataclasses.fields(EncoderLimits) if field.type == "int")

#: libx265 by [video] chroma. It takes 16 and more, but codes P pictures wrongly where a side is exactly one block of
#: 16 (see X265Settings.intra_only); 4:2:0 needs even sides.
X265_LIMITS: Mapping[str, EncoderLimits] = {
    "400": EncoderLimits(name="x265", formats=("GREY",), min_width=CTU + 1, min_height=CTU + 1),
    "420": EncoderLimits(name="x265", formats=("YUV420",), min_width=CTU + 1, min_height=CTU + 1, even=True),
}
