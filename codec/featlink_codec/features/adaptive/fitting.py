"""From a map's values to a class: the source's literal numbers, or those of the least squared error.

The source prints the spread of the Gaussian as the variance ([0139]) and says of Laplace's only that it is a scale
([0146]); `literal` takes that at its word. A variance clips hard where the standard deviation is far from 1, and spread
and center are signalled, so an encoder may choose them: `least-squares` looks for the two at which the mean squared
error is least. It looks at the same numbers in the same order on every machine: binary64 without transcendental
functions but the C library's pow, and sums one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import SettingsError
from .histogram import Histogram, Summary
from .parameters import HOWS, LOGARITHMIC_LIMIT, ClassParameters, Distribution

#: Levels' values stay so far within binary32 that rounding center and spread takes none beyond.
_LARGEST = 2.0**128 * (1 - 2.0**-16)

#: Between spreads of the first look, and how many there are: twelve octaves in quarters, down to 1/4096 of the range.
_RATIO = 1.189207115002721
_SPREADS = 48
#: Middles of the first look, in sixteenths of the levels' width around the mean.
_MIDDLES = 8
#: The second look, ever closer: part of the spread, and by how much the center moves at least, as part of the levels'
#: width and of the distance of two levels. Only its first round is from several starts.
_CLOSER = ((0.04, 1 / 64, 0.25), (0.02, 1 / 512, 0.125), (0.005, 0.0, 0.03125), (0.00125, 0.0, 0.0078125))
_STARTS = 4
#: Above it the first look takes this depth: the number of levels times that of spreads bounds the time.
_FIRST_DEPTH = 6
#: Above it the second look is a short one: with so many levels all spreads near the values' range are alike.
_DEEP = 10
#: Elements of a table of levels by quantizers.
_TABLE = 1 << 20

Floats = NDArray[np.float64]
#: (error, center, spread)
Found = tuple[float, float, float]


def fit(
    values: ArrayLike | Histogram | Summary,
    distribution: Distribution,
    bit_depth: int,
    how: str = "least-squares",
) -> ClassParameters:
    """The class of this distribution and depth for these values; step 1, offset 0.5.

    :param values: float32 or float16 of any shape, or what was counted of them
    :param how: "literal" or "least-squares"
    :raises SettingsError: another way, no values or not finite ones, or numbers that no class takes: a literal Gaussian
        spread beyond binary32
    """
    if how not in HOWS:
        raise SettingsError(f"fit {how!r}, expected one of {', '.join(HOWS)}")
    summary = summary_of(values)
    if summary.minimum == summary.maximum:
        return _constant(summary.minimum, distribution, bit_depth)
    if how == "literal":
        center, spread = _literal(summary, distribution)
    else:
        # a class as the checks want it, before any time goes into the search
        ClassParameters(distribution, bit_depth, 0.0, 1.0)
        _, center, spread = _Search(summary, distribution, bit_depth).best()
    return ClassParameters.rounded(distribution, bit_depth, center, spread)


def summary_of(values: ArrayLike | Histogram | Summary) -> Summary:
    """What fitting needs to know of values.

    :raises SettingsError: no values, or not finite ones
    """
    if isinstance(values, Summary):
        return values
    if not isinstance(values, Histogram):
        histogram = Histogram()
        histogram.add(values)
        values = histogram
    return values.summary()


def expected_error(values: ArrayLike | Histogram | Summary, parameters: ClassParameters) -> float:
    """The mean squared error that a class will have, to what a histogram knows."""
    quantizer = parameters.quantizer()
    bounds = quantizer.thresholds.astype(np.float64)[:, None]
    found = summary_of(values).squared_error(quantizer.level_values.astype(np.float64)[:, None], bounds)
    return float(found[0])


def _literal(summary: Summary, distribution: Distribution) -> tuple[float, float]:
    if distribution is Distribution.UNIFORM:
        return summary.minimum, summary.maximum - summary.minimum
    if distribution is Distribution.GAUSSIAN:
        return summary.mean, summary.variance
    if distribution is Distribution.LAPLACE:
        return 0.0, summary.mean_magnitude
    return 0.0, math.log2(max(-summary.minimum, summary.maximum) + 1)


def _constant(value: float, distribution: Distribution, bit_depth: int) -> ClassParameters:
    """One value is a level of its own: the lowest of uniform classes, the middle one of others."""
    return ClassParameters.rounded(distribution, bit_depth, value, 1.0)


class _Search:
    """Looks for the center and the spread of the least squared error: a coarse grid, then ever closer around the best.

    Everything is tried as it is and moved so that a level stands for 0, for the minimum or for the maximum exactly:
    after ReLU and Clip these are often the most frequent values of all. The standard's own quantizer is one of them.
    """

    def __init__(self, summary: Summary, distribution: Distribution, bit_depth: int) -> None:
        self.summary = summary
        self.distribution = distribution
        self.bit_depth = bit_depth
        self.deep = bit_depth > _DEEP
        self.near = range(-1, 2) if self.deep else range(-4, 5)
        self.range = summary.maximum - summary.minimum
        self.marks = sorted({summary.minimum, 0.0, summary.maximum})
        self.centers = [0.0, summary.mean]
        if distribution is Distribution.LOGARITHMIC:
            self.centers += [summary.quantile(k / 10) for k in range(1, 10)]

    def best(self) -> Found:
        """Center and spread, and their error."""
        depth = min(self.bit_depth, _FIRST_DEPTH)
        found = [self._try(depth, spread, self._middles(spread, depth)) for spread in self._spreads(depth)]
        if depth < self.bit_depth:
            # more levels reach at least as far: from the best at this depth outward
            reach = min(found)[2] / _RATIO
            found = [self._try(self.bit_depth, spread, [center]) for _, center, spread in found if spread >= reach]
        best = min(self._closer(start, *_CLOSER[0]) for start in sorted(found)[: 1 if self.deep else _STARTS])
        for closer in _CLOSER[1:]:
            best = self._closer(best, *closer)
        return best

    def _closer(self, found: Found, part: float, of_width: float, of_gap: float) -> Found:
        _, center, spread = found
        shape = _shape(self.distribution, self.bit_depth, spread)[0]
        middle = (shape.size - 1) // 2
        shift = max(of_width * _width(shape), of_gap * float(shape[middle + 1] - shape[middle]))
        centers = [center + k * shift for k in self.near]
        return min(found, *(self._try(self.bit_depth, one, centers) for one in self._around(spread, part)))

    def _around(self, spread: float, part: float) -> Iterable[float]:
        for k in self.near:
            one = spread * (1 + k * part)
            if self.distribution is not Distribution.LOGARITHMIC or one < LOGARITHMIC_LIMIT:
                yield one

    def _spreads(self, depth: int) -> list[float]:
        if self.distribution is Distribution.LOGARITHMIC:
            widest = min(math.log2(self.range + 1), 0.99 * LOGARITHMIC_LIMIT)
        else:
            widest = self.range / _width(_shape(self.distribution, depth, 1.0)[0])
        found = [widest]
        for _ in range(_SPREADS):
            found.append(found[-1] / _RATIO)
        return found

    def _middles(self, spread: float, depth: int) -> list[float]:
        """Centers of the first look."""
        shape = _shape(self.distribution, depth, spread)[0]
        low, high = float(shape[0]), float(shape[-1])
        step = (high - low) / 16
        around = [self.summary.mean - (low + high) / 2 + k * step for k in range(-_MIDDLES, _MIDDLES + 1)]
        return [*around, *self.centers, self.summary.minimum - low, self.summary.maximum - high]

    def _try(self, depth: int, spread: float, centers: list[float]) -> Found:
        """The best of some centers and of those moved onto marks; infinite where no level's value may be that large."""
        shape, bounds = _shape(self.distribution, depth, spread)
        plain = np.array(centers)
        every = np.concatenate([plain, *(_moved(shape, plain, mark) for mark in self.marks)])
        every = every[(every + shape[0] >= -_LARGEST) & (every + shape[-1] <= _LARGEST)]
        best: Found = (math.inf, 0.0, spread)
        chunk = max(1, _TABLE // shape.size)
        for start in range(0, every.size, chunk):
            some = every[start : start + chunk]
            errors = self.summary.squared_error(shape[:, None] + some, bounds[:, None] + some)
            place = int(np.argmin(errors))
            best = min(best, (float(errors[place]), float(some[place]), spread))
        return best


def _shape(distribution: Distribution, bit_depth: int, spread: float) -> tuple[Floats, Floats]:
    """(values of the levels, bounds between them) of a class around 0, in binary64."""
    peak = (1 << bit_depth) - 1
    if distribution is Distribution.LOGARITHMIC:
        inverse = ClassParameters(distribution, bit_depth, 0.0, 1.0)
        return _powers(inverse.half, spread, range(peak + 1)), _powers(inverse.half, spread, range(peak), 0.5)
    if distribution is Distribution.UNIFORM:
        scale: Callable[[Floats], Floats] = lambda n: n / peak * spread  # noqa: E731
    else:
        half = (1 << (bit_depth - 1)) - 1
        scale = lambda n: (n / half - 1) * spread  # noqa: E731
    levels = np.arange(peak + 1, dtype=np.float64)
    return scale(levels), scale(levels[:-1] + 0.5)


def _powers(half: int, spread: float, levels: range, plus: float = 0.0) -> Floats:
    scaled = [((level + plus) / half - 1) * spread for level in levels]
    return np.array([math.copysign(math.pow(2.0, abs(y)) - 1 if abs(y) < 1000 else 2.0**1000, y) for y in scaled])


def _width(shape: Floats) -> float:
    return float(shape[-1] - shape[0])


def _moved(shape: Floats, centers: Floats, mark: float) -> Floats:
    """The centers at which the level nearest to `mark` stands for it."""
    wanted = mark - centers
    above = np.clip(np.searchsorted(shape, wanted), 1, shape.size - 1)
    lower, upper = wanted - shape[above - 1], wanted - shape[above]
    return centers + np.where(np.abs(lower) <= np.abs(upper), lower, upper)
