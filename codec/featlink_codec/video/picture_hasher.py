"""The MD5 picture hash that hardware encoders do not write: decode what they gave, hash it, append the SEI."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import EncoderError, StreamError
from .decoder import open_hevc
from .nal import AccessUnit, split_access_units
from .picture_hash import has_md5, md5_sei_nal
from .sps import MAX_MARGIN, check_sps, parse_sps

_PLANES = {"gray": 1, "yuv420p": 3, "yuvj420p": 3}


class PictureHasher:
    """Hashes for one encoder session: every access unit, in order, from the session's first intra picture on.

    The SEI's hash is over the whole decoded picture, conformance window or not (H.265 D.3.19), so the pictures are
    decoded without cropping. After an error the session is over.

    :param width: of every picture, in luma samples, after cropping
    :param height: likewise
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._codec: av.VideoCodecContext | None = open_hevc(
            (width + MAX_MARGIN) * (height + MAX_MARGIN), apply_cropping="0"
        )
        # coded width and height; left and top edge of the conformance window
        self._coded, self._corner = (width, height), (0, 0)
        self._luma: NDArray[np.uint8] | None = None
        self._pictures = 0

    @property
    def luma(self) -> NDArray[np.uint8]:
        """The last picture as the host will decode it: uint8 [height, width], FFmpeg's own memory, read-only.

        :raises EncoderError: there was none yet
        """
        if self._luma is None:
            raise EncoderError("no picture was decoded yet")
        return self._luma

    def append(self, unit: bytes) -> bytes:
        """Decode an access unit and give it back with its hash.

        :param unit: exactly one, nothing behind its slices but suffix SEI: as `SessionUnits` gives it
        :returns: the unit with an MD5 SEI behind it: over luma, Cb and Cr, or over luma alone (4:0:0). A unit that has
            one already was verified against it, and comes back as it is
        :raises EncoderError: the picture does not decode, is other than its own hash says, or has another size
        """
        if self._codec is None:
            raise EncoderError(f"the hasher ended at picture {self._pictures}")
        try:
            return self._append(self._codec, unit)
        except StreamError as error:
            self.close()
            raise EncoderError(f"picture {self._pictures} does not decode: {error}") from error
        except EncoderError:
            self.close()
            raise

    def close(self) -> None:
        """Give the decoder's memory back. May be called twice."""
        self._codec = None

    def _append(self, codec: av.VideoCodecContext, data: bytes) -> bytes:
        units = split_access_units(data, 0)
        if len(units) != 1:
            raise EncoderError(f"picture {self._pictures}: {len(units)} access units, expected 1")
        (unit,) = units
        self._read_window(unit)
        hashed = has_md5(unit)
        try:
            frames = codec.decode(av.Packet(data))
        except av.FFmpegError as error:
            raise EncoderError(
                f"picture {self._pictures} does not decode, or is other than its hash says: {error.strerror}"
            ) from None
        if len(frames) != 1:
            raise EncoderError(f"picture {self._pictures}: {len(frames)} pictures came out of it, expected 1")
        planes = self._planes(frames[0])
        left, top = self._corner
        self._luma = planes[0][top : top + self.height, left : left + self.width]
        self._pictures += 1
        return data if hashed else data + md5_sei_nal(planes)

    def _read_window(self, unit: AccessUnit) -> None:
        """What a new SPS says of size and conformance window."""
        for nal in unit.sps:
            sps = parse_sps(nal)
            check_sps(sps, nal.offset)
            if (sps.width, sps.height) != (self.width, self.height):
                raise EncoderError(
                    f"picture {self._pictures} is {sps.width}x{sps.height}, expected {self.width}x{self.height}"
                )
            self._coded, self._corner = (sps.coded_width, sps.coded_height), sps.crop[:2]

    def _planes(self, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        """The coded picture's planes, uint8 [rows, columns] each, read-only: the next one may be predicted from it."""
        count = _PLANES.get(frame.format.name)
        if count is None or (frame.width, frame.height) != self._coded:
            raise EncoderError(
                f"picture {self._pictures}: FFmpeg gave {frame.width}x{frame.height} {frame.format.name}, "
                f"expected {self._coded[0]}x{self._coded[1]} gray or yuv420p"
            )
        planes = []
        for plane in frame.planes[:count]:
            rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane).toreadonly(), dtype=np.uint8)
            planes.append(rows.reshape(plane.height, plane.line_size)[:, : plane.width])
        return planes
