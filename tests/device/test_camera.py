"""Camera frames become pictures. The device is a stand-in with linuxpy's interface; no real camera was ever here."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from linuxpy.video.device import PixelFormat

from featlink_codec.errors import FeatlinkError
from featlink_device import camera

WIDTH, HEIGHT = 64, 48


class Frame:
    def __init__(self, data: bytes, pixel_format: PixelFormat, number: int) -> None:
        self._data = data
        self.pixel_format, self.width, self.height = pixel_format, WIDTH, HEIGHT
        self.timestamp, self.nbytes = 1000.0 + number / 10, len(data)

    def __bytes__(self) -> bytes:
        return self._data

    def __len__(self) -> int:
        return len(self._data)


def samples(pixel_format: PixelFormat) -> bytes:
    """A picture of one orange-brown colour, as the camera would send it."""
    rgb = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), (200, 120, 40), np.uint8), format="rgb24")
    if pixel_format is PixelFormat.MJPEG:
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        encoder.time_base = Fraction(1, 10)
        return bytes(encoder.encode(rgb.reformat(format="yuvj420p"))[0])
    name = {PixelFormat.NV12: "nv12", PixelFormat.YUYV: "yuyv422"}[pixel_format]
    return rgb.reformat(format=name).to_ndarray().tobytes()


@pytest.fixture
def plug(monkeypatch):
    """Puts a camera in place that offers some formats and sends the same picture again and again."""
    asked = SimpleNamespace(format=None, fps=None)

    def put(*offered: PixelFormat, cut: int = 0) -> SimpleNamespace:
        class Device:
            info = SimpleNamespace(formats=[SimpleNamespace(pixel_format=f) for f in offered])

            def __init__(self, name: str) -> None:
                self.name = name

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def get_format(self, _):
                return SimpleNamespace(width=WIDTH, height=HEIGHT)

            def set_fps(self, _, fps):
                asked.fps = fps

        class Capture:
            def __init__(self, _device) -> None:
                pass

            def set_format(self, _width, _height, pixel_format):
                asked.format = pixel_format

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def __iter__(self):
                data = samples(asked.format)
                return (Frame(data[: len(data) - cut], asked.format, k) for k in range(100))

        monkeypatch.setattr(camera, "Device", Device)
        monkeypatch.setattr(camera, "VideoCapture", Capture)
        return asked

    return put


@pytest.mark.parametrize("pixel_format", [PixelFormat.NV12, PixelFormat.YUYV, PixelFormat.MJPEG])
def test_frames_of_every_known_format_become_pictures(plug, pixel_format):
    asked = plug(PixelFormat.H264, pixel_format)
    pictures = list(camera.CameraSource(Path("/dev/video7"), 12.5, 3))
    assert (asked.format, asked.fps) == (pixel_format, 12.5)
    assert [p.number for p in pictures] == [0, 1, 2]
    assert [p.time_s for p in pictures] == pytest.approx([0, 0.1, 0.2])
    for picture in pictures:
        colour = picture.frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(0)
        assert np.abs(colour - (200, 120, 40)).max() < 8


def test_the_cheapest_format_is_taken(plug):
    asked = plug(PixelFormat.MJPEG, PixelFormat.YUYV, PixelFormat.NV12)
    next(iter(camera.CameraSource(Path("/dev/video7"), 10, 1)))
    assert asked.format is PixelFormat.NV12


def test_a_camera_without_a_known_format_is_refused_by_name(plug):
    plug(PixelFormat.H264)
    with pytest.raises(FeatlinkError, match=r"/dev/video7: no pixel format known here \(it offers H264\)"):
        list(camera.CameraSource(Path("/dev/video7"), 10, 1))


def test_frames_of_another_size_are_refused(plug):
    plug(PixelFormat.YUYV, cut=10)
    with pytest.raises(FeatlinkError, match="a frame of 6134 bytes"):
        list(camera.CameraSource(Path("/dev/video7"), 10, 1))


def test_a_device_that_is_none_is_one_line(tmp_path):
    with pytest.raises(FeatlinkError, match="/dev/null"):
        list(camera.CameraSource(Path("/dev/null"), 10, 1))
