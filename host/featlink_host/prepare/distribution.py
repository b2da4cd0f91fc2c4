"""Which distribution a tensor's values follow, told from a histogram; and how many bits their levels would take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .quantization.histograms import ValuesSeen

#: Bins that the fit looks at.
BINS = 64
#: A simpler answer is taken where it fits nearly as well: bits a value.
MARGIN = 0.02
#: Steps of location and scale in a round of the search, and rounds.
_STEPS, _ROUNDS = 11, 7
#: An end bin that holds so many times what its neighbours do is a place where values were clipped.
_PILE = 4.0

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Distribution:
    """What the values are most like, but for those that are exactly 0 or were clipped at an end.

    :param kind: "uniform", "gaussian", "laplace"; "constant" where there is nothing to tell
    :param location: its centre
    :param scale: standard deviation, Laplace's b, or the width of a uniform one
    :param misfit: Kullback-Leibler divergence of the histogram from it, bits a value
    """

    kind: str
    location: float
    scale: float
    misfit: float


def fit_distribution(seen: ValuesSeen) -> Distribution:
    """The best of uniform, Gaussian and Laplace, each cut off where the values end.

    Cut off, since an activation cuts off what a layer makes: behind a ReLU a Gaussian's right half is still one.
    """
    counts, edges = _inner(seen)
    if len(counts) < 2:
        return Distribution("constant", seen.mean, 0.0, 0.0)
    share = counts / counts.sum()
    kept = share > 0
    entropy = -float((share[kept] * np.log2(share[kept])).sum())
    low, high = edges[0], edges[-1]
    flat = math.log2(len(counts)) - entropy
    found = [Distribution("uniform", (low + high) / 2, high - low, flat)]
    found += [_searched(kind, share, edges, entropy) for kind in ("laplace", "gaussian")]
    best = min(found, key=lambda one: one.misfit)
    # A very wide Gaussian is flat too: the one with fewer parameters is meant.
    return found[0] if flat <= best.misfit + MARGIN else best


def level_entropy(seen: ValuesSeen, bits: int = 8) -> float:
    """Zeroth-order entropy of uniform levels, bits a value: from 0, or the least value below it, to the greatest."""
    low, high = min(0.0, seen.minimum), seen.maximum
    if high <= low:
        return 0.0
    values, counts = seen.points()
    peak = (1 << bits) - 1
    levels = np.floor((values - low) / (high - low) * peak + 0.5).astype(np.int64).clip(0, peak)
    share = np.bincount(levels, counts, peak + 1)
    share = share[share > 0] / share.sum()
    return max(0.0, -float((share * np.log2(share)).sum()))


def _inner(seen: ValuesSeen) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts without zeros and clipped ends in at most BINS bins of one width, and their edges."""
    counts = seen.counts.astype(np.float64)
    zero = -seen.first
    if 0 <= zero < len(counts):
        counts[zero] -= seen.zeros
    used = np.flatnonzero(counts)
    if not len(used):
        return np.empty(0), np.empty(0)
    begin, end = int(used[0]), int(used[-1]) + 1
    if end - begin > 16:
        if counts[end - 1] > _PILE * max(1.0, counts[end - 9 : end - 1].mean()):
            end -= 1
        if counts[begin] > _PILE * max(1.0, counts[begin + 1 : begin + 9].mean()):
            begin += 1
    step = -(-(end - begin) // BINS)
    whole = -(-(end - begin) // step) * step
    inner = np.zeros(whole)
    inner[: end - begin] = counts[begin:end]
    edges = (seen.first + begin + np.arange(0, whole + 1, step, dtype=np.float64)) * seen.width
    # The last bin may reach beyond the greatest value, where nothing can be.
    edges[-1] = min(edges[-1], (seen.first + end) * seen.width)
    return inner.reshape(-1, step).sum(axis=1), edges


def _searched(kind: str, share: NDArray[np.float64], edges: NDArray[np.float64], entropy: float) -> Distribution:
    """Location and scale of the greatest likelihood, by a grid that closes in."""
    low, high = float(edges[0]), float(edges[-1])
    span = high - low
    place, places = (low + high) / 2, span / 2
    size, sizes = math.log(span / 8), math.log(40)
    best = (math.inf, place, size)
    for _ in range(_ROUNDS):
        locations = np.linspace(place - places, place + places, _STEPS).clip(low, high)
        scales = np.linspace(size - sizes, size + sizes, _STEPS)
        z = (edges[None, None, :] - locations[:, None, None]) / np.exp(scales)[None, :, None]
        below = _below(kind, z)
        mass = below[..., -1:] - below[..., :-1][..., :1]
        inside = np.diff(below, axis=-1) / np.maximum(mass, 1e-300)
        cost = -(share * np.log2(np.maximum(inside, 1e-30))).sum(axis=-1)
        at = np.unravel_index(int(cost.argmin()), cost.shape)
        if cost[at] < best[0]:
            best = float(cost[at]), float(locations[at[0]]), float(scales[at[1]])
        _, place, size = best
        places, sizes = places / 2.5, sizes / 2.5
    cost_bits, place, size = best
    return Distribution(kind, place, math.exp(size), max(0.0, cost_bits - entropy))


def _below(kind: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a standard distribution that lies below z."""
    if kind == "laplace":
        tail = np.exp(-np.abs(z)) / 2
        return np.where(z < 0, tail, 1 - tail)
    below: NDArray[np.float64] = (1 + _erf(z / math.sqrt(2))) / 2
    return below
