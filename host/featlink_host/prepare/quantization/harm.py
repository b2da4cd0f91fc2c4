"""What each tensor's quantizer costs alone: how far off the network's output is when nothing else is quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ...inference import open_session
from ..scoring_runs import Distortion
from .affine import Affine


def harms(
    model: onnx.ModelProto, quantizers: Mapping[str, Affine], batches: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, float]:
    """Of each tensor: mean squared error of the outputs over their variance.

    :param quantizers: by the names of tensors, of 8 bits
    :param batches: few will do; one is held at a time
    """
    outputs = [one.name for one in model.graph.output]
    exact = open_session(model)
    changed = {name: open_session(_with_quantizer(model, name, one)) for name, one in quantizers.items()}
    sums = {name: Distortion() for name in quantizers}
    for batch in batches:
        wanted = dict(zip(outputs, exact.run(outputs, dict(batch)), strict=True))
        for name, session in changed.items():
            # An output that is quantized itself has another name there.
            names = [one.name for one in session.get_outputs()]
            found = dict(zip(outputs, session.run(names, dict(batch)), strict=True))
            sums[name].add(wanted, found)
    return {name: one.value for name, one in sums.items()}


def _with_quantizer(model: onnx.ModelProto, tensor: str, affine: Affine) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    step, zero, levels, back = (f"{tensor}/harm/{word}" for word in ("step", "zero", "levels", "back"))
    graph.initializer.append(numpy_helper.from_array(np.array(affine.scale, np.float32), step))
    graph.initializer.append(numpy_helper.from_array(np.array(affine.zero_point, np.uint8), zero))
    for node in graph.node:
        node.input[:] = [back if name == tensor else name for name in node.input]
    for value in graph.output:
        value.name = back if value.name == tensor else value.name
    place = next((k for k, node in enumerate(graph.node) if tensor in node.output), -1)
    graph.node.insert(place + 1, helper.make_node("QuantizeLinear", [tensor, step, zero], [levels]))
    graph.node.insert(place + 2, helper.make_node("DequantizeLinear", [levels, step, zero], [back]))
    return result
