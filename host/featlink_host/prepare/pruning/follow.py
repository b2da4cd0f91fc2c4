"""Follows channels through a graph, operator by operator; what is not known here keeps its channels, and is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..graph import DataGraph
from .channels import Channels, Ids, Ledger, Slice
from .weights import Weights, attributes_of, label_of, reads

#: One input or more of one shape, the same channels come out.
_PASS = frozenset(
    (
        *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Softplus", "Softsign", "Gelu", "Mish", "Clip", "Abs", "Neg", "Exp", "Sqrt", "Identity", "Dropout", "Cast"),
        *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
    )
)
_ELEMENTWISE = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu"])
_REDUCE = frozenset(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"])


class Unfollowed(Exception):  # noqa: N818 (not an error: what it says goes into the report)
    """An operator whose channels cannot be followed, and why."""


def channels_of(model: onnx.ModelProto) -> Channels:
    """The channels of a network, axis 1 of its tensors.

    Convolutions (grouped ones only depthwise), products with a constant matrix, normalisations, activations, pooling,
    sums and products of maps, concatenations along channels, and flattening are followed.

    :raises SettingsError: the network has not exactly one data input
    """
    return _Follower(model).run()


class _Follower:
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
        rules: dict[str, Callable[[onnx.NodeProto], Ids]] = {
            "Conv": self._conv,
            "ConvTranspose": self._conv,
            "Gemm": self._product,
            "MatMul": self._product,
            "BatchNormalization": self._normalise,
            "InstanceNormalization": self._normalise,
            "Concat": self._concat,
            "Flatten": self._flatten,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Unsqueeze": self._squeeze,
            "Pad": self._pad,
            "Resize": self._resize,
            "Upsample": self._resize,
        }
        rules.update(dict.fromkeys(_PASS, self._pass))
        rules.update(dict.fromkeys(_ELEMENTWISE, self._elementwise))
        rules.update(dict.fromkeys(_REDUCE, self._reduce))
        self.rules = rules

    def run(self) -> Channels:
        for node in self.model.graph.node:
            read = [name for name in reads(node) if name in self.data]
            if not read:
                # What cannot be computed here is no constant to us, although nothing depends on the input.
                self.data.update(name for name in node.output if name and self.weights.values(name) is None)
                continue
            self.data.update(name for name in node.output if name)
            rule = self.rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            try:
                if rule is None:
                    raise Unfollowed("is not followed")
                if any(name in self.data for name in reads(node) if name not in node.input):
                    raise Unfollowed("has subgraphs")
                if self.used.intersection(node.output[1:]):
                    raise Unfollowed("has several results")
                made = rule(node)
                self.ids[node.output[0]] = made
                self.rank[node.output[0]] = self._rank_after(node)
            except Unfollowed as why:
                for name in read:
                    if name in self.ids:
                        self.ledger.keep(self.ids[name], f"{node.op_type} {label_of(node)} {why}")
        for value in self.model.graph.output:
            if value.name in self.ids:
                self.ledger.keep(self.ids[value.name], f"{value.name} is an output of the network")
        rank = {node.output[0]: self.rank.get(node.input[0], 2) for node in self.model.graph.node if node.input}
        groups = self.ledger.groups(self.slices)
        return Channels(self.ledger.units(), tuple(self.slices), self.depthwise, self.reshaped, groups, rank)

    # What an operator reads

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

    # Rules: from a node to the channels of its first output

    def _pass(self, node: onnx.NodeProto) -> Ids:
        return self._read(node.input[0])

    def _conv(self, node: onnx.NodeProto) -> Ids:
        weight = self._constant(node, 1)
        if weight.dtype.kind != "f":
            raise Unfollowed(f"has weights of {weight.dtype}")
        groups = attributes_of(node).get("group", 1)
        has_bias = len(node.input) > 2 and node.input[2] != ""
        if has_bias:
            self._constant(node, 2)
        if groups == 1:
            into, out = (0, 1) if node.op_type == "ConvTranspose" else (1, 0)
            read = self.ids.get(node.input[0])
            if read is not None:
                self._slice(node, 1, into, read, "reads")
            made = self.ledger.new(weight.shape[out], label_of(node))
            self._slice(node, 1, out, made, "makes")
        elif node.op_type == "Conv" and weight.shape[1] == 1:
            read = self._read(node.input[0])
            made = np.repeat(read, weight.shape[0] // groups)
            self._slice(node, 1, 0, made, "beside")
            self.depthwise[node.output[0]] = read
        else:
            raise Unfollowed(f"has {groups} groups of several channels")
        if has_bias:
            self._slice(node, 2, 0, made, "beside")
        return made

    def _product(self, node: onnx.NodeProto) -> Ids:
        weight = self._constant(node, 1)
        attributes = attributes_of(node)
        if weight.dtype.kind != "f" or weight.ndim != 2 or attributes.get("transA", 0):
            raise Unfollowed("is no product with a constant matrix on the right")
        if node.input[0] in self.ids and self.rank[node.input[0]] != 2:
            raise Unfollowed("has another axis than channels multiplied")
        if len(self._shape(node.input[0])) != 2:
            raise Unfollowed("multiplies more than a vector a sample")
        into, out = (1, 0) if attributes.get("transB", 0) else (0, 1)
        bias = None
        if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
            bias = self._constant(node, 2)
        read = self.ids.get(node.input[0])
        if read is not None:
            self._slice(node, 1, into, read, "reads")
        made = self.ledger.new(weight.shape[out], label_of(node))
        self._slice(node, 1, out, made, "makes")
        if bias is not None and bias.ndim and bias.shape[-1] != 1:
            self._slice(node, 2, bias.ndim - 1, made, "beside")
        return made

    def _normalise(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        constants = range(1, 5 if node.op_type == "BatchNormalization" else 3)
        for position in constants:
            self._constant(node, position)
        for position in constants:
            self._slice(node, position, 0, read, "beside")
        return read

    def _elementwise(self, node: onnx.NodeProto) -> Ids:
        names = list(node.input)
        maps = [name for name in names if self.weights.values(name) is None]
        known = [self._read(name) for name in maps]
        rank = {self.rank[name] for name in maps}
        if len(rank) != 1:
            raise Unfollowed("joins tensors of different ranks")
        axes = rank.pop()
        wide = max(known, key=len)
        cuts = []
        for position, name in enumerate(names):
            values = self.weights.values(name)
            if values is None:
                continue
            axis = values.ndim - axes + 1
            if values.ndim > axes or (axis >= 0 and values.shape[axis] not in (1, len(wide))):
                raise Unfollowed(f"has a constant of shape {list(values.shape)}")
            if axis >= 0 and values.shape[axis] > 1:
                cuts.append((position, axis))
        if any(len(one) not in (1, len(wide)) for one in known):
            raise Unfollowed("joins different numbers of channels")
        for one in known:
            if len(one) == len(wide):
                self.ledger.tie(one, wide)
            else:
                self.ledger.keep(one, f"{node.op_type} {label_of(node)} spreads it over many channels")
        for position, axis in cuts:
            self._slice(node, position, axis, wide, "beside")
        return wide

    def _concat(self, node: onnx.NodeProto) -> Ids:
        known = [self._read(name) for name in node.input]
        axes = {self.rank[name] for name in node.input}
        axis = attributes_of(node)["axis"]
        if len(axes) == 1 and axis < 0:
            axis += next(iter(axes))
        if axis == 1:
            return np.concatenate(known)
        if axis == 0 or len({len(one) for one in known}) != 1:
            raise Unfollowed(f"joins tensors along axis {axis}")
        for one in known[1:]:
            self.ledger.tie(known[0], one)
        return known[0]

    def _flatten(self, node: onnx.NodeProto) -> Ids:
        shape = self._shape(node.input[0])
        axis = attributes_of(node).get("axis", 1)
        if axis not in (1, 1 - len(shape)):
            raise Unfollowed(f"flattens from axis {axis} on")
        return self._flat(node.input[0])

    def _flat(self, name: str) -> Ids:
        """The channels when all axes after them become places of one."""
        places = self._shape(name)[2:]
        if any(side is None for side in places):
            raise Unfollowed("flattens a map of unknown size")
        return np.repeat(self._read(name), math.prod(side for side in places if side is not None))

    def _reshape(self, node: onnx.NodeProto) -> Ids:
        before, target = self._shape(node.input[0]), self._constant(node, 1).reshape(-1).tolist()
        read = self._read(node.input[0])
        if attributes_of(node).get("allowzero", 0) or len(target) < 2 or target[0] not in (0, -1, before[0] or 1):
            raise Unfollowed(f"makes the shape {target}")
        flat = self._flat(node.input[0]) if len(target) == 2 else read
        rest = [side for side in target[2:] if side != 1]
        small = all(side == 1 for side in before[2:])
        if len(target) == 2 and target[1] in (-1, len(flat)):
            made = flat
        elif small and not rest and target[1] in (-1, 0, len(read)):
            made = read
        else:
            raise Unfollowed(f"makes the shape {target}")
        if target[1] > 0:
            self.reshaped[node.output[0]] = (1, made)
        return made

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        found = attributes_of(node).get("axes")
        if found is None:
            if len(node.input) < 2 or not node.input[1]:
                raise Unfollowed("names no axes")
            found = self._constant(node, 1).reshape(-1).tolist()
        return [axis + rank if axis < 0 else axis for axis in found]

    def _squeeze(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        axes = self._axes(node, len(self._shape(node.output[0] if node.op_type == "Unsqueeze" else node.input[0])))
        if any(axis < 2 for axis in axes):
            raise Unfollowed(f"moves axes {axes}")
        return read

    def _reduce(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        if any(axis < 2 for axis in self._axes(node, len(self._shape(node.input[0])))):
            raise Unfollowed("sums up over channels or samples")
        return read

    def _pad(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        found = attributes_of(node).get("pads")
        pads = list(found) if found is not None else self._constant(node, 1).reshape(-1).tolist()
        rank = len(self._shape(node.input[0]))
        if len(pads) != 2 * rank or any(pads[place] for place in (0, 1, rank, rank + 1)):
            raise Unfollowed("pads channels or samples")
        return read

    def _resize(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        if len(node.input) > 3 and node.input[3]:
            raise Unfollowed("names the size of its result")
        place = 2 if len(node.input) > 2 else 1
        scales = self._constant(node, place).reshape(-1).tolist()
        if len(scales) != len(self._shape(node.input[0])) or scales[:2] != [1, 1]:
            raise Unfollowed(f"scales by {scales}")
        return read
