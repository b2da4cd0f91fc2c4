"""How large a network is: MACs, weights, bytes as a file and as a model stream."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from featlink_codec.errors import SettingsError

from ...model.encoding import encode_model
from ...model.onnx_graph import from_proto
from ...model.search import Point, settings_at
from ..graph import DataGraph
from ..macs import count_macs
from ..shapes import fix_shapes
from .weights import label_of

#: Quantization parameter of the model stream whose bytes are told.
QP = -32


@dataclass(frozen=True)
class Size:
    """How large a network is.

    :param macs: multiplications that are added up, for one sample
    :param parameters: elements of floating-point constants
    :param zeros: those of them that are zero
    :param file_bytes: of the ONNX file
    :param stream_bytes: of the model stream at QP; None: not made
    """

    macs: int
    parameters: int
    zeros: int
    file_bytes: int
    stream_bytes: int | None

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def size_of(model: onnx.ModelProto, stream: bool = True) -> Size:
    """How large a network is.

    :raises SettingsError: a shape is open beside the number of samples
    """
    parameters = zeros = 0
    constants = [*model.graph.initializer]
    constants += [one.t for node in model.graph.node if node.op_type == "Constant" for one in node.attribute]
    for tensor in constants:
        values = numpy_helper.to_array(tensor) if tensor.data_type else np.empty(0, np.int64)
        if values.dtype.kind == "f":
            parameters += values.size
            zeros += values.size - int(np.count_nonzero(values))
    macs = sum(layer_macs(model).values())
    return Size(macs, parameters, zeros, model.ByteSize(), stream_bytes(model) if stream else None)


def stream_bytes(model: onnx.ModelProto, qp: int = QP) -> int:
    """Bytes of a model stream with dependent quantization, as `model encode --qp` makes it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = from_proto(copy)
    return len(encode_model(taken, settings_at(taken.tensors, Point(4 * qp))).data)


def layer_macs(model: onnx.ModelProto) -> dict[str, int]:
    """MACs of each convolution and product for one sample, by the node's first output.

    :raises SettingsError: a shape that is needed is open
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        sides = value.type.tensor_type.shape.dim
        if len(sides) and not sides[0].HasField("dim_value"):
            sides[0].dim_value = 1
    graph = DataGraph(copy)
    found: dict[str, int] = {}
    for node, macs in zip(graph.model.graph.node, count_macs(graph.model), strict=True):
        if macs is None:
            # Open inputs are the common reason, and can be mended: this says how.
            fix_shapes(model, {})
            raise SettingsError(f"{label_of(node)}: its MACs are unknown, {_reason(graph)}")
        if macs:
            found[node.output[0]] = macs
    return found


def _reason(graph: DataGraph) -> str:
    """The first operator whose result shape inference cannot tell although it knows what goes in."""
    for node in graph.model.graph.node:
        shapes = [graph.type_of(name).shape for name in node.output if name in graph.tensors]
        if any(shape is None or None in shape for shape in shapes):
            domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
            return f"as the shape of what {domain}{node.op_type} {label_of(node)} makes is open"
    return "as a shape is open"


def budget_of(asked: float, whole: int) -> int:
    """MACs that a budget comes to: a share up to 1, else a number.

    :raises SettingsError: not above 0, or infinite
    """
    if not 0 < asked < math.inf:
        raise SettingsError(f"budget of MACs: found {asked:g}, expected a share up to 1, or a number of MACs")
    return round(asked * whole) if asked <= 1 else round(asked)
