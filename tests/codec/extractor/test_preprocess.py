"""Pictures become tensors: exact values where nothing is resized, axes, colours, the reused array."""

from __future__ import annotations

import numpy as np
import pytest
from av import VideoFrame

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.extractor.preprocess import Preprocessor


def settings(width: int, height: int, **more: object) -> InputSettings:
    return InputSettings("image", width, height, **more)  # type: ignore[arg-type]


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def test_every_sample_value_is_scaled_in_two_float32_steps() -> None:
    rgb = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    tensor = Preprocessor(settings(16, 16, scale=1 / 127.5, offset=-1.0))(rgb)
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, 16, 16)
    expected = (rgb.astype(np.float32) * np.float32(1 / 127.5)).astype(np.float32) + np.float32(-1)
    np.testing.assert_array_equal(tensor[0], expected.transpose(2, 0, 1))
    assert set(np.unique(rgb)) == set(range(256))


# 301 wide: the rows of a scaled frame are longer than its samples.
@pytest.mark.parametrize(("width", "height"), [(16, 16), (301, 17), (33, 95)])
def test_axes_and_colours(width: int, height: int) -> None:
    rgb = picture(height, width)
    planes = Preprocessor(settings(width, height, scale=1.0))(rgb)
    np.testing.assert_array_equal(planes[0], rgb.transpose(2, 0, 1))
    pixels = Preprocessor(settings(width, height, scale=1.0, layout="NHWC"))(rgb)
    np.testing.assert_array_equal(pixels[0], rgb)
    swapped = Preprocessor(settings(width, height, scale=1.0, colour="bgr"))(rgb)
    np.testing.assert_array_equal(swapped[0], rgb.transpose(2, 0, 1)[::-1])
    flat = np.full((height, width, 3), 77, np.uint8)
    gray = Preprocessor(settings(width, height, scale=1.0, colour="gray"))(flat)
    assert gray.shape == (1, 1, height, width)
    assert set(np.unique(gray)) == {77}


def test_resizing_keeps_no_aspect_and_places_content_where_it_was() -> None:
    rgb = np.zeros((100, 400, 3), np.uint8)
    rgb[:50, 200:] = (255, 0, 0)  # the upper right quarter
    tensor = Preprocessor(settings(60, 60, scale=1.0))(rgb)
    assert (tensor[0, 0, 2:28, 32:58] == 255).all()
    assert (tensor[0, 0, 32:58, 2:58] == 0).all()
    assert (tensor[0, 0, 2:58, 2:28] == 0).all()
    assert (tensor[0, 1:] == 0).all()


def test_halving_averages_as_bilinear_does() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 1::2] = 200  # stripes one sample wide: nearest would keep 0 or 200
    tensor = Preprocessor(settings(32, 32, scale=1.0))(rgb)
    assert np.abs(tensor[0, :, :, 2:-2] - 100).max() <= 1


def test_the_given_array_is_filled_and_given_back() -> None:
    preprocess = Preprocessor(settings(24, 20))
    out = preprocess.new_tensor()
    assert preprocess(picture(40, 48), out) is out
    first = out.copy()
    preprocess(picture(40, 48), out)
    np.testing.assert_array_equal(out, first)
    preprocess(np.zeros((40, 48, 3), np.uint8), out)
    assert (out == 0).all()


def test_one_preprocessor_takes_pictures_of_any_size_and_format() -> None:
    preprocess = Preprocessor(settings(32, 32, scale=1.0))
    gray = np.full((48, 64, 3), 128, np.uint8)
    for size in (slice(None), slice(0, 40)):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(gray[size]), "rgb24")
        for pixel_format in ("rgb24", "yuv420p", "yuvj420p", "gray"):
            tensor = preprocess(frame.reformat(format=pixel_format))
            # 8-bit YCbCr and back: a few levels, not the 16 that a range mixed up would cost
            assert np.abs(tensor - 128).max() <= 3, pixel_format


def test_arrays_that_are_not_whole_rows_are_taken_too() -> None:
    wide = picture(32, 64)
    preprocess = Preprocessor(settings(32, 32, scale=1.0))
    np.testing.assert_array_equal(preprocess(wide[:, ::2])[0], wide[:, ::2].transpose(2, 0, 1))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(SettingsError, match=r"picture: found .*, expected uint8 \[H, W, 3\]"):
        Preprocessor(settings(4, 4))(bad)


def test_another_out_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"out: found float32 \[1, 3, 4, 5\], expected float32 \[1, 3, 4, 4\]"):
        Preprocessor(settings(4, 4))(picture(4, 4), np.empty((1, 3, 4, 5), np.float32))
    with pytest.raises(SettingsError, match="found float64"):
        Preprocessor(settings(4, 4))(picture(4, 4), np.empty((1, 3, 4, 4), np.float64))  # type: ignore[arg-type]
