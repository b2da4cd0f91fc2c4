"""Pre-quantization and dequantization, T/AI part 4 clause 7.2.1.

All arithmetic is IEEE binary64 in the order written, with one rounding to binary32 at the end. Every quantizer is
monotone, so it *is* its table of thresholds: `thresholds()[t - 1]` is the smallest binary32 that reaches level t.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SettingsError

#: From this max_feat_digit on, the value of a logarithmic quantizer's highest level overflows binary32.
LOGARITHMIC_LIMIT = 128.0

Levels = NDArray[np.uint16] | NDArray[np.uint8]


def level_dtype(bit_depth: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest unsigned type that holds a level of `bit_depth` bits."""
    return np.uint8 if bit_depth <= 8 else np.uint16


def as_levels(integers: NDArray[np.generic], bit_depth: int) -> Levels:
    """`integers`, known to be within 0 .. peak, in the smallest type; no copy where they have it already."""
    if bit_depth <= 8:
        return integers.astype(np.uint8, copy=False)
    return integers.astype(np.uint16, copy=False)


class Quantizer(ABC):
    """Maps binary32 values to levels 0 .. peak and back."""

    bit_depth: int

    @property
    def peak(self) -> int:
        """Highest level, 2 ** bit_depth - 1."""
        return (1 << self.bit_depth) - 1

    @cached_property
    @abstractmethod
    def thresholds(self) -> NDArray[np.float32]:
        """float32 [peak], not decreasing: level(x) is the number of thresholds that are <= x."""

    @cached_property
    @abstractmethod
    def level_values(self) -> NDArray[np.float32]:
        """float32 [peak + 1]: the value that each level stands for."""

    def quantize(self, values: ArrayLike) -> Levels:
        """Levels of `values`.

        :param values: float32 of any shape (narrower types are widened exactly); below 0 gives level 0 in the uniform
            and logarithmic modes, above the maximum and +inf give peak
        :returns: uint8 (uint16 at depth 16), the same shape
        :raises SettingsError: a NaN, or a type that float32 cannot hold exactly
        """
        x = np.asarray(values)
        if x.dtype not in (np.float32, np.float16):
            raise SettingsError(f"values are {x.dtype}, expected float32 or float16")
        x = x.astype(np.float32, copy=False)
        nan = np.isnan(x)
        if nan.any():
            where = tuple(int(k) for k in np.argwhere(nan)[0])
            raise SettingsError(f"the map holds NaN ({int(nan.sum())} of {x.size} values, the first at {where})")
        return as_levels(np.searchsorted(self.thresholds, x, side="right"), self.bit_depth)

    def dequantize(self, levels: Levels) -> NDArray[np.float32]:
        """float32 values of `levels`, the same shape.

        :raises SettingsError: a level above peak
        """
        if levels.size and int(levels.max()) > self.peak:
            raise SettingsError(f"level {int(levels.max())} is above the peak {self.peak}")
        return self.level_values[levels]


