"""A case of golden.txt by the NumPy definition: the same numbers, thresholds, tables and elements as golden_data.h.

Nothing of the C core takes part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from featlink_codec.features.adaptive import ClassParameters, Distribution
from featlink_codec.features.packing import Packing
from featlink_codec.features.quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from featlink_codec.features.samples import samples_of
from featlink_codec.features.syntax import RepackMode

DTYPES = {"u8": "uint8", "i8": "int8", "u16": "uint16", "i16": "int16", "f16": "float16", "f32": "float32"}
NAN, INFINITE, NEGATIVE, EXCESS = 1, 2, 4, 8
INFINITY_KEY = 0x7F800000


def draw(seed: int, k: NDArray[np.integer] | int) -> NDArray[np.uint64]:
    """splitmix64: numbers k of stream `seed`."""
    with np.errstate(over="ignore"):
        start = np.uint64(seed * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)
        z = start + (np.asarray(k).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)


def fnv(chunk: bytes, value: int = 0xCBF29CE484222325) -> int:
    """FNV-1a, 64 bits."""
    for byte in chunk:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def key_of(bits: NDArray[np.integer]) -> NDArray[np.int64]:
    """Floats in their order: -0.0 is -1, 0.0 is 0."""
    wide = np.asarray(bits).astype(np.int64)
    return np.where(wide < 0x80000000, wide, 0x7FFFFFFF - wide)


def of_key(key: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Bits of the floats with these keys."""
    key = np.clip(key, -1 - INFINITY_KEY, INFINITY_KEY)
    return np.where(key >= 0, key, 0x7FFFFFFF - key).astype(np.uint32)


class Walk(Quantizer):
    """From key `start` on in random steps, now and then of 0 or 1."""

    def __init__(self, bit_depth: int, start: int, spread: int) -> None:
        self.bit_depth, self.start, self.spread = bit_depth, start, spread

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """float32 [peak]."""
        r = draw(self.peak, np.arange(self.peak)).astype(np.uint64)
        far = (r >> np.uint64(32)) % np.uint64(self.spread)
        steps = np.where(r & np.uint64(7), far, r >> np.uint64(3) & np.uint64(1)).astype(np.int64)
        start = int(key_of(np.array(self.start)))
        return of_key(start + np.concatenate([[0], np.cumsum(steps)[:-1]])).view(np.float32)

    @property
    def level_values(self) -> NDArray[np.float32]:
        """Not needed."""
        raise NotImplementedError


def _uniform(bits: int, depth: int) -> UniformQuantizer:
    return UniformQuantizer(float(np.array(bits, np.uint32).view(np.float32)), depth)


def _custom(*partitions: float) -> CustomQuantizer:
    return CustomQuantizer(np.array(partitions, np.float32), (len(partitions) + 1).bit_length() - 1)


def _class(kind: Distribution, depth: int, center: float, spread: float) -> Quantizer:
    return ClassParameters.rounded(kind, depth, center, spread).quantizer()


#: Written to thresholds.inc: those that take a power, and those that follow no rule.
STORED_QUANTIZERS = {
    "log2": LogQuantizer(3.0, 2),
    "log4": LogQuantizer(5.0, 4),
    "log8": LogQuantizer(3.0, 8),
    "steep8": LogQuantizer(120.0, 8),
    "signed2": _custom(-1.0, -1e-45, 1.0),
    "edge2": _custom(-3.4028234663852886e38, 0.0, 3.4028234663852886e38),
    "signed4": _custom(*(k**3 / 8 for k in range(-7, 8))),
    # Neighbouring numbers at -1 and at 1: more than any bucket may hold.
    "crowded8": _custom(
        *np.array([*range(0xBF80007F, 0xBF7FFFFF, -1), *range(0x3F800000, 0x3F80007F)], np.uint32).view(np.float32)
    ),
    # The same at -8 and at 1.
    "apart8": _custom(
        *np.array([*range(0xC100007F, 0xC0FFFFFF, -1), *range(0x3F800000, 0x3F80007F)], np.uint32).view(np.float32)
    ),
    "gauss8": _class(Distribution.GAUSSIAN, 8, 0.1, 2.25),
    "laplace5": _class(Distribution.LAPLACE, 5, -0.3, 3.5),
    "signedlog8": _class(Distribution.LOGARITHMIC, 8, 0.2, 2.75),
    "signedlog6": _class(Distribution.LOGARITHMIC, 6, -0.1, 2.0),
}
QUANTIZERS: dict[str, Quantizer] = {
    **STORED_QUANTIZERS,
    "uniform2": _uniform(0x40C00000, 2),
    "uniform4": _uniform(0x40C00000, 4),
    "uniform8": _uniform(0x40C00000, 8),
    "uniform16": _uniform(0x40C00000, 16),
    "odd8": _uniform(0x404F765F, 8),
    "odd16": _uniform(0x404F765F, 16),
    "dyadic4": _uniform(0x3FF00000, 4),
    "large8": _uniform(0x7F61B1E6, 8),
    "tiny8": _uniform(0x00FFFFFF, 8),
    "walk8": Walk(8, 0xC0800000, 1 << 24),
    "walk16": Walk(16, 0xC0000000, 1 << 16),
}


