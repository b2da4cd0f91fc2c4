"""Weights of a changed network fitted anew, layer after layer: each puts out what it did in the network before.

Each layer is fitted by least squares on what it is given in the changed network, those before it fitted already, and on
what it put out in the network before. This is the reconstruction of He, Zhang and Sun, "Channel Pruning for
Accelerating Very Deep Neural Networks" (2017), for all layers behind a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..scoring_runs import ModelRunner
from .moments import HELD, Matrix, Moments, fit
from .patches import Layer, layer_of
from .weights import Weights, reads, tidy

Tensor = NDArray[Any]
Progress = Callable[[str, int, int], None]
Batches = Callable[[], Iterator[Mapping[str, Tensor]]]
#: Outputs of a layer that are looked at in each batch.
PLACES = 1024
#: A layer with more inputs than that stays as it is: its moments would take more than a gigabyte.
MAX_INPUTS = 8192


@dataclass(frozen=True)
class Refit:
    """What was fitted.

    :param fitted: layers that changed
    :param left: layers that could not be fitted, and why
    """

    fitted: tuple[str, ...]
    left: dict[str, str]


def refit(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    batches: Batches,
    *,
    rows: Mapping[str, NDArray[np.intp]] | None = None,
    free: Mapping[str, NDArray[np.bool_]] | None = None,
    progress: Progress | None = None,
) -> Refit:
    """Fit the layers of a changed network, in place.

    :param before: the network as it was
    :param after: the changed one; its layers are found by the names of their outputs
    :param batches: inputs, gone through anew for each depth of the network
    :param rows: of a layer's output: which channels are left; where nothing is said, all
    :param free: of a layer's output: which of its weights may change, in their shape; where nothing is said, all
    :param progress: called with ("refit", depths done, depths in all)
    :raises SettingsError: one of the networks cannot be run
    """
    rows, free = rows or {}, free or {}
    known = {name for node in before.graph.node for name in node.output}
    left: dict[str, str] = {}
    fitted: list[str] = []
    depths = _depths(before, after, free, left)
    for done, layers in enumerate(depths):
        if progress:
            progress("refit", done, len(depths))
        layers = [layer for layer in layers if layer.node in known]
        sums = _moments(before, after, layers, batches, rows)
        weights = Weights(after)
        nodes = {node.output[0]: node for node in after.graph.node if node.output}
        for layer in layers:
            if _fit_one(nodes[layer.node], layer, weights, *sums[layer.node], free.get(layer.node)):
                fitted.append(layer.node)
            else:
                left[layer.node] = "no fit does better on samples that were not fitted"
    tidy(after)
    if progress:
        progress("refit", len(depths), len(depths))
    return Refit(tuple(fitted), left)


def upto(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The part of a network that makes these tensors."""
    wanted = set(tensors)
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(reads(node))
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name
    part.graph.node.extend(reversed(kept))
    constants = {tensor.name for tensor in model.graph.initializer}
    part.graph.input.extend(value for value in model.graph.input if value.name not in constants or value.name in wanted)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(tensors))
    return part


def _depths(
    before: onnx.ModelProto, after: onnx.ModelProto, free: Mapping[str, Tensor], left: dict[str, str]
) -> list[list[Layer]]:
    """Layers behind a change or with weights that are free, those together that do not need each other."""
    old = {node.output[0]: node for node in before.graph.node if node.output}
    weights, old_weights = Weights(after), Weights(before)
    moved: set[str] = set()
    depth: dict[str, int] = {}
    found: dict[int, list[Layer]] = {}
    for node in after.graph.node:
        given = any(name in moved for name in reads(node))
        deep = max((depth.get(name, 0) for name in reads(node)), default=0)
        weight = weights.floats(node.input[1]) if len(node.input) > 1 else None
        layer = layer_of(node, weight) if weight is not None else None
        if layer is not None and weight is not None and (given or layer.node in free):
            if layer.matrix(weight).shape[1] > MAX_INPUTS:
                left[layer.node] = f"more than {MAX_INPUTS} inputs"
            else:
                deep += 1
                found.setdefault(deep, []).append(layer)
        changed = given or not _same(old.get(node.output[0]), node, old_weights, weights)
        moved.update(name for name in node.output if name and changed)
        depth.update(dict.fromkeys(node.output, deep))
    return [found[deep] for deep in sorted(found)]


def _same(old: onnx.NodeProto | None, node: onnx.NodeProto, before: Weights, after: Weights) -> bool:
    """Whether a node's constants are those that it had."""
    if old is None or old.op_type != node.op_type or len(old.input) != len(node.input):
        return False
    for one, other in zip(old.input, node.input, strict=True):
        a, b = before.values(one), after.values(other)
        if (a is None) != (b is None) or (a is not None and b is not None and not np.array_equal(a, b)):
            return False
    return True


def _moments(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    layers: list[Layer],
    batches: Batches,
    rows: Mapping[str, NDArray[np.intp]],
) -> dict[str, tuple[Moments, Moments]]:
    if not layers:
        return {}
    plain = {value.name for value in after.graph.input}
    inner = [layer.data for layer in layers if layer.data not in plain]
    given = ModelRunner(upto(after, inner)) if inner else None
    wanted = ModelRunner(upto(before, [layer.node for layer in layers]))
    sums: dict[str, tuple[Moments, Moments]] = {}
    rng = np.random.default_rng(0)
    first = 0
    for inputs in batches():
        data, results = {**inputs, **(given(inputs) if given else {})}, wanted(inputs)
        count = len(next(iter(inputs.values())))
        held = np.arange(first, first + count) % HELD == HELD - 1
        first += count
        for layer in layers:
            result = results[layer.node]
            if layer.node in rows:
                result = np.take(result, rows[layer.node], axis=1)
            for at, chosen in enumerate((~held, held)):
                if not chosen.any():
                    continue
                seen, out = layer.samples(data[layer.data][chosen], result[chosen], PLACES, rng)
                if layer.node not in sums:
                    size = (seen.shape[1], seen.shape[2], out.shape[1])
                    sums[layer.node] = Moments(*size), Moments(*size)
                sums[layer.node][at].add(seen, out)
    return sums


def _fit_one(
    node: onnx.NodeProto,
    layer: Layer,
    weights: Weights,
    fitted: Moments,
    held: Moments,
    free: NDArray[np.bool_] | None,
) -> bool:
    weight = weights.floats(node.input[1])
    assert weight is not None
    matrix = layer.matrix(weight)
    bias = weights.floats(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    outputs = len(matrix)
    start = _joined(matrix, np.zeros(outputs) if bias is None else np.broadcast_to(bias.reshape(-1), outputs), layer)
    loose = None
    if free is not None:
        loose = _joined(layer.matrix(free).astype(bool), np.ones(outputs, bool), layer)
    found = fit(fitted, held, start, loose, layer.biased)
    if found is None or not np.isfinite(found).all():
        return False
    fresh, shift = _parted(found)
    kept = layer.tensor(fresh, weight.shape).astype(weights.stored_type(node.input[1]))
    if not np.isfinite(kept).all():
        return False
    weights.put(node, 1, kept)
    if layer.biased:
        weights.put(node, 2, shift.astype(weight.dtype))
    return True


def _joined(matrix: Tensor, bias: Tensor, layer: Layer) -> Tensor:
    """[outputs, inputs] and [outputs] as [groups, inputs + 1, outputs of a group]."""
    whole = np.concatenate([matrix, bias[:, None]], axis=1)
    return whole.reshape(layer.groups, -1, whole.shape[1]).transpose(0, 2, 1)


def _parted(found: Matrix) -> tuple[Matrix, Matrix]:
    whole = found.transpose(0, 2, 1).reshape(-1, found.shape[1])
    return whole[:, :-1], whole[:, -1]
