"""What a libx265 session is told, and what it must never be told."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError
from .sps import MAX_PIXELS, MAX_SIDE

#: libx265 refuses smaller pictures.
MIN_SIDE = 16
#: Size of a coding tree unit. The smallest that there is: see X265Settings.intra_only.
CTU = 16

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

_MAX_QP = 51

_PARAMETERS = {
    # One packet for each call, in order.
    "bframes": 0,
    "rc-lookahead": 0,
    # The same bytes on every machine and in every run, and no SEI that names the x265 build.
    "frame-threads": 1,
    "pools": "none",
    "info": 0,
    # Intra pictures where they are asked for and nowhere else; closed, so that they come out as IDR and not as CRA.
    "scenecut": 0,
    "keyint": -1,
    "open-gop": 0,
    "repeat-headers": 1,
    "annexb": 1,
    "ctu": CTU,
    "log-level": "none",
}
#: Nobody looks at feature maps: x265's defaults trade squared error for what eyes like.
_PLAIN_ERROR = {"aq-mode": 0, "psy-rd": 0, "psy-rdoq": 0}


@dataclass(frozen=True)
class X265Settings:
    """What an encoding session is told. Exactly one of lossless, qp and crf."""

    #: luma samples
    width: int
    height: int
    #: every sample comes back as it was
    lossless: bool = False
    #: quantization parameter of every picture, 0 (best) .. 51
    qp: int | None = None
    #: constant rate factor, 0 (best) .. 51
    crf: float | None = None
    #: no picture is predicted from another one; forced where that would be wrong, see intra_only
    all_intra: bool = False
    #: one of PRESETS. On 19x19 feature tiles slower ones up to medium give the same bytes within 2 %
    preset: str = "superfast"
    #: an MD5 of the decoded picture with each one, 25 bytes, which readers verify
    picture_hash: bool = True
    #: "400" (luma only) or "420" (neutral chroma beside it)
    chroma: str = "400"

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side < MIN_SIDE:
                raise SettingsError(
                    f"{name} is {side}, libx265 takes {MIN_SIDE} and more: choose another packing, "
                    "with more channels in a picture or more padding"
                )
            if side > MAX_SIDE:
                raise SettingsError(f"{name} is {side}, at most {MAX_SIDE} wanted: choose another packing")
        if self.width * self.height > MAX_PIXELS:
            raise SettingsError(f"{self.width}x{self.height} is more than {MAX_PIXELS} pixels: choose another packing")
        if self.lossless + (self.qp is not None) + (self.crf is not None) != 1:
            raise SettingsError(
                f"lossless is {self.lossless}, qp is {self.qp}, crf is {self.crf}: exactly one of them wanted"
            )
        for name, value in (("qp", self.qp), ("crf", self.crf)):
            if value is not None and not 0 <= value <= _MAX_QP:
                raise SettingsError(f"{name} is {value}, 0..{_MAX_QP} wanted")
        if self.preset not in PRESETS:
            raise SettingsError(f"preset is {self.preset!r}, one of {', '.join(PRESETS)} wanted")
        if self.chroma not in ("400", "420"):
            raise SettingsError(f"chroma is {self.chroma!r}, '400' or '420' wanted")
        if self.chroma == "420" and (self.width % 2 or self.height % 2):
            raise SettingsError(
                f"{self.width}x{self.height} has an odd side, which 4:2:0 cannot code: add a row or column of padding"
            )

    @property
    def intra_only(self) -> bool:
        """Whether every picture is intra: as asked for, or because a side is not above the coding tree unit.

        libx265 predicts wrongly in pictures that are exactly one coding tree unit wide: lossless is not lossless then,
        and the bytes change from run to run.
        """
        return self.all_intra or min(self.width, self.height) <= CTU

    def x265_params(self) -> str:
        """The session's parameters as libx265 parses them."""
        parameters: dict[str, object] = {**_PARAMETERS, "hash": int(self.picture_hash)}
        if self.lossless:
            parameters |= {"lossless": 1}
        elif self.qp is not None:
            # ipratio 1: else intra pictures get a QP 3 lower than the one asked for.
            parameters |= {"qp": self.qp, "ipratio": 1, **_PLAIN_ERROR}
        else:
            parameters |= {"crf": self.crf, **_PLAIN_ERROR}
        return ":".join(f"{name}={value}" for name, value in parameters.items())
