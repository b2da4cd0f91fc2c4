"""Grids of tiles: every one that is listed fits its encoder, and where none does the limit in the way is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import MapSettings, QuantizerSettings
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits
from featlink_host.prepare.packing import best_grids, choose_packing, feasible_grids, grid_of, stack_grid

GRAY = X265_LIMITS["400"]


def limits(**more: Any) -> EncoderLimits:
    return EncoderLimits(**{"name": "target", "formats": ("GREY",), **more})


@st.composite
def targets(draw: st.DrawFn) -> EncoderLimits:
    least = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    return limits(
        min_width=least[0],
        max_width=draw(st.integers(least[0], 9000)),
        min_height=least[1],
        max_height=draw(st.integers(least[1], 9000)),
        multiple_of_width=draw(st.sampled_from([1, 2, 8, 12, 16, 32])),
        multiple_of_height=draw(st.sampled_from([1, 2, 8, 12, 16, 32])),
        even=draw(st.booleans()),
        max_pixels=draw(st.integers(2**12, 2**26)),
    )


@given(st.integers(1, 300), st.integers(1, 120), st.integers(1, 120), targets())
def test_every_listed_grid_fits_the_limits_and_holds_all_channels(
    channels: int, height: int, width: int, target: EncoderLimits
) -> None:
    try:
        grids = best_grids(channels, height, width, target)
    except SettingsError:
        assume(False)
    assert len(set(grids)) == len(grids) <= 10
    for grid in grids:
        assert target.broken_by(grid.width, grid.height) is None
        assert max(grid.width, grid.height) <= 8192
        assert 0 <= grid.pad_h <= 7
        assert 0 <= grid.pad_w <= 7
        tiles = grid.tile_h * grid.tile_w
        assert tiles * (grid.pictures - 1) < channels <= tiles * grid.pictures
        assert grid.unused == grid.pictures * grid.width * grid.height - channels * height * width
        settings = MapSettings(0, "t", height, width, channels, QuantizerSettings("uniform", 8, 1.0), grid.settings())
        assert settings.picture_size == (grid.height, grid.width)
        assert settings.picture_count == grid.pictures
        assert grid_of(settings.packing, channels, height, width) == grid


def reachable(side: int, least: int, most: int, step: int) -> list[int]:
    """Sides of pictures that some tiles and a pad of 0..7 make, found by trying all."""
    sides = range(-(-least // step) * step, min(most, 8192) + 1, step)
    return [found for found in sides if found >= side and found - min(found // side, 4095) * side <= 7]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), targets())
def test_grids_are_found_exactly_where_there_are_any_and_else_a_limit_is_named(
    channels: int, height: int, width: int, target: EncoderLimits
) -> None:
    tall = reachable(height, target.min_height, target.max_height, target.height_step)
    wide = reachable(width, target.min_width, target.max_width, target.width_step)
    some = tall and wide and tall[0] * wide[0] <= target.max_pixels
    try:
        grids = feasible_grids(channels, height, width, target)
    except SettingsError as error:
        assert not some
        reasons = re.split(r"limits of target[^:]*: ", str(error))[1].split("; ")
        assert [any(key in reason for reason in reasons) for key in ("_height", "_width", "_pixels")] == [
            not tall,
            not wide,
            bool(tall and wide),
        ] or any(reason.startswith("even") for reason in reasons)
    else:
        assert some
        assert grids


@pytest.mark.parametrize(
    ("size", "more", "says"),
    [
        ((8, 19, 19), {"max_height": 18}, "max_height 18: one channel has height 19"),
        ((8, 19, 400), {"max_width": 256}, "max_width 256: one channel has width 400"),
        (
            (8, 60, 60),
            {"min_height": 80, "max_height": 100},
            "min_height 80: tiles of height 60 .* reach 67 within 100",
        ),
        (
            (8, 64, 50),
            {"multiple_of_width": 64, "max_width": 128},
            "multiple_of_width 64: no number of tiles of width 50",
        ),
        ((8, 17, 64), {"max_height": 17, "even": True}, "even: no number of tiles of height 17 .* within 17"),
        (
            (8, 60, 60),
            {"min_width": 125, "max_width": 190, "multiple_of_width": 64},
            "multiple_of_width 64 from min_width 125 to max_width 190: no number of tiles",
        ),
        ((8, 20, 20), {"max_pixels": 399}, "max_pixels 399: the smallest picture is 20 wide and 20 high, 400 pixels"),
        ((1, 9000, 20), {"max_height": 16384}, "target and the stream: max_height 8192: one channel has height 9000"),
        (
            (8, 30, 31),
            {"max_height": 20, "max_width": 20},
            "max_height 20: one channel has height 30; max_width 20: one channel has width 31",
        ),
    ],
)
def test_the_limit_in_the_way_is_named(size: tuple[int, int, int], more: dict[str, Any], says: str) -> None:
    with pytest.raises(
        SettingsError, match=f"packing: {size[0]} channels of {size[1]} x {size[2]} fit no picture.*{says}"
    ):
        feasible_grids(*size, limits(**more))


def test_multiples_are_met_by_tiles_and_pads_together() -> None:
    grids = feasible_grids(192, 19, 19, limits(multiple_of_width=16, multiple_of_height=16))
    assert (10, 20, 2, 4) in {grid[:4] for grid in grids}
    assert all(grid.width % 16 == 0 == grid.height % 16 for grid in grids)


def test_the_quick_choice_comes_first() -> None:
    for channels, size in [(192, 19), (97, 19), (3, 5), (64, 40), (1, 20)]:
        assert best_grids(channels, size, size, GRAY)[0].settings() == choose_packing(channels, size, size)


def test_grids_of_one_picture_of_more_pictures_and_stack_are_listed() -> None:
    listed = best_grids(192, 19, 19, GRAY)
    assert [grid[:2] for grid in listed if grid.pictures == 1] == [
        (12, 16),
        (14, 14),
        (16, 12),
        (8, 24),
        (24, 8),
        (6, 32),
    ]
    assert [(grid.pictures, grid.stack) for grid in listed if grid.pictures > 1] == [
        (2, False),
        (3, False),
        (192, True),
    ]


def test_stack_only_where_a_channel_fits() -> None:
    assert stack_grid(8, 19, 19, GRAY) == (1, 1, 0, 0, 19, 19, 8, 0, True)
    assert stack_grid(8, 11, 19, limits(min_height=16, even=True)) == (1, 1, 5, 1, 16, 20, 8, 8 * (320 - 209), True)
    assert stack_grid(8, 9, 19, GRAY) is None
    assert stack_grid(8, 19, 19, limits(max_pixels=360)) is None
    assert stack_grid(8, 19, 19, limits(max_height=18)) is None
