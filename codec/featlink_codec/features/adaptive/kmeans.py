"""k-means without chance: few vectors, few classes, the same classes on every machine ([0213], [0228])."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError

Floats = NDArray[np.float64]

#: Rounds at most; it is over as soon as nothing moves.
ROUNDS = 50


def kmeans(vectors: Floats, classes: int, what: str = "vectors") -> NDArray[np.int64]:
    """Classes of vectors: each vector in the class whose mean is nearest.

    Tried from the quantiles of every feature and from vectors far from each other; the least squared distance wins, the
    first of equals. Vectors that are all alike end in fewer classes.

    :param vectors: float64 [n, features]
    :param classes: K
    :param what: the vectors' name in messages: "channels"
    :returns: int64 [n], ids 0 .. at most K - 1, each of them used, in the order in which they first appear
    :raises SettingsError: K is not within 1 .. n
    """
    count = len(vectors)
    if not 1 <= classes <= count:
        raise SettingsError(f"K is {classes}, expected 1 to {count}, the number of {what}")
    starts = [_quantiles(vectors, feature, classes) for feature in range(vectors.shape[1])]
    best: tuple[float, NDArray[np.int64]] | None = None
    for means in [*starts, _far_apart(vectors, classes)]:
        found = _settle(vectors, means)
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    return in_order(best[1])


def in_order(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same classes, numbered from 0 in the order in which they first appear."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]


def class_means(vectors: Floats, ids: NDArray[np.int64], classes: int) -> Floats:
    """float64 [classes, features]: sums one vector after another, over their number; 0 where there is none."""
    sums = np.zeros((classes, vectors.shape[1]))
    np.add.at(sums, ids, vectors)
    return sums / np.maximum(np.bincount(ids, minlength=classes), 1)[:, None]


def _quantiles(vectors: Floats, feature: int, classes: int) -> Floats:
    """The vectors in the middle of equal parts, sorted by one feature."""
    order = np.argsort(vectors[:, feature], kind="stable")
    places = (2 * np.arange(classes) + 1) * len(vectors) // (2 * classes)
    return vectors[order[places]]


def _far_apart(vectors: Floats, classes: int) -> Floats:
    """The vector nearest to the mean, then always the one farthest from all that were taken."""
    place = int(np.argmin(_distances(vectors, class_means(vectors, np.zeros(len(vectors), np.int64), 1))[:, 0]))
    taken = [place]
    distances = _distances(vectors, vectors[[place]])[:, 0]
    while len(taken) < classes:
        place = int(np.argmax(distances))
        taken.append(place)
        distances = np.minimum(distances, _distances(vectors, vectors[[place]])[:, 0])
    return vectors[taken]


def _settle(vectors: Floats, means: Floats) -> tuple[float, NDArray[np.int64]]:
    ids = np.full(len(vectors), -1, np.int64)
    for _ in range(ROUNDS):
        distances = _distances(vectors, means)
        now = np.argmin(distances, axis=1)
        if (now == ids).all():
            break
        ids = now
        used = np.bincount(ids, minlength=len(means)) > 0
        means = np.where(used[:, None], class_means(vectors, ids, len(means)), means)
    distances = _distances(vectors, means)[np.arange(len(vectors)), ids]
    return float(np.add.accumulate(distances)[-1]), ids


def _distances(vectors: Floats, means: Floats) -> Floats:
    """float64 [n, classes]: squared, features added one after another."""
    found = np.zeros((len(vectors), len(means)))
    for feature in range(vectors.shape[1]):
        away = vectors[:, feature, None] - means[None, :, feature]
        found += away * away
    return found
