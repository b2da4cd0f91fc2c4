"""Rockchip's encoder: PyAV's `hevc_rkmpp`, of ffmpeg-rockchip (`pyav-rkmpp` in place of `av`). It never ran on a board.

What is relied on was read in ffmpeg-rockchip's sources (rkmppenc.c, hwcontext_rkmpp.c, of March 2026):

* Pictures in system memory may have any stride: each is copied once into a DRM buffer with the hardware's own strides.
* Without the low-delay flag nothing waits for the hardware, and while five pictures are inside, the next one is dropped
  without a word. With it, each picture waits for its packet, without a limit: hence the worker thread.
* `g` below 1 counts as 1, all intra, though MPP itself reads 0 as one intra picture: P pictures need a large one.
* A picture of type I becomes an IDR picture, and each of those comes with VPS, SPS and PPS.
* With `rc_mode` CQP all limits of the QP become `qp_init`; `qp_min` and its like are set for versions that do not.
* GRAY8 makes 4:0:0 of profile RExt. Not every chip can do that, and opening does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av
from av.codec.context import Flags
from av.video.frame import PictureType

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.frame import Frame
from featlink_codec.video.limits import EncoderLimits
from featlink_codec.video.nal import has_slices

from .session import EncoderSpec, Packet
from .worker import Worker

if TYPE_CHECKING:
    RawPacket = av.Packet[Any]

#: The smallest is what has been reported, confirmed by no document; the largest depends on the chip.
RKMPP_LIMITS = EncoderLimits(name="rkmpp", formats=("GREY", "NV12"), min_width=96, min_height=64, even=True)

#: One intra picture, and then only those that are asked for: an hour's worth of pictures.
_LONG_GOP = 1 << 16
_MICROSECOND = Fraction(1, 1_000_000)
_FFMPEG_FORMATS = {"GREY": "gray", "NV12": "nv12"}


class Codec(Protocol):
    """As much of PyAV's encoder as is used."""

    #: what the codec did not know
    options: dict[str, str]

    def encode(self, frame: av.VideoFrame | None) -> Sequence[RawPacket]:
        """Packets that have come; None: all that are left, and then no more."""


def rkmpp_options(spec: EncoderSpec) -> dict[str, str]:
    """Options of `hevc_rkmpp` for constant QP."""
    qp = dict.fromkeys(("qp_init", "qp_min", "qp_max", "qp_min_i", "qp_max_i"), str(spec.qp))
    return {"rc_mode": "CQP", **qp, "g": str(1 if spec.all_intra else _LONG_GOP)}


