"""The geometry of packing: which grids of tiles an encoder takes, and which of them is the quick choice."""

from __future__ import annotations

from typing import NamedTuple

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import PackingSettings
from featlink_codec.features.packing import MAX_PAD, MAX_TILES
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits


class Grid(NamedTuple):
    """All channels of a map on pictures of one size."""

    #: rows and columns of tiles in a picture
    tile_h: int
    tile_w: int
    pad_h: int
    pad_w: int
    #: of a picture, pads included
    height: int
    width: int
    #: pictures of a map (of each byte plane)
    pictures: int
    #: samples of them all that carry nothing: pads and unused tiles
    unused: int
    #: a picture a channel, in mode stack
    stack: bool = False

    @property
    def elongation(self) -> tuple[float, bool]:
        """Sorts from square to long, the wider one of two equals first."""
        return max(self.height, self.width) / min(self.height, self.width), self.height > self.width

    def settings(self, order: tuple[int, ...] | None = None) -> PackingSettings:
        """The [maps.packing] table; with an order, tiles become ordered tiles."""
        if self.stack:
            return PackingSettings("stack", None, None, self.pad_h, self.pad_w, order)
        mode = "tile" if order is None else "ordered-tile"
        return PackingSettings(mode, self.tile_h, self.tile_w, self.pad_h, self.pad_w, order)


