"""Repack and its inverse over all modes, against the pseudocode of tables 15 to 17 written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features import Packing, RepackMode
from featlink_codec.features.samples import level_table, samples_of, scaling_table


@st.composite
def packings(draw):
    mode = draw(st.sampled_from(RepackMode))
    channels = draw(st.integers(1, 20))
    tiles = (1, 1) if mode is RepackMode.STACK else (draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    order = None
    if mode is RepackMode.ORDERED_TILE or (mode is RepackMode.STACK and draw(st.booleans())):
        order = tuple(draw(st.permutations(range(channels))))
    return Packing(mode, channels, *tiles, order, draw(st.integers(0, 7)), draw(st.integers(0, 7)))


def unpack_as_printed(pictures, packing, height, width):
    """Table 17 with the draft's slips mended: frames go on until every channel is placed."""
    placed = []
    for picture in pictures:
        for h in range(packing.tile_h):
            for w in range(packing.tile_w):
                if len(placed) < packing.channels:
                    placed.append(picture[h * height : (h + 1) * height, w * width : (w + 1) * width])
    out = np.zeros((height, width, packing.channels), np.uint8)
    for c, tile in enumerate(placed):
        out[:, :, c if packing.order is None else packing.order[c]] = tile
    return out


@given(packings(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_packing_and_back_over_all_modes(packing, height, width, stride_pad, seed):
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, packing.channels), np.uint8)
    rows, columns = packing.picture_size(height, width)
    out = np.zeros((packing.channels, height, width), np.uint8)
    pictures = []
    for k in range(packing.pictures):
        memory = np.full((rows, columns + stride_pad), 0xAA, np.uint8)
        packing.pack(levels, k, memory[:, :columns])
        assert (memory[:, columns:] == 0xAA).all(), "wrote beyond the picture's columns"
        pictures.append(memory[:, :columns])
        packing.unpack(memory[:, :columns], k, out)
    assert (unpack_as_printed(pictures, packing, height, width) == levels).all()
    assert (out.transpose(1, 2, 0) == levels).all()
    assert packing.map_size(rows, columns) == (height, width)
    assert packing.picture_count(16) == 2 * packing.picture_count(8) == 2 * len(pictures)


def test_the_first_row_of_tiles_fills_from_the_left():
    packing = Packing(RepackMode.TILE, 5, 2, 2)
    levels = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
    picture = np.zeros((2, 2), np.uint8)
    packing.pack(levels, 0, picture)
    assert picture.tolist() == [[0, 1], [2, 3]]
    packing.pack(levels, 1, picture)
    assert picture.tolist() == [[4, 0], [0, 0]]


@pytest.mark.parametrize(
    "arguments",
    [
        (RepackMode.TILE, 0),
        (RepackMode.TILE, 65536),
        (RepackMode.STACK, 4, 2, 1),
        (RepackMode.TILE, 4, 0, 1),
        (RepackMode.TILE, 4, 1, 4096),
        (RepackMode.TILE, 4, 2, 2, (0, 1, 2, 3)),
        (RepackMode.ORDERED_TILE, 4, 2, 2),
        (RepackMode.ORDERED_TILE, 4, 2, 2, (0, 1, 2, 2)),
        (RepackMode.STACK, 4, 1, 1, (0, 1, 2, 4)),
        (RepackMode.TILE, 4, 2, 2, None, 8, 0),
    ],
)
def test_impossible_packings_are_refused(arguments):
    with pytest.raises(SettingsError):
        Packing(*arguments)


@pytest.mark.parametrize(("rows", "columns"), [(7, 8), (8, 9), (2, 8), (8, 3)])
def test_pictures_that_the_tiles_do_not_divide_are_refused(rows, columns):
    with pytest.raises(SettingsError, match="tiles of one size"):
        Packing(RepackMode.TILE, 4, 2, 2, None, 2, 2).map_size(rows, columns)


@pytest.mark.parametrize(("height", "width", "channels"), [(8193, 1, 1), (1, 8193, 1), (0, 4, 1), (8192, 4096, 9)])
def test_maps_beyond_the_limits_are_refused(height, width, channels):
    with pytest.raises(SettingsError):
        Packing(RepackMode.STACK, channels).check_limits(height, width)


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_scaled_samples_give_their_level_back(depth):
    levels = np.arange(1 << depth, dtype=np.uint8)
    (samples,) = samples_of(levels, depth, level_scaling=True)
    assert samples[0] == 0
    assert samples[-1] == 255
    assert (level_table(depth, True)[samples] == levels).all()
    assert (scaling_table(depth) == samples).all()


@pytest.mark.parametrize("depth", [2, 4])
def test_unscaled_samples_above_peak_clip(depth):
    peak = (1 << depth) - 1
    assert level_table(depth, False).tolist() == [min(s, peak) for s in range(256)]


def test_sixteen_bits_split_into_high_and_low():
    high, low = samples_of(np.array([0x1234, 0xFFFE], np.uint16), 16, False)
    assert high.tolist() == [0x12, 0xFF]
    assert low.tolist() == [0x34, 0xFE]


def test_levels_of_another_type_or_above_peak_are_refused():
    with pytest.raises(SettingsError):
        samples_of(np.zeros(3, np.uint16), 8, False)
    with pytest.raises(SettingsError):
        samples_of(np.array([4], np.uint8), 2, False)
