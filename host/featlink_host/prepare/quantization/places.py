"""Where an integer network has levels: which tensors are quantized, with whose quantizer, and what stays float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import onnx
from onnx import TensorProto, numpy_helper

from featlink_codec.errors import SettingsError

from ..graph import DataGraph
from .layers import WeightLayer, weight_layers

Scope = Literal["all", "layers"]
#: Layers that onnxruntime computes in integers.
LAYERS = frozenset(("Conv", "Gemm", "MatMul"))
#: Operators on levels, whose result has a quantizer of its own.
MATH = frozenset(("Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "LeakyRelu"))
#: The same, but nothing is computed: where only outputs come after, levels would be of no use.
JOINS = frozenset(("Concat",))
#: Operators that only move or choose numbers: their result has the quantizer of what they work on.
KEEPS = frozenset(
    (
        "MaxPool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice",
        "Split", "Gather", "DepthToSpace", "SpaceToDepth", "Expand", "Tile",
    )
)  # fmt: skip
#: Operators whose 8-bit results are the same on every machine where all steps are powers of two, and never negative.
EXACT = LAYERS | KEEPS | JOINS | frozenset(("Add", "Sub", "Mul", "Relu", "Clip"))


@dataclass(frozen=True)
class Activation:
    """A ReLU or Clip that its layer's quantizer does: cutting off levels is the same as cutting off numbers.

    :param node: its place in the graph
    :param low: numbers below it become it; None: nothing is cut off
    :param high: the same above
    """

    node: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Places:
    """Where quantizers stand.

    :param layers: whose weights are integers, by the weights' name
    :param tensors: quantized ones in graph order, each with the tensor whose quantizer it has (itself, mostly)
    :param activations: by the tensor that the activation makes; the operator before it makes it then
    :param floats: operators that stay float, by the name of their first output: which kind they are
    """

    layers: dict[str, WeightLayer]
    tensors: dict[str, str]
    activations: dict[str, Activation]
    floats: dict[str, str] = field(default_factory=dict)

    @property
    def leaders(self) -> list[str]:
        """Tensors that need a quantizer."""
        return list(dict.fromkeys(self.tensors.values()))

    def readers(self, model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str, str | None]]:
        """Every operator that reads weights of a layer, the weights' name, and the leader of what they are applied to.

        :param model: that was looked through
        :returns: no leader: the operator works on floats
        """
        for node in model.graph.node:
            lead = next((self.tensors[one] for one in node.input if one in self.tensors), None)
            for name in self.layers.keys() & set(node.input):
                yield node, name, lead


def find_places(
    model: onnx.ModelProto, scope: Scope = "all", *, first_input: bool = False, outputs: bool = False
) -> Places:
    """Look through a folded network.

    :param scope: "all": everything that can be integer; "layers": only what goes into a layer with weights
    :param first_input: the network's input is quantized, too
    :param outputs: its outputs are, too
    :raises SettingsError: not one data input, or nothing to quantize
    """
    if scope not in ("all", "layers"):
        raise SettingsError(f"scope: found {scope!r}, expected one of all, layers")
    return _Search(model, scope, first_input, outputs).places()


class _Search:
    def __init__(self, model: onnx.ModelProto, scope: Scope, first_input: bool, outputs: bool) -> None:
        graph = model.graph
        self.graph, self.scope, self.outputs = graph, scope, outputs
        data = DataGraph(model)
        self.input, self.first_input = data.input, first_input
        self.data = {data.input, *data.tensors}
        self.types = {name: data.type_of(name).dtype for name in self.data}
        self.constants = {one.name: one for one in graph.initializer}
        self.readers: dict[str, list[int]] = {}
        for number, node in enumerate(graph.node):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(number)
        self.results = {one.name for one in graph.output}
        found, _ = weight_layers(model)
        self.layers = {
            name: layer
            for name, layer in found.items()
            if layer.operator in LAYERS and layer.source in self.constants and layer.axis is not None
        }
        self.layer_nodes = {
            number
            for layer in self.layers.values()
            for number in self.readers[layer.name]
            if graph.node[number].op_type == layer.operator
        }
        self.activations = self._activations()
        self.fused = {one.node: name for name, one in self.activations.items()}

    def places(self) -> Places:
        useful = self._useful()
        tensors: dict[str, str] = {}
        if self._first_is_taken():
            tensors[self.input] = self.input
        for number, node in enumerate(self.graph.node):
            if number in self.fused or not any(name in self.data for name in node.output):
                continue
            for out in [name for name in node.output if name in self.data]:
                # What the activation behind it makes, where there is one.
                made = next((name for name, one in self.activations.items() if self._before(one) == out), out)
                if self.types.get(made) == "float32" and (made in useful or (self.outputs and made in self.results)):
                    lead = tensors.get(node.input[0]) if node.op_type in KEEPS else None
                    tensors[made] = lead if lead is not None else made
        if not self.layers:
            raise SettingsError("found no convolution, Gemm or MatMul with constant weights: nothing to quantize")
        # Each needs a tensor in levels at its end, or it would only be rounded.
        kept = {name: one for name, one in self.activations.items() if name in tensors}
        return Places(self.layers, tensors, kept, self._floats(tensors))

    def _first_is_taken(self) -> bool:
        return self.first_input and self.types.get(self.input) == "float32"

    def _before(self, activation: Activation) -> str:
        return str(self.graph.node[activation.node].input[0])

    def _useful(self) -> set[str]:
        """Tensors from which a layer (or another operator on levels) takes something, maybe through others."""
        useful: set[str] = set()
        for number in reversed(range(len(self.graph.node))):
            node = self.graph.node[number]
            onward = any(name in useful for name in node.output)
            if number in self.layer_nodes:
                taken = [name for name in node.input if name in self.data and name not in self.layers]
            elif self.scope == "all" and node.op_type in MATH and number not in self.fused:
                # A sum that only outputs come after is a sum of floats.
                taken = [name for name in node.input if name in self.data] if onward or self._feeds(node) else []
            elif node.op_type in KEEPS and onward:
                taken = [node.input[0]] if self.scope == "all" else []
            elif node.op_type in JOINS and onward:
                taken = [name for name in node.input if name in self.data] if self.scope == "all" else []
            else:
                taken = []
            useful.update(taken)
        return useful if self.first_input else useful - self._untouched()

    def _untouched(self) -> set[str]:
        """The input, and what only moves its numbers: what the first layer works on."""
        found = {self.input}
        for node in self.graph.node:
            if node.op_type in KEEPS and node.input[0] in found:
                found.update(node.output)
        return found

    def _feeds(self, node: onnx.NodeProto) -> bool:
        """Whether a quantized output of the network comes out of it."""
        return self.outputs and any(name in self.results for name in node.output)

    def _activations(self) -> dict[str, Activation]:
        """ReLU and Clip behind an operator that nothing else reads."""
        found: dict[str, Activation] = {}
        makers = {name: node for node in self.graph.node for name in node.output}
        for number, node in enumerate(self.graph.node):
            if node.op_type not in ("Relu", "Clip") or node.input[0] not in makers:
                continue
            given = node.input[0]
            maker = makers[given]
            alone = self.readers[given] == [number] and given not in self.results
            if alone and maker.op_type in LAYERS | {"Add", "Sub", "Mul"} and given in self.data:
                bounds = (0.0, None) if node.op_type == "Relu" else self._bounds(node)
                if bounds is not None:
                    found[node.output[0]] = Activation(number, *bounds)
        return found

    def _bounds(self, node: onnx.NodeProto) -> tuple[float | None, float | None] | None:
        """Of a Clip; None where they are no constants."""
        held: list[float | None] = []
        for place in (1, 2):
            name = node.input[place] if len(node.input) > place else ""
            if name and name not in self.constants:
                return None
            held.append(float(numpy_helper.to_array(self.constants[name]).reshape(())) if name else None)
        return held[0], held[1]

    def _floats(self, tensors: dict[str, str]) -> dict[str, str]:
        """Operators on data that work on floats: those of other kinds, and those that no levels go into."""
        found: dict[str, str] = {}
        for number, node in enumerate(self.graph.node):
            name = next((one for one in node.output if one in self.data), "")
            if not name or number in self.fused:
                continue
            known = node.op_type in MATH | KEEPS | JOINS or number in self.layer_nodes
            given = [one for one in node.input if one in self.data]
            made = next((one for one, act in self.activations.items() if self._before(act) == name), name)
            whole = known and all(one in tensors for one in given) and made in tensors
            if not whole and not (node.op_type in KEEPS and self.types.get(name) != "float32"):
                found[name] = node.op_type
        return found


def constant_floats(model: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """Constants that a sum or product adds to data, float32."""
    types = {one.name: one.data_type for one in model.graph.initializer}
    if node.op_type not in ("Add", "Sub", "Mul"):
        return []
    return [name for name in node.input if types.get(name) == TensorProto.FLOAT]
