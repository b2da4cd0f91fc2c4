"""Camera frames become pictures. The device is a stand-in with linuxpy's interface; hil/suite has vivid."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from linuxpy.video.device import BufferFlag, Capability, PixelFormat

from featlink_codec.errors import FeatlinkError
from featlink_device import camera, camera_frames
from featlink_device.camera_frames import DamagedFrameError, FrameReader

WIDTH, HEIGHT = 64, 48
COLOUR = (200, 120, 40)


class Frame:
    def __init__(self, data: bytes, number: int, flags=BufferFlag.TIMESTAMP_MONOTONIC) -> None:
        self._data = data
        self.timestamp, self.frame_nb, self.flags = 1000.0 + number / 10, number, flags

    def __bytes__(self) -> bytes:
        return self._data


def samples(pixel_format: PixelFormat, width: int = WIDTH, height: int = HEIGHT, padding: int = 0) -> bytes:
    """A picture of one orange-brown colour, as the camera would send it; `padding` bytes of 255 behind each row."""
    rgb = av.VideoFrame.from_ndarray(np.full((height, width, 3), COLOUR, np.uint8), format="rgb24")
    name = camera_frames.FORMATS[pixel_format]
    if name == "mjpeg":
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
        encoder.time_base = Fraction(1, 10)
        return bytes(encoder.encode(rgb.reformat(format="yuvj420p"))[0])
    frame = rgb.reformat(format=name)
    # Bytes in a row of each plane, and what of `padding` each one gets: chroma planes of their own have half of it.
    across = {"yuv420p": (1, 0.5, 0.5), "yuv422p": (1, 0.5, 0.5), "nv12": (1, 1), "nv21": (1, 1), "nv16": (1, 1)}
    across |= {"rgb24": (3,), "bgr24": (3,), "gray": (1,)}
    planes = list(frame.planes)
    if pixel_format is PixelFormat.YVU420:
        planes = [planes[0], planes[2], planes[1]]
    out = b""
    for plane, part in zip(planes, across.get(name, (2,)), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : int(width * part)
        ]
        behind = padding // 2 if part == 0.5 else padding
        out += np.pad(rows, ((0, 0), (0, behind)), constant_values=255).tobytes()
    return out


def colour_of(frame: av.VideoFrame) -> np.ndarray:
    return frame.to_ndarray(format="rgb24").reshape(-1, 3)


@pytest.fixture
def plug(monkeypatch):
    """Puts a camera in place that offers some formats and sends the same picture again and again."""
    asked = SimpleNamespace(format=None, fps=None, set_formats=[])

    def put(
        *offered: PixelFormat,
        cut: int = 0,
        padding: int = 0,
        current: PixelFormat = PixelFormat.H264,
        numbers=range(1000),
        flags=lambda number: BufferFlag.TIMESTAMP_MONOTONIC,
        rates=lambda pixel_format: [],
        capabilities=Capability.VIDEO_CAPTURE | Capability.STREAMING,
        settable: bool = True,
    ) -> SimpleNamespace:
        asked.format = current

        class Device:
            info = SimpleNamespace(
                card="stand-in",
                device_capabilities=capabilities,
                buffer_formats=lambda _type: [SimpleNamespace(pixel_format=f) for f in offered],
                fps_intervals=lambda pixel_format, _width, _height: rates(pixel_format),
            )

            def __init__(self, name: str) -> None:
                self.name = name

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def get_format(self, _):
                row = (WIDTH * 2 if asked.format is PixelFormat.YUYV else WIDTH) + padding
                return SimpleNamespace(width=WIDTH, height=HEIGHT, pixel_format=asked.format, bytes_per_line=row)

            def set_fps(self, _, fps):
                if not settable:
                    raise OSError(25, "Inappropriate ioctl for device")
                asked.fps = fps

            def get_fps(self, _):
                return Fraction(asked.fps)

        class Capture:
            def __init__(self, _device, _buffers) -> None:
                self.buffer = SimpleNamespace(frame_reader=self)
                self._numbers = iter(numbers)

            def set_format(self, _width, _height, pixel_format):
                asked.set_formats.append(pixel_format)
                asked.format = pixel_format

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def read(self, timeout):
                assert timeout > 0
                number = next(self._numbers, None)
                if number is None:
                    return None
                data = samples(asked.format, padding=padding)
                return Frame(data[: len(data) - cut], number, flags(number))

        monkeypatch.setattr(camera, "Device", Device)
        monkeypatch.setattr(camera, "VideoCapture", Capture)
        return asked

    return put


def source(limit: int | None = 1, fps: float = 10) -> camera.CameraSource:
    return camera.CameraSource(Path("/dev/video7"), fps, limit)


@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (50, 34)])
@pytest.mark.parametrize("pixel_format", camera_frames.FORMATS)
def test_frames_of_every_known_format_become_pictures(pixel_format, width, height, padding):
    bytes_per_pixel = {"rgb24": 3, "bgr24": 3, "yuyv422": 2, "uyvy422": 2, "yvyu422": 2}
    row = width * bytes_per_pixel.get(camera_frames.FORMATS[pixel_format], 1) + padding
    picture = FrameReader(pixel_format, width, height, row)(samples(pixel_format, width, height, padding))
    assert (picture.width, picture.height) == (width, height)
    expected = np.full(3, 134.0) if pixel_format is PixelFormat.GREY else np.array(COLOUR)
    # No pixel has another colour: padding that was read as samples would show.
    assert np.abs(colour_of(picture) - expected).max() < 8


def test_a_picture_has_memory_of_its_own():
    """The driver fills its buffer anew while the picture is worked on."""
    data = bytearray(samples(PixelFormat.NV12))
    picture = FrameReader(PixelFormat.NV12, WIDTH, HEIGHT, WIDTH)(data)
    data[:] = bytes(len(data))
    assert np.abs(colour_of(picture) - COLOUR).max() < 8


@pytest.mark.parametrize("pixel_format", [PixelFormat.NV12, PixelFormat.YUYV, PixelFormat.MJPEG])
def test_pictures_come_with_the_times_of_the_driver(plug, pixel_format):
    asked = plug(PixelFormat.H264, pixel_format)
    camera_source = source(limit=3, fps=12.5)
    pictures = list(camera_source)
    assert (asked.format, asked.fps) == (pixel_format, 12.5)
    assert [p.number for p in pictures] == [0, 1, 2]
    assert [p.time_s for p in pictures] == pytest.approx([0, 0.1, 0.2])
    assert camera_source.lost == 0
    assert camera_source.facts["pixel_format"] == pixel_format.name
    assert camera_source.facts["timestamps"] == "driver, monotonic"
    assert camera_source.facts["fps"] == 12.5


def test_a_driver_without_monotonic_times_gets_ours(plug):
    plug(PixelFormat.NV12, flags=lambda number: BufferFlag(0))
    camera_source = source(limit=2)
    first, second = camera_source
    assert 0 < second.time_s - first.time_s < 5
    assert camera_source.facts["timestamps"] == "when read"


def test_the_cheapest_format_is_taken(plug):
    asked = plug(PixelFormat.MJPEG, PixelFormat.YUYV, PixelFormat.NV12)
    next(iter(source()))
    assert asked.format is PixelFormat.NV12


def test_a_format_that_is_too_slow_is_passed_over(plug):
    """Many USB cameras give large pictures in time as JPEG only."""
    fastest = {PixelFormat.YUYV: 5, PixelFormat.MJPEG: 30}
    asked = plug(
        *fastest,
        rates=lambda f: [SimpleNamespace(min_fps=Fraction(rate), max_fps=Fraction(rate)) for rate in (1, fastest[f])],
    )
    next(iter(source(fps=15)))
    assert asked.format is PixelFormat.MJPEG
    next(iter(source(fps=100)))
    assert asked.format is PixelFormat.YUYV


def test_a_camera_that_stands_at_the_format_is_left_as_it_is(plug):
    """Its user may have chosen; long rows stay, and are read."""
    asked = plug(PixelFormat.NV12, PixelFormat.YUYV, current=PixelFormat.YUYV, padding=64)
    (picture,) = source()
    assert asked.format is PixelFormat.YUYV
    assert asked.set_formats == []
    assert np.abs(colour_of(picture.frame) - COLOUR).max() < 8


def test_a_camera_that_stands_at_jpeg_is_asked_for_raw_pictures(plug):
    asked = plug(PixelFormat.MJPEG, PixelFormat.NV12, current=PixelFormat.MJPEG)
    next(iter(source()))
    assert asked.format is PixelFormat.NV12


def test_a_camera_whose_rate_cannot_be_set_is_used(plug):
    plug(PixelFormat.NV12, settable=False)
    camera_source = source()
    assert len(list(camera_source)) == 1
    assert camera_source.facts["fps"] is None


def test_gaps_in_the_numbers_of_the_driver_are_lost_pictures(plug):
    plug(PixelFormat.NV12, numbers=[0, 1, 5, 6, (1 << 32) - 1, 0])
    camera_source = source(limit=4)
    assert len(list(camera_source)) == 4
    assert camera_source.lost == 3


@pytest.mark.parametrize("numbers", [[0] * 5, [7, 8, 0, 1, 2], [(1 << 32) - 2, (1 << 32) - 1, 0, 1]])
def test_a_driver_that_does_not_count_or_begins_again_loses_nothing(plug, numbers):
    plug(PixelFormat.NV12, numbers=numbers)
    camera_source = source(limit=4)
    assert len(list(camera_source)) == 4
    assert camera_source.lost == 0


def test_frames_that_the_driver_marks_as_damaged_are_lost_and_the_stream_goes_on(plug):
    damaged = {1, 2}
    error = BufferFlag.TIMESTAMP_MONOTONIC | BufferFlag.ERROR
    plug(PixelFormat.NV12, flags=lambda n: error if n in damaged else BufferFlag.TIMESTAMP_MONOTONIC)
    camera_source = source(limit=3)
    assert [p.time_s for p in camera_source] == pytest.approx([0, 0.3, 0.4])
    assert camera_source.lost == 2


def test_a_camera_that_goes_silent_is_said(plug, monkeypatch):
    monkeypatch.setattr(camera, "STALLED_S", 0.5)
    plug(PixelFormat.NV12, numbers=range(2))
    with pytest.raises(FeatlinkError, match=r"/dev/video7: no picture for 0.5 s"):
        list(source(limit=None))


def test_a_camera_without_a_known_format_is_refused_by_name(plug):
    plug(PixelFormat.H264)
    with pytest.raises(FeatlinkError, match=r"/dev/video7: no pixel format known here \(it offers H264\)"):
        list(source())


def test_a_camera_of_several_planes_is_refused_by_name(plug):
    """linuxpy lists the formats of such a device by running into an error of its own."""
    plug(PixelFormat.NV12, capabilities=Capability.VIDEO_CAPTURE_MPLANE)
    with pytest.raises(FeatlinkError, match="several planes"):
        list(source())


def test_a_device_that_only_shows_pictures_is_refused(plug):
    plug(PixelFormat.NV12, capabilities=Capability.VIDEO_OUTPUT)
    with pytest.raises(FeatlinkError, match="stand-in: not a camera"):
        list(source())


def test_frames_of_another_size_again_and_again_are_refused(plug):
    plug(PixelFormat.YUYV, cut=10)
    with pytest.raises(FeatlinkError, match="30 damaged frames in a row: a frame of 6134 bytes"):
        list(source())


@pytest.mark.parametrize("data", [b"", b"no JPEG", samples(PixelFormat.MJPEG)[:40]])
def test_a_damaged_jpeg_is_a_damaged_frame(data):
    with pytest.raises(DamagedFrameError):
        FrameReader(PixelFormat.MJPEG, WIDTH, HEIGHT, 0)(data)


def test_a_device_that_is_none_is_one_line(tmp_path):
    with pytest.raises(FeatlinkError, match="/dev/null"):
        list(camera.CameraSource(Path("/dev/null"), 10, 1))
