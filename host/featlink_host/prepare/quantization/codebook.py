"""A codebook learned from the weights themselves: k-means in one dimension."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .value_sets import TableSet, Values

#: Points that k-means works on: finer than this, weights that lie side by side are one point with their number.
POINTS = 4096


def learned(values: NDArray[Any], bits: int) -> TableSet:
    """The 2 ** bits values that are nearest to all weights in the mean square, by k-means from evenly spread quantiles.

    Fewer where there are no more different weights. Where zeros are so many that they would have a value of their own
    (a pruned network), the value nearest to zero is zero exactly.

    :param values: weights in units of their group's scale
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    points, counts = _points(flat)
    wanted = min(1 << bits, len(points))
    if wanted == len(points):
        return TableSet(bits, tuple(with_zero(points, flat).tolist()))
    return TableSet(bits, tuple(with_zero(_centres(points, counts, wanted), flat).tolist()))


def with_zero(centres: Values, flat: NDArray[Any]) -> Values:
    """The centres, in order, with a zero among them where there are zeros enough to deserve one."""
    # As binary32 holds them: that is how they are written down.
    centres = np.unique(np.asarray(centres, np.float32)).astype(np.float64)
    if np.count_nonzero(flat == 0) * len(centres) >= flat.size:
        centres[np.abs(centres).argmin()] = 0.0
    return np.unique(centres)


def _centres(points: Values, counts: Values, wanted: int) -> Values:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if wanted == 1:
        return np.array([np.average(points, weights=counts)])
    # Quantiles of the points with their numbers, half of them by the points alone so that the ends are not forgotten.
    share = (np.arange(wanted) + 0.5) / wanted
    by_number = np.interp(share, np.cumsum(counts) / counts.sum(), points)
    evenly = points[0] + share * (points[-1] - points[0])
    best, least = by_number, np.inf
    # A few thousand points: threads would wait for each other longer than they compute.
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        # Values that come to the same are one: a smaller codebook is as good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for start in (by_number, evenly, (by_number + evenly) / 2):
            means = KMeans(wanted, init=start[:, None], n_init=1, max_iter=100, tol=1e-5, algorithm="lloyd")
            means.fit(points[:, None], sample_weight=counts)
            if means.inertia_ < least:
                best, least = means.cluster_centers_[:, 0], float(means.inertia_)
    return np.asarray(best, np.float64)


def _points(flat: Values) -> tuple[Values, Values]:
    """Different values and how often each is there; many of them are put together with their neighbours."""
    points, times = np.unique(flat, return_counts=True)
    counts: Values = times.astype(np.float64)
    if len(points) <= POINTS:
        return points, counts
    edges = np.linspace(points[0], points[-1], POINTS + 1)
    place = np.clip(np.searchsorted(edges, points, side="right") - 1, 0, POINTS - 1)
    number: Values = np.bincount(place, counts, POINTS).astype(np.float64)
    total = np.bincount(place, counts * points, POINTS)
    there = number > 0
    return total[there] / number[there], number[there]
