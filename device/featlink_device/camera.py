"""A V4L2 camera through linuxpy. Not yet run on a real camera."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from linuxpy.video.device import BufferType, Device, Frame, PixelFormat, V4L2Error, VideoCapture

from featlink_codec.errors import FeatlinkError
from featlink_codec.video.clip import Picture

#: Formats that are turned into pictures here, the cheapest first.
_FORMATS = {
    PixelFormat.NV12: "nv12",
    PixelFormat.YUYV: "yuyv422",
    PixelFormat.MJPEG: "mjpeg",
    PixelFormat.JPEG: "mjpeg",
}


class CameraSource:
    """Pictures of a camera, timestamped by its driver.

    :param path: of the device, e.g. /dev/video0
    :param fps: what the camera is asked for
    :param limit: stop after so many pictures; None goes on
    :raises FeatlinkError: the device cannot be opened, or has no format known here
    """

    live = True

    def __init__(self, path: Path, fps: float, limit: int | None) -> None:
        self._path = path
        self._fps = fps
        self._limit = limit
        self.epoch_s = time.time()
        self._jpeg = av.CodecContext.create("mjpeg", "r")

    def __len__(self) -> int:
        """Unknown, unless a limit says it."""
        return self._limit or 0

    def __iter__(self) -> Iterator[Picture]:
        """Pictures until the limit."""
        try:
            with Device(str(self._path)) as device:
                yield from self._frames(device)
        except (OSError, V4L2Error) as error:
            raise FeatlinkError(f"{self._path}: {getattr(error, 'strerror', None) or error}") from None

    def _frames(self, device: Device) -> Iterator[Picture]:
        offered = [f.pixel_format for f in device.info.formats]
        chosen = next((f for f in _FORMATS if f in offered), None)
        if chosen is None:
            names = ", ".join(f.name for f in offered) or "none"
            raise FeatlinkError(f"{self._path}: no pixel format known here (it offers {names})")
        current = device.get_format(BufferType.VIDEO_CAPTURE)
        capture = VideoCapture(device)
        capture.set_format(current.width, current.height, chosen)
        device.set_fps(BufferType.VIDEO_CAPTURE, self._fps)
        first_s: float | None = None
        with capture:
            for number, frame in enumerate(capture):
                if first_s is None:
                    first_s = frame.timestamp
                    self.epoch_s = time.time()
                yield Picture(number, frame.timestamp - first_s, self._picture(frame))
                if self._limit is not None and number + 1 >= self._limit:
                    return

    def _picture(self, frame: Frame) -> av.VideoFrame:
        name = _FORMATS[frame.pixel_format]
        if name == "mjpeg":
            pictures = self._jpeg.decode(av.Packet(bytes(frame)))
            if not pictures:
                raise FeatlinkError(f"{self._path}: a JPEG of {frame.nbytes} bytes holds no picture")
            return pictures[0]
        rows = (frame.height * 3 // 2, frame.width) if name == "nv12" else (frame.height, frame.width, 2)
        if len(frame) != math.prod(rows):
            raise FeatlinkError(
                f"{self._path}: a frame of {len(frame)} bytes, {frame.width} x {frame.height} {name} has "
                f"{math.prod(rows)}: padded rows are not read yet"
            )
        return av.VideoFrame.from_ndarray(np.frombuffer(bytes(frame), np.uint8).reshape(rows), format=name)