def open_codec(
    spec: EncoderSpec, pixel_format: str, name: str = "hevc_rkmpp", options: Mapping[str, str] | None = None
) -> av.VideoCodecContext:
    """PyAV's encoder, opened.

    :param pixel_format: GREY or NV12
    :param name: FFmpeg's of the codec
    :param options: those of `hevc_rkmpp` where left out
    :raises EncoderError: this PyAV has no such codec, or it refuses
    """
    try:
        codec = av.CodecContext.create(name, "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height = spec.width, spec.height
        codec.pix_fmt = _FFMPEG_FORMATS[pixel_format]
        codec.time_base = _MICROSECOND
        codec.framerate = Fraction(spec.fps).limit_denominator(1000)
        codec.flags |= Flags.low_delay
        codec.options = dict(rkmpp_options(spec) if options is None else options)
        codec.open()
    except (av.FFmpegError, ValueError) as error:
        raise EncoderError(f"{name}: {' '.join(str(error).split())}") from error
    return codec


class RkmppEncoder:
    """An `EncoderSession` over PyAV. It never ran on a board: tests drive it with libx265 and with stubs.

    :param open_codec: opens the encoder for a spec and a pixel format; raises EncoderError
    :raises EncoderError: it is not there, or cannot do what the spec says
    """

    def __init__(self, spec: EncoderSpec, *, open_codec: Callable[[EncoderSpec, str], Codec] = open_codec) -> None:
        self.limits = RKMPP_LIMITS
        if spec.qp is None:
            raise EncoderError("rkmpp: only a constant qp can be asked for: it is never lossless, and has no crf")
        if broken := self.limits.broken_by(spec.width, spec.height):
            raise EncoderError(broken)
        self.spec = spec
        self._open_codec = open_codec
        self._codec: Codec | None = None
        self._worker: Worker[list[RawPacket]] = Worker("rkmpp")
        self._fresh = True  # nothing was coded yet
        self._dead = False
        #: timestamps of the pictures that are inside, oldest first
        self._inside: dict[int, None] = {}
        self._come: list[Packet] = []
        self._last_us = -1
        # As V4L2 has it: the first format that the spec takes.
        self._pixel_format = next(one for one in self.limits.formats if spec.takes(one))
        try:
            self._worker.call(self._reopen)
            self._take_answer()
        except BaseException:
            self.close()
            raise
        # One picture for the whole session: its samples have been copied when encode() returns.
        self._picture = av.VideoFrame(spec.width, spec.height, _FFMPEG_FORMATS[self._pixel_format])
        planes = self._picture.planes
        # FFmpeg's NV12 has a buffer for each plane.
        name = "GREY" if len(planes) == 1 else "NV12M"
        stride = planes[0].line_size
        self._frame = Frame(name, spec.width, spec.height, [memoryview(one) for one in planes], stride)
        self.facts: Mapping[str, Any] = {
            "codec": "hevc_rkmpp",
            "pixel_format": self._pixel_format,
            "stride": stride,
            "options": rkmpp_options(spec),
            "options_refused": sorted(self._codec.options) if self._codec else [],
        }

    def frame_buffer(self) -> Frame:
        """See EncoderSession: the same memory each time."""
        self._check_alive()
        while self._worker.waiting:
            self._take_answer()
        return self._frame

    def submit(self, timestamp_us: int, intra: bool) -> None:
        """See EncoderSession.

        :raises EncoderError: the timestamp is not above the one before
        """
        if timestamp_us <= self._last_us:
            raise EncoderError(f"timestamp {timestamp_us} is not above the one before, {self._last_us}")
        self.frame_buffer()
        self._last_us = timestamp_us
        self._inside[timestamp_us] = None
        self._worker.call(lambda: self._encode(timestamp_us, intra))

    def packets(self, in_flight: int = 0) -> list[Packet]:
        """See EncoderSession."""
        self._check_alive()
        while len(self._inside) > in_flight:
            if not self._worker.waiting:
                raise self._died(f"{len(self._inside)} pictures stay inside until more come, {in_flight} expected")
            self._take_answer()
        come, self._come = self._come, []
        return come

    def drain(self) -> list[Packet]:
        """See EncoderSession. Pictures that FFmpeg then has not given are marked as lost."""
        self._check_alive()
        self._worker.call(self._flush)
        while self._worker.waiting:
            self._take_answer()
        self._come += [Packet(b"", timestamp_us, lost=True) for timestamp_us in self._inside]
        self._inside.clear()
        come, self._come = self._come, []
        return come

    def close(self) -> None:
        """See EncoderSession."""
        self._dead = True
        self._worker.call(self._release)
        self._worker.close()

    # These run in the worker's thread, where the codec is opened, used and freed.

    def _reopen(self) -> list[RawPacket]:
        self._codec = self._open_codec(self.spec, self._pixel_format)
        self._fresh = True
        return []

    def _encode(self, timestamp_us: int, intra: bool) -> list[RawPacket]:
        packets: list[RawPacket] = []
        if intra and self.spec.intra_by == "restart" and not self._fresh:
            packets += self._flush()
        if self._codec is None:
            self._reopen()
        assert self._codec is not None
        self._picture.pts = timestamp_us
        self._picture.time_base = _MICROSECOND
        self._picture.pict_type = PictureType.I if intra or self.spec.all_intra else PictureType.P
        self._fresh = False
        return packets + list(self._codec.encode(self._picture))

    def _flush(self) -> list[RawPacket]:
        """Everything that is inside. The codec takes nothing after that; the next picture opens another."""
        codec, self._codec = self._codec, None
        return [] if codec is None else list(codec.encode(None))

    def _release(self) -> list[RawPacket]:
        self._codec = None
        return []

    # These do not.

    def _take_answer(self) -> None:
        try:
            packets = self._worker.answer(self.spec.stalled_s)
        except TimeoutError:
            raise self._died(f"nothing came for {self.spec.stalled_s:g} s") from None
        except av.FFmpegError as error:
            raise self._died(" ".join(str(error).split())) from error
        except EncoderError:
            self._dead = True
            raise
        for packet in packets:
            data = bytes(packet)
            if packet.pts is None and not has_slices(data):
                self._come.append(Packet(data, None))
            elif packet.pts in self._inside:
                del self._inside[packet.pts]
                self._come.append(Packet(data, packet.pts))
            else:
                raise self._died(f"a packet of {packet.pts} us, when no picture of that time is inside")

    def _check_alive(self) -> None:
        if self._dead:
            raise EncoderLostError("rkmpp: the session is over")

    def _died(self, text: str) -> EncoderLostError:
        self._dead = True
        return EncoderLostError(f"rkmpp: {text}")