@dataclass(frozen=True)
class UniformQuantizer(Quantizer):
    """Equations (1), (2): level = floor(x / max_feat_digit * peak + 0.5), intervals [lower, upper).

    :param max_feat_digit: the value of level peak; finite, > 0, exactly a binary32
    :param bit_depth: 1 to 16 (the stream has 2, 4, 8 and 16)
    """

    max_feat_digit: float
    bit_depth: int

    def __post_init__(self) -> None:
        _check(self.max_feat_digit, self.bit_depth)

    def formula(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Equation (1) as printed, without the clipping: binary64 all the way."""
        return np.floor(x.astype(np.float64) / self.max_feat_digit * self.peak + 0.5)

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The smallest binary32 that equation (1) lifts to each level, found by stepping from the real bound."""
        levels = np.arange(1, self.peak + 1, dtype=np.float64)
        with np.errstate(over="ignore"):
            x = ((levels - 0.5) * self.max_feat_digit / self.peak).astype(np.float32)
        for _ in range(4):  # the real bound is at most an ulp or two off; the loop ends as soon as nothing moves
            below = np.nextafter(x, np.float32(-np.inf))
            down = self.formula(below) >= levels
            up = self.formula(x) < levels
            if not (down.any() or up.any()):
                return x
            x = np.where(down, below, np.where(up, np.nextafter(x, np.float32(np.inf)), x))
        raise AssertionError("thresholds did not settle")  # pragma: no cover

    @cached_property
    def level_values(self) -> NDArray[np.float32]:
        """Equation (2)."""
        return ((self.max_feat_digit / self.peak) * np.arange(self.peak + 1, dtype=np.float64)).astype(np.float32)


@dataclass(frozen=True)
class LogQuantizer(Quantizer):
    """Equations (3), (4): max_feat_digit is the maximum after log2(x + 1), below 128.

    A threshold is the smallest binary32 not below 2 ** ((t - 0.5) * max_feat_digit / peak) - 1. The powers come from
    the C library's pow one by one: NumPy's own vector exp2 may differ between machines in the last place.
    """

    max_feat_digit: float
    bit_depth: int

    def __post_init__(self) -> None:
        _check(self.max_feat_digit, self.bit_depth)
        if self.max_feat_digit >= LOGARITHMIC_LIMIT:
            raise SettingsError(
                f"max_feat_digit {self.max_feat_digit} of a logarithmic quantizer is not below {LOGARITHMIC_LIMIT:g}"
            )

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The smallest binary32 not below each bound."""
        bounds = np.array(
            [math.pow(2.0, (t - 0.5) * self.max_feat_digit / self.peak) - 1 for t in range(1, self.peak + 1)]
        )
        rounded = bounds.astype(np.float32)
        return np.where(rounded < bounds, np.nextafter(rounded, np.float32(np.inf)), rounded)

    @cached_property
    def level_values(self) -> NDArray[np.float32]:
        """Equation (4)."""
        step = self.max_feat_digit / self.peak
        return np.array([math.pow(2.0, step * level) - 1 for level in range(self.peak + 1)]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CustomQuantizer(Quantizer):
    """Clause 7.2.1.3: bounds q0 < q1 < ... cut the line into (-inf, q0], (q0, q1], ..., (q_last, inf).

    :param partitions: float32 [peak], finite, strictly increasing; may be negative
    """

    partitions: NDArray[np.float32]
    bit_depth: int

    def __post_init__(self) -> None:
        q = self.partitions
        if q.dtype != np.float32 or q.shape != (self.peak,):
            raise SettingsError(f"partitions are {q.dtype} {list(q.shape)}, expected float32 [{self.peak}]")
        if not np.isfinite(q).all() or not (q[1:] > q[:-1]).all():
            raise SettingsError("partitions must be finite and strictly increasing")

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """A level is reached above its bound, so the threshold is the next binary32."""
        with np.errstate(over="ignore"):  # beyond the largest number lies infinity
            return np.nextafter(self.partitions, np.float32(np.inf))

    @cached_property
    def level_values(self) -> NDArray[np.float32]:
        """Table 14: level 0 is 0, level i the middle of (q[i-1], q[i]], the last one the last finite middle."""
        q = self.partitions.astype(np.float64)
        middles = (q[1:] + q[:-1]) / 2
        return np.concatenate(([0.0], middles, middles[-1:])).astype(np.float32)


def _check(max_feat_digit: float, bit_depth: int) -> None:
    if not 1 <= bit_depth <= 16:
        raise SettingsError(f"bit depth {bit_depth} is not within 1..16")
    if not math.isfinite(max_feat_digit) or max_feat_digit <= 0:
        raise SettingsError(f"max_feat_digit is {max_feat_digit}, expected a finite number above 0")
    nearest = float(np.float32(max_feat_digit))
    if nearest != max_feat_digit:
        raise SettingsError(f"max_feat_digit {max_feat_digit!r} is no binary32; the nearest one is {nearest!r}")
