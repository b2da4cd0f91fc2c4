"""Dynamic fixed point: signed integers a that stand for a * 2^-f, with a fraction length f of each tensor's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from .affine import Affine


@dataclass(frozen=True)
class FixedPoint:
    """A format: one sign bit, bits - 1 - fraction bits before the point, `fraction` behind it.

    With 8 bits and a fraction of 4: -8 .. 7.9375 in steps of 0.0625.

    :param fraction: f; may be negative, or more than there are bits
    :param bits: of the whole number
    """

    fraction: int
    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise SettingsError(f"fixed point of {self.bits} bits, expected 2 to 32")
        if not -100 <= self.fraction <= 120:
            raise SettingsError(f"a fraction of {self.fraction} bits, expected -100 to 120")

    @property
    def step(self) -> float:
        """Resolution."""
        return math.ldexp(1.0, -self.fraction)

    @property
    def low(self) -> float:
        """The least number."""
        return -math.ldexp(1.0, self.bits - 1 - self.fraction)

    @property
    def high(self) -> float:
        """The greatest number."""
        return math.ldexp(float((1 << self.bits - 1) - 1), -self.fraction)

    def integers(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The nearest a of each value (halves to even), cut off at the ends."""
        scaled = np.rint(np.ldexp(np.asarray(values, np.float64), self.fraction))
        return np.clip(scaled, -(1 << self.bits - 1), (1 << self.bits - 1) - 1).astype(np.int64)

    def values(self, integers: NDArray[Any]) -> NDArray[np.float64]:
        """a * 2^-f."""
        return np.ldexp(np.asarray(integers, np.float64), -self.fraction)

    def affine(self) -> Affine:
        """The same as levels: a + 2^(bits-1)."""
        return Affine(self.step, 1 << self.bits - 1, self.bits)


def fitting(low: float, high: float, bits: int = 8) -> FixedPoint:
    """The format with the longest fraction that holds a range to within half a step.

    :raises SettingsError: not a range
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise SettingsError(f"a range of {low:g}..{high:g}, expected finite numbers in order")
    largest = max(abs(low), abs(high))
    if largest <= 1e-30:
        return FixedPoint(bits - 1, bits)
    fraction = bits - 1 - math.ceil(math.log2(largest)) + 1
    while True:
        found = FixedPoint(fraction, bits)
        if high <= found.high + found.step / 2 and low >= found.low - found.step / 2:
            return found
        fraction -= 1
