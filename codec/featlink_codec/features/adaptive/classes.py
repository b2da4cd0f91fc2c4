"""Classes after clustering: merged and split by size, and how many bits each one gets ([0229], [0230], [0233])."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError
from .kmeans import class_means, in_order
from .partition import MAX_CLASSES

Floats = NDArray[np.float64]


def merge_and_split(
    vectors: Floats, ids: NDArray[np.int64], minimum: int = 1, maximum: int | None = None
) -> NDArray[np.int64]:
    """Merge classes that are too small with the nearest, then halve those that are too large.

    The smallest goes first, into the class whose mean is nearest. A class is halved in the order of the feature in
    which its members differ most. So every class ends within the bounds, unless all vectors are fewer than `minimum`.

    :param vectors: float64 [n, features]
    :param ids: int64 [n]
    :param minimum: members of a class at least
    :param maximum: and at most; None: any number
    :returns: int64 [n], numbered in the order in which classes first appear
    :raises SettingsError: bounds that leave no way to split, or more classes than the stream can say
    """
    if minimum < 1 or (maximum is not None and maximum + 1 < 2 * minimum):
        raise SettingsError(
            f"classes of {minimum} to {maximum}, expected a maximum of at least twice the minimum less 1"
        )
    ids = in_order(ids)
    while ids.max() > 0:
        sizes = np.bincount(ids)
        small = int(np.argmin(sizes))
        if sizes[small] >= minimum:
            break
        means = class_means(vectors, ids, len(sizes))
        distances = np.add.accumulate((means - means[small]) ** 2, axis=1)[:, -1]
        distances[small] = np.inf
        ids = in_order(np.where(ids == small, int(np.argmin(distances)), ids))
    while maximum is not None and np.bincount(ids).max() > maximum:
        large = int(np.argmax(np.bincount(ids)))
        ids = _halved(vectors, ids, large)
    if ids.max() >= MAX_CLASSES:
        raise SettingsError(f"{int(ids.max()) + 1} classes after splitting, expected at most {MAX_CLASSES}")
    return in_order(ids)


def allocate_depths(
    error_of: Callable[[int, int], float], counts: Sequence[int], budget: int, minimum: int = 2, maximum: int = 8
) -> list[int]:
    """Depths of classes for a number of bits: reverse water-filling in whole bits.

    Bits go one by one to the class where an element's bit takes away most of the error, from `minimum` for all, while
    the budget holds a bit for each element of that class; classes that no longer fit are passed over. So what is left
    is less than any class below `maximum` has elements. Where every bit takes away less than the one before, and all
    classes are of one size, nothing better exists. If one depth for all is better after all, it is that.

    :param error_of: (class, depth): mean squared error of the class at this depth; asked once for each
    :param counts: elements of each class in a map
    :param budget: bits for a map
    :param minimum: depth of every class at least, 1 to 16
    :param maximum: and at most: the map's depth
    :raises SettingsError: the budget is below the minimum's, or bounds are out of order
    """
    if not 1 <= minimum <= maximum <= 16:
        raise SettingsError(f"class depths of {minimum} to {maximum}, expected them in order and within 1..16")
    elements = sum(counts)
    left = budget - minimum * elements
    if left < 0:
        raise SettingsError(f"a budget of {budget} bits, expected at least {minimum * elements}: {minimum} each")
    known = cache(error_of)
    depths = [minimum] * len(counts)
    while True:
        gains = [
            (known(k, depths[k]) - known(k, depths[k] + 1), -k)
            for k, count in enumerate(counts)
            if depths[k] < maximum and count <= left
        ]
        if not gains:
            break
        best = -max(gains)[1]
        depths[best] += 1
        left -= counts[best]
    equal = [min(budget // elements, maximum)] * len(counts)
    if _total(known, counts, equal) < _total(known, counts, depths):
        return equal
    return depths


def _total(error_of: Callable[[int, int], float], counts: Sequence[int], depths: Sequence[int]) -> float:
    return math.fsum(count * error_of(k, depth) for k, (count, depth) in enumerate(zip(counts, depths, strict=True)))


def _halved(vectors: Floats, ids: NDArray[np.int64], one: int) -> NDArray[np.int64]:
    members = np.flatnonzero(ids == one)
    inside = vectors[members]
    reach = inside.max(axis=0) - inside.min(axis=0)
    order = np.argsort(inside[:, int(np.argmax(reach))], kind="stable")
    found = ids.copy()
    found[members[order[len(members) // 2 :]]] = ids.max() + 1
    return found
