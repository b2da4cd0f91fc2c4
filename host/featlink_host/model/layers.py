"""Layers, their types and their parameters', as the graph's nodes tell (aspects 3 and 7)."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from featlink_codec.model import Layer
from featlink_codec.model.layers import layer_of
from featlink_codec.model.processing import Processing, ProcessingOption

#: Nodes that hand a tensor on: who uses their output uses the tensor.
_HANDS_ON = {"Cast", "Identity", "Transpose", "Reshape", "DequantizeLinear", "Unsqueeze", "Squeeze"}
#: Node, and what its inputs are, beginning with the second.
_PARAMETERS = {
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "MatMul": ("weight",),
    "BatchNormalization": ("scale", "bias", "mean", "variance"),
    "InstanceNormalization": ("scale", "bias"),
    "LayerNormalization": ("scale", "bias"),
    "PRelu": ("slope",),
    "Add": ("bias",),
    "Mul": ("scale",),
    "LSTM": ("weight", "recurrent-weight", "bias"),
    "GRU": ("weight", "recurrent-weight", "bias"),
}
_TYPES = {
    "Conv": "convolution",
    "ConvTranspose": "transposed-convolution",
    "Gemm": "fully-connected",
    "MatMul": "fully-connected",
    "BatchNormalization": "batch-normalization",
    "InstanceNormalization": "instance-normalization",
    "LayerNormalization": "layer-normalization",
}


def layers_of(
    proto: onnx.ModelProto, carried: Collection[str], options: bool = False
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Layers in the order of the graph, and the type of each tensor that its name does not tell.

    :param proto: a graph, with or without data
    :param carried: the tensors that the stream carries
    :param options: also how layers may be processed, and which they need the results of
    """
    graph = proto.graph
    names = {name: name for name in carried}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.name in names:
                    names[node.output[0]] = attribute.t.name
                    shapes[attribute.t.name] = tuple(attribute.t.dims)
        elif node.op_type in _HANDS_ON and node.input and node.input[0] in names:
            names[node.output[0]] = names[node.input[0]]
    layers: list[Layer] = []
    types: dict[str, str] = {}
    taken: set[str] = set()
    # Which layers' results a value holds; found in the graph's order, which is topological.
    makers: dict[str, frozenset[str]] = {}
    used: set[str] = set()
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        before = frozenset().union(*(makers.get(name, frozenset()) for name in node.input))
        # Also the one that is handed on, when it is the first input: a product may have its weight there.
        inputs = [(place, names[name]) for place, name in enumerate(node.input) if name in names]
        own = [(place, name) for place, name in inputs if name not in taken]
        if not own or node.op_type in _HANDS_ON:
            makers.update(dict.fromkeys(node.output, before))
            continue
        words = _PARAMETERS.get(node.op_type, ())
        for place, name in own:
            types[name] = words[place - 1] if 0 < place <= len(words) else "weight" if len(shapes[name]) > 1 else "bias"
        taken.update(name for _, name in own)
        name = _unused(node.name or layer_of(own[0][1]), used)
        how = _options(node, before, bool(outputs & set(node.output))) if options else ()
        layers.append(Layer(name, _type(node, shapes.get(own[0][1], ())), tuple(name for _, name in own), how))
        makers.update(dict.fromkeys(node.output, frozenset((name,))))
    return tuple(layers), types


def _type(node: onnx.NodeProto, shape: tuple[int, ...]) -> str:
    if node.op_type == "Conv":
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if group > 1 and len(shape) > 1 and shape[1] == 1:
            return "depthwise"
    return _TYPES.get(node.op_type, node.op_type.lower())


def _options(node: onnx.NodeProto, before: frozenset[str], last: bool) -> tuple[ProcessingOption, ...]:
    """How the graph lets a layer be processed."""
    found = []
    if node.op_type in ("Conv", "ConvTranspose"):
        found.append(ProcessingOption(Processing.PARALLEL))
    if _type(node, (1, 1)) == "depthwise" or node.op_type == "BatchNormalization":
        found.append(ProcessingOption(Processing.PER_CHANNEL))
    if node.op_type in ("Gemm", "MatMul"):
        found.append(ProcessingOption(Processing.PER_CLASS if last else Processing.PER_SAMPLE))
    if before:
        found.append(ProcessingOption(Processing.DEPENDS_ON, True, tuple(sorted(before))))
    return tuple(found)


def _unused(name: str, used: set[str]) -> str:
    number, found = 1, name
    while found in used:
        number += 1
        found = f"{name}#{number}"
    used.add(found)
    return found
