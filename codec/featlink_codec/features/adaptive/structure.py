"""Where in a network a map comes from: what deciders know of its structure ([0106], [0155], [0198]-[0200])."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Connection(Enum):
    """Whether the map alone carries everything to the rest of the network, or others cross beside it ([0103])."""

    SERIES = "series"
    PARALLEL = "parallel"


class SumKind(Enum):
    """What a summation layer does: [0087], [0200]."""

    ADDITION = "addition"
    CONCATENATION = "concatenation"


@dataclass(frozen=True)
class Summation:
    """A layer that sums the map with others.

    :param kind: addition or concatenation
    :param layer_index: of the summation
    :param summed_with: indices of the layers that make the others, -1 for the network's input
    """

    kind: SumKind
    layer_index: int
    summed_with: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """Parameters of a batch normalisation: float32 [C] each.

    :param epsilon: what it adds to the variance
    """

    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    epsilon: float


@dataclass(frozen=True)
class Structure:
    """The network around a map.

    :param producer: the operator that makes it, in ONNX's names: "Conv"
    :param consumers: the operators that it goes into, in the network's order; none where it is an output
    :param layer_index: of the producer, from 0 in the network's order
    :param layer_count: how many layers there are
    :param connection: series or parallel
    :param branch: parallel: its place among the maps that cross side by side, in the network's order
    :param branches: how many maps cross
    :param sums: those of the consumers that are summations, in the network's order
    :param after_batch_norm: the producer is a batch normalisation, or has one fused into it
    :param fused: it is fused: the operator is another one
    :param batch_norm: its parameters, where they stand in the network
    """

    producer: str
    consumers: tuple[str, ...] = ()
    layer_index: int = 0
    layer_count: int = 1
    connection: Connection = Connection.SERIES
    branch: int = 0
    branches: int = 1
    sums: tuple[Summation, ...] = ()
    after_batch_norm: bool = False
    fused: bool = False
    batch_norm: BatchNorm | None = None

    @property
    def before_summation(self) -> bool:
        """Whether the next layer is a summation: all consumers are.

        [0098] has the signals in mind that are added to an earlier map: those go nowhere else. What is also the input
        of another layer is the earlier map itself.
        """
        return bool(self.sums) and len(self.sums) == len(self.consumers)
