"""Room for biases: scales of weights that keep a layer's bias, in units of its sums, where floats are still exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .affine import Affine
from .places import Places
from .tensors import QuantizedTensor

#: A bias is kept below it in int32; where all is to be exact as float32, too, below a quarter of what that holds.
BIAS_LIMIT, EXACT_BIAS_LIMIT = 1 << 30, 1 << 22

Floats = NDArray[np.float64]


def bias_of(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> NDArray[Any] | None:
    """A layer's bias, [output channels], where it is a constant of that shape."""
    name = node.input[2] if len(node.input) > 2 and node.op_type != "MatMul" else ""
    if name not in constants:
        return None
    values = np.asarray(numpy_helper.to_array(constants[name]))
    return values.reshape(-1) if values.ndim <= 2 and values.size == values.shape[-1] and values.size > 1 else None


def least_scales(bias: NDArray[Any], data: Affine, *, exact: bool) -> Floats:
    """Scales of weights, one an output channel, below which the bias is beyond its limit.

    :param data: what the layer works on
    :param exact: sums are to be exact as float32, too
    """
    found: Floats = np.abs(bias.astype(np.float64)) / (data.scale * (EXACT_BIAS_LIMIT if exact else BIAS_LIMIT))
    return found


def exact_scales(model: onnx.ModelProto, places: Places, quantizers: Mapping[str, Affine]) -> dict[str, Floats]:
    """Of weights: `least_scales` over all layers that read them.

    :param quantizers: by the tensor that leads others
    """
    constants = {one.name: one for one in model.graph.initializer}
    found: dict[str, Floats] = {}
    for node, name, lead in places.readers(model):
        data, bias = quantizers.get(lead or ""), bias_of(node, constants)
        if data is not None and bias is not None:
            least = least_scales(bias, data, exact=True)
            found[name] = np.maximum(found[name], least) if name in found else least
    return found


def raised(scales: Floats, least: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Scales above 0, brought to at least so much by powers of two; and which of them were short of it."""
    short = (scales > 0) & (scales < least)
    found = scales.copy()
    found[short] *= np.exp2(np.ceil(np.log2(least[short] / scales[short])))
    return found, short


def with_room(tensor: QuantizedTensor, weights: NDArray[Any], least: Floats) -> QuantizedTensor:
    """The same with channels' scales raised to at least so much, by powers of two; the places in the set follow.

    :param weights: as they were, in the tensor's shape
    :param least: [output channels]
    """
    if tensor.groups.kind != "channel" or len(least) != len(tensor.scales):
        return tensor
    scales, short = raised(tensor.scales.astype(np.float64), least)
    if not short.any():
        return tensor
    matrix, indices = tensor.layer.matrix(weights.astype(np.float64)), tensor.indices.copy()
    indices[short] = tensor.set.nearest(matrix[short] / scales[short, None])
    return replace(tensor, indices=indices, scales=scales.astype(np.float32))
