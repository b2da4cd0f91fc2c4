"""What is known while a graph is followed: the channels of its tensors, and how an operator's inputs are read."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray

from ..graph import DataGraph
from .channels import Ids, Ledger, Slice
from .weights import Weights, reads


class Unfollowed(Exception):  # noqa: N818 (not an error: what it says goes into the report)
    """An operator whose channels cannot be followed, and why."""


class Following:
    """The state of it, and what rules for operators need.

    :param model: the network, left as it is
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.used = {name for node in model.graph.node for name in reads(node)}
        self.used.update(value.name for value in model.graph.output)
        self.weights = Weights(model)
        self.types = DataGraph(model)
        self.ledger = Ledger()
        self.ids: dict[str, Ids] = {}
        self.slices: list[Slice] = []
        self.depthwise: dict[str, Ids] = {}
        self.reshaped: dict[str, tuple[int, Ids]] = {}
        self.rank: dict[str, int] = {}
        initializers = {tensor.name for tensor in model.graph.initializer}
        #: what depends on the network's inputs
        self.data = {value.name for value in model.graph.input if value.name not in initializers}

    def _shape(self, name: str) -> tuple[int | None, ...]:
        shape = self.types.type_of(name).shape
        if shape is None:
            raise Unfollowed(f"reads {name}, whose shape is unknown")
        return shape

    def _read(self, name: str) -> Ids:
        """The channels of a tensor; those of one that was not followed have to stay."""
        if name not in self.ids:
            shape = self._shape(name)
            if len(shape) < 2 or shape[1] is None:
                raise Unfollowed(f"reads {name}, whose channels are unknown")
            found = self.ledger.new(shape[1], "")
            self.ledger.keep(found, f"{name} was not followed")
            self.ids[name], self.rank[name] = found, len(shape)
        return self.ids[name]

    def _constant(self, node: onnx.NodeProto, position: int) -> NDArray[Any]:
        name = node.input[position] if position < len(node.input) else ""
        found = self.weights.values(name) if name else None
        if found is None:
            raise Unfollowed(f"has no constant {name or f'input {position}'}")
        return found

    def _slice(self, node: onnx.NodeProto, position: int, axis: int, ids: Ids, role: str) -> None:
        self.slices.append(Slice(node.output[0], position, axis, ids, role))

    def _rank_after(self, node: onnx.NodeProto) -> int:
        shape = self.types.type_of(node.output[0]).shape
        return len(shape) if shape is not None else self.rank.get(node.input[0], 2)
