"""Classes of blocks: cells of a map are classified, then a tree grows with leaves of one class ([0219], [0234])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError
from .block_tree import MAX_LEAVES, Box, Split, can_cut, cut
from .channel_features import logarithm, standardised
from .kmeans import kmeans
from .partition import BlockClasses

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockSettings:
    """How blocks are made.

    :param cell: (height, width, channels) of the cells that are classified
    :param parts: into how many parts a node may be cut: some of 2, 3, 4, 8
    :param minimum: elements of a leaf at least: smaller parts are not made
    :param maximum: and at most: larger leaves are cut, as long as their parts are not below the minimum; None: any
    :param mixed: the part of a leaf's elements that may be of other classes
    :raises SettingsError: anything out of range
    """

    cell: tuple[int, int, int] = (4, 4, 8)
    parts: tuple[int, ...] = (2, 3, 4, 8)
    minimum: int = 128
    maximum: int | None = None
    mixed: float = 0.1

    def __post_init__(self) -> None:
        if min(self.cell) < 1:
            raise SettingsError(f"cells of {list(self.cell)}, expected at least 1 each way")
        if not self.parts or not set(self.parts) <= {2, 3, 4, 8}:
            raise SettingsError(f"blocks cut into {list(self.parts)} parts, expected some of 2, 3, 4, 8")
        if self.minimum < 1 or (self.maximum is not None and self.maximum < self.minimum):
            raise SettingsError(f"blocks of {self.minimum} to {self.maximum} elements, expected them in order, from 1")
        if not 0 <= self.mixed < 1:
            raise SettingsError(f"mixed is {self.mixed}, expected 0 or above, below 1")


def classify_blocks(
    means: Floats, squares: Floats, classes: int, settings: BlockSettings | None = None
) -> BlockClasses:
    """A tree of blocks and their classes.

    Cells are classified by the logarithm of their variance. A node is a leaf when at most `mixed` of its elements are
    of other classes than most; otherwise it is cut in the way that leaves fewest, counting each leaf more as `minimum`
    times `mixed` elements. Cuts whose parts all end in one class are taken back.

    :param means: float64 [H, W, C], of each element over the maps that are known
    :param squares: float64 [H, W, C], of its square
    :param classes: K
    :raises SettingsError: K is not within 1 .. the number of cells
    """
    given = settings or BlockSettings()
    ids = _classified_cells(means, squares, classes, given.cell)
    grower = _Grower(ids, classes, given)
    height, width, channels = means.shape
    splits, leaves = grower.grow(((0, height), (0, width), (0, channels)), MAX_LEAVES)
    used = sorted(set(leaves))
    names = {one: place for place, one in enumerate(used)}
    return BlockClasses(np.array(splits, np.uint8), np.array([names[one] for one in leaves], np.uint8))


def _classified_cells(means: Floats, squares: Floats, classes: int, cell: Sequence[int]) -> NDArray[np.int64]:
    """int64 [H, W, C]: each element's cell's class."""
    starts = [np.arange(0, size, step) for size, step in zip(means.shape, cell, strict=True)]
    counts = np.ones(1)
    sums = [means, squares]
    for axis, start in enumerate(starts):
        sums = [np.add.reduceat(one, start, axis=axis) for one in sums]
        counts = np.multiply.outer(counts, np.diff(np.append(start, means.shape[axis])))
    size = counts[0]
    variances = np.maximum(sums[1] / size - (sums[0] / size) ** 2, 0.0)
    found = kmeans(standardised(logarithm(variances.reshape(-1))[:, None]), classes, "cells").reshape(size.shape)
    for axis, (length, step) in enumerate(zip(means.shape, cell, strict=True)):
        found = np.repeat(found, step, axis=axis).take(np.arange(length), axis=axis)
    return found


class _Grower:
    def __init__(self, ids: NDArray[np.int64], classes: int, settings: BlockSettings) -> None:
        self.settings = settings
        #: elements of each class in the corner below (h, w, c): int32 [H + 1, W + 1, C + 1, K]
        self.sums = np.zeros((*(n + 1 for n in ids.shape), classes), np.int32)
        for k in range(classes):
            inner = (ids == k).astype(np.int32)
            for axis in range(3):
                inner = np.cumsum(inner, axis=axis, dtype=np.int32)
            self.sums[1:, 1:, 1:, k] = inner
        self.ways = [split for split in Split if split.parts in settings.parts]
        self.price = settings.minimum * settings.mixed

    def counts(self, box: Box) -> NDArray[np.int32]:
        """Elements of each class in a box."""
        corners = self.sums[tuple(slice(start, stop + 1, stop - start) for start, stop in box)]
        for _ in box:
            corners = corners[1] - corners[0]
        return corners

    def grow(self, box: Box, room: int) -> tuple[list[int], list[int]]:
        """(splits, classes of leaves) of the tree under a box, in preorder, with at most `room` leaves."""
        counts = self.counts(box)
        size, own = int(counts.sum()), int(np.argmax(counts))
        leaf: tuple[list[int], list[int]] = [int(Split.LEAF)], [own]
        strangers = size - int(counts[own])
        too_large = self.settings.maximum is not None and size > self.settings.maximum
        if strangers <= self.settings.mixed * size and not too_large:
            return leaf
        best = self._best(box, room)
        if best is None:
            return leaf
        splits, leaves = [int(best)], list[int]()
        parts = cut(box, best)
        for part in parts:
            below = self.grow(part, room // len(parts))
            splits += below[0]
            leaves += below[1]
        # The same class everywhere: the cuts were for nothing, unless the leaf would be too large.
        return leaf if len(set(leaves)) == 1 and not too_large else (splits, leaves)

    def _best(self, box: Box, room: int) -> Split | None:
        found: tuple[float, Split] | None = None
        for way in self.ways:
            if way.parts > room or not can_cut(box, way):
                continue
            counts = [self.counts(part) for part in cut(box, way)]
            if min(int(one.sum()) for one in counts) < self.settings.minimum:
                continue
            left = sum(int(one.sum()) - int(one.max()) for one in counts) + self.price * (way.parts - 1)
            if found is None or left < found[0]:
                found = (left, way)
        return None if found is None else found[1]
