"""Coding orders: how a tensor's parameters are arranged before they are coded, and put back after (aspect 1)."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError


class OrderKind(enum.Enum):
    """Orders that need a word in the control data. NNC's own block scan is `scan_order` instead."""

    #: Row by row of the two-dimensional view: the default.
    ROW = "row"
    #: Column by column.
    COLUMN = "column"
    #: Square blocks row by row, each row by row in itself; blocks at the edges are smaller.
    BLOCKED = "blocked"
    #: Along the diagonals from the top left to the bottom right, back and forth.
    DIAGONAL = "diagonal"
    #: Row by row, the rows (neurons) permuted.
    NEURONS = "neurons"


@dataclass(frozen=True)
class Order:
    """How the two-dimensional view [rows, columns] of a tensor is arranged in the stream.

    :param block: side of the blocks; only for BLOCKED
    :param permutation: the row that stands at each place in the stream; only for NEURONS
    """

    kind: OrderKind = OrderKind.ROW
    block: int = 0
    permutation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is OrderKind.BLOCKED) != (self.block > 0):
            raise SettingsError(f"order {self.kind.value} with blocks of {self.block}")
        if (self.kind is OrderKind.NEURONS) != bool(self.permutation):
            raise SettingsError(f"order {self.kind.value} with a permutation of {len(self.permutation)}")
        if sorted(self.permutation) != list(range(len(self.permutation))):
            raise SettingsError("not a permutation of the rows")

    def arrange(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The tensor as it goes into the stream; its dimensions may be others.

        :raises SettingsError: the permutation is of another number of rows
        """
        if self.kind is OrderKind.ROW:
            return tensor
        if self.kind is OrderKind.NEURONS:
            self._check_rows(tensor.shape[0])
            return cast(NDArray[Any], tensor[np.array(self.permutation)])
        view = tensor.reshape(tensor.shape[0], -1)
        if self.kind is OrderKind.COLUMN:
            return np.ascontiguousarray(view.T)
        places = self._places(*view.shape)
        return cast(NDArray[Any], view.reshape(-1)[places].reshape(view.shape))

    def restore(self, stored: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor of the given shape that `arrange` made `stored` of.

        :raises SettingsError: it cannot have been made of such a tensor
        """
        if math.prod(shape) != stored.size:
            raise SettingsError(f"{stored.size} elements for a tensor of shape {list(shape)}")
        if self.kind is OrderKind.ROW:
            return stored.reshape(shape)
        if not shape:
            raise SettingsError(f"order {self.kind.value} for a single number")
        result = np.empty_like(stored).reshape(shape)
        rows = shape[0]
        if self.kind is OrderKind.NEURONS:
            self._check_rows(rows)
            result[np.array(self.permutation)] = stored.reshape(shape)
        elif self.kind is OrderKind.COLUMN:
            result.reshape(rows, -1)[...] = stored.reshape(-1, rows).T
        else:
            result.reshape(-1)[self._places(rows, stored.size // rows)] = stored.reshape(-1)
        return result

    def _check_rows(self, rows: int) -> None:
        if len(self.permutation) != rows:
            raise SettingsError(f"a permutation of {len(self.permutation)} rows for a tensor of {rows}")

    def _places(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Which element of the row-major view stands at each place in the stream."""
        places = np.arange(rows * columns).reshape(rows, columns)
        if self.kind is OrderKind.BLOCKED:
            side = self.block
            blocks = [
                places[y : y + side, x : x + side].reshape(-1)
                for y in range(0, rows, side)
                for x in range(0, columns, side)
            ]
            return np.concatenate(blocks)
        # Sorted by diagonal; on even ones upwards, on odd ones downwards.
        y, x = np.divmod(places.reshape(-1), columns)
        diagonal = y + x
        return np.lexsort((np.where(diagonal % 2, y, x), diagonal))


def monotone(tensor: NDArray[Any]) -> Order:
    """The order in which the rows' means rise, so that parameters change steadily along it."""
    means = tensor.reshape(tensor.shape[0], -1).mean(axis=1, dtype=np.float64)
    return Order(OrderKind.NEURONS, permutation=tuple(np.argsort(means, kind="stable").tolist()))