#: What the classes of a map go through, by the name of the set: lines, buckets, several kernels, tables.
CLASSES = {
    "lines": ["gauss8", "uniform8", "laplace5", "uniform4"],
    "buckets": ["signedlog8", "log8", "gauss8", "signedlog6"],
    "mixed": ["gauss8", "apart8", "walk8", "signedlog8"],
    "tables": ["affine", "ramp", "steps", "random"],
}


@cache
def sample_table(name: str, size: int, signed: bool, wide: bool) -> NDArray[np.uint16]:
    """A sample for each of the elements' bits."""
    k, most = np.arange(size), 65535 if wide else 255
    x = k ^ size // 2 if signed else k
    rules = {
        "identity": k,
        "clamp15": np.minimum(k, 15),
        "affine": x * 3 // 4 + 20,
        "ramp": x * 5 // 2 - 100,
        "steps": x // 16 * 37 % (most + 1),
        "random": (draw(size, k) >> np.uint64(40)).astype(np.int64) & most,
    }
    return np.clip(rules[name], 0, most).astype(np.uint16)


def value_table(name: str, size: int, dtype: str) -> NDArray[np.generic]:
    """A value for each sample."""
    if name == "uniform":
        return UniformQuantizer(6.0, size.bit_length() - 1).level_values
    k = np.arange(size)
    bits = k if name == "identity" else (draw(size, k) >> np.uint64(32)).astype(np.int64)
    return bits.astype(f"u{np.dtype(dtype).itemsize}").view(dtype)


