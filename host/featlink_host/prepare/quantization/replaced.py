"""A network with other constants in it: weights and biases of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .layers import WeightLayer, constants_of

Tensor = NDArray[Any]


def with_constants(model: onnx.ModelProto, values: Mapping[str, Tensor]) -> onnx.ModelProto:
    """A copy with other constants.

    :param values: by the names of initializers, or of what a Constant, Cast or Identity makes of one: such a node goes
    """
    return without(model, values, [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in values.items()])


def without(model: onnx.ModelProto, names: Iterable[str], instead: Iterable[onnx.TensorProto] = ()) -> onnx.ModelProto:
    """A copy without the constants of these names and what only they need, with other initializers instead."""
    graph, gone = model.graph, set(names)
    result = onnx.ModelProto()
    result.CopyFrom(onnx.ModelProto(ir_version=model.ir_version))
    # All but the graph's constants, which may be most of it, is copied as it is.
    for field, value in model.ListFields():
        if field.name != "graph":
            _put(result, field.name, value)
    for field, value in graph.ListFields():
        if field.name not in ("node", "initializer", "input"):
            _put(result.graph, field.name, value)
    nodes = [node for node in graph.node if not gone.intersection(node.output)]
    # A Cast of a Constant: what is left and nobody reads.
    made = {name for node in graph.node for name in node.output}
    read = _read(nodes) | {one.name for one in graph.output}
    unread = {name for node in graph.node if gone.intersection(node.output) for name in node.input if name not in read}
    nodes = [node for node in nodes if not unread.intersection(node.output) or node.op_type != "Constant"]
    result.graph.node.extend(nodes)
    gone |= {name for name in unread if name not in made}
    result.graph.initializer.extend(one for one in graph.initializer if one.name not in gone)
    result.graph.initializer.extend(instead)
    result.graph.input.extend(one for one in graph.input if one.name not in gone)
    return result


def _put(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    elif isinstance(value, (str, bytes, int, float)):
        setattr(message, name, value)
    else:
        getattr(message, name).extend(value)


def _read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                found |= _read(inner.node) | {one.name for one in inner.output}
    return found


def with_biases(model: onnx.ModelProto, shifts: Mapping[str, tuple[WeightLayer, Tensor]]) -> onnx.ModelProto:
    """A copy in which layers' biases are moved; a layer without a bias gets one, where its operator has a place for it.

    :param shifts: by the name of the weights: their layer in this model, and what its outputs lack, [output channels]
    """
    held = constants_of(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    values: dict[str, Tensor] = {}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for layer, shift in shifts.values():
        node = result.graph.node[layer.node]
        if layer.operator == "MatMul":
            continue
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        scale = attributes.get("alpha", 1.0) / (attributes.get("beta", 1.0) or 1.0)
        old = node.input[2] if len(node.input) > 2 else ""
        dtype = held[layer.name].dtype
        if old and (old not in held or held[old].size not in (1, len(shift)) or not attributes.get("beta", 1.0)):
            continue
        have = held[old].reshape(-1).astype(np.float64) if old else np.zeros(1)
        name = old if old and readers[old] == 1 else _unused(f"{old or layer.name}.tuned", taken)
        values[name] = np.asarray(have + shift * scale, dtype)
        taken.add(name)
        inputs = [*node.input[:2], name]
        del node.input[:]
        node.input.extend(inputs)
    return with_constants(result, values)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
