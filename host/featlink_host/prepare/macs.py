"""Multiplications that are added up (MACs), operator by operator: convolutions and products of matrices.

A counter of our own: the libraries that count MACs of ONNX models run the model or bring a graph of their own, and
what is needed here, a number for each node of a graph whose shapes are known already, is a dozen lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx

Shape = Sequence[int | None] | None
_Count = Callable[[onnx.NodeProto, Callable[[str], Shape]], int | None]


def count_macs(model: onnx.ModelProto, known: Mapping[str, Shape] | None = None) -> list[int | None]:
    """MACs of each node of a model's graph; None where a shape that is needed is open.

    Everything but convolutions and products of matrices counts 0, as it does in the literature.

    :param model: with inferred shapes
    :param known: more shapes, by tensor
    """
    shapes: dict[str, Shape] = {}
    graph = model.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    for node in graph.node:
        if node.op_type == "Constant":
            shapes.update((node.output[0], list(one.t.dims)) for one in node.attribute if one.name == "value")
    shapes.update(known or {})
    return [_COUNTS[node.op_type](node, shapes.get) if node.op_type in _COUNTS else 0 for node in graph.node]


def _product(shape: Shape) -> int | None:
    if shape is None or any(side is None for side in shape):
        return None
    return math.prod(side for side in shape if side is not None)


def _convolution(weights: int) -> _Count:
    def count(node: onnx.NodeProto, shape_of: Callable[[str], Shape]) -> int | None:
        out, kernel = _product(shape_of(node.output[0])), shape_of(node.input[weights])
        # [filters, channels of a group, ...]: each output is a sum over all but the first axis.
        each = _product(kernel[1:]) if kernel is not None else None
        return None if out is None or each is None else out * each

    return count


def _transposed(node: onnx.NodeProto, shape_of: Callable[[str], Shape]) -> int | None:
    # Each input is multiplied by all weights of its channel: [channels, filters of a group, ...].
    given, kernel = _product(shape_of(node.input[0])), shape_of(node.input[1])
    each = _product(kernel[1:]) if kernel is not None else None
    return None if given is None or each is None else given * each


def _matrices(first: int, transposed: bool = False) -> _Count:
    def count(node: onnx.NodeProto, shape_of: Callable[[str], Shape]) -> int | None:
        out, left = _product(shape_of(node.output[0])), shape_of(node.input[first])
        turned = transposed and any(one.name == "transA" and one.i for one in node.attribute)
        inner = left[0 if turned else -1] if left else None
        return None if out is None or inner is None else out * inner

    return count


_COUNTS: Mapping[str, _Count] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "FusedConv": _convolution(1),
    "ConvTranspose": _transposed,
    "Gemm": _matrices(0, transposed=True),
    "MatMul": _matrices(0),
    "MatMulInteger": _matrices(0),
    "QLinearMatMul": _matrices(0),
}