def grid_of(packing: PackingSettings, channels: int, height: int, width: int) -> Grid:
    """The geometry of a [maps.packing] table for a map of [height, width, channels]."""
    tile_h, tile_w = packing.tile_h or 1, packing.tile_w or 1
    high, wide = tile_h * height + packing.pad_h, tile_w * width + packing.pad_w
    pictures = -(-channels // (tile_h * tile_w))
    unused = pictures * high * wide - channels * height * width
    stack = packing.mode == "stack"
    return Grid(tile_h, tile_w, packing.pad_h, packing.pad_w, high, wide, pictures, unused, stack)


def choose_packing(channels: int, height: int, width: int, even: bool = False) -> PackingSettings:
    """Tile packing for a map of [height, width, channels], for libx265, by its geometry alone.

    As few pictures as the limits allow, no unused tile if possible, and then as near to a square as can be (the wider
    one of two equals): 192 channels of 19 x 19 become 12 rows of 16 tiles, a picture 304 wide and 228 high.

    :param even: both sides are padded to even, as 4:2:0 pictures need
    :raises SettingsError: no tiling fits; says which limit stands in the way
    """
    return quick_grid(channels, height, width, X265_LIMITS["420" if even else "400"]).settings()


def quick_grid(channels: int, height: int, width: int, limits: EncoderLimits) -> Grid:
    """What `choose_packing` chooses, for any encoder (SettingsError: none fits, and why)."""
    grids = feasible_grids(channels, height, width, limits)
    whole = [
        grid
        for grid in grids
        if grid.tile_h * grid.tile_w * grid.pictures == channels
        and grid.height == _up(grid.tile_h * height, limits.height_step)
        and grid.width == _up(grid.tile_w * width, limits.width_step)
    ]
    if whole:
        return min(whole, key=lambda grid: (grid.pictures, grid.elongation))
    # Small maps: pads and unused tiles fill the picture up to its least size.
    return min(grids, key=lambda grid: (grid.pictures, grid.unused, grid.elongation))


def feasible_grids(channels: int, height: int, width: int, limits: EncoderLimits) -> list[Grid]:
    """Every grid of tiles for a map of [height, width, channels] whose pictures an encoder takes.

    Left out are grids that only add unused tiles to another one with as many pictures.

    :returns: by tile_h, then tile_w
    :raises SettingsError: none; says which limit stands in the way
    """
    # What a stream carries is a limit too.
    limits = limits.narrowed(EncoderLimits(name="the stream", formats=limits.formats))
    rows = _tilings(height, limits.min_height, limits.max_height, limits.height_step)
    columns = _tilings(width, limits.min_width, limits.max_width, limits.width_step)
    found: list[Grid] = []
    seen: set[tuple[int, int]] = set()
    for tile_h, picture_h in rows:
        count = 0
        for tile_w, picture_w in columns:
            if picture_h * picture_w > limits.max_pixels:
                break
            before, count = count, -(-channels // (tile_h * tile_w))
            if count != before and (tile_w, count) not in seen:
                seen.add((tile_w, count))
                unused = count * picture_h * picture_w - channels * height * width
                pads = picture_h - tile_h * height, picture_w - tile_w * width
                found.append(Grid(tile_h, tile_w, *pads, picture_h, picture_w, count, unused))
            if count == 1:
                break
        if tile_h >= channels:
            break
    if not found:
        raise SettingsError(
            f"packing: {channels} channels of {height} x {width} fit no picture within the limits of {limits.name}: "
            + _obstacle(height, width, rows, columns, limits)
        )
    return found


def stack_grid(channels: int, height: int, width: int, limits: EncoderLimits) -> Grid | None:
    """Mode stack, a picture a channel; None where a channel and its pads are no picture that the encoder takes."""
    limits = limits.narrowed(EncoderLimits(name="the stream", formats=limits.formats))
    rows = _tilings(height, limits.min_height, min(limits.max_height, height + MAX_PAD), limits.height_step)
    columns = _tilings(width, limits.min_width, min(limits.max_width, width + MAX_PAD), limits.width_step)
    if not rows or not columns or rows[0][0] > 1 or columns[0][0] > 1:
        return None
    high, wide = rows[0][1], columns[0][1]
    if high * wide > limits.max_pixels:
        return None
    unused = channels * (high * wide - height * width)
    return Grid(1, 1, high - height, wide - width, high, wide, channels, unused, stack=True)


def best_grids(channels: int, height: int, width: int, limits: EncoderLimits, count: int = 6) -> list[Grid]:
    """The grids that are worth measuring.

    The quick choice first; then of those with the fewest pictures the squarest that leaves at most an eighth unused,
    and the best by (unused samples, elongation); then the best one of each of the next two numbers of pictures; and
    mode stack where one channel fits.

    :param count: grids with the fewest pictures, at least 1
    :raises SettingsError: none fits; says which limit stands in the way
    """
    grids = feasible_grids(channels, height, width, limits)
    grids.sort(key=lambda grid: (grid.unused, grid.elongation))
    counts = sorted({grid.pictures for grid in grids})[:3]
    fewest, *more = [[grid for grid in grids if grid.pictures == pictures] for pictures in counts]
    full = [grid for grid in fewest if grid.unused * 8 <= grid.height * grid.width * grid.pictures]
    squarest = [min(full, key=lambda grid: grid.elongation)] if full else []
    chosen = [*dict.fromkeys([*squarest, *fewest])][:count] + [some[0] for some in more]
    stack = stack_grid(channels, height, width, limits) if channels > 1 else None
    return [*dict.fromkeys([quick_grid(channels, height, width, limits), *chosen, *([stack] if stack else [])])]


def _up(side: int, step: int) -> int:
    return -(-side // step) * step


def _tilings(side: int, least: int, most: int, step: int) -> list[tuple[int, int]]:
    """(tiles, side of the picture) of every row of tiles that pads make fit."""
    found = []
    for tiles in range(1, min(MAX_TILES, most // side) + 1):
        padded = _up(max(tiles * side, least), step)
        if padded <= most and padded - tiles * side <= MAX_PAD:
            found.append((tiles, padded))
    return found


def _obstacle(
    height: int, width: int, rows: list[tuple[int, int]], columns: list[tuple[int, int]], limits: EncoderLimits
) -> str:
    """Which limit keeps every grid out."""
    reasons = [
        _side_obstacle(key, side, limits)
        for key, side, fits in (("height", height, rows), ("width", width, columns))
        if not fits
    ]
    if reasons:
        return "; ".join(reasons)
    smallest = f"the smallest picture is {columns[0][1]} wide and {rows[0][1]} high"
    return f"max_pixels {limits.max_pixels}: {smallest}, {rows[0][1] * columns[0][1]} pixels"


def _side_obstacle(key: str, side: int, limits: EncoderLimits) -> str:
    least, most = getattr(limits, f"min_{key}"), getattr(limits, f"max_{key}")
    step, multiple = getattr(limits, f"{key}_step"), getattr(limits, f"multiple_of_{key}")
    if side > most:
        return f"max_{key} {most}: one channel has {key} {side}"
    named = "even" if multiple == 1 else f"multiple_of_{key} {multiple}" + (" and even" if step != multiple else "")
    free = _tilings(side, 1, most, step)
    if not free:
        return f"{named}: no number of tiles of {key} {side} with a pad of at most {MAX_PAD} meets it within {most}"
    if step > 1 and _tilings(side, least, most, 1):
        return (
            f"{named} from min_{key} {least} to max_{key} {most}: no number of tiles of {key} {side} "
            f"with a pad of at most {MAX_PAD} meets it"
        )
    reach = max(min(most, tiles * side + MAX_PAD) // step * step for tiles, _ in free)
    return f"min_{key} {least}: tiles of {key} {side} with a pad of at most {MAX_PAD} reach {reach} within {most}"
