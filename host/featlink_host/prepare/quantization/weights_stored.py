"""A network whose weights are stored as they were quantized, and made into numbers again by standard operators.

Integers, or places in a table, times scales: onnxruntime computes that once, when it opens the network. It is not
DequantizeLinear, which belongs where a layer's inputs are levels, too (`qdq.insert_qdq`): beside floating-point inputs
onnxruntime would dequantize anew in every run, and quantize what goes into a MatMul without being asked to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .folding import LEAST_OPSET
from .opset import raised
from .replaced import without
from .tensors import QuantizedTensor
from .value_sets import TableSet
from .weights import WeightsResult

Tensor = NDArray[Any]


def to_stored(result: WeightsResult, codes: bool = False) -> onnx.ModelProto:
    """The network with stored weights, each in the least integers that hold it; what is computed is floating point.

    The numbers are exactly `QuantizedTensor.values`.

    :param codes: store places in a table rather than integers, for all sets but the uniform ones: fewer different
        numbers for entropy coding
    :raises SettingsError: the opset is too old and cannot be raised
    """
    return with_stored(result.model, result.tensors, codes)


def with_stored(model: onnx.ModelProto, tensors: Iterable[QuantizedTensor], codes: bool = False) -> onnx.ModelProto:
    """The same for some tensors of a network."""
    writer, names = _Writer(codes), []
    for tensor in tensors:
        writer.add(tensor)
        names.append(tensor.name)
    result = without(raised(model, LEAST_OPSET), names, writer.constants)
    nodes = [*writer.nodes, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return result


class _Writer:
    def __init__(self, codes: bool) -> None:
        self._codes = codes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, tensor: QuantizedTensor) -> None:
        """The operators that make a tensor."""
        name = tensor.name
        last = name if tensor.dtype == np.float32 else f"{name}/float"
        if tensor.plain_scales:
            self._plain(tensor, last)
        else:
            self._blocks(tensor, last)
        if last != name:
            self._node("Cast", [last], name, to=helper.np_dtype_to_tensor_dtype(tensor.dtype))

    def _plain(self, tensor: QuantizedTensor, out: str) -> None:
        """One scale, or scales along an axis of the tensor."""
        shape = [1] * len(tensor.shape) if tensor.axis is not None else []
        if tensor.axis is not None:
            shape[tensor.axis] = -1
        stored = self._stored(tensor, tensor.codes(), tensor.integers())
        scales = self._constant(f"{tensor.name}/scales", tensor.scales.reshape(shape))
        self._node("Mul", [stored, scales], out)

    def _blocks(self, tensor: QuantizedTensor, out: str) -> None:
        """Scales that lie along no axis: the layer's matrix, row by row in blocks."""
        name, groups, layer = tensor.name, tensor.groups, tensor.layer
        rows, blocks, block = groups.rows, groups.blocks, groups.block
        integers = tensor.set.integers(tensor.indices)
        shape = (rows, blocks, block)
        codes = groups.split(tensor.indices - tensor.set.zero).reshape(shape)
        whole = None if integers is None else groups.split(integers).reshape(shape)
        stored = self._stored(tensor, codes, whole)
        scales = self._constant(f"{name}/scales", tensor.scales.reshape(rows, blocks, 1))
        last = self._node("Mul", [stored, scales], f"{name}/scaled")
        last = self._reshape(last, f"{name}/padded", (rows, blocks * block))
        if blocks * block != groups.columns:
            where = {"from": 0, "to": groups.columns, "axis": 1}
            ends = [self._constant(f"{name}/{word}", np.array([at])) for word, at in where.items()]
            last = self._node("Slice", [last, *ends], f"{name}/matrix")
        if not layer.transposed:
            self._reshape(last, out, tensor.shape)
        elif layer.operator == "ConvTranspose":
            inputs, outputs, *kernel = tensor.shape
            split = (layer.groups, outputs, inputs // layer.groups, *kernel)
            last = self._reshape(last, f"{name}/split", split)
            order = [0, 2, 1, *range(3, len(split))]
            last = self._node("Transpose", [last], f"{name}/turned", perm=order)
            self._reshape(last, out, tensor.shape)
        else:
            self._node("Transpose", [last], out, perm=[1, 0])

    def _stored(self, tensor: QuantizedTensor, codes: Tensor, integers: Tensor | None) -> str:
        """The set's values as float32: from integers, or from places in a table."""
        name = tensor.name
        if integers is not None and not (self._codes and isinstance(tensor.set, TableSet)):
            stored = self._constant(f"{name}/integers", integers.astype(_least(integers)))
            return self._node("Cast", [stored], f"{name}/exact", to=TensorProto.FLOAT)
        table = self._constant(f"{name}/table", tensor.table().astype(np.float32))
        stored = self._constant(f"{name}/codes", codes.astype(_least(codes)))
        # Gather wants wide indices; those below zero count from the table's end.
        places = self._node("Cast", [stored], f"{name}/places", to=TensorProto.INT32)
        return self._node("Gather", [table, places], f"{name}/exact", axis=0)

    def _reshape(self, given: str, out: str, shape: tuple[int, ...]) -> str:
        return self._node("Reshape", [given, self._constant(f"{out}/shape", np.array(shape, np.int64))], out)

    def _node(self, kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [out], out, **attributes))
        return out

    def _constant(self, name: str, values: Tensor) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name


def _least(values: Tensor) -> type[np.signedinteger[Any]]:
    """The least type that holds integers."""
    low, high = int(values.min()), int(values.max())
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return np.int64
