"""Follows channels through a graph, operator by operator; what is not known here keeps its channels, and is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from .channels import Channels, Ids
from .follow_shapes import ShapeRules
from .following import Unfollowed
from .weights import attributes_of, label_of, reads

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


def channels_of(model: onnx.ModelProto) -> Channels:
    """The channels of a network, axis 1 of its tensors.

    Convolutions (grouped ones only depthwise), products with a constant matrix, normalisations, activations, pooling,
    sums and products of maps, concatenations along channels, and flattening are followed.

    :raises SettingsError: the network has not exactly one data input
    """
    return _Follower(model).run()


class _Follower(ShapeRules):
    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
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
