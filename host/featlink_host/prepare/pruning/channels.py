"""Which channels of a network stand and fall together: what makes them, what reads them, what lies beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Units = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slice:
    """An axis of a constant that runs along channels.

    :param node: first output of the node that uses the constant
    :param position: of the node's inputs
    :param axis: of the constant
    :param ids: of each place on the axis: its channel; after a flattened map a channel has several places
    :param role: "makes" channels, "reads" them, or lies "beside" them
    """

    node: str
    position: int
    axis: int
    ids: Ids
    role: str


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that depend on each other.

    :param name: the first layer that makes them
    :param makers: all layers that make them
    :param readers: the layers that read them and lose inputs
    :param units: what can be taken out: a unit is a channel with all that are tied to it
    :param kept: units that have to stay
    :param why: what they have to stay for, each reason once
    :param blocks: of each maker: its units; a layer keeps at least one channel
    """

    name: str
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    units: Units
    kept: Units
    why: tuple[str, ...]
    blocks: tuple[Units, ...]


@dataclass(frozen=True, eq=False)
class Channels:
    """All channels of a network.

    :param unit_of: of each channel: its unit
    :param slices: what has to be cut when channels go
    :param depthwise: of each depthwise convolution: the channels that it reads
    :param reshaped: of each Reshape that says how many channels there are: which axis, and the channels
    :param groups: in the order of the graph
    :param rank: of each tensor that is read: its axes
    """

    unit_of: Units
    slices: tuple[Slice, ...]
    depthwise: dict[str, Ids]
    reshaped: dict[str, tuple[int, Ids]]
    groups: tuple[Group, ...]
    rank: dict[str, int]

    def gone(self, removed: Collection[int] | Units) -> NDArray[np.bool_]:
        """Of each channel: whether it goes with these units."""
        found: NDArray[np.bool_] = np.isin(self.unit_of, np.asarray(list(removed), np.int64))
        return found

    @property
    def whole(self) -> dict[str, str]:
        """Groups that nothing can be taken out of, and why."""
        return {group.name: "; ".join(group.why) for group in self.groups if not len(group.units)}


class Ledger:
    """Channels while a graph is gone through: new ones, ties between them, and those that have to stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._block: list[int] = []
        self._reasons: dict[int, list[str]] = {}
        #: of each block of channels that were made together: the layer's name, empty where nobody knows it
        self.blocks: list[str] = []

    def new(self, count: int, maker: str) -> Ids:
        """Channels that a layer makes."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        self._block += [len(self.blocks)] * count
        self.blocks.append(maker)
        return np.arange(first, first + count)

    def tie(self, one: Ids, other: Ids) -> None:
        """Channels at the same places are one."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            first, second = sorted((self.root(a), self.root(b)))
            self._parent[second] = first

    def keep(self, ids: Ids, why: str) -> None:
        """Channels that have to stay."""
        for one in set(ids.tolist()):
            reasons = self._reasons.setdefault(one, [])
            if why not in reasons:
                reasons.append(why)

    def root(self, one: int) -> int:
        """The channel that stands for all that are tied to one."""
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def units(self) -> Units:
        """Of each channel: its unit."""
        return np.array([self.root(one) for one in range(len(self._parent))], np.int64)

    def groups(self, slices: Sequence[Slice]) -> tuple[Group, ...]:
        """Blocks with common units, as groups in the order of the graph."""
        unit_of, block_of = self.units(), np.array(self._block, np.int64)
        component = list(range(len(self.blocks)))

        def top(block: int) -> int:
            while component[block] != block:
                block = component[block]
            return block

        first_block: dict[int, int] = {}
        for unit, block in zip(unit_of.tolist(), block_of.tolist(), strict=True):
            low, high = sorted((top(first_block.setdefault(unit, block)), top(block)))
            component[high] = low
        reasons: dict[int, list[str]] = {}
        for one, why in self._reasons.items():
            reasons.setdefault(int(unit_of[one]), []).extend(why)
        readers: dict[int, dict[str, None]] = {}
        for cut in slices:
            if cut.role == "reads":
                for unit in np.unique(unit_of[cut.ids]).tolist():
                    readers.setdefault(top(first_block[unit]), {})[cut.node] = None
        members: dict[int, list[int]] = {}
        for block in range(len(self.blocks)):
            members.setdefault(top(block), []).append(block)
        found = []
        for first, blocks in sorted(members.items()):
            makers = tuple(dict.fromkeys(self.blocks[block] for block in blocks if self.blocks[block]))
            if not makers:
                continue
            units = np.unique(unit_of[np.isin(block_of, blocks)])
            stuck = np.array([int(unit) in reasons for unit in units], bool)
            found.append(
                Group(
                    makers[0],
                    makers,
                    tuple(readers.get(first, {})),
                    units[~stuck],
                    units[stuck],
                    tuple(dict.fromkeys(why for unit in units[stuck].tolist() for why in reasons[unit])),
                    tuple(np.unique(unit_of[block_of == block]) for block in blocks),
                )
            )
        return tuple(found)
