"""From a picture to the network's input tensor: resized without keeping its aspect, scaled, in one reused array."""

from __future__ import annotations

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from ..errors import SettingsError
from ..video.convert import Converter
from .settings import InputSettings

#: The pixel format whose samples are the tensor's, by [input] colour.
PIXEL_FORMATS = {"rgb": "rgb24", "bgr": "bgr24", "gray": "gray"}


class Preprocessor:
    """Turns pictures into tensors as [input] says; holds the scaler's tables from picture to picture.

    The scaler is swscale, bilinear and exact, from any size and pixel format. Not for several threads at a time.

    :param settings: the [input] table
    """

    def __init__(self, settings: InputSettings) -> None:
        self.settings = settings
        self._scale = np.float32(settings.scale)
        self._offset = np.float32(settings.offset)
        self._resize = Converter(PIXEL_FORMATS[settings.colour], (settings.width, settings.height))

    def new_tensor(self) -> NDArray[np.float32]:
        """An array to be given as `out` again and again: float32 [1, C, H, W] or [1, H, W, C]."""
        return np.empty(self.settings.shape, np.float32)

    def __call__(
        self, picture: VideoFrame | NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The tensor of a picture.

        :param picture: a decoded frame, or RGB samples, uint8 [H, W, 3]
        :param out: where the tensor goes; without it a new array is made
        :returns: `out`, float32 of the settings' shape
        :raises SettingsError: an array of another shape or type
        """
        wanted = self.settings.shape
        if out is None:
            out = self.new_tensor()
        elif out.shape != wanted or out.dtype != np.float32:
            raise SettingsError(f"out: found {out.dtype} {list(out.shape)}, expected float32 {list(wanted)}")
        frame = picture if isinstance(picture, VideoFrame) else _frame(picture)
        small = self._resize(frame)
        samples = _samples(small, self.settings.channels)
        if self.settings.layout == "NCHW":
            samples = samples.transpose(2, 0, 1)
        out[0] = samples
        out *= self._scale
        out += self._offset
        return out


def _frame(picture: NDArray[np.uint8]) -> VideoFrame:
    """A frame over the array's own memory where its rows are whole."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise SettingsError(f"picture: found {picture.dtype} {list(picture.shape)}, expected uint8 [H, W, 3]")
    return VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), "rgb24")


def _samples(frame: VideoFrame, channels: int) -> NDArray[np.uint8]:
    """The frame's samples, uint8 [H, W, channels], in place: its rows may be longer than the picture is wide."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width * channels].reshape(frame.height, frame.width, channels)
