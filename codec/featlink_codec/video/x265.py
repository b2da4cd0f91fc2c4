"""HEVC encoding with libx265 through PyAV: one luma picture in, one access unit out, the same bytes every time."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from ..errors import EncoderError, SettingsError, StreamError
from .decoder import HevcDecoder
from .frame import Frame
from .nal import PPS, SPS, VPS, AccessUnit, split_access_units
from .x265_settings import X265Settings

__all__ = ["X265Encoder", "X265Settings"]


class X265Encoder:
    """One encoding session. Pack straight into :attr:`frame_buffer`, then call :meth:`encode_frame`.

    :param settings: checked already
    :param verify: decode every access unit at once and compare: in lossless mode the picture must come back as it was,
        else it must decode with a hash that matches
    :raises EncoderError: libx265 is missing or refuses the settings
    """

    def __init__(self, settings: X265Settings, *, verify: bool = False) -> None:
        self.settings = settings
        try:
            codec = av.CodecContext.create("libx265", "w")
            assert isinstance(codec, av.VideoCodecContext)
            codec.width = settings.width
            codec.height = settings.height
            codec.pix_fmt = "gray" if settings.chroma == "400" else "yuv420p"
            codec.time_base = Fraction(1, 25)  # x265 wants one; no clock is coded
            codec.options = {
                "preset": settings.preset,
                "forced-idr": "1",
                "x265-params": settings.x265_params(),
            }
            codec.open()
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(f"libx265 refused {settings}: {error}") from error
        self._codec: av.VideoCodecContext | None = codec
        # One frame for the whole session: with no look-ahead x265 has copied the samples when encode() returns.
        self._frame = av.VideoFrame(settings.width, settings.height, codec.pix_fmt)
        planes = self._frame.planes
        #: the encoder's own input picture, the same memory each time
        self.picture = Frame(
            "GREY" if len(planes) == 1 else "YUV420M",
            settings.width,
            settings.height,
            [memoryview(plane) for plane in planes],
            planes[0].line_size,
        )
        self._pictures = 0
        self._decoder = HevcDecoder(settings.width, settings.height) if verify else None

    @property
    def all_intra(self) -> bool:
        """Whether every picture is intra, asked for or not: see X265Settings.intra_only."""
        return self.settings.intra_only

    def frame_buffer(self) -> NDArray[np.uint8]:
        """The encoder's own input picture, uint8 [height, width], rows apart by its stride: write, then encode_frame().

        The same memory each time. It keeps its samples, so padding needs to be written only once.
        """
        return self.picture.luma

    def encode(self, luma: NDArray[np.uint8], intra: bool) -> bytes:
        """Copy a picture into the frame buffer and encode it.

        :param luma: uint8 [height, width], any strides
        :raises SettingsError: `luma` does not fit
        """
        mine = self.picture.luma
        if luma.shape != mine.shape or luma.dtype != np.uint8:
            raise SettingsError(f"luma is {luma.dtype} {list(luma.shape)}: uint8 {list(mine.shape)} wanted")
        np.copyto(mine, luma)
        return self.encode_frame(intra)

    def encode_frame(self, intra: bool) -> bytes:
        """Encode what stands in the frame buffer.

        :param intra: an IDR picture with VPS, SPS and PPS in front: a decoder can begin here. Else the picture needs
            the ones before it, or at least their parameter sets (with all_intra). The session's first is always intra
        :returns: exactly one access unit, Annex B
        :raises EncoderError: libx265 failed, did not give one packet, or (with `verify`) gave another picture;
            the session is over then
        """
        if self._codec is None:
            raise EncoderError("the encoder is closed")
        intra = intra or self._pictures == 0
        self._frame.pts = self._pictures
        self._frame.pict_type = PictureType.I if intra or self.all_intra else PictureType.P
        try:
            try:
                packets = self._codec.encode(self._frame)
            except av.FFmpegError as error:
                raise EncoderError(f"libx265 failed at picture {self._pictures}: {error}") from error
            if len(packets) != 1:
                raise EncoderError(f"libx265 gave {len(packets)} packets for picture {self._pictures}, expected 1")
            unit = self._one_access_unit(bytes(packets[0]))
            if unit.is_irap != (intra or self.all_intra) or (intra and not unit.has_parameter_sets):
                types = [nal.type for nal in unit.nal_units]
                raise EncoderError(f"libx265 gave NAL units {types} for picture {self._pictures}, intra={intra}")
            data = bytes(unit.data) if intra else _without_parameter_sets(unit)
            self._verify(data)
        except EncoderError:
            self.close()
            raise
        self._pictures += 1
        return data

    def submit(self, intra: bool) -> list[bytes]:
        """`encode_frame` for callers who do not know that every picture comes out at once."""
        return [self.encode_frame(intra)]

    def flush(self) -> list[bytes]:
        """Nothing is ever left inside."""
        return []

    def close(self) -> None:
        """End the session; nothing is pending, as every picture came out at once. May be called twice."""
        self._codec = None
        if self._decoder is not None:
            self._decoder.close()

    def _one_access_unit(self, data: bytes) -> AccessUnit:
        try:
            (unit,) = split_access_units(data, 0)
        except (StreamError, ValueError) as error:
            raise EncoderError(f"libx265 gave no single access unit for picture {self._pictures}: {error}") from error
        return unit

    def _verify(self, data: bytes) -> None:
        if self._decoder is None:
            return
        try:
            decoded = self._decoder.decode(data)
        except StreamError as error:
            raise EncoderError(f"picture {self._pictures} does not decode: {error}") from error
        if self.settings.lossless and (wrong := int(np.count_nonzero(decoded != self.picture.luma))):
            raise EncoderError(f"picture {self._pictures} is not lossless: {wrong} samples of {decoded.size} differ")


def _without_parameter_sets(unit: AccessUnit) -> bytes:
    """The access unit less VPS, SPS and PPS, which x265 repeats before every IDR picture: 68 bytes and more."""
    first = next((nal for nal in unit.nal_units if nal.type not in (VPS, SPS, PPS)), unit.nal_units[0])
    return b"\0" + bytes(unit.data[first.offset - unit.offset - 3 :])
