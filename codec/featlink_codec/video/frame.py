"""An encoder's input picture in somebody else's memory: mmap'ed buffers with their own strides and padding.

Maps are packed straight into :attr:`Frame.luma`. What lies around it, and chroma, never changes, so it is written once
per buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: V4L2's names: GREY has no chroma; NV12 has both planes in one buffer, NV12M in two.
PIXEL_FORMATS = ("GREY", "NV12", "NV12M")
NEUTRAL_CHROMA = 128


class Frame:
    """A picture of GREY, NV12 or NV12M samples.

    :param pixel_format: one of `PIXEL_FORMATS`
    :param width: of the picture, in samples; even with chroma
    :param height: likewise
    :param buffers: writable memory, contiguous: one for GREY and NV12, two for NV12M. Not copied
    :param stride: bytes from one row to the next, in both planes (V4L2: bytesperline)
    :param rows: rows of luma in memory, behind which NV12's chroma begins (V4L2: the height that the driver returned);
        as many as the picture has where left out
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
        if len(buffers) != (2 if pixel_format == "NV12M" else 1):
            raise SettingsError(f"{pixel_format}: {len(buffers)} buffers")
        planes = [_bytes_of(buffer) for buffer in buffers]
        if len(planes) == 2 and np.may_share_memory(planes[0], planes[1]):
            raise SettingsError("NV12M: the two buffers overlap")
        self._luma = _rows(planes[0], 0, rows, stride, pixel_format)
        self._chroma: NDArray[np.uint8] | None = None
        if chroma:
            offset = rows * stride if pixel_format == "NV12" else 0
            self._chroma = _rows(planes[-1], offset, rows // 2, stride, f"{pixel_format} chroma")
        #: uint8 [height, width], rows `stride` bytes apart: pack into it
        self.luma = self._luma[:height, :width]
        self.clear()

    def clear(self) -> None:
        """Write what stays: 0 into luma, its padding included, and neutral chroma."""
        self._luma[...] = 0
        if self._chroma is not None:
            self._chroma[...] = NEUTRAL_CHROMA


def _bytes_of(buffer: Buffer) -> NDArray[np.uint8]:
    view = memoryview(buffer)
    if view.readonly:
        raise SettingsError("a buffer is read-only")
    if not view.c_contiguous:
        raise SettingsError("a buffer is not contiguous")
    return np.frombuffer(view, np.uint8)


def _rows(memory: NDArray[np.uint8], offset: int, rows: int, stride: int, name: str) -> NDArray[np.uint8]:
    if memory.size < offset + rows * stride:
        raise SettingsError(f"{name}: {rows} rows of {stride} bytes from {offset} on, the buffer has {memory.size}")
    return memory[offset : offset + rows * stride].reshape(rows, stride)
