"""ONNX models taken apart into tensors and a graph, in a form that does not depend on who wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.model.onnx_bytes import parse_graph, take_apart

from ..inference import one_line

Tensor = NDArray[Any]
#: Types whose data numpy knows; the others' stay as they are.
_KNOWN = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL,
    onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64,
}  # fmt: skip


@dataclass(frozen=True)
class OnnxModel:
    """A model.

    :param graph: ONNX without the tensors' data: the same bytes for the same graph
    :param tensors: what the stream carries, by name: initialisers, and constants by their output
    """

    graph: bytes
    tensors: dict[str, Tensor]

    def whole(self, tensors: dict[str, Tensor] | None = None) -> bytes:
        """The ONNX file, with other tensors where they are given.

        :raises SettingsError: a tensor does not fit
        """
        used = self.tensors if tensors is None else tensors
        return b"".join(parse_graph(self.graph).write(lambda name: used[name]))

    def proto(self) -> onnx.ModelProto:
        """The graph, for looking at: carried tensors have no data."""
        return onnx.load_model_from_string(self.graph)


def read_onnx(path: Path) -> OnnxModel:
    """A model from a file, its external data among it.

    :raises SettingsError: not an ONNX model
    """
    try:
        proto = onnx.load(str(path))
    except OSError:
        raise
    except Exception as error:  # protobuf's errors and onnx's share no base
        raise SettingsError(f"{path}: not an ONNX model: {one_line(error)}") from None
    if not proto.graph.node:
        raise SettingsError(f"{path}: not an ONNX model: there is no graph in it")
    return from_proto(proto)


def from_proto(proto: onnx.ModelProto) -> OnnxModel:
    """A model. The message is changed: all data in raw_data, constants named by their output, no doc strings.

    :raises SettingsError: it cannot be taken apart
    """
    names: set[str] = set()
    _plain(proto.graph, names)
    proto.ClearField("doc_string")
    found = take_apart(proto.SerializeToString(deterministic=True))
    return OnnxModel(found.graph, found.tensors)


def check_onnx(path: Path) -> None:
    """ONNX's own checker.

    :raises SettingsError: it refuses the file
    """
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise SettingsError(f"the ONNX checker refuses the model: {one_line(error)}") from None


def _plain(graph: onnx.GraphProto, names: set[str]) -> None:
    graph.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("doc_string")
    for tensor in graph.initializer:
        names.add(tensor.name)
        _raw(tensor)
    for node in graph.node:
        node.ClearField("doc_string")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            if attribute.type == onnx.AttributeProto.TENSOR:
                if node.op_type == "Constant":
                    attribute.t.name = _unused(node.output[0], names)
                _raw(attribute.t)
            subgraphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
            for inner in subgraphs:
                _plain(inner, names)


def _unused(name: str, names: set[str]) -> str:
    """The name, or one after it: graphs beside each other may use the same."""
    number, found = 1, name
    while found in names:
        number += 1
        found = f"{name}#{number}"
    names.add(found)
    return found


def _raw(tensor: onnx.TensorProto) -> None:
    """The same tensor with its data in raw_data, little-endian."""
    tensor.ClearField("doc_string")
    if tensor.data_type not in _KNOWN or tensor.HasField("raw_data"):
        return
    values = np.asarray(numpy_helper.to_array(tensor))
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(values, name))
