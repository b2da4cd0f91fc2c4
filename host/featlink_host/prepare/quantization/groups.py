"""Groups of weights that share a scale: a tensor, an output channel, or so many inputs of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

#: Who shares a scale; a number: so many consecutive inputs of an output channel.
GroupKind = Literal["tensor", "channel"] | int


@dataclass(frozen=True)
class Groups:
    """How a matrix of weights [output channels, weights of each] falls into groups.

    :param rows: output channels
    :param columns: weights of each
    :raises SettingsError: blocks of no inputs
    """

    kind: GroupKind
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.kind not in ("tensor", "channel") and (not isinstance(self.kind, int) or self.kind < 1):
            raise SettingsError(f"groups {self.kind!r}, expected tensor, channel, or a number of inputs from 1 up")

    @property
    def block(self) -> int:
        """Weights of one output channel in a group, padding of the last one included."""
        return min(self.kind, self.columns) if isinstance(self.kind, int) else self.columns

    @property
    def blocks(self) -> int:
        """Groups that an output channel falls into."""
        return -(-self.columns // self.block)

    @property
    def count(self) -> int:
        """Groups, and scales."""
        return 1 if self.kind == "tensor" else self.rows * self.blocks

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """[groups, weights]: false where a weight is only padding; None where there is none."""
        if self.kind == "tensor" or self.blocks * self.block == self.columns:
            return None
        return self.split(np.ones((self.rows, self.columns), np.bool_))

    def split(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """[groups, weights]; a last block that is not full is padded with zeros."""
        if self.kind == "tensor":
            return matrix.reshape(1, -1)
        padding = self.blocks * self.block - self.columns
        return np.pad(matrix, ((0, 0), (0, padding))).reshape(self.count, self.block)

    def join(self, groups: NDArray[Any]) -> NDArray[Any]:
        """The matrix of groups again, without padding."""
        if self.kind == "tensor":
            return groups.reshape(self.rows, self.columns)
        return groups.reshape(self.rows, -1)[:, : self.columns]

    def spread(self, scales: NDArray[Any]) -> NDArray[Any]:
        """Each weight's scale, [rows, columns] or what broadcasts to it."""
        if self.kind == "tensor":
            return scales.reshape(1, 1)
        return np.repeat(scales.reshape(self.rows, self.blocks), self.block, axis=1)[:, : self.columns]
