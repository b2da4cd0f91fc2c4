"""Which class each element of a map is of: one for all, by channel, by region, or by block ([0208], [0229]-[0235])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError
from .block_tree import leaf_count, leaves_of
from .parameters import ClassParameters

#: Classes at most: class_count_minus1 is u(8).
MAX_CLASSES = 256

Ids = NDArray[np.uint8]


class PartitionKind(IntEnum):
    """`partition_kind`, u(2) in the stream."""

    WHOLE = 0
    CHANNEL = 1
    REGION = 2
    BLOCK = 3


@dataclass(frozen=True, eq=False)
class Whole:
    """One class for all."""

    kind: ClassVar[PartitionKind] = PartitionKind.WHOLE

    @property
    def class_count(self) -> int:
        """1."""
        return 1

    def ids_of(self, height: int, width: int, channels: int) -> Ids:
        """uint8 [1, 1, 1], zero."""
        return np.zeros((1, 1, 1), np.uint8)

    def check(self, height: int, width: int, channels: int, classes: int) -> None:
        """Refuse any number of classes but one.

        :raises SettingsError: another number
        """
        _check_classes(self, classes)


@dataclass(frozen=True, eq=False)
class ChannelClasses:
    """A class for each channel.

    :param ids: uint8 [C]
    :raises SettingsError: another type or shape
    """

    ids: Ids
    kind: ClassVar[PartitionKind] = PartitionKind.CHANNEL

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _checked(self.ids, 1, "channels"))

    @property
    def class_count(self) -> int:
        """One more than the highest id."""
        return int(self.ids.max()) + 1

    def ids_of(self, height: int, width: int, channels: int) -> Ids:
        """uint8 [1, 1, C].

        :raises SettingsError: the map has another number of channels
        """
        if self.ids.size != channels:
            raise SettingsError(f"the class map covers {self.ids.size} channels, the map has {channels}")
        return self.ids[None, None, :]

    def check(self, height: int, width: int, channels: int, classes: int) -> None:
        """Refuse maps that it does not cover, and classes that do not exist.

        :raises SettingsError: another number of channels, an id not below `classes`, or more classes than channels
        """
        self.ids_of(height, width, channels)
        if classes > channels:
            raise SettingsError(f"{classes} channel classes, but the map has {channels} channels")
        _check_classes(self, classes)


@dataclass(frozen=True, eq=False)
class RegionClasses:
    """A class for each position, shared by all channels.

    :param ids: uint8 [H, W]
    :raises SettingsError: another type or shape
    """

    ids: Ids
    kind: ClassVar[PartitionKind] = PartitionKind.REGION

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _checked(self.ids, 2, "height, width"))

    @property
    def class_count(self) -> int:
        """One more than the highest id."""
        return int(self.ids.max()) + 1

    def ids_of(self, height: int, width: int, channels: int) -> Ids:
        """uint8 [H, W, 1].

        :raises SettingsError: the map has another size
        """
        if self.ids.shape != (height, width):
            covered = "x".join(map(str, self.ids.shape))
            raise SettingsError(f"the class map covers {covered} positions, the map has {height}x{width}")
        return self.ids[:, :, None]

    def check(self, height: int, width: int, channels: int, classes: int) -> None:
        """Refuse maps that it does not cover, and classes that do not exist.

        :raises SettingsError: another size, or an id not below `classes`
        """
        self.ids_of(height, width, channels)
        _check_classes(self, classes)


@dataclass(frozen=True, eq=False)
class BlockClasses:
    """A class for each leaf of a tree of cuts through [H, W, C].

    :param splits: uint8 [nodes], `Split` of each node in preorder
    :param ids: uint8 [leaves], in the same order
    :raises SettingsError: no tree, or not as many ids as leaves
    """

    splits: NDArray[np.uint8]
    ids: Ids
    kind: ClassVar[PartitionKind] = PartitionKind.BLOCK

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", _frozen(np.asarray(self.splits)))
        object.__setattr__(self, "ids", _checked(self.ids, 1, "leaves"))
        leaves = leaf_count(self.splits)
        if leaves != self.ids.size:
            raise SettingsError(f"the class map covers {self.ids.size} leaves, the tree has {leaves}")

    @property
    def class_count(self) -> int:
        """One more than the highest id."""
        return int(self.ids.max()) + 1

    def ids_of(self, height: int, width: int, channels: int) -> Ids:
        """uint8 [H, W, C].

        :raises SettingsError: a node of the tree is too small for its cut
        """
        ids = np.empty((height, width, channels), np.uint8)
        for box, one in zip(leaves_of(self.splits, height, width, channels), self.ids.tolist(), strict=True):
            ids[tuple(slice(*span) for span in box)] = one
        return ids

    def check(self, height: int, width: int, channels: int, classes: int) -> None:
        """Refuse maps that it does not cover, and classes that do not exist.

        :raises SettingsError: a node too small for its cut, or an id not below `classes`
        """
        leaves_of(self.splits, height, width, channels)
        _check_classes(self, classes)


Partition: TypeAlias = Whole | ChannelClasses | RegionClasses | BlockClasses


def check_classes(
    partition: Partition, classes: Sequence[ClassParameters], height: int, width: int, channels: int, bit_depth: int
) -> None:
    """Refuse classes and a class map that a map cannot have.

    :param bit_depth: of the map
    :raises SettingsError: see each partition's `check`; a class deeper than the map
    """
    partition.check(height, width, channels, len(classes))
    for place, one in enumerate(classes):
        if one.bit_depth > bit_depth:
            raise SettingsError(f"class {place} has depth {one.bit_depth}, above the map's {bit_depth}")


def _check_classes(partition: Partition, classes: int) -> None:
    if not 1 <= classes <= MAX_CLASSES:
        raise SettingsError(f"{classes} classes, expected 1..{MAX_CLASSES}")
    if isinstance(partition, Whole) and classes != 1:
        raise SettingsError(f"{classes} classes for a map that is one, expected 1")
    if partition.class_count > classes:
        raise SettingsError(f"class id {partition.class_count - 1} where there are {classes} classes")


def _checked(ids: Ids, dimensions: int, axes: str) -> Ids:
    array = np.asarray(ids)
    if array.dtype != np.uint8 or array.ndim != dimensions or not array.size:
        raise SettingsError(f"class ids are {array.dtype} {list(array.shape)}, expected uint8 [{axes}]")
    return _frozen(array)


def _frozen(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    copy = array.copy()
    copy.setflags(write=False)
    return copy
