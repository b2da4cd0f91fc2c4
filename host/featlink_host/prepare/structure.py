"""The structure of a network around a tensor, for the deciders of adaptive quantization (source: [0196]-[0200])."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive.structure import BatchNorm, Connection, Structure, SumKind, Summation

from .graph import DataGraph

#: Operators that are no layers: the map behind them is the map before them.
TRANSPARENT = frozenset({"Cast", "Dropout", "Identity"})
#: Operators that are summations where they take more than one map; with a constant, Add is an offset summation.
SUMS = {
    "Add": SumKind.ADDITION,
    "Sum": SumKind.ADDITION,
    "Concat": SumKind.CONCATENATION,
}
#: Operators that exporters fuse batch normalisations into.
FUSABLE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Names that TensorFlow's and Keras' exporters keep of a batch normalisation that is gone.
_NAMED = re.compile(r"batch_?norm|fused_bn|(^|[/._:])bn\d*([/._:]|$)", re.IGNORECASE)
#: PyTorch's exporter gives weights new names when it fuses: onnx::Conv_497, older ones a bare number.
_RENAMED = re.compile(r"(onnx::Conv_)?\d+")


def read_structure(graph: DataGraph, tensor: str, fused_batch_norm: bool | None = None) -> Structure:
    """What stands around a tensor.

    Layers are the operators that work on data, `TRANSPARENT` ones left out, counted from 0 in the graph's order. A
    fused batch normalisation is told from the names of the producer's weights.

    :param fused_batch_norm: what the extractor says: the producer has a batch normalisation fused into it, or has
        none. None: nothing; the names tell
    :raises SettingsError: no such tensor, or the network's input
    """
    return _Reader(graph).read(tensor, fused_batch_norm)


@dataclass(frozen=True)
class _Layer:
    index: int
    node: onnx.NodeProto
    #: data inputs, as the tensors behind transparent operators
    inputs: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, graph: DataGraph) -> None:
        self.graph = graph
        self.data = {graph.input, *graph.tensors}
        #: of each data tensor: the one that it is the same as
        self.same: dict[str, str] = {graph.input: graph.input}
        self.layers: list[_Layer] = []
        self.maker: dict[str, _Layer] = {}
        #: of each weight: the operator that makes it
        self.weight_maker: dict[str, onnx.NodeProto] = {}
        self.weights = {one.name: one for one in graph.model.graph.initializer}
        for node in graph.model.graph.node:
            self._add(node)

    def read(self, tensor: str, fused_batch_norm: bool | None) -> Structure:
        if tensor == self.graph.input or tensor not in self.same:
            raise SettingsError(f"{self.graph.name}: found no operator that makes {tensor!r}, expected a map's name")
        whole = self.same[tensor]
        if whole == self.graph.input:
            raise SettingsError(f"{self.graph.name}: {tensor!r} is the network's input, expected a layer's output")
        layer = self.maker[whole]
        users = [user for user in self.layers if whole in user.inputs]
        sums = [one for one in (self._sum(user, whole) for user in users) if one is not None]
        crossing = [one for one in self.graph.crossing(tensor) if self.same.get(one) != whole]
        order = [self.graph.input, *self.graph.tensors]
        side_by_side = sorted([tensor, *crossing], key=order.index)
        is_norm = layer.node.op_type == "BatchNormalization"
        fused = not is_norm and self._has_fused(layer, fused_batch_norm)
        return Structure(
            producer=layer.node.op_type,
            consumers=tuple(user.node.op_type for user in users),
            layer_index=layer.index,
            layer_count=len(self.layers),
            connection=Connection.PARALLEL if crossing else Connection.SERIES,
            branch=side_by_side.index(tensor),
            branches=len(side_by_side),
            sums=tuple(sums),
            after_batch_norm=is_norm or fused,
            fused=fused,
            batch_norm=self._batch_norm(layer.node) if is_norm else None,
        )

    def _add(self, node: onnx.NodeProto) -> None:
        made = [one for one in node.output if one in self.data]
        if not made:
            self.weight_maker.update(dict.fromkeys(node.output, node))
            return
        inputs = [self.same[one] for one in node.input if one in self.same]
        if node.op_type in TRANSPARENT and inputs:
            self.same.update(dict.fromkeys(made, inputs[0]))
            return
        layer = _Layer(len(self.layers), node, inputs)
        self.layers.append(layer)
        self.same.update((one, one) for one in made)
        self.maker.update(dict.fromkeys(made, layer))

    def _sum(self, user: _Layer, tensor: str) -> Summation | None:
        kind = SUMS.get(user.node.op_type)
        if kind is None or len(user.inputs) < 2:
            return None
        others = list(user.inputs)
        others.remove(tensor)
        return Summation(kind, user.index, tuple(self.maker[one].index if one in self.maker else -1 for one in others))

    def _has_fused(self, layer: _Layer, told: bool | None) -> bool:
        if told is not None:
            return told
        if layer.node.op_type not in FUSABLE:
            return False
        names = [name for one in layer.node.input if one and one not in self.data for name in self._names(one)]
        if any(_NAMED.search(name) for name in names):
            return True
        renamed = [name for name in names if _RENAMED.fullmatch(name)]
        # One that was fused has a bias; other constants get bare numbers too, but a Conv's own weights keep theirs.
        return layer.node.op_type == "Conv" and len(layer.node.input) == 3 and len(renamed) == len(names)

    def _names(self, weight: str) -> list[str]:
        """The initializers that a weight is made of, by name."""
        maker = self.weight_maker.get(weight)
        if maker is None or not any(maker.input):
            return [weight]
        return [name for one in maker.input if one for name in self._names(one)]

    def _batch_norm(self, node: onnx.NodeProto) -> BatchNorm | None:
        values = [self._value(one) for one in node.input[1:5]]
        epsilon = next((float(one.f) for one in node.attribute if one.name == "epsilon"), 1e-5)
        if len(values) != 4 or any(one is None for one in values):
            return None
        scale, bias, mean, variance = (np.asarray(one, np.float32) for one in values)
        return BatchNorm(scale, bias, mean, variance, epsilon)

    def _value(self, weight: str) -> NDArray[np.generic] | None:
        """A weight's values, through transparent operators and constants; None: they are computed."""
        if weight in self.weights:
            return numpy_helper.to_array(self.weights[weight])
        maker = self.weight_maker.get(weight)
        if maker is None:
            return None
        if maker.op_type == "Constant":
            return next((numpy_helper.to_array(one.t) for one in maker.attribute if one.name == "value"), None)
        return self._value(maker.input[0]) if maker.op_type in TRANSPARENT else None
