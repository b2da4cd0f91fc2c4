"""From the bytes of a V4L2 frame to a picture: which formats are read, and where their planes and rows lie."""

from __future__ import annotations

from collections.abc import Mapping

import av
import numpy as np
from linuxpy.video.device import PixelFormat

from featlink_codec.errors import FeatlinkError

#: FFmpeg's names of the formats that are turned into pictures here, the cheapest first.
FORMATS: Mapping[PixelFormat, str] = {
    PixelFormat.NV12: "nv12",
    PixelFormat.NV21: "nv21",
    PixelFormat.YUV420: "yuv420p",
    PixelFormat.YVU420: "yuv420p",
    PixelFormat.YUYV: "yuyv422",
    PixelFormat.UYVY: "uyvy422",
    PixelFormat.YVYU: "yvyu422",
    PixelFormat.NV16: "nv16",
    PixelFormat.YUV422P: "yuv422p",
    PixelFormat.RGB24: "rgb24",
    PixelFormat.BGR24: "bgr24",
    PixelFormat.MJPEG: "mjpeg",
    PixelFormat.JPEG: "mjpeg",
    PixelFormat.GREY: "gray",
}

#: Planes in the order of the buffer, each as (parts of the picture's rows, parts of the first plane's row length);
#: one plane of whole rows where nothing is said.
_PLANES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "nv12": ((1, 1), (2, 1)),
    "nv21": ((1, 1), (2, 1)),
    "nv16": ((1, 1), (1, 1)),
    "yuv420p": ((1, 1), (2, 2), (2, 2)),
    "yuv422p": ((1, 1), (1, 2), (1, 2)),
}
_ONE_PLANE = ((1, 1),)


class DamagedFrameError(FeatlinkError):
    """A frame that holds no whole picture; the next one may."""


class FrameReader:
    """Turns the frames of one capture into pictures.

    :param pixel_format: one of `FORMATS`
    :param width: of the picture
    :param height: of the picture
    :param bytes_per_line: from one row of the first plane to the next; drivers pad rows. 0 where the format has no rows
    """

    def __init__(self, pixel_format: PixelFormat, width: int, height: int, bytes_per_line: int) -> None:
        self._kind = pixel_format
        self._name = FORMATS[pixel_format]
        self._width, self._height, self._stride = width, height, bytes_per_line
        self._jpeg: av.VideoCodecContext | None = None
        if self._name == "mjpeg":
            decoder = av.CodecContext.create("mjpeg", "r")
            assert isinstance(decoder, av.VideoCodecContext)
            self._jpeg = decoder

    def __call__(self, data: bytes) -> av.VideoFrame:
        """The picture of a frame, in memory of its own.

        :raises DamagedFrameError: it is too short, or a JPEG that cannot be decoded
        """
        if self._jpeg is not None:
            return self._decode(self._jpeg, data)
        frame = av.VideoFrame(self._width, self._height, self._name)
        planes = list(frame.planes)
        if self._kind is PixelFormat.YVU420:
            planes[1], planes[2] = planes[2], planes[1]
        layout = [
            (-(-self._height // rows), self._stride // parts) for rows, parts in _PLANES.get(self._name, _ONE_PLANE)
        ]
        wanted = sum(rows * stride for rows, stride in layout)
        if len(data) < wanted:
            raise DamagedFrameError(
                f"a frame of {len(data)} bytes, {self._width} x {self._height} {self._kind.name} "
                f"in rows of {self._stride} has {wanted}"
            )
        samples = np.frombuffer(data, np.uint8)
        offset = 0
        for plane, (rows, stride) in zip(planes, layout, strict=True):
            used = min(stride, plane.line_size)
            source = samples[offset : offset + rows * stride].reshape(rows, stride)
            target = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            target[:rows, :used] = source[:, :used]
            offset += rows * stride
        return frame

    def _decode(self, decoder: av.VideoCodecContext, data: bytes) -> av.VideoFrame:
        try:
            pictures = decoder.decode(av.Packet(data))
        except av.FFmpegError as error:
            raise DamagedFrameError(f"a JPEG of {len(data)} bytes cannot be decoded: {error.strerror}") from None
        if not pictures:
            raise DamagedFrameError(f"a JPEG of {len(data)} bytes holds no picture")
        return pictures[0]
