"""The quantizer of one class: its thresholds and the values of its levels, for signed maps too.

Normalisation as the source prints it (equations 1, 4, 6; [0130], [0138], [0145]), with peak = 2 ** depth - 1 and
M = 2 ** (depth - 1) - 1, in binary64 and in this order:

    uniform       n = (x - center) / spread * peak
    Gaussian      n = (x - center) / spread * M + M
    Laplace       n = (x - center) / spread * M + M       the source's center is 0
    logarithmic   n = y / spread * M + M,  y = sign(x - center) * log2(abs(x - center) + 1)

    level = clip(0, peak, floor((n + offset) / step))
    back: n = clip(0, peak, level * step), then the same backwards, rounded once to binary32

Each is monotone in x (a correctly rounded operation never turns an order round), so it is its table of thresholds.
`logarithmic` is what the standard's equations (3), (4) are to non-negative maps, mirrored at the center; as there, the
table defines it: a threshold is the smallest binary32 not below the inverse of its bound, and no logarithm is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..quantizers import Quantizer
from .parameters import ClassParameters, Distribution

#: Finite binary32 numbers and +inf in rising order: -_HIGHEST_FINITE .. _INFINITY, 0 is 0.
_HIGHEST_FINITE = 0x7F7FFFFF
_INFINITY = 0x7F800000


@dataclass(frozen=True)
class AdaptiveQuantizer(Quantizer):
    """A quantizer from what the stream carries of a class.

    Thresholds lie within [-largest binary32, +inf]: a level that no finite number reaches has +inf, which only +inf
    reaches; one that every finite number reaches has the lowest finite number, as -inf is below every bound.

    :param parameters: checked already
    """

    parameters: ClassParameters
    bit_depth: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bit_depth", self.parameters.bit_depth)

    def formula(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """floor((n + offset) / step) as printed, without the clipping; not for logarithmic classes."""
        p = self.parameters
        n = (x.astype(np.float64) - p.center) / p.spread
        n = n * p.peak if p.distribution is Distribution.UNIFORM else n * p.half + p.half
        return np.floor((n + p.offset) / p.step)

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The smallest binary32 that reaches each level: float32 [peak], not decreasing."""
        if self.parameters.distribution is Distribution.LOGARITHMIC:
            return self._logarithmic_thresholds()
        # Halving instead of stepping from the real bound: where x - center cancels, that is off by any number of steps.
        levels = np.arange(1, self.peak + 1, dtype=np.float64)
        low = np.full(self.peak, -_HIGHEST_FINITE, np.int64)
        high = np.full(self.peak, _INFINITY, np.int64)
        while (low < high).any():
            middle = (low + high) >> 1
            reached = self.formula(_ordered(middle)) >= levels
            high = np.where(reached, middle, high)
            low = np.where(reached, low, np.minimum(middle + 1, high))
        return _ordered(high)

    @cached_property
    def level_values(self) -> NDArray[np.float32]:
        """float32 [peak + 1]: the value that each level stands for, not decreasing."""
        p = self.parameters
        if p.distribution is Distribution.LOGARITHMIC:
            return np.array([p.value_of(level) for level in range(self.peak + 1)]).astype(np.float32)
        n = np.clip(np.arange(self.peak + 1, dtype=np.float64) * p.step, 0.0, p.peak)
        if p.distribution is Distribution.UNIFORM:
            return (n / p.peak * p.spread + p.center).astype(np.float32)
        return ((n / p.half - 1) * p.spread + p.center).astype(np.float32)

    def _logarithmic_thresholds(self) -> NDArray[np.float32]:
        # One by one by the C library's pow, as LogQuantizer does: NumPy's may differ between machines.
        p = self.parameters
        bounds = np.array([p.denormalised(level * p.step - p.offset) for level in range(1, self.peak + 1)])
        bounds = np.maximum.accumulate(bounds)
        with np.errstate(over="ignore"):
            x = bounds.astype(np.float32)
        x = np.where(x < bounds, np.nextafter(x, np.float32(np.inf)), x)
        return np.maximum(x, -np.finfo(np.float32).max)


def _ordered(places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The binary32 number at each place in rising order."""
    bits = np.abs(places).astype(np.uint32) | np.where(places < 0, np.uint32(0x80000000), np.uint32(0))
    return bits.view(np.float32)
