"""What every hardware or software HEVC encoder looks like to the pipeline: a spec, and a session of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from featlink_codec.errors import SettingsError
from featlink_codec.video.frame import Frame
from featlink_codec.video.limits import GRAY_FORMATS, EncoderLimits

#: How a picture is made an IDR picture, in the order of trial: every picture is one (GOP_SIZE 1), it is asked for
#: (FORCE_KEY_FRAME), or coding begins anew with it (STREAMOFF, STREAMON).
INTRA_BY = ("gop", "force", "restart")
#: An encoder that gives nothing for so long has stalled, in seconds.
STALLED_S = 5.0


@dataclass(frozen=True)
class EncoderSpec:
    """What a session is asked for.

    :raises SettingsError: a field that does not fit
    """

    #: luma samples of a picture, after cropping
    width: int
    height: int
    #: constant quantization parameter of all pictures, 0 (best) .. 51
    qp: int | None = None
    #: every sample comes back as it was
    lossless: bool = False
    #: libx265's constant rate factor; no other encoder has one
    crf: float | None = None
    #: of libx265 alone
    preset: str = "superfast"
    #: no picture is predicted from another one
    all_intra: bool = False
    #: whether luma alone (4:0:0) may be sent; else 4:2:0 with neutral chroma is
    monochrome: bool = True
    #: pictures a second, for encoders that want to know
    fps: float = 25.0
    #: every picture carries an MD5 hash
    picture_hash: bool = True
    #: one of INTRA_BY
    intra_by: str = "force"
    #: an encoder that gives nothing for so long is taken for dead, in seconds
    stalled_s: float = STALLED_S

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise SettingsError(f"pictures of {self.width} x {self.height}")
        if self.lossless + (self.qp is not None) + (self.crf is not None) != 1:
            raise SettingsError(
                f"lossless is {self.lossless}, qp is {self.qp}, crf is {self.crf}: exactly one of them wanted"
            )
        if self.qp is not None and not 0 <= self.qp <= 51:
            raise SettingsError(f"qp is {self.qp}, 0..51 wanted")
        if self.intra_by not in INTRA_BY:
            raise SettingsError(f"intra_by is {self.intra_by!r}, one of {', '.join(INTRA_BY)} wanted")
        if self.intra_by == "gop" and not self.all_intra:
            raise SettingsError("intra_by 'gop' makes every picture intra, all_intra is false")

    def takes(self, pixel_format: str) -> bool:
        """Whether pictures may be given to the encoder, and so to the host, in that format."""
        return self.monochrome or pixel_format not in GRAY_FORMATS


@dataclass(frozen=True, slots=True)
class Packet:
    """What the encoder gave in one piece.

    :param data: of the byte stream (H.265 annex B)
    :param timestamp_us: of the picture that it belongs to, as given to `submit`; None: parameter sets alone
    :param lost: the encoder marked the picture as damaged: `data` is no use
    """

    data: bytes
    timestamp_us: int | None
    lost: bool = False


class EncoderSession(Protocol):
    """An open encoder. Pictures go in and packets come out in the same order, some of them later."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was agreed on with the encoder, for people and for JSON: names, sizes, controls set and refused."""

    @property
    def limits(self) -> EncoderLimits:
        """What the encoder says that it takes."""

    def frame_buffer(self) -> Frame:
        """The encoder's own memory for the next picture: fill `luma`, then `submit`. Chroma and padding are filled.

        :raises EncoderLostError: none became free within `stalled_s`
        """

    def submit(self, timestamp_us: int, intra: bool) -> None:
        """Encode what stands in the frame buffer.

        :param timestamp_us: comes back with its packet; above all before it
        :param intra: the picture shall be an IDR picture
        """

    def packets(self, in_flight: int = 0) -> list[Packet]:
        """Packets that have come, after at most `in_flight` pictures are left inside.

        :raises EncoderLostError: nothing came for `stalled_s`, or the device failed: close the session
        """

    def drain(self) -> list[Packet]:
        """The packets of all pictures that are left inside. `submit` may follow; coding begins anew then.

        :raises EncoderLostError: as `packets`
        """

    def close(self) -> None:
        """Free the encoder. May be called twice; never waits for a device that has stalled."""
