"""What a video encoder takes: sizes, their multiples, picture formats; and what libx265 takes."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .sps import MAX_PIXELS, MAX_SIDE
from .x265_settings import CTU

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        """Limits from a parsed TOML table whose keys are the fields.

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
    def load(cls, path: Path | str) -> EncoderLimits:
        """Limits from a TOML file whose keys are the fields.

        :raises SettingsError: no such file, not TOML, or a field that does not fit
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror or error}") from None
        except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
            raise SettingsError(f"{path}: not TOML: {' '.join(str(error).split())}") from None
        return cls.from_dict(data, str(path))


_NUMBERS = tuple(field.name for field in dataclasses.fields(EncoderLimits) if field.type == "int")

#: libx265 by [video] chroma. It takes 16 and more, but codes P pictures wrongly where a side is exactly one block of
#: 16 (see X265Settings.intra_only); 4:2:0 needs even sides.
X265_LIMITS: Mapping[str, EncoderLimits] = {
    "400": EncoderLimits(name="x265", formats=("GREY",), min_width=CTU + 1, min_height=CTU + 1),
    "420": EncoderLimits(name="x265", formats=("YUV420",), min_width=CTU + 1, min_height=CTU + 1, even=True),
}
