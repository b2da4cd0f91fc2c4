"""The golden cases: maps and pictures made of integers alone, so that they are the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from ..features.adaptive import (
    BlockClasses,
    ChannelClasses,
    ClassParameters,
    Distribution,
    Partition,
    RegionClasses,
    Whole,
)
from ..features.adaptive.adaptive import AdaptiveMap, AnyQuantizer
from ..features.packing import Packing
from ..features.quantizers import CustomQuantizer, LogQuantizer, UniformQuantizer
from ..features.syntax import RepackMode

#: Odd sizes; 19 channels in 2 x 5 tiles are two pictures, the second with an unused tile.
HEIGHT, WIDTH, CHANNELS = 13, 37, 19
_ORDER = tuple(7 * c % CHANNELS for c in range(CHANNELS))
_PACKINGS = {
    "tile": Packing(RepackMode.TILE, CHANNELS, 2, 5, None, 1, 3),
    "ordered": Packing(RepackMode.ORDERED_TILE, CHANNELS, 4, 5, _ORDER, 0, 0),
    "stack": Packing(RepackMode.STACK, CHANNELS, 1, 1, _ORDER, 3, 7),
}


#: Classes whose thresholds need no power. A byte's range and less, so that integers reach all levels.
_CLASSES = (
    ClassParameters(Distribution.GAUSSIAN, 8, 0.25, 3.0),
    ClassParameters(Distribution.UNIFORM, 5, -40.0, 200.0),
    ClassParameters(Distribution.LAPLACE, 3, 0.0, 1.5, 1.0, 0.25),
)


def _ids(*shape: int) -> NDArray[np.uint8]:
    return (np.arange(int(np.prod(shape))) * 5 // 7 % 3).astype(np.uint8).reshape(shape)


#: Modes of profile adaptive: kinds of partitions.
PARTITIONS: dict[str, Partition] = {
    "whole": Whole(),
    "channel": ChannelClasses(_ids(CHANNELS)),
    "region": RegionClasses(_ids(HEIGHT, WIDTH)),
    # eight blocks, of which the first is cut in three across its width
    "block": BlockClasses(np.array([8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.uint8), _ids(10)),
}


@dataclass(frozen=True)
class Case:
    """One map, or the pictures of one.

    :param direction: "pack" or "unpack"
    :param dtype: of the map
    :param mode: of the quantizer: "uniform", "logarithmic", "custom"; "integer": there is none; a key of `PARTITIONS`:
        of profile adaptive, with three classes, or one; integers are values then
    :param bit_depth: 2, 4, 8 or 16
    :param packed: key of the packing
    :param layout: "CHW" or "HWC"
    """

    direction: str
    dtype: str
    mode: str
    bit_depth: int
    level_scaling: bool
    packed: str
    layout: str

    @property
    def name(self) -> str:
        """Unique, and says it all."""
        scaled = "-scaled" if self.level_scaling else ""
        return f"{self.direction}-{self.dtype}-{self.mode}-{self.bit_depth}{scaled}-{self.packed}-{self.layout}"

    @property
    def packing(self) -> Packing:
        """Where the channels go."""
        return _PACKINGS[self.packed]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return HEIGHT, WIDTH

    @property
    def quantizer(self) -> AnyQuantizer | None:
        """None for integers."""
        if self.mode == "integer":
            return None
        if self.mode in PARTITIONS:
            classes = tuple(replace(one, bit_depth=min(one.bit_depth, self.bit_depth)) for one in _CLASSES)
            partition = PARTITIONS[self.mode]
            return AdaptiveMap(partition, classes[: 1 if self.mode == "whole" else 3])
        if self.mode == "custom":
            bounds = np.arange(-30, (1 << self.bit_depth) - 31, dtype=np.float32) * np.float32(2**-self.bit_depth)
            return CustomQuantizer(bounds, self.bit_depth)
        return (LogQuantizer if self.mode == "logarithmic" else UniformQuantizer)(3.25, self.bit_depth)

    def thresholds(self, stored: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """float32 [peak]: the stored ones of a logarithmic quantizer, which another C library may derive otherwise."""
        found = stored.get(f"{self.mode}-{self.bit_depth}")
        if found is not None:
            return found
        assert self.quantizer is not None
        return self.quantizer.thresholds[np.isfinite(self.quantizer.thresholds)]

    def map(self, stored: dict[str, NDArray[np.float32]]) -> NDArray[np.generic]:
        """[H, W, C], a view of the layout: random numbers, and thresholds with their neighbours."""
        shape = (CHANNELS, HEIGHT, WIDTH) if self.layout == "CHW" else (HEIGHT, WIDTH, CHANNELS)
        random = _draw(self.name, shape)
        if self.mode == "integer":
            peak = min((1 << self.bit_depth) - 1, int(np.iinfo(self.dtype).max))
            memory: NDArray[np.generic] = (random % np.uint64(peak + 1)).astype(self.dtype)
        elif np.dtype(self.dtype).kind in "ui":
            memory = (random >> np.uint64(21)).astype(f"u{np.dtype(self.dtype).itemsize}").view(self.dtype)
        else:
            values = (random >> np.uint64(40)).astype(np.float32) * np.float32(2**-22) - np.float32(0.5)
            bounds = self.thresholds(stored)
            near = bounds[(random % np.uint64(len(bounds))).astype(np.intp)]
            kind = (random >> np.uint64(33)).astype(np.int64) % 6
            below, above = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
            memory = np.choose(np.minimum(kind, 3), [near, below, above, values]).astype(self.dtype)
        return memory.transpose(1, 2, 0) if self.layout == "CHW" else memory

    def pictures(self) -> Iterator[list[NDArray[np.uint8]]]:
        """Low and high bytes of each picture, uint8 [rows, columns]; the high ones only where the depth is 16."""
        rows, columns = self.packing.picture_size(*self.size)
        for picture in range(self.packing.pictures):
            random = _draw(f"{self.name}-{picture}", (2, rows, columns))
            yield list((random >> np.uint64(13)).astype(np.uint8))


def cases() -> Iterator[Case]:
    """All of them."""
    where = cycle((packed, layout) for layout in ("CHW", "HWC") for packed in _PACKINGS)
    for dtype in ("float32", "float16"):
        for mode in ("uniform", "logarithmic", "custom"):
            for bit_depth in (2, 4, 8, 16):
                for scaling in (False, True) if bit_depth < 8 else (False,):
                    for direction in ("pack", "unpack"):
                        if (mode, bit_depth) != ("logarithmic", 16):  # 65535 thresholds would have to be kept here
                            yield Case(direction, dtype, mode, bit_depth, scaling, *next(where))
    for dtype in ("uint8", "int8", "uint16", "int16"):
        for bit_depth in (2, 4, 8, 16):
            for direction in ("pack", "unpack"):
                fits = (1 << bit_depth) - 1 <= np.iinfo(dtype).max
                if fits or (direction == "pack" and bit_depth == 8):
                    yield Case(direction, dtype, "integer", bit_depth, False, *next(where))

    for dtype in ("float32", "float16", "uint8", "int8", "uint16", "int16"):
        for mode in PARTITIONS:
            for bit_depth, scaling in ((8, False), (8, True), (4, False)):
                yield Case("pack", dtype, mode, bit_depth, scaling, *next(where))
                if dtype.startswith("float"):
                    yield Case("unpack", dtype, mode, bit_depth, scaling, *next(where))


def _draw(name: str, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Random 64-bit integers by splitmix64, seeded by a name."""
    count = int(np.prod(shape))
    seed = int.from_bytes(name.encode()[-8:].rjust(8, b"\0"), "little") ^ len(name) * 0x9E3779B97F4A7C15
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).reshape(shape)
