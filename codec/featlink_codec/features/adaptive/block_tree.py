"""Cuboids cut into blocks by a tree, and the class of a block predicted from its neighbours ([0219], [0234], [0235]).

The source says that blocks are cut into 2, 3, 4 or 8 parts and leaves open where; this is what we read:

    two parts     halves along one axis, the first the longer one where the length is odd
    three parts   a quarter, a half and a quarter along one axis
    four parts    halves along height and width, row by row
    eight parts   halves along all three: height slowest, channels fastest

Trees are written in preorder: a node before its parts, its parts in rising order of place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError

#: (start, stop) along height, width and channels.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

#: Leaves at most: ids of neighbours stay small, and so does a tree that somebody else wrote.
MAX_LEAVES = 65536


class Split(IntEnum):
    """What a node is: a leaf, or how it is cut."""

    LEAF = 0
    TWO_BY_HEIGHT = 1
    TWO_BY_WIDTH = 2
    TWO_BY_CHANNEL = 3
    THREE_BY_HEIGHT = 4
    THREE_BY_WIDTH = 5
    THREE_BY_CHANNEL = 6
    FOUR = 7
    EIGHT = 8

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are cut: 0 height, 1 width, 2 channels."""
        return _AXES[self]

    @property
    def parts(self) -> int:
        """How many parts there are: 0, 2, 3, 4 or 8."""
        return _PARTS[self]

    @property
    def shortest(self) -> int:
        """The least length of an axis that is cut, so that no part is empty."""
        return 3 if self.parts == 3 else 2


_AXES = dict(zip(Split, ((), *((k,) for k in (0, 1, 2) * 2), (0, 1), (0, 1, 2)), strict=True))
_PARTS = dict(zip(Split, (0, 2, 2, 2, 3, 3, 3, 4, 8), strict=True))


def can_cut(box: Box, split: Split) -> bool:
    """Whether no part would be empty."""
    return all(box[axis][1] - box[axis][0] >= split.shortest for axis in split.axes)


def cut(box: Box, split: Split) -> list[Box]:
    """The parts of a box, in the order of the tree."""
    spans = [_spans(*span, split.parts == 3) if axis in split.axes else [span] for axis, span in enumerate(box)]
    return [(h, w, c) for h, w, c in product(*spans)]


def leaf_count(splits: NDArray[np.uint8]) -> int:
    """How many leaves a tree in preorder has.

    :param splits: uint8 [nodes], each one a `Split`
    :raises SettingsError: no tree, more or less than one, or too many leaves
    """
    if splits.dtype != np.uint8 or splits.ndim != 1 or not splits.size:
        raise SettingsError(f"splits are {splits.dtype} {list(splits.shape)}, expected uint8 [nodes]")
    if splits.max() > max(Split):
        raise SettingsError(f"split {int(splits.max())} is not within 0..{int(max(Split))}")
    added = np.array([_PARTS[split] for split in Split], np.int64)[splits] - 1
    open_nodes = 1 + np.cumsum(added)
    if open_nodes[-1] != 0 or (open_nodes[:-1] <= 0).any():
        raise SettingsError(f"{splits.size} splits are not one tree in preorder")
    leaves = int((splits == Split.LEAF).sum())
    if leaves > MAX_LEAVES:
        raise SettingsError(f"a tree of {leaves} leaves, expected at most {MAX_LEAVES}")
    return leaves


def leaves_of(splits: NDArray[np.uint8], height: int, width: int, channels: int) -> list[Box]:
    """The boxes of a tree's leaves, in preorder. Together they are the map, and no two share an element.

    :raises SettingsError: a node is too small for its cut
    """
    return list(_walk(splits, ((0, height), (0, width), (0, channels))))


def neighbours_of(boxes: Sequence[Box]) -> NDArray[np.int32]:
    """int32 [leaves, 3]: the leaves to the left, above, and before in channels; -1 at the map's edge.

    A neighbour holds the element beside the leaf's first one. It always stands earlier in the tree.
    """
    shape = tuple(max(box[axis][1] for box in boxes) for axis in range(3))
    owner = np.full(shape, -1, np.int32)
    found = np.full((len(boxes), 3), -1, np.int32)
    for index, box in enumerate(boxes):
        h, w, c = (span[0] for span in box)
        if w:
            found[index, 0] = owner[h, w - 1, c]
        if h:
            found[index, 1] = owner[h - 1, w, c]
        if c:
            found[index, 2] = owner[h, w, c - 1]
        owner[tuple(slice(*span) for span in box)] = index
    return found


def predicted(ids: Sequence[int] | NDArray[np.uint8], neighbours: NDArray[np.int32]) -> int:
    """The class that a leaf's neighbours let expect.

    :param ids: of all leaves before it
    :param neighbours: int32 [3], the leaf's row of `neighbours_of`
    :returns: the middle one of three, the lower one of two, the only one, or 0
    """
    known = sorted(int(ids[k]) for k in neighbours.tolist() if k >= 0)
    return known[(len(known) - 1) // 2] if known else 0


def to_differences(ids: NDArray[np.uint8], neighbours: NDArray[np.int32], classes: int) -> NDArray[np.uint8]:
    """(id - prediction) modulo the number of classes, uint8 [leaves]."""
    return np.array(
        [(int(ids[k]) - predicted(ids, neighbours[k])) % classes for k in range(len(ids))],
        np.uint8,
    )


def from_differences(differences: NDArray[np.uint8], neighbours: NDArray[np.int32], classes: int) -> NDArray[np.uint8]:
    """The ids that `to_differences` took, uint8 [leaves]."""
    ids = np.zeros(len(differences), np.uint8)
    for k, difference in enumerate(differences.tolist()):
        ids[k] = (predicted(ids, neighbours[k]) + difference) % classes
    return ids


def _walk(splits: NDArray[np.uint8], whole: Box) -> Iterator[Box]:
    waiting = [whole]
    for place, value in enumerate(splits.tolist()):
        box, split = waiting.pop(), Split(value)
        if split is Split.LEAF:
            yield box
            continue
        if not can_cut(box, split):
            size = "x".join(str(stop - start) for start, stop in box)
            raise SettingsError(f"node {place} of {size} is too small for split {split.name.lower()}")
        waiting.extend(reversed(cut(box, split)))


def _spans(start: int, stop: int, three: bool) -> list[tuple[int, int]]:
    length = stop - start
    if three:
        quarter = max(1, length // 4)
        return [(start, start + quarter), (start + quarter, stop - quarter), (stop - quarter, stop)]
    middle = start + (length + 1) // 2
    return [(start, middle), (middle, stop)]
