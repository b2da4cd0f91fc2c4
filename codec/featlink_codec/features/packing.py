"""Repack and its inverse, T/AI part 4 clause 7.2.2: a map [H, W, C] of levels to and from 8-bit pictures.

A picture is written into whatever the encoder offers (its rows may be longer than the picture), a channel at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..video.sps import MAX_PIXELS, MAX_SIDE
from .syntax import MAX_CHANNELS, MAX_MAP_SAMPLES, RepackMode

#: Pads are u(3), tiles a side u(12).
MAX_PAD = 7
MAX_TILES = 4095


@dataclass(frozen=True)
class Packing:
    """Where each channel of a map stands in the pictures.

    :param mode: stack (one channel a picture), tile, or ordered tile
    :param channels: C, 1 to 65535
    :param tile_h: rows of tiles in a picture, 1 to 4095; 1 in mode stack
    :param tile_w: tiles in a row, 1 to 4095; 1 in mode stack
    :param order: place c carries channel order[c]; a permutation of 0 .. C-1. None: the identity (in mode stack with
        no list on the wire; in mode ordered tile a list is needed)
    :param pad_h: rows added below each picture, 0 to 7
    :param pad_w: columns added to the right, 0 to 7
    """

    mode: RepackMode
    channels: int
    tile_h: int = 1
    tile_w: int = 1
    order: tuple[int, ...] | None = None
    pad_h: int = 0
    pad_w: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise SettingsError(f"{self.channels} channels, expected 1 to {MAX_CHANNELS}")
        if self.mode is RepackMode.STACK and (self.tile_h, self.tile_w) != (1, 1):
            raise SettingsError(f"mode stack has no tiles, found {self.tile_h} x {self.tile_w}")
        if not (1 <= self.tile_h <= MAX_TILES and 1 <= self.tile_w <= MAX_TILES):
            raise SettingsError(f"{self.tile_h} x {self.tile_w} tiles, expected 1 to {MAX_TILES} each way")
        if not (0 <= self.pad_h <= MAX_PAD and 0 <= self.pad_w <= MAX_PAD):
            raise SettingsError(f"pads {self.pad_h}, {self.pad_w}, expected 0 to {MAX_PAD}")
        if self.order is None:
            if self.mode is RepackMode.ORDERED_TILE:
                raise SettingsError("mode ordered tile needs an order")
        elif self.mode is RepackMode.TILE:
            raise SettingsError("mode tile has no order, use ordered tile")
        elif sorted(self.order) != list(range(self.channels)):
            raise SettingsError(f"the order is not a permutation of 0..{self.channels - 1}")

    @property
    def pictures(self) -> int:
        """Pictures of one byte plane: a 16-bit map has twice as many."""
        return -(-self.channels // (self.tile_h * self.tile_w))

    def picture_count(self, bit_depth: int) -> int:
        """Pictures of a map."""
        return self.pictures * (2 if bit_depth == 16 else 1)

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of a picture for channels of height x width, pads included."""
        return self.tile_h * height + self.pad_h, self.tile_w * width + self.pad_w

    def map_size(self, picture_height: int, picture_width: int) -> tuple[int, int]:
        """(H, W) of the map in pictures of the given size.

        :raises SettingsError: tiles do not divide the picture, or the map is over the limits of the stream
        """
        rows, columns = picture_height - self.pad_h, picture_width - self.pad_w
        if rows <= 0 or columns <= 0 or rows % self.tile_h or columns % self.tile_w:
            raise SettingsError(
                f"a picture of {picture_height} x {picture_width} less pads {self.pad_h}, {self.pad_w} "
                f"does not hold {self.tile_h} x {self.tile_w} tiles of one size"
            )
        height, width = rows // self.tile_h, columns // self.tile_w
        self.check_limits(height, width)
        return height, width

    def check_limits(self, height: int, width: int) -> None:
        """Refuse a map that the stream cannot carry.

        :raises SettingsError: a side, a picture or the map is too large
        """
        if height < 1 or width < 1:
            raise SettingsError(f"a map of {height} x {width}")
        rows, columns = self.picture_size(height, width)
        if max(rows, columns) > MAX_SIDE or rows * columns > MAX_PIXELS:
            raise SettingsError(
                f"a picture of {rows} x {columns}: sides go to {MAX_SIDE}, the picture to {MAX_PIXELS} pixels"
            )
        if height * width * self.channels > MAX_MAP_SAMPLES:
            raise SettingsError(f"a map of {height} x {width} x {self.channels}: at most {MAX_MAP_SAMPLES} samples")

    def _channels_of(self, picture: int) -> Sequence[int]:
        """Channels in picture k of a byte plane, in the order of their tiles."""
        places = range(self.channels)[picture * self.tile_h * self.tile_w : (picture + 1) * self.tile_h * self.tile_w]
        return places if self.order is None else [self.order[place] for place in places]

    def pack(self, samples: NDArray[np.uint8], picture: int, out: NDArray[np.uint8]) -> None:
        """Write one picture. Pads and unused tiles are set to 0.

        :param samples: uint8 [H, W, C], any strides
        :param picture: 0 .. pictures-1
        :param out: uint8 [rows, columns] as `picture_size` says, writable, any strides
        """
        height, width, _ = samples.shape
        if out.shape != self.picture_size(height, width):
            raise SettingsError(f"the picture is {out.shape}, expected {self.picture_size(height, width)}")
        channels = self._channels_of(picture)
        for place, channel in enumerate(channels):
            row, column = divmod(place, self.tile_w)
            out[row * height : (row + 1) * height, column * width : (column + 1) * width] = samples[:, :, channel]
        for place in range(len(channels), self.tile_h * self.tile_w):
            row, column = divmod(place, self.tile_w)
            out[row * height : (row + 1) * height, column * width : (column + 1) * width] = 0
        out[self.tile_h * height :] = 0
        out[:, self.tile_w * width :] = 0

    def unpack(self, picture: NDArray[np.uint8], index: int, out: NDArray[np.uint8]) -> None:
        """Read one picture into its channels.

        :param picture: uint8 [rows, columns], any strides
        :param index: 0 .. pictures-1
        :param out: uint8 [C, H, W], writable, any strides
        """
        _, height, width = out.shape
        for place, channel in enumerate(self._channels_of(index)):
            row, column = divmod(place, self.tile_w)
            out[channel] = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
