"""An encoder's input picture in somebody else's memory: mmap'ed buffers with their own strides and padding.

Maps are packed straight into :attr:`Frame.luma`. What lies around it, and chroma, never changes, so it is written once
per buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Memory planes by V4L2's names. Chroma is the same everywhere, so how it lies behind luma does not matter.
PIXEL_FORMATS = {"GREY": 1, "NV12": 1, "NV12M": 2, "YUV420": 1, "YUV420M": 3}
NEUTRAL_CHROMA = 128


class Frame:
    """A picture of 8-bit samples, with luma alone or 4:2:0.

    :param pixel_format: one of `PIXEL_FORMATS`
    :param width: of the picture, in samples; even with chroma
    :param height: likewise
    :param buffers: writable memory, contiguous: one a memory plane. Not copied
    :param stride: bytes from one row of luma to the next (V4L2: bytesperline)
    :param rows: rows of luma in memory, behind which a single plane's chroma begins (V4L2: the height that the driver
        returned); as many as the picture has where left out
    :raises SettingsError: the picture does not fit the buffers, a buffer is read-only, or two overlap
    """

    def __init__(
        self,
        pixel_format: str,
        width: int,
        height: int,
        buffers: Sequence[Buffer],
        stride: int,
        rows: int | None = None,
    ) -> None:
        rows = height if rows is None else rows
        if pixel_format not in PIXEL_FORMATS:
            raise SettingsError(f"pixel format {pixel_format!r}, expected one of {', '.join(PIXEL_FORMATS)}")
        if width < 1 or height < 1 or stride < width or rows < height:
            raise SettingsError(f"a picture of {width} x {height} in {rows} rows of {stride} bytes")
        chroma = pixel_format != "GREY"
        if chroma and (width % 2 or height % 2 or rows % 2):
            raise SettingsError(f"{pixel_format} has even sides, found {width} x {height} in {rows} rows")
        if len(buffers) != PIXEL_FORMATS[pixel_format]:
            raise SettingsError(f"{pixel_format}: {len(buffers)} buffers")
        planes = [_bytes_of(buffer) for buffer in buffers]
        if any(np.may_share_memory(one, other) for one, other in combinations(planes, 2)):
            raise SettingsError(f"{pixel_format}: two of the buffers overlap")
        samples = rows * stride
        self._luma = _part(planes[0], 0, samples, pixel_format)
        self._chroma: list[NDArray[np.uint8]] = []
        if chroma and len(planes) == 1:
            _part(planes[0], samples, samples // 2, f"{pixel_format} chroma")
            self._chroma = [planes[0][samples:]]
        for plane in planes[1:]:
            _part(plane, 0, samples // 2 // (len(planes) - 1), f"{pixel_format} chroma")
            self._chroma.append(plane)
        #: uint8 [height, width], rows `stride` bytes apart: pack into it
        self.luma = self._luma.reshape(rows, stride)[:height, :width]
        self.clear()

    def clear(self) -> None:
        """Write what stays: 0 into luma, its padding included, and neutral chroma."""
        self._luma[...] = 0
        for plane in self._chroma:
            plane[...] = NEUTRAL_CHROMA


def _bytes_of(buffer: Buffer) -> NDArray[np.uint8]:
    view = memoryview(buffer)
    if view.readonly:
        raise SettingsError("a buffer is read-only")
    if not view.c_contiguous:
        raise SettingsError("a buffer is not contiguous")
    return np.frombuffer(view, np.uint8)


def _part(memory: NDArray[np.uint8], offset: int, length: int, name: str) -> NDArray[np.uint8]:
    if memory.size < offset + length:
        raise SettingsError(f"{name}: {length} bytes from {offset} on, the buffer has {memory.size}")
    return memory[offset : offset + length]
