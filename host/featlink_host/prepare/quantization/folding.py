"""A network made plain before it is quantized: BatchNorm inside its convolutions, constants computed, opset raised.

onnxruntime's own basic optimizer does it: it is what will run the network anyway, it is kept up with ONNX, knows the
rare cases (a convolution's output that others read, padding, float16 weights behind a Cast), writes standard operators
only, and tensors keep their names.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import numpy_helper, version_converter

from featlink_codec.errors import SettingsError

from ...inference import one_line

#: First opset whose DequantizeLinear takes a scale for each channel; 16-bit levels are of opset 21.
LEAST_OPSET, WIDE_OPSET = 13, 21


def folded(model: onnx.ModelProto, opset: int = LEAST_OPSET) -> onnx.ModelProto:
    """The same network, what can be computed beforehand computed.

    :param opset: raised to it where it is lower
    :raises SettingsError: the opset cannot be raised, or onnxruntime refuses the network
    """
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if version < opset:
        try:
            model = version_converter.convert_version(model, opset)
        except Exception as error:  # onnx's converter raises RuntimeError, its own kinds and C++ ones
            raise SettingsError(f"opset {version} cannot be raised to {opset}: {one_line(error)}") from None
    domains = {one.domain: one.version for one in model.opset_import}
    found = _optimized(model)
    constants = {one.name for one in found.graph.initializer}
    if any(node.op_type == "Cast" and node.input[0] in constants for node in found.graph.node):
        # Of a float16 network: it is computed as float32, and the casts of its weights come last.
        found = _optimized(found)
    # It lists every domain that it knows.
    used = {node.domain for node in found.graph.node} | {""}
    del found.opset_import[:]
    found.opset_import.extend(
        onnx.helper.make_opsetid(name, number) for name, number in domains.items() if name in used or name == "ai.onnx"
    )
    found.producer_name = "featlink"
    _constants_back(found.graph)
    onnx.checker.check_model(found)
    return found


def _optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime's basic optimizer makes of it (SettingsError: onnxruntime refuses it)."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(str(path))
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"onnxruntime cannot open the network: {one_line(error)}") from None


def _constants_back(graph: onnx.GraphProto) -> None:
    """(Conv(x) + y) + constant becomes (Conv(x) + constant) + y: a bias that was moved behind a sum costs a rounding.

    Only where nothing else reads what is in between; the sum keeps the last one's name.
    """
    constants = {one.name: one for one in graph.initializer}
    outputs = {one.name for one in graph.output}
    for outer in [node for node in graph.node if node.op_type == "Add"]:
        makers = {name: node for node in graph.node for name in node.output}
        readers = Counter(name for node in graph.node for name in node.input)
        bias = next((name for name in outer.input if name in constants), None)
        inner = makers.get(next((name for name in outer.input if name not in constants), ""))
        if bias is None or inner is None or inner.op_type != "Add":
            continue
        conv = next((makers[one] for one in inner.input if one in makers and makers[one].op_type == "Conv"), None)
        if conv is None or (len(conv.input) > 2 and conv.input[2] not in constants):
            continue
        between = (inner.output[0], conv.output[0])
        values = numpy_helper.to_array(constants[bias])
        channels = constants[conv.input[1]].dims[0] if conv.input[1] in constants else 0
        per_channel = values.ndim in (3, 4) and values.shape[-3] == values.size == channels
        if not per_channel or any(readers[name] != 1 or name in outputs for name in between):
            continue
        # The name of the constant may be used elsewhere.
        moved = f"{conv.output[0]}/bias_back"
        have = numpy_helper.to_array(constants[conv.input[2]]).reshape(-1) if len(conv.input) > 2 else 0
        graph.initializer.append(numpy_helper.from_array((values.reshape(-1) + have).astype(values.dtype), moved))
        conv.input[:] = [*conv.input[:2], moved]
        inner.output[0] = outer.output[0]
        graph.node.remove(outer)
    used = {name for node in graph.node for name in node.input}
    for name in [one for one in constants if one not in used]:
        graph.initializer.remove(constants[name])