def half_of(bits: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Cut off, not rounded."""
    wide = bits.astype(np.int64)
    exponent, fraction, sign = wide >> 23 & 255, wide & 0x7FFFFF, wide >> 16 & 0x8000
    return sign | np.select(
        [exponent < 103, exponent < 113, exponent > 142],
        [0, (fraction | 0x800000) >> np.clip(126 - exponent, 0, 63), 0x7BFF],
        (exponent - 112) << 10 | fraction >> 13,
    )


ENDS = [0, 1 << 31, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x807FFFFF, 0x3F800000, 0x7F800000]
ENDS += [0x7FC00001]
HALF_ENDS = [0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x83FF, 0x3C00, 0x7C00, 0x7E01]


def float_bits(seed: int, size: int, thresholds: NDArray[np.float32], half: bool) -> NDArray[np.int64]:
    """Neighbours of thresholds, what lies between them, any bits, and the ends of the format."""
    r = draw(seed, np.arange(size))
    upper, kind = (r >> np.uint64(32)).astype(np.int64), (r & np.uint64(7)).astype(np.int64)
    keys = key_of(thresholds.view(np.uint32))
    key = keys[upper % len(keys)]
    fraction = ((r >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-20)).view(np.uint32)
    rest = (r >> np.uint64(8)).astype(np.int64)
    near, around = of_key(key + rest % 5 - 2), of_key(key + (rest & 0xFFFFF) - 0x80000)
    between = of_key(keys[0] + upper % (keys[-1] - keys[0] + 1))
    bits = np.select([kind == 5, kind == 6, kind == 7], [around, between, fraction], near)
    if half:
        nudge = ((r >> np.uint64(11)) % np.uint64(3)).astype(np.int64) - 1
        bits = (half_of(bits) + nudge) & 0xFFFF
    ends, anything = np.array(HALF_ENDS if half else ENDS)[upper % 12], upper & (0xFFFF if half else 0xFFFFFFFF)
    return np.select([kind == 3, kind == 4], [anything, ends], bits.astype(np.int64))


@dataclass(frozen=True)
class Case:
    """A line of golden.txt, without its results."""

    what: str
    type: str
    table: str
    step: int
    size: tuple[int, int, int]
    tiles: tuple[int, int]
    pads: tuple[int, int]
    order: str
    layout: str
    offset: int
    margin: int
    planes: str
    fill: str
    seed: int

    def __str__(self) -> str:
        size, tiles, pads = ("x".join(map(str, numbers)) for numbers in (self.size, self.tiles, self.pads))
        words = [self.what, self.type, self.table, self.step, size, tiles, pads, self.order, self.layout]
        return " ".join(map(str, [*words, self.offset, self.margin, self.planes, self.fill, self.seed]))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(DTYPES[self.type])

    @property
    def wide(self) -> bool:
        """Whether samples have 16 bits."""
        return self.planes in ("both", "low", "high")

    @cached_property
    def packing(self) -> Packing:
        channels, order = self.size[2], None
        if self.order == "shuffled":
            order = list(range(channels))
            for k in range(channels - 1, 0, -1):
                j = int(draw(self.seed + 1, k)) % (k + 1)
                order[k], order[j] = order[j], order[k]
        mode = RepackMode.STACK if self.tiles == (1, 1) else RepackMode.ORDERED_TILE if order else RepackMode.TILE
        return Packing(mode, channels, *self.tiles, None if order is None else tuple(order), *self.pads)

    @cached_property
    def values(self) -> NDArray[np.generic]:
        """[H, W, C]: what is packed."""
        count, bits = int(np.prod(self.size)), None
        if self.fill == "count":
            bits = np.arange(count)
        elif self.dtype.kind != "f":
            bits = (draw(self.seed, np.arange(count)) >> np.uint64(32)).astype(np.int64)
            bits = bits & 15 if self.fill == "small" else bits
        else:
            half = self.type == "f16"
            tables = CLASSES.get(self.table, [self.table])
            drawn = [float_bits(self.seed, count, QUANTIZERS[one].thresholds, half) for one in tables]
            bits = np.choose(self.ids.ravel(), drawn)
            exponent, lowest = (0x7C00, 0x400) if half else (0x7F800000, 0x800000)
            if self.fill == "finite":
                bits = np.where(bits & exponent == exponent, bits & ~lowest, bits)
        return bits.astype(f"u{self.dtype.itemsize}").view(self.dtype).reshape(self.size)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """[H, W, C]: the class of each element, by channel or by region; 0 where there is but one."""
        height, width, channels = self.size
        found: NDArray[np.int64] = np.zeros(self.size, np.int64)
        if self.planes == "channel":
            found += (draw(self.seed + 2, np.arange(channels)) % np.uint64(4)).astype(np.int64)
        elif self.planes == "region":
            drawn = (draw(self.seed + 2, np.arange(height * width)) % np.uint64(4)).astype(np.int64)
            found += drawn.reshape(height, width, 1)
        return found

    def result(self) -> str:
        """Return values and hash."""
        return self._packed() if self.what == "pack" else self._unpacked()

    def _planes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """[H, W, C] twice: low and high bytes of the samples."""
        if self.table not in CLASSES:
            return self._planes_of(self.table)
        classes = np.stack([self._planes_of(one)[0] for one in CLASSES[self.table]])
        low = np.take_along_axis(classes, self.ids[None], 0)[0]
        return low, low

    def _planes_of(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The same by one quantizer or table."""
        if self.dtype.kind != "f":
            bits = self.values.view(f"u{self.dtype.itemsize}")
            table = sample_table(name, 256**self.dtype.itemsize, self.dtype.kind == "i", self.wide)
            return (table[bits] & 255).astype(np.uint8), (table[bits] >> 8).astype(np.uint8)
        quantizer = QUANTIZERS[name]
        with np.errstate(invalid="ignore"):  # signalling NaN
            numbers = self.values.astype(np.float32)
        levels = quantizer.quantize(np.where(np.isnan(numbers), np.float32(-np.inf), numbers))  # NaN is level 0
        planes = samples_of(levels, quantizer.bit_depth, self.step != 1)
        return planes[-1], planes[0]

    def _saw(self, picture: int) -> int:
        # Where channels stand side by side in another order, the core reads them all for each picture.
        interleaved = self.layout[-1] == "c" and self.size[2] > 1 and self.order == "shuffled"
        channels = self.packing._channels_of(picture)
        values = self.values if interleaved else self.values[:, :, list(channels)]
        if values.dtype.kind != "f":
            return EXCESS * bool(self.table == "clamp15" and ((values < 0) | (values > 15)).any())
        if np.isnan(values).any():
            return NAN  # beside NaN nothing else need be told
        return INFINITE * bool(np.isinf(values).any()) | NEGATIVE * bool((values < 0).any())

    def _packed(self) -> str:
        low, high = self._planes()
        height, width, _ = self.size
        out = np.empty(self.packing.picture_size(height, width), np.uint8)
        value, saws = fnv(b""), ""
        for picture in range(self.packing.pictures):
            saws += f"{self._saw(picture):x}"
            for name, plane in (("low", low), ("high", high)):
                if self.planes in (name, "both") or (not self.wide and name == "low"):
                    self.packing.pack(plane, picture, out)
                    value = fnv(out.tobytes(), value)
        return f"{saws} {value:016x}"

    def _unpacked(self) -> str:
        height, width, channels = self.size
        rows, columns = self.packing.picture_size(height, width)
        levels = np.zeros((2, channels, height, width), np.uint8)
        for picture in range(self.packing.pictures):
            for k in range(2 if self.wide else 1):
                numbers = draw(self.seed + 2 * picture + k, np.arange(rows * columns)) >> np.uint64(56)
                self.packing.unpack(numbers.astype(np.uint8).reshape(rows, columns), picture, levels[k])
        table = value_table(self.table, 65536 if self.wide else 256, DTYPES[self.type])
        values = table[levels[0].astype(np.int64) | levels[1].astype(np.int64) << 8].transpose(1, 2, 0)
        return f"{'0' * self.packing.pictures} {fnv(values.tobytes()):016x}"
