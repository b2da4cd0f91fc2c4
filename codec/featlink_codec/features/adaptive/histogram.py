"""What is known of a map's values when a quantizer is fitted: counts in bins, streamed, the same in any order.

Bins are 2 ** exponent wide and begin at multiples of that. When the values outgrow them, pairs become one bin: so what
batches the values came in, and in which order, makes no difference, and neither does the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import SettingsError

#: Bins at most; at least half of them span the values.
BINS = 16384

#: Elements that `add` looks at in one go: what it needs beside the histogram stays below 8 MiB.
_CHUNK = 1 << 17

Moments = NDArray[np.float64]


class Histogram:
    """Counts of values. Exact zeros are counted apart: after a ReLU they are a point of mass, not a density."""

    def __init__(self) -> None:
        self.count = 0
        self.zeros = 0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._counts = np.zeros(BINS, np.int64)
        self._exponent = 0
        self._base = 0

    def add(self, values: ArrayLike) -> None:
        """Count values of any shape: float32, float16, or integers of up to 16 bits.

        :raises SettingsError: NaN, infinities, or another type; nothing was counted
        """
        x = np.asarray(values)
        if x.dtype not in (np.float32, np.float16, np.uint8, np.int8, np.uint16, np.int16):
            raise SettingsError(f"values are {x.dtype}, expected float32, float16 or integers of up to 16 bits")
        flat = x.reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise SettingsError(f"the map holds {low if not math.isfinite(low) else high}, expected finite values")
        self._make_room(min(low, self.minimum), max(high, self.maximum))
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK].astype(np.float64)
            others = chunk[chunk != 0]
            self.zeros += chunk.size - others.size
            places = np.floor(np.ldexp(others, -self._exponent)).astype(np.int64) - self._base
            self._counts += np.bincount(places, minlength=BINS)
        self.count += flat.size

    def summary(self) -> Summary:
        """What the counts say, for fitting.

        :raises SettingsError: nothing was counted
        """
        if not self.count:
            raise SettingsError("found no values, expected at least one to fit a quantizer to")
        used = np.flatnonzero(self._counts)
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
        width = math.ldexp(1.0, self._exponent)
        return Summary(
            counts=self._counts[first : last + 1].copy(),
            origin=(self._base + first) * width,
            width=width,
            zeros=self.zeros,
            minimum=self.minimum,
            maximum=self.maximum,
        )

    def _make_room(self, low: float, high: float) -> None:
        """Widen the bins, or move them, so that `low` and `high` have one."""
        exponent = _exponent(low, high)
        base = math.floor(math.ldexp(low, -exponent))
        if self.count and (exponent, base) != (self._exponent, self._base):
            used = np.flatnonzero(self._counts)
            moved = np.zeros(BINS, np.int64)
            np.add.at(moved, ((self._base + used) >> (exponent - self._exponent)) - base, self._counts[used])
            self._counts = moved
        self._exponent, self._base = exponent, base
        self.minimum, self.maximum = low, high


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of values other than 0 in bins of one width, the number of zeros, and the ends.

    :param counts: int64 [bins]
    :param origin: where the first bin begins
    :param width: of a bin, a power of two
    """

    counts: NDArray[np.int64]
    origin: float
    width: float
    zeros: int
    minimum: float
    maximum: float

    @property
    def count(self) -> int:
        """How many values there were, zeros too."""
        return self.zeros + int(self.counts.sum())

    @cached_property
    def middles(self) -> Moments:
        """float64 [bins]: the middle of each bin."""
        return self.origin + self.width * (np.arange(self.counts.size, dtype=np.float64) + 0.5)

    @cached_property
    def mean(self) -> float:
        """Of all values, to half a bin."""
        return _total(self.middles * self.counts) / self.count

    @cached_property
    def variance(self) -> float:
        """Of all values."""
        away = self.middles - self.mean
        return (_total(away * away * self.counts) + self.zeros * self.mean * self.mean) / self.count

    @cached_property
    def mean_magnitude(self) -> float:
        """Mean of abs(x)."""
        return _total(np.abs(self.middles) * self.counts) / self.count

    def quantile(self, part: float) -> float:
        """A value that this part of all values does not exceed, to a bin."""
        below = np.cumsum(self.counts)
        nothing = int(np.searchsorted(self.middles, 0.0))
        below[nothing:] += self.zeros
        place = int(np.searchsorted(below, part * self.count))
        return float(self.middles[min(place, self.counts.size - 1)])

    def part_below(self, edges: Moments) -> Moments:
        """The part of all values below each edge, as if values filled their bins evenly."""
        places = np.clip((edges - self.origin) / self.width, 0, self.counts.size)
        return (self._below(places)[0] + self.zeros * (edges > 0)) / self.count

    @cached_property
    def cumulative(self) -> tuple[Moments, Moments, Moments]:
        """Sums of 1, u and u * u below each of the bins + 1 edges; u counts bins, and values fill theirs evenly."""
        u = np.arange(self.counts.size, dtype=np.float64)
        counts = self.counts.astype(np.float64)
        sums = (counts, counts * (u + 0.5), counts * (u * u + u + 1 / 3))
        first, second, third = (np.concatenate(([0.0], np.add.accumulate(one))) for one in sums)
        return first, second, third

    def squared_error(self, values: Moments, bounds: Moments) -> Moments:
        """Mean squared error of several quantizers.

        :param values: float64 [levels, quantizers], the value of each level
        :param bounds: float64 [levels - 1, quantizers], not decreasing: where each level but the first begins
        :returns: float64 [quantizers]
        """
        edges = np.zeros((values.shape[0] + 1, values.shape[1]))
        edges[1:-1] = np.clip((bounds - self.origin) / self.width, 0, self.counts.size)
        edges[-1] = self.counts.size
        ones, firsts, seconds = self._below(edges)
        u = (values - self.origin) / self.width
        terms = np.diff(seconds, axis=0) - 2 * u * np.diff(firsts, axis=0) + u * u * np.diff(ones, axis=0)
        error: Moments = np.add.accumulate(terms, axis=0)[-1] * (self.width * self.width)
        if self.zeros:
            level_of_zero = (bounds <= 0).sum(axis=0)
            of_zero = values[level_of_zero, np.arange(values.shape[1])]
            error = error + self.zeros * of_zero * of_zero
        return error / self.count

    def _below(self, edges: Moments) -> tuple[Moments, Moments, Moments]:
        """`cumulative` anywhere."""
        place = np.minimum(edges.astype(np.int64), self.counts.size - 1)
        part, here = edges - place, self.counts[place]
        ones, firsts, seconds = (sums[place] for sums in self.cumulative)
        ones = ones + here * part
        firsts = firsts + here * part * (place + part / 2)
        seconds = seconds + here * part * (place * (place + part) + part * part / 3)
        return ones, firsts, seconds


def _total(terms: Moments) -> float:
    """One after another: the same sum on every machine."""
    return float(np.add.accumulate(terms)[-1]) if terms.size else 0.0


def _exponent(low: float, high: float) -> int:
    """The smallest one with which the bins reach from `low` to `high`, and no finer than values of that size are."""
    magnitude = max(-low, high, 2.0**-149)
    exponent = math.frexp(magnitude)[1] - 40
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / BINS)[1] - 2)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent
