"""Versions of a model in one stream, and what lies beside it (aspects 10 and 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from featlink_codec.errors import StreamError
from featlink_codec.model import (
    Composed,
    Description,
    EncodedModel,
    EncodeSettings,
    ModelStream,
    TensorSettings,
    encode,
)
from featlink_codec.model.onnx_bytes import parse_graph
from featlink_codec.model.tensor_level import Part, Rule, Supplement, Version
from featlink_codec.model.update_chain import graph_of

from .encoding import Telling, description_of
from .evaluate import Evaluator
from .onnx_graph import OnnxModel

Tensor = NDArray[Any]
BASE, ENHANCED, COMPENSATED = "base", "enhanced", "compensated"
#: Nodes that a second one can run beside, by the place of their weight.
_BRANCHES = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
#: Neurons of one tensor whose relevance is measured.
MAX_NEURONS = 4096


@dataclass(frozen=True)
class Beside:
    """What a stream holds beside its base version.

    :param enhance: settings of the differences that make the version ``enhanced``
    :param compensate: settings of the layers that run beside the base's in the version ``compensated``
    :param supplements: tensors by kind and by what they are about
    """

    enhance: TensorSettings | None = None
    compensate: TensorSettings | None = None
    supplements: tuple[tuple[str, str, Tensor], ...] = ()


def encode_versions(
    model: OnnxModel,
    settings: EncodeSettings,
    beside: Beside,
    telling: Telling | None = None,
    rounded: Mapping[str, Tensor] | None = None,
) -> EncodedModel:
    """A stream of a base version, those over it, and supplements.

    :param rounded: the base version's values, instead of the model's own
    """
    description = description_of(model, telling)
    own = {name: settings.of(name, values.ndim) for name, values in model.tensors.items()}
    tensors: dict[str, Tensor] = dict(rounded or model.tensors)
    decoded = encode(tensors, settings, Description()).tensors
    versions = [Version(BASE, None, tuple(Part(name, name) for name in tensors))]
    lost = {
        name: values.astype(np.float32) - decoded[name].astype(np.float32)
        for name, values in model.tensors.items()
        if values.dtype.kind == "f" and np.isfinite(values).all()
    }
    branches = _branch_weights(model)
    for version, rule, chosen, names in (
        (ENHANCED, Rule.DIFFERENCE, beside.enhance, list(lost)),
        (COMPENSATED, Rule.COMPENSATION, beside.compensate, [name for name in lost if name in branches]),
    ):
        if chosen is None:
            continue
        parts = []
        for name in names:
            if lost[name].any():
                source = f"{name}#{version}"
                tensors[source], own[source] = lost[name], chosen
                parts.append(Part(name, source, rule))
        versions.append(Version(version, BASE, tuple(parts)))
    supplements = []
    for kind, name, values in beside.supplements:
        source = f"{name}#{kind}"
        tensors[source], own[source] = values.astype(np.float32), TensorSettings(raw=True)
        supplements.append(Supplement(kind, name, source))
    return encode(
        tensors,
        replace(settings, tensors=own),
        replace(description, versions=tuple(versions) if len(versions) > 1 else (), supplements=tuple(supplements)),
    )


def composed_onnx(stream: ModelStream, version: Composed) -> bytes:
    """The ONNX file of a version: tensors in their places, compensating layers as parallel branches.

    :raises StreamError: ``no-graph``; ``bad-graph``: the graph does not go with the version
    """
    graph = graph_of(stream)
    if graph is None:
        raise StreamError("no-graph", 0, "the stream holds no ONNX graph; its tensors can be had as .npz")
    slots = parse_graph(graph).slots
    proto = onnx.load_model_from_string(graph)
    for tensor in _tensors(proto.graph):
        if tensor.name in slots:
            if tensor.name not in version.tensors:
                raise StreamError(
                    "bad-graph", 0, f"the graph has a place for {tensor.name!r}, which the version has not"
                )
            values = version.tensors[tensor.name]
            if values.shape != tuple(tensor.dims):  # a version with other numbers of neurons
                del proto.graph.value_info[:]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for name, values in version.compensations.items():
        _add_branch(proto.graph, name, values)
    return bytes(proto.SerializeToString(deterministic=True))


def relevance(
    evaluator: Evaluator, progress: Callable[[str, int, int], None] | None = None
) -> list[tuple[str, str, Tensor]]:
    """How far the outputs move when a neuron (a row of a weight) is 0: float32 [rows] for each tensor of weights."""
    names = [name for name in _branch_weights(evaluator.model) if len(evaluator.model.tensors[name]) <= MAX_NEURONS]
    total = sum(len(evaluator.model.tensors[name]) for name in names)
    done, found = 0, []
    for name in names:
        whole = evaluator.model.tensors[name]
        scores = np.zeros(len(whole), np.float32)
        for row in range(len(whole)):
            changed = whole.copy()
            changed[row] = 0
            scores[row] = evaluator.distortion({name: changed})
            done += 1
            if progress is not None:
                progress("relevance", done, total)
        found.append(("relevance", name, scores))
    return found


def robustness(evaluator: Evaluator, sensitivities: Mapping[str, float]) -> list[tuple[str, str, Tensor]]:
    """How far the outputs move for noise of each tensor, float32 [1]: per unit of its variance and per element."""
    return [
        ("robustness", name, np.array([sensitivities[name]], np.float32))
        for name in sensitivities
        if name in evaluator.model.tensors
    ]


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found.append(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                found += _tensors(attribute.g)
    return found


def _branch_weights(model: OnnxModel) -> list[str]:
    """Tensors that are the weight of a node that a second one can run beside."""
    graph = model.proto().graph
    return [name for name in model.tensors if _user(graph, name) is not None]


def _user(graph: onnx.GraphProto, name: str) -> tuple[int, onnx.NodeProto] | None:
    """The one node whose weight a tensor is, as it is or cast; None where there is none, or several."""
    names = {name}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in names:
            names.add(node.output[0])
    users = [
        (place, node) for place, node in enumerate(graph.node) if names & set(node.input) and node.op_type != "Cast"
    ]
    if len(users) != 1:
        return None
    place, node = users[0]
    weight = _BRANCHES.get(node.op_type)
    return (place, node) if weight is not None and len(node.input) > weight and node.input[weight] in names else None


def _add_branch(graph: onnx.GraphProto, name: str, values: Tensor) -> None:
    """Beside the node of a weight one of the same kind with other values, and an Add of both outputs."""
    found = _user(graph, name)
    if found is None:
        raise StreamError("bad-graph", 0, f"no layer with the weight {name!r} that another can run beside")
    place, node = found
    weight = f"{name}#{COMPENSATED}"
    output, data = node.output[0], node.input[0]
    held = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if held is not None and node.input[1] != name:  # cast for the node
        values = values.astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(values, weight))
    branch = onnx.NodeProto()
    branch.CopyFrom(node)
    del branch.input[:], branch.output[:]
    branch.input.extend([data, weight])
    branch.output.append(f"{output}#{COMPENSATED}")
    branch.name = f"{node.name or output}#{COMPENSATED}"
    kept: Sequence[onnx.AttributeProto] = [one for one in branch.attribute if one.name != "beta"]
    attributes = [onnx.AttributeProto.FromString(one.SerializeToString()) for one in kept]
    del branch.attribute[:]
    branch.attribute.extend(attributes)
    node.output[0] = f"{output}#{BASE}"
    both = helper.make_node("Add", [node.output[0], branch.output[0]], [output], name=f"{node.name or output}#sum")
    graph.node.insert(place + 1, branch)
    graph.node.insert(place + 2, both)
