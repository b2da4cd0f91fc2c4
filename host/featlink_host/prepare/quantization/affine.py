"""Affine quantization, d = s (q - z): from a range to step and zero point, and from numbers to levels and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

#: Widths of what goes into a layer.
MIN_BITS, MAX_BITS = 8, 32
#: Widest levels that ONNX has a type for: wider ones are computed as float64 (`Affine.dtype` is None).
MAX_CONTAINER_BITS = 16


@dataclass(frozen=True)
class Affine:
    """Levels 0 .. 2^bits - 1 that stand for scale * (level - zero_point).

    Signed ones are the same 2^(bits-1) further up: a signed level a is level a + 2^(bits-1). One unsigned kind keeps to
    the kernels that are the same on every machine.

    :param scale: the step, a binary32 number above 0
    :param zero_point: the level that stands for 0
    :param bits: 8..32
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise SettingsError(f"levels of {self.bits} bits, expected {MIN_BITS} to {MAX_BITS}")
        if not (math.isfinite(self.scale) and self.scale > 0 and float(np.float32(self.scale)) == self.scale):
            raise SettingsError(f"a step of {self.scale!r}, expected a finite number above 0 that binary32 has")
        if not 0 <= self.zero_point <= self.last:
            raise SettingsError(f"zero point {self.zero_point}, expected a level, 0..{self.last}")

    @property
    def last(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    @property
    def low(self) -> float:
        """The least number that is not cut off."""
        return -self.scale * self.zero_point

    @property
    def high(self) -> float:
        """The greatest number that is not cut off."""
        return self.scale * (self.last - self.zero_point)

    @property
    def exact(self) -> bool:
        """The step is a power of two: sums of products of levels are the same in any order, as floats too."""
        return math.frexp(self.scale)[0] == 0.5

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """What ONNX holds the levels in; None: nothing, they are simulated as float64."""
        if self.bits > MAX_CONTAINER_BITS:
            return None
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def quantize(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Levels, as ONNX's QuantizeLinear: divided, rounded with halves to even, the zero point added, cut off.

        Up to 16 bits in binary32, as the operator does; wider ones in binary64.
        """
        kind: Any = np.float32 if self.dtype is not None else np.float64
        rounded = np.rint(np.asarray(values, kind) / kind(self.scale)).astype(np.float64)
        levels: NDArray[np.int64] = np.clip(rounded + self.zero_point, 0, self.last).astype(np.int64)
        return levels

    def level(self, value: float) -> int:
        """Of one number."""
        return int(self.quantize(np.array(value)))

    def dequantize(self, levels: NDArray[Any]) -> NDArray[np.float32]:
        """What levels stand for, float32."""
        distance = np.asarray(levels, np.int64) - self.zero_point
        if self.dtype is None:
            return (distance.astype(np.float64) * self.scale).astype(np.float32)
        return distance.astype(np.float32) * np.float32(self.scale)

    def error(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
        """Sum of squared errors of numbers that occur so often."""
        levels = np.clip(np.rint(values / self.scale) + self.zero_point, 0, self.last)
        return float((np.square((levels - self.zero_point) * self.scale - values) * counts).sum())


def step_and_zero(low: float, high: float, first: int, last: int) -> tuple[float, int]:
    """s = (dmax - dmin) / (qmax - qmin) and z = round(qmin - dmin / s), as the formulas stand (halves to even).

    :param low: dmin
    :param high: dmax
    :param first: qmin
    :param last: qmax
    :raises SettingsError: a range without width
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or first >= last:
        raise SettingsError(f"a range of {low:g}..{high:g} onto {first}..{last}, expected rising, finite numbers")
    step = (high - low) / (last - first)
    return step, round(first - low / step)


def asymmetric(low: float, high: float, bits: int = 8) -> Affine:
    """All of low..high onto all levels; 0 is taken in, since padding and ReLU need a level that is exactly 0."""
    low, high = _with_zero(low, high)
    step, zero = step_and_zero(low, high, 0, (1 << bits) - 1)
    return Affine(_binary32(step), zero, bits)


def symmetric(low: float, high: float, bits: int = 8) -> Affine:
    """The greater magnitude T onto 2^(bits-1) - 1 (127): zero is the middle level, whatever the range."""
    half = 1 << bits - 1
    return Affine(_binary32(max(map(abs, _with_zero(low, high))) / (half - 1)), half, bits)


def power_of_two(low: float, high: float, bits: int = 8) -> Affine:
    """The least step 2^k that holds low..high; the zero point is even.

    Even, since a runtime that adds the zero point before rounding sends halves elsewhere where it is odd.
    """
    low, high = _with_zero(low, high)
    last = (1 << bits) - 1
    exponent = math.ceil(math.log2((high - low) / last) - 1e-9)
    while True:
        step = math.ldexp(1.0, exponent)
        # Steps that are needed below zero and above it; what is less than binary32 tells apart does not count.
        below, above = (math.ceil(side / step - 1e-6) for side in (-low, high))
        zero = below + below % 2
        if zero + above <= last:
            return Affine(step, zero, bits)
        exponent += 1


def _with_zero(low: float, high: float) -> tuple[float, float]:
    """The range with 0 in it; one that is nothing but 0 becomes 0..1."""
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise SettingsError(f"a range of {low:g}..{high:g}, expected finite numbers in order")
    low, high = min(low, 0.0), max(high, 0.0)
    # A step below binary32's normal numbers would be flushed to 0.
    return (low, high) if high - low > 1e-30 else (0.0, 1.0)


def _binary32(value: float) -> float:
    return float(np.float32(value))
