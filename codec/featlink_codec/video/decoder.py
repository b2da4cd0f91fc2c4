"""HEVC decoding with FFmpeg through PyAV: one access unit in, one verified luma picture out."""

from __future__ import annotations

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from .nal import AccessUnit, split_access_units
from .picture_hash import has_md5
from .sps import MAX_MARGIN, MAX_PIXELS, MAX_SIDE, check_sps, parse_sps

#: Formats whose first plane is 8-bit luma: 4:0:0 and 4:2:0 (the j: full range, which changes no sample).
_FORMATS = frozenset({"gray", "yuv420p", "yuvj420p"})


def open_hevc(max_pixels: int, **options: str) -> av.VideoCodecContext:
    """FFmpeg's HEVC decoder: one access unit in, its picture out, every hash verified, nothing concealed.

    :param max_pixels: of a coded picture; a larger one is refused before memory goes into it
    :param options: more of AVCodecContext's
    """
    codec = av.CodecContext.create("hevc", "r")
    assert isinstance(codec, av.VideoCodecContext)
    # crccheck verifies picture hashes; explode turns damage into an exception, where FFmpeg else conceals it.
    codec.options = {"err_detect": "crccheck+explode", "max_pixels": str(max_pixels), **options}
    # FRAME threads would give each picture one call later.
    codec.thread_type = "SLICE"
    codec.thread_count = 1
    # Without it FFmpeg rounds the left edge of the conformance window for the sake of aligned pointers.
    codec.flags |= Flags.unaligned
    return codec


class HevcDecoder:
    """One decoding session: from an intra random access picture with parameter sets on, picture after picture.

    Every picture that carries an MD5 hash is verified, and once one does, all after it must: a picture that was cut
    short has lost its hash too, and FFmpeg takes it for a whole one. After any error the session is over: FFmpeg would
    hand out the damaged picture with the next one, so every later call raises ``no-reference``; open a new decoder.

    FFmpeg's log stays silent without our doing: PyAV installs a callback that drops it, and errors come as exceptions.

    :param width: of every picture of the session, in luma samples, after cropping
    :param height: likewise
    :param require_hash: the first picture must carry a hash, too: for a stream whose other sessions have them
    :raises SettingsError: sides that no feature-map stream has
    """

    def __init__(self, width: int, height: int, *, require_hash: bool = False) -> None:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            limits = f"sides of 1..{MAX_SIDE}, at most {MAX_PIXELS} pixels"
            raise SettingsError(f"pictures of {width}x{height}: {limits} wanted")
        self.width = width
        self.height = height
        self._max_coded = (width + MAX_MARGIN, height + MAX_MARGIN)
        self._require_hash = require_hash
        self._started = False
        # max_pixels is the second line behind our own reading of the SPS.
        self._codec: av.VideoCodecContext | None = open_hevc(self._max_coded[0] * self._max_coded[1])

    @property
    def hashed(self) -> bool:
        """Whether the session's pictures carry hashes, so that damage cannot pass; known after the first one."""
        return self._require_hash

    def decode(self, access_unit: AccessUnit | bytes | bytearray | memoryview) -> NDArray[np.uint8]:
        """Decode one access unit into its one picture.

        :param access_unit: the bytes of exactly one; give the AccessUnit where it is known: errors then have its offset
        :returns: luma, uint8 [height, width]: FFmpeg's own picture, without a copy, so it is read-only. It stays as it
            is for as long as the array is kept
        :raises StreamError: ``no-reference`` when the session has not begun, has ended in an error, or FFmpeg gives no
            picture; ``bad-picture`` when FFmpeg refuses: damage, a hash that does not match, a reference that is not
            there (it reports all three alike); ``hash-missing``; ``video-size`` and the names of
            :func:`~.sps.parse_sps`, :func:`~.sps.check_sps` and, for bytes, :func:`~.nal.split_access_units`
        """
        try:
            if not isinstance(access_unit, AccessUnit):
                units = split_access_units(access_unit, 0)
                if len(units) != 1:
                    raise SettingsError(f"{len(units)} access units: decode() takes one at a time")
                access_unit = units[0]
            return self._decode(access_unit)
        except StreamError:
            self.close()
            raise

    def close(self) -> None:
        """Give the decoder's memory back. May be called twice."""
        self._codec = None

    def _decode(self, unit: AccessUnit) -> NDArray[np.uint8]:
        if self._codec is None:
            raise StreamError("no-reference", unit.offset, "the decoder ended at a damaged picture before this one")
        if not (self._started or (unit.is_irap and unit.has_parameter_sets)):
            raise StreamError("no-reference", unit.offset, "no intra picture with parameter sets begins the session")
        self._check_size(unit)
        hashed = has_md5(unit)
        if self._require_hash and not hashed:
            raise StreamError("hash-missing", unit.offset, "a picture without a hash among pictures with hashes")
        try:
            frames = self._codec.decode(av.Packet(bytes(unit.data)))
        except av.FFmpegError as error:
            why = "damaged, other than its hash says, or made from a picture that is not there"
            raise StreamError("bad-picture", unit.offset, f"{why}: {error.strerror}") from None
        self._started = True
        self._require_hash = hashed
        if not frames:
            raise StreamError("no-reference", unit.offset, "no picture came out: it depends on one that is not there")
        if len(frames) > 1:
            raise StreamError("bad-picture", unit.offset, f"{len(frames)} pictures came out of one access unit")
        (frame,) = frames
        if frame.format.name not in _FORMATS:
            raise StreamError("bad-picture", unit.offset, f"a {frame.format.name} picture, expected gray or yuv420p")
        if (frame.width, frame.height) != (self.width, self.height):
            raise self._wrong_size(unit.offset, f"{frame.width}x{frame.height}")
        luma = frame.planes[0]
        # Read-only: it is FFmpeg's own picture, and the next one may be predicted from it.
        rows: NDArray[np.uint8] = np.frombuffer(memoryview(luma).toreadonly(), dtype=np.uint8)
        return rows.reshape(self.height, luma.line_size)[:, : self.width]

    def _check_size(self, unit: AccessUnit) -> None:
        """Refuse what an SPS claims before FFmpeg allocates for it."""
        for nal in unit.sps:
            sps = parse_sps(nal)
            check_sps(sps, nal.offset)
            if (sps.width, sps.height) != (self.width, self.height):
                raise self._wrong_size(nal.offset, f"{sps.width}x{sps.height}")
            if sps.coded_width > self._max_coded[0] or sps.coded_height > self._max_coded[1]:
                raise self._wrong_size(nal.offset, f"coded as {sps.coded_width}x{sps.coded_height}")

    def _wrong_size(self, offset: int, found: str) -> StreamError:
        return StreamError("video-size", offset, f"the picture is {found}, expected {self.width}x{self.height}")
