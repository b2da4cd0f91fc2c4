"""Choose how a map's channels become pictures: all on one near-square picture where that can be."""

from __future__ import annotations

import math
from collections.abc import Iterator

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import PackingSettings
from featlink_codec.features.packing import MAX_PAD, MAX_TILES
from featlink_codec.video.sps import MAX_PIXELS, MAX_SIDE
from featlink_codec.video.x265_settings import CTU

#: x265 needs 16, and codes P pictures wrongly where a side is exactly one block of 16.
MIN_SIDE = CTU + 1


def choose_packing(channels: int, height: int, width: int, even: bool = False) -> PackingSettings:
    """Tile packing for a map of [height, width, channels].

    As few pictures as the limits allow, no unused tile if possible, and then as near to a square as can be (the wider
    one of two equals): 192 channels of 19 x 19 become 12 rows of 16 tiles, a picture 304 wide and 228 high.

    :param even: both sides are padded to even, as 4:2:0 pictures need
    :raises SettingsError: no tiling keeps the picture's sides within MIN_SIDE..MAX_SIDE
    """
    for count in range(1, channels + 1):
        if channels % count == 0:
            exact = list(_fitting(_factors(channels // count), height, width, even, pad=False))
            if exact:
                return min(exact, key=lambda packing: _elongation(packing, height, width))
    # Small maps: pads and unused tiles fill the picture up to its least size.
    least = _least(even)
    least_h, least_w = (-(-(least - MAX_PAD) // side) for side in (height, width))
    rows = range(least_h, max(channels, -(-least // height)) + 1)
    loose = ((tile_h, max(-(-channels // tile_h), least_w)) for tile_h in rows)
    filled = list(_fitting(loose, height, width, even, pad=True))
    if not filled:
        raise SettingsError(
            f"packing: found no tiling of {channels} channels of {height} x {width} "
            f"with sides of {MIN_SIDE}..{MAX_SIDE}, expected one"
        )
    return min(filled, key=lambda packing: (_area(packing, height, width), _elongation(packing, height, width)))


def _least(even: bool) -> int:
    return MIN_SIDE + (MIN_SIDE % 2 if even else 0)


def _factors(number: int) -> Iterator[tuple[int, int]]:
    return ((low, number // low) for low in range(1, number + 1) if number % low == 0)


def _fitting(
    grids: Iterator[tuple[int, int]], height: int, width: int, even: bool, pad: bool
) -> Iterator[PackingSettings]:
    """Those grids of tiles that make a picture within all limits."""
    for tile_h, tile_w in grids:
        pads = []
        for side in (tile_h * height, tile_w * width):
            padded = max(side, _least(even)) if pad else side
            pads.append(padded + (padded % 2 if even else 0) - side)
        picture_h, picture_w = tile_h * height + pads[0], tile_w * width + pads[1]
        small = min(picture_h, picture_w) < MIN_SIDE or max(pads) > MAX_PAD
        large = max(picture_h, picture_w) > MAX_SIDE or picture_h * picture_w > MAX_PIXELS
        if not (small or large or max(tile_h, tile_w) > MAX_TILES):
            yield PackingSettings("tile", tile_h, tile_w, pads[0], pads[1])


def _sides(packing: PackingSettings, height: int, width: int) -> tuple[int, int]:
    return (packing.tile_h or 1) * height + packing.pad_h, (packing.tile_w or 1) * width + packing.pad_w


def _area(packing: PackingSettings, height: int, width: int) -> int:
    return math.prod(_sides(packing, height, width))


def _elongation(packing: PackingSettings, height: int, width: int) -> tuple[float, bool]:
    high, wide = _sides(packing, height, width)
    return max(high, wide) / min(high, wide), high > wide
