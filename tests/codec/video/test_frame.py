"""Pictures in an encoder's own memory: strides, padding, chroma, and maps packed into them without a copy."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from featlink_codec.errors import SettingsError
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.packing import Packing
from featlink_codec.features.quantizers import UniformQuantizer
from featlink_codec.features.syntax import RepackMode
from featlink_codec.video.frame import Frame

PACKING = Packing(RepackMode.TILE, 6, 2, 3, pad_h=2, pad_w=1)
#: 2 x 5 + 2 rows, 3 x 7 + 1 columns
HEIGHT, WIDTH = 12, 22


def values_and_picture():
    values = np.random.default_rng(3).random((5, 7, 6)).astype(np.float32) * 6
    levels = UniformQuantizer(6.0, 8).quantize(values)
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    PACKING.pack(levels, 0, picture)
    return values, picture


@pytest.mark.parametrize("pixel_format", ["GREY", "NV12", "NV12M", "YUV420", "YUV420M"])
@pytest.mark.parametrize(("stride", "rows"), [(22, 12), (128, 32)])
def test_a_map_goes_straight_into_the_encoders_memory(pixel_format, stride, rows):
    values, picture = values_and_picture()
    size = rows * stride
    memory = [mmap.mmap(-1, size * 3 // 2 if pixel_format in ("NV12", "YUV420") else size)]
    memory += [mmap.mmap(-1, part) for part in {"NV12M": [size // 2], "YUV420M": [size // 4] * 2}.get(pixel_format, [])]
    for buffer in memory:
        buffer.write(b"\x63" * len(buffer))
    frame = Frame(pixel_format, WIDTH, HEIGHT, memory, stride, rows)
    packer = MapPacker(PACKING, 5, 7, "float32", thresholds=UniformQuantizer(6.0, 8).thresholds)
    packer.pack(values, 0, frame.luma)
    found = np.frombuffer(b"".join(bytes(buffer) for buffer in memory), np.uint8)
    luma = found[:size].reshape(rows, stride)
    assert np.array_equal(luma[:HEIGHT, :WIDTH], picture)
    assert not luma[HEIGHT:].any()
    assert not luma[:, WIDTH:].any()
    chroma = found[size:]
    assert chroma.size == (0 if pixel_format == "GREY" else size // 2)
    assert (chroma == 128).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("I420", 4, 4, [bytearray(24)], 4), "pixel format 'I420'"),
        (("GREY", 4, 4, [bytearray(15)], 4), "the buffer has 15"),
        (("NV12", 4, 4, [bytearray(23)], 4), "NV12 chroma: 8 bytes from 16 on, the buffer has 23"),
        (("NV12M", 4, 4, [bytearray(16), bytearray(7)], 4), "the buffer has 7"),
        (("NV12M", 4, 4, [bytearray(24)], 4), "1 buffers"),
        (("GREY", 4, 4, [bytearray(64)], 3), "4 x 4 in 4 rows of 3 bytes"),
        (("GREY", 4, 4, [bytearray(64)], 8, 3), "4 x 4 in 3 rows"),
        (("NV12", 5, 4, [bytearray(64)], 8), "even sides"),
        (("NV12", 4, 4, [bytearray(64)], 8, 5), "even sides"),
        (("GREY", 0, 4, [bytearray(64)], 8), "0 x 4"),
        (("GREY", 4, 4, [bytes(16)], 4), "read-only"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, says):
    with pytest.raises(SettingsError, match=says):
        Frame(*arguments)


def test_overlapping_buffers_are_refused():
    memory = memoryview(bytearray(40))
    with pytest.raises(SettingsError, match="overlap"):
        Frame("NV12M", 4, 4, [memory[:20], memory[16:]], 4)
