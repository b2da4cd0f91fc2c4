"""What is measured: kinds of maps, sizes, packings and layouts, and their prepared calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.features import CustomQuantizer, LogQuantizer, Packing, Quantizer, RepackMode, UniformQuantizer
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.unpacker import MapUnpacker

from .measure import Call, aligned

SEED = 7
#: The highest value of every map of numbers: a ReLU6 stands before many cuts.
TOP = 6.0


@dataclass(frozen=True)
class Size:
    """C x H x W of a map."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"

    @property
    def elements(self) -> int:
        """All of them."""
        return self.channels * self.height * self.width


SIZES = (
    Size(64, 19, 19),
    Size(192, 19, 19),
    Size(64, 76, 76),
    Size(256, 38, 38),
    Size(128, 128, 128),
    Size(256, 152, 272),
)
PACKINGS = {"stack": RepackMode.STACK, "tile": RepackMode.TILE, "ordered tile": RepackMode.ORDERED_TILE}
LAYOUTS = ("CHW", "HWC")


def uniform() -> UniformQuantizer:
    """8 bits up to TOP."""
    return UniformQuantizer(TOP, 8)


def logarithmic() -> LogQuantizer:
    """8 bits up to about TOP."""
    return LogQuantizer(float(np.float32(np.log2(TOP + 1))), 8)


def quantiles() -> CustomQuantizer:
    """Bounds at the quantiles of what `floats` draws: as many numbers in one level as in another."""
    bounds = [1.5 * NormalDist().inv_cdf(0.5 + 0.5 * k / 256) for k in range(1, 256)]
    return CustomQuantizer(np.array(bounds, np.float32), 8)


def drawn() -> CustomQuantizer:
    """Bounds drawn at random: some lie near to each other, so that several share a bucket."""
    bounds = np.abs(np.random.default_rng(SEED).normal(0, 1.5, 255))
    return CustomQuantizer(np.unique(bounds.astype(np.float32)), 8)


def _table(dtype: str, rule: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.uint16]:
    return np.clip(rule(np.arange(256.0 ** np.dtype(dtype).itemsize)), 0, 255).astype(np.uint16)


def _shuffled() -> NDArray[np.uint16]:
    return np.random.default_rng(SEED).permutation(256).astype(np.uint16)


#: Kinds of maps to pack: element type, and what makes its table or its quantizer.
INTEGER_MAPS: dict[str, tuple[str, Callable[[], NDArray[np.uint16]]]] = {
    "uint8, identity": ("uint8", lambda: _table("uint8", lambda x: x)),
    "uint8, affine": ("uint8", lambda: _table("uint8", lambda x: np.floor(x * 0.75 + 10))),
    "uint8, any table": ("uint8", _shuffled),
    "uint16, any table": ("uint16", lambda: _table("uint16", lambda x: np.floor(np.log2(x + 1) * 16))),
}
FLOAT_MAPS: dict[str, tuple[str, Callable[[], Quantizer]]] = {
    "float16, uniform": ("float16", uniform),
    "float32, uniform": ("float32", uniform),
    "float32, logarithmic": ("float32", logarithmic),
    "float32, custom": ("float32", quantiles),
    "float32, custom, drawn": ("float32", drawn),
}
PACK_KINDS = (*INTEGER_MAPS, *FLOAT_MAPS)
#: Kinds of tables to unpack with.
UNPACK_TABLES: dict[str, Callable[[], NDArray[np.generic]]] = {
    "uint8, levels": lambda: np.arange(256).astype(np.uint8),
    "float16, uniform": lambda: uniform().level_values.astype(np.float16),
    "float32, uniform": lambda: uniform().level_values,
    "float32, logarithmic": lambda: logarithmic().level_values,
}


@dataclass(frozen=True)
class Case:
    """One thing that is measured.

    :param direction: "pack" or "unpack"
    :param kind: of PACK_KINDS, or of UNPACK_TABLES
    """

    direction: str
    kind: str
    size: Size
    packing: str = "tile"
    layout: str = "CHW"


@dataclass(frozen=True)
class Prepared:
    """The calls of a case, one a picture; what they read and write in all; and the core's name of the kernel."""

    calls: list[Call]
    nbytes: int
    kernel: str
    values: NDArray[Any]
    pictures: list[NDArray[np.uint8]]


def packing_of(name: str, size: Size) -> Packing:
    """Tiles in the most nearly square number of rows; a shuffled order."""
    mode = PACKINGS[name]
    if mode is RepackMode.STACK:
        return Packing(mode, size.channels)
    rows = max(k for k in range(1, int(size.channels**0.5) + 1) if size.channels % k == 0)
    order = None
    if mode is RepackMode.ORDERED_TILE:
        order = tuple(int(k) for k in np.random.default_rng(SEED).permutation(size.channels))
    return Packing(mode, size.channels, rows, size.channels // rows, order)


def empty_map(size: Size, layout: str, dtype: str) -> NDArray[Any]:
    """[H, W, C] of zeros, that way in memory or channels first."""
    if layout == "HWC":
        return aligned((size.height, size.width, size.channels), dtype)
    return aligned((size.channels, size.height, size.width), dtype).transpose(1, 2, 0)


def fill(values: NDArray[Any]) -> None:
    """What a network gives behind a ReLU6: half zeros, some at the top. Integers: the same, scaled to their range."""
    numbers = np.random.default_rng(SEED).standard_normal(values.shape, np.float32)
    np.clip(numbers * np.float32(1.5), 0, TOP, out=numbers)
    if values.dtype.kind == "u":
        numbers *= np.float32(np.iinfo(values.dtype).max / TOP)
    values[...] = numbers.astype(values.dtype)


def prepare(case: Case) -> Prepared:
    """Arrays, quantizer and bound calls of a case."""
    size, packing = case.size, packing_of(case.packing, case.size)
    shape = packing.picture_size(size.height, size.width)
    planes = [aligned(shape, np.uint8) for _ in range(packing.pictures)]
    calls: list[Call] = []
    if case.direction == "pack":
        floats = case.kind in FLOAT_MAPS
        dtype = (FLOAT_MAPS if floats else INTEGER_MAPS)[case.kind][0]
        values = empty_map(size, case.layout, dtype)
        fill(values)
        if floats:
            quantizer = FLOAT_MAPS[case.kind][1]()
            packer = MapPacker(packing, size.height, size.width, dtype, thresholds=quantizer.thresholds)
        else:
            packer = MapPacker(packing, size.height, size.width, dtype, table=INTEGER_MAPS[case.kind][1]())
        kernel = packer.kernel
        calls += [packer.bind(values, k, plane) for k, plane in enumerate(planes)]
    else:
        table = UNPACK_TABLES[case.kind]()
        values = empty_map(size, case.layout, str(table.dtype))
        rng = np.random.default_rng(SEED)
        for plane in planes:
            plane[...] = rng.integers(0, 256, shape, np.uint8)
        unpacker = MapUnpacker(packing, size.height, size.width, table)
        kernel = unpacker.kernel
        calls += [unpacker.bind(plane, k, values) for k, plane in enumerate(planes)]
    return Prepared(calls, values.nbytes + sum(plane.nbytes for plane in planes), kernel, values, planes)
