"""Histograms of tensors that arrive a batch at a time: bounded memory, and the same whatever the batches' order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

#: Bins that are kept at most, of each tensor.
BINS = 4096
#: Numbers below it are taken for 0 when the first width is chosen.
LEAST = 2.0**-100


@dataclass(frozen=True, eq=False)
class ValuesSeen:
    """What a tensor's values looked like.

    :param counts: int64 [N], of the bins
    :param first: number of the first bin: bin k is [(first + k) * width, (first + k + 1) * width)
    :param width: of a bin, a power of two
    :param zeros: values that are exactly 0; they count in their bin too
    """

    counts: NDArray[np.int64]
    first: int
    width: float
    minimum: float
    maximum: float
    mean: float
    deviation: float
    zeros: int

    @property
    def total(self) -> int:
        """Values."""
        return int(self.counts.sum())

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middles of the bins; float64 [N]."""
        middles: NDArray[np.float64] = (np.arange(len(self.counts)) + (self.first + 0.5)) * np.float64(self.width)
        return middles

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Numbers and how often each occurred: the bins' middles, zero apart, nothing empty."""
        counts, values = self.counts.copy(), self.centres
        zero = -self.first
        if 0 <= zero < len(counts):
            counts[zero] -= self.zeros
        kept = counts > 0
        inside = values[kept].clip(self.minimum, self.maximum)
        return np.append(inside, 0.0), np.append(counts[kept], self.zeros)

    def symmetric(self, bins: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The same as an even number of at most `bins` bins from -T to T: counts and edges."""
        counts, first, width = self.counts, self.first, self.width
        half = max(-first, first + len(counts), 1)
        while 2 * half > bins:
            counts, first = _halved(counts, first)
            width *= 2
            half = max(-first, first + len(counts), 1)
        whole = np.zeros(2 * half, np.int64)
        whole[half + first : half + first + len(counts)] = counts
        edges: NDArray[np.float64] = np.arange(-half, half + 1) * np.float64(width)
        return whole, edges


class StreamedHistogram:
    """Takes in arrays one by one.

    The width of a bin is a power of two and bins begin at multiples of it. When the values outgrow the bins, pairs of
    bins become one. So the result follows from the values alone, not from which of them came first.
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 2:
            raise SettingsError(f"{bins} bins, expected at least 2")
        self._bins = bins
        self._counts = np.zeros(0, np.int64)
        self._first = 0
        self._exponent = 0
        self._sums = (0, 0.0, 0.0)
        self._least, self._most, self._zeros = math.inf, -math.inf, 0

    def add(self, values: NDArray[Any]) -> None:
        """Take in values of any shape.

        :raises SettingsError: NaN or infinity among them
        """
        flat = np.asarray(values).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise SettingsError("found NaN or infinity among the values, expected finite numbers")
        count = self._sums[0] + flat.size
        # Chan's sum of two parts: no large numbers are subtracted.
        mean = float(flat.mean(dtype=np.float64))
        spread = float(flat.var(dtype=np.float64)) * flat.size
        apart = mean - self._sums[1]
        self._sums = (
            count,
            self._sums[1] + apart * flat.size / count,
            self._sums[2] + spread + apart**2 * self._sums[0] * flat.size / count,
        )
        self._least, self._most = min(self._least, low), max(self._most, high)
        self._zeros += flat.size - int(np.count_nonzero(flat))
        self._fit()
        places = np.floor(np.ldexp(flat.astype(np.float64), -self._exponent)).astype(np.int64) - self._first
        self._counts += np.bincount(places, minlength=len(self._counts))

    def seen(self) -> ValuesSeen:
        """All so far.

        :raises SettingsError: nothing so far
        """
        count, mean, spread = self._sums
        if not count:
            raise SettingsError("found no values to look at")
        width = math.ldexp(1.0, self._exponent)
        return ValuesSeen(
            self._counts.copy(), self._first, width, self._least, self._most, mean, math.sqrt(spread / count),
            self._zeros,
        )  # fmt: skip

    def _fit(self) -> None:
        """Bins from the least to the greatest value so far, and 0, as narrow as their number allows."""
        low, high = min(self._least, 0.0), max(self._most, 0.0)
        largest = max(-low, high, LEAST)
        # Too narrow for any range that reaches from 0 so far.
        start = math.frexp(largest)[1] - self._bins.bit_length() - 1
        if not len(self._counts):
            self._exponent = start
        exponent = self._exponent
        while True:
            width = math.ldexp(1.0, exponent)
            first, last = math.floor(low / width), math.floor(high / width)
            if last - first < self._bins:
                break
            exponent += 1
        counts, at = self._counts, self._first
        for _ in range(exponent - self._exponent):
            if len(counts):
                counts, at = _halved(counts, at)
        grown = np.zeros(last - first + 1, np.int64)
        if len(counts):
            grown[at - first : at - first + len(counts)] = counts
        self._counts, self._first, self._exponent = grown, first, exponent


def _halved(counts: NDArray[np.int64], first: int) -> tuple[NDArray[np.int64], int]:
    """Bins of twice the width: counts and the number of the first."""
    padded = np.pad(counts, (first % 2, (first + len(counts)) % 2))
    return padded.reshape(-1, 2).sum(axis=1), first // 2
