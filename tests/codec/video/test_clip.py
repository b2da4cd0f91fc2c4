"""Pictures out of videos, images and folders, and one clear line for what is none of these."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av import VideoFrame

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.video.clip import Clip, open_source


def flat(level: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def write_image(path: Path, level: int) -> Path:
    """A picture of one level, by the codec that the suffix stands for."""
    codec, pixel_format = {".png": ("png", "rgb24"), ".bmp": ("bmp", "bgr24")}.get(
        path.suffix.lower(), ("mjpeg", "yuvj420p")
    )
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 48, 32, pixel_format, Fraction(1, 10)
    frame = VideoFrame.from_ndarray(flat(level), "rgb24").reformat(format=pixel_format)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    return path


def write_video(path: Path, pictures: int, rate: int = 25, codec: str = "mpeg4", **options: str) -> Path:
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(pictures):
            frame = VideoFrame.from_ndarray(flat(10 * number), "rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.start_encoding()
        container.mux(stream.encode(None))
    return path


def level(frame: VideoFrame) -> float:
    return float(frame.to_ndarray(format="rgb24").mean())


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_video_gives_its_pictures_in_order_with_their_times(tmp_path: Path, suffix: str) -> None:
    clip = open_source(write_video(tmp_path / f"street{suffix}", 12))
    assert clip.count() == 12
    for _ in range(2):  # a clip can be gone through again
        pictures = list(clip)
        assert [picture.number for picture in pictures] == list(range(12))
        np.testing.assert_allclose([picture.time_s for picture in pictures], np.arange(12) / 25, atol=0.001)
        np.testing.assert_allclose([level(picture.frame) for picture in pictures], np.arange(12) * 10, atol=4)


def test_a_raw_stream_without_times_counts_them_from_its_rate(tmp_path: Path) -> None:
    # Annex-B H.264 and the like: no container, no time stamps, no number of frames
    path = write_video(tmp_path / "raw.m4v", 5, format="m4v")
    clip = Clip(path)
    assert clip.count() == 5
    times = [picture.time_s for picture in clip]
    np.testing.assert_allclose(times, np.arange(5) / 25, atol=0.001)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp"])
def test_one_image_is_a_clip_of_one_picture(tmp_path: Path, suffix: str) -> None:
    clip = open_source(write_image(tmp_path / f"one{suffix}", 100))
    (picture,) = clip
    assert clip.count() == 1
    assert picture[:2] == (0, 0.0)
    assert (picture.frame.width, picture.frame.height) == (48, 32)
    assert abs(level(picture.frame) - 100) <= 2


# 16 x 16, level 120, lossless: not every build of FFmpeg writes WebP, all read it
WEBP = bytes.fromhex("524946461e000000574542505650384c110000002f0fc003000750bce215afff8188e87f0000")


def test_a_folder_gives_its_images_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name, value in (("b.jpg", 50), ("a%02d.png", 10), ("c.bmp", 90)):  # a % is no pattern here
        write_image(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "d.png").mkdir()
    clip = open_source(tmp_path, fps=4)
    pictures = list(clip)
    assert clip.count() == len(pictures) == 3
    assert [picture.number for picture in pictures] == [0, 1, 2]
    assert [picture.time_s for picture in pictures] == [0.0, 0.25, 0.5]
    np.testing.assert_allclose([level(picture.frame) for picture in pictures], [10, 50, 90], atol=2)
    assert [picture.time_s for picture in Clip(tmp_path)] == [0.0, 0.1, 0.2]


def test_webp_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "x.webp").write_bytes(WEBP)
    (picture,) = Clip(tmp_path)
    assert (picture.frame.width, picture.frame.height) == (16, 16)
    assert level(picture.frame) == 120


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FeatlinkError, match=r"nowhere\.mp4: no such file or folder$"):
        open_source(tmp_path / "nowhere.mp4")
    with pytest.raises(FeatlinkError, match="no image in this folder"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 50, bytes(range(256)) * 20])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "street.mp4"
    path.write_bytes(content)
    with pytest.raises(FeatlinkError, match=r"street\.mp4: not a video that FFmpeg can read: ") as error:
        open_source(path)
    assert "\n" not in str(error.value)


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"  # FFmpeg itself plays it as a terminal
    path.write_text("hello world\n" * 50)
    with pytest.raises(FeatlinkError, match=r"notes\.txt: not a video that FFmpeg can read"):
        open_source(path)


def test_a_file_with_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(FeatlinkError, match=r"sound\.wav: no video stream in this file \(found: audio\)$"):
        open_source(path)


def test_a_video_without_a_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "empty.avi", 0)
    clip = open_source(path)
    assert clip.count() == 0
    with pytest.raises(FeatlinkError, match=r"empty\.avi: its video stream holds no picture$"):
        list(clip)


def test_a_video_that_breaks_off_gives_what_there_is(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", 20).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    numbers = [picture.number for picture in Clip(tmp_path / "cut.mkv")]
    assert 5 <= len(numbers) < 20
    assert numbers == list(range(len(numbers)))


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", 3)
    whole = write_image(tmp_path / "2.png", 200).read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    pictures = iter(Clip(tmp_path))
    assert next(pictures).number == 0
    with pytest.raises(FeatlinkError, match=r"2\.png: not an image that FFmpeg can read: "):
        next(pictures)
    (tmp_path / "2.png").write_bytes(b"")
    with pytest.raises(FeatlinkError, match=r"2\.png: "):
        list(Clip(tmp_path))


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(SettingsError, match="fps"):
        open_source(tmp_path, fps)
