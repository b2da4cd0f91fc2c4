"""The layers whose weights are quantized, and each one's weights as a matrix: a row for every output channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Tensor = NDArray[Any]
#: Operators that only hand a weight on.
_HANDS_ON = {"Cast", "Identity"}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True)
class WeightLayer:
    """A layer with constant weights: a convolution, or a product of matrices, which is one over a single place.

    :param name: of the weights, as the layer reads them: behind a Cast where there is one
    :param source: the initializer, or the Constant's output, that holds them
    :param node: place of the layer in the graph
    :param operator: Conv, ConvTranspose, Gemm or MatMul
    :param data: name of what the layer works on
    :param place: of the weights among the layer's inputs
    :param groups: of a convolution
    :param transposed: the tensor's first axis is of inputs, not of outputs
    :param readers: layers that read these weights
    """

    name: str
    source: str
    node: int
    operator: str
    data: str
    place: int = 1
    groups: int = 1
    transposed: bool = False
    readers: int = 1

    @property
    def axis(self) -> int | None:
        """The tensor's axis of output channels; None where no single axis is (a transposed convolution in groups)."""
        if not self.transposed:
            return 0
        if self.operator == "ConvTranspose":
            return 1 if self.groups == 1 else None
        return 1

    def matrix(self, tensor: Tensor) -> Tensor:
        """[output channels, weights of each]."""
        if not self.transposed:
            return tensor.reshape(len(tensor), -1)
        if self.operator == "ConvTranspose":
            inputs, outputs, *kernel = tensor.shape
            split = tensor.reshape(self.groups, inputs // self.groups, outputs, *kernel)
            return np.moveaxis(split, 2, 1).reshape(self.groups * outputs, -1)
        return tensor.T

    def tensor(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The matrix as a tensor again."""
        if not self.transposed:
            return matrix.reshape(shape)
        if self.operator == "ConvTranspose":
            inputs, outputs, *kernel = shape
            split = matrix.reshape(self.groups, outputs, inputs // self.groups, *kernel)
            return np.ascontiguousarray(np.moveaxis(split, 2, 1)).reshape(shape)
        return np.ascontiguousarray(matrix.T)


def weight_layers(model: onnx.ModelProto) -> tuple[dict[str, WeightLayer], dict[str, str]]:
    """The layers by the name of their weights, and what was left out with the reason why.

    Weights that several layers share are those of the first one, if all read them the same way.

    :param model: its main graph; layers inside If, Loop and Scan are left out
    """
    graph = model.graph
    types = {one.name: one.data_type for one in graph.initializer}
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    sources = {name: name for name in types}
    for node in graph.node:
        if node.op_type == "Constant" and (found := _constant(node)) is not None:
            types[node.output[0]], shapes[node.output[0]] = found.data_type, tuple(found.dims)
            sources[node.output[0]] = node.output[0]
        elif node.op_type in _HANDS_ON and node.input and node.input[0] in sources:
            sources[node.output[0]] = sources[node.input[0]]
    found_layers: dict[str, WeightLayer] = {}
    left: dict[str, str] = {}
    given = {one.name for one in graph.input} - {one.name for one in graph.initializer}
    outputs = {one.name for one in graph.output}
    readers: dict[str, list[int]] = {}
    for number, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(number)
    for number, node in enumerate(graph.node):
        layer = _layer(number, node, sources, shapes)
        if layer is None:
            if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                left[node.name or node.output[0]] = f"{node.op_type}: its weights are no constants, or of another shape"
            continue
        before = found_layers.get(layer.name)
        if types[layer.source] not in _FLOATS:
            left[layer.name] = f"{TensorProto.DataType.Name(types[layer.source])} rather than floating point"
        elif layer.name in given or layer.name in outputs:
            left[layer.name] = "it is an input or an output of the network, too"
        elif before is not None and (before.axis, before.operator) != (layer.axis, layer.operator):
            left[layer.name] = "layers of different kinds share it"
        elif before is None:
            found_layers[layer.name] = layer
    for name, layer in list(found_layers.items()):
        others = [k for k in readers[name] if _layer(k, graph.node[k], sources, shapes) is None]
        if others:
            left[name] = f"a {graph.node[others[0]].op_type} reads it, too"
        found_layers[name] = replace(layer, readers=len(readers[name]))
        if name in left:
            del found_layers[name]
    return found_layers, left


def _layer(
    number: int, node: onnx.NodeProto, sources: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> WeightLayer | None:
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if len(node.input) < 2:
        return None
    place = 0 if node.op_type == "MatMul" and node.input[1] not in sources else 1
    if node.input[place] not in sources or node.input[1 - place] in sources:
        return None
    name = node.input[place]
    source, data = sources[name], node.input[1 - place]
    shape = shapes[source]
    if 0 in shape:
        return None
    if node.op_type == "Conv" and len(shape) >= 3:
        return WeightLayer(name, source, number, "Conv", data, groups=attributes.get("group", 1))
    if node.op_type == "ConvTranspose" and len(shape) >= 3:
        groups = attributes.get("group", 1)
        return WeightLayer(name, source, number, "ConvTranspose", data, groups=groups, transposed=True)
    if node.op_type == "Gemm" and len(shape) == 2 and not attributes.get("transA", 0):
        transposed = not attributes.get("transB", 0)
        return WeightLayer(name, source, number, "Gemm", data, transposed=transposed)
    if node.op_type == "MatMul" and len(shape) == 2:
        return WeightLayer(name, source, number, "MatMul", data, place, transposed=place == 1)
    return None


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    return next((one.t for one in node.attribute if one.name == "value"), None)


def constants_of(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Initializers, Constants, and what Cast and Identity make of them: values as they are read, by name."""
    found = {one.name: np.asarray(numpy_helper.to_array(one)) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and (held := _constant(node)) is not None:
            found[node.output[0]] = np.asarray(numpy_helper.to_array(held))
        elif node.op_type in _HANDS_ON and node.input and node.input[0] in found:
            to = next((one.i for one in node.attribute if one.name == "to"), None)
            values = found[node.input[0]]
            if to is None or to in _FLOATS:
                found[node.output[0]] = values if to is None else values.astype(helper.tensor_dtype_to_np_dtype(to))
    return found
