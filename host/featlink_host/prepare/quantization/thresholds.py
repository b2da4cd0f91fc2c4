"""Where to cut a tensor's values off: nowhere (unsaturated), or by percentile, divergence or squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from .affine import Affine
from .histograms import ValuesSeen

Range = tuple[float, float]
#: Bins of the histogram that divergence is searched on: the usual number.
KL_BINS = 2048
#: What a bin without values counts as, so that the divergence stays finite.
SMOOTHED = 1e-4
#: Shares of the whole range that are tried by squared error.
SHARES = np.geomspace(1.0, 0.05, 80)


def unsaturated(seen: ValuesSeen) -> Range:
    """The least and the greatest value."""
    return seen.minimum, seen.maximum


def percentile(seen: ValuesSeen, percent: float) -> Range:
    """So many percent of the values lie inside, as many are cut off above as below; the edges are bins'.

    :raises SettingsError: not above 0 and at most 100
    """
    if not 0 < percent <= 100:
        raise SettingsError(f"percentile {percent:g}, expected above 0 and at most 100")
    share = np.cumsum(seen.counts) / seen.total
    cut = (100 - percent) / 200
    right, left = int(np.searchsorted(share, 1 - cut)), int(np.searchsorted(share, cut))
    # The upper edge of the bin where the share is reached, so that it is inside.
    right = min(right, len(share) - 1)
    low, high = (seen.first + left) * seen.width, (seen.first + right + 1) * seen.width
    return max(low, seen.minimum), min(high, seen.maximum)


def divergence(seen: ValuesSeen, levels: int) -> Range:
    """The magnitude T whose levels lose the least of the values' distribution (Kullback-Leibler), cut to the values.

    :param levels: from -T to T
    """
    counts, edges = seen.symmetric(max(KL_BINS, levels))
    low, high = divergence_edges(counts, edges, levels)
    return max(low, seen.minimum), min(high, seen.maximum)


def divergence_edges(counts: NDArray[np.int64], edges: NDArray[np.float64], levels: int) -> Range:
    """The search itself, on an even number of bins around 0 (S. Migacz, 8-bit inference with TensorRT, GTC 2017).

    For every number of bins around the middle, from `levels` to all: p is what lies inside with the outliers in the
    outermost bins; q is the inside merged into `levels`, each level's values shared out as if among its bins that are
    not empty. The same figures as onnxruntime's entropy calibration finds on such a histogram.
    """
    middle, half = len(counts) // 2, levels // 2
    before = np.concatenate([[0], np.cumsum(counts)])
    best, found = np.inf, (float(edges[0]), float(edges[-1]))
    for reach in range(min(half, middle), middle + 1):
        start, end = middle - reach, min(middle + reach + 1, len(counts))
        inside = counts[start:end]
        whole = inside.astype(np.float64)
        whole[0] += before[start]
        whole[-1] += before[-1] - before[end]
        merged = len(inside) // levels
        if not merged:
            continue
        filled = whole != 0
        # The last level takes what is left over; it is spread over its own bins only.
        grouped = inside[: levels * merged].reshape(levels, merged).sum(axis=1).astype(np.float64)
        grouped[-1] += inside[levels * merged :].sum()
        number = filled[: levels * merged].reshape(levels, merged).sum(axis=1)
        each = np.divide(grouped, number, out=np.zeros(levels), where=number > 0)
        spread = np.zeros(len(inside))
        # Whole numbers: so it is usually done, and so it can be compared.
        spread[: levels * merged] = np.repeat(each.astype(np.int64), merged)
        value = _kullback_leibler(whole, spread)
        if value < best:
            best, found = value, (float(edges[start]), float(edges[end]))
    return found


def squared_error(seen: ValuesSeen, affine: Callable[[float, float], Affine]) -> Range:
    """Of shares of the whole range the one whose quantizer has the least squared error; the ends are cut alike.

    :param affine: a quantizer for a range
    """
    values, counts = seen.points()
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)

    def best(spans: Iterable[Range]) -> Range:
        return min(spans, key=lambda span: affine(*span).error(values, counts))

    # Both ends together, then each alone.
    below, above = best((low * share, high * share) for share in SHARES)
    if low and high:
        below, above = best((low * share, above) for share in SHARES)
        below, above = best((below, high * share) for share in SHARES)
    return below, above


def _kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Of two histograms, smoothed; infinite where one has nothing."""
    smooth = [_smoothed(one) for one in (p, q)]
    if smooth[0] is None or smooth[1] is None:
        return float("inf")
    ours, theirs = (one / one.sum() for one in smooth if one is not None)
    used = ours > 0
    with np.errstate(divide="ignore"):
        return float((ours[used] * np.log(ours[used] / theirs[used])).sum())


def _smoothed(histogram: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Empty bins get a little, which the others give; None where they have not so much."""
    empty = histogram == 0
    full = len(histogram) - int(empty.sum())
    if not full:
        return None
    taken = SMOOTHED * int(empty.sum()) / full
    if taken >= 1.0:
        return None
    return np.where(empty, SMOOTHED, histogram - taken)
