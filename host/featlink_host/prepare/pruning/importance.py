"""How much a channel matters: by its weights, by what it puts out, or by what it does to what is behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..scoring_runs import Distortion, ModelRunner
from .channels import Channels, Group
from .patches import Layer, layer_of
from .refit import PLACES, Batches, upto
from .removal import masked
from .weights import Weights

Tensor = NDArray[Any]
Scores = dict[int, float]
Progress = Callable[[str, int, int], None]

#: l1, l2: norm of the weights that make a channel. activation: root mean square of what reads it sees. contribution:
#: share of the channel in the variance (mean square, without a refit) that the layers behind make of their inputs.
#: sensitivity: the same, times what the outputs of the network bear in that group.
KINDS = ("l1", "l2", "activation", "contribution", "sensitivity")
#: Those that need samples.
MEASURED = ("activation", "contribution", "sensitivity")
#: Share of a group that is set to zero to see what the network bears.
TRIED = 0.25


def importance(
    model: onnx.ModelProto,
    channels: Channels,
    kind: str,
    batches: Batches | None = None,
    *,
    centred: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Of each unit that can be taken out: how much it matters.

    Within a group the scores are comparable as they are; between groups those of norms and activations are made so by
    their mean over the group.

    :param batches: inputs, gone through once, for `sensitivity` again for each group
    :param centred: a constant part does not count, as a bias will take its place
    :param progress: called with ("importance", done, in all)
    :raises SettingsError: an unknown kind, or no samples for one that needs them
    """
    if kind not in KINDS:
        raise SettingsError(f"importance: found {kind!r}, expected one of {', '.join(KINDS)}")
    if kind in MEASURED and batches is None:
        raise SettingsError(f"importance {kind!r} needs images")
    if kind in ("l1", "l2"):
        return _levelled(channels, _norms(model, channels, 1 if kind == "l1" else 2))
    assert batches is not None
    tell = progress or (lambda stage, done, total: None)
    total = len(channels.groups) if kind == "sensitivity" else 1
    tell("importance", 0, total)
    power, share = _seen(model, channels, batches, centred)
    if kind == "activation":
        return _levelled(channels, np.sqrt(power))
    scores = {int(unit): float(share[unit]) for group in channels.groups for unit in group.units}
    if kind == "contribution":
        return scores
    for done, group in enumerate(channels.groups, 1):
        factor = _bears(model, channels, group, scores, batches)
        scores.update((int(unit), scores[int(unit)] * factor) for unit in group.units)
        tell("importance", done, total)
    return scores


def _levelled(channels: Channels, values: NDArray[np.float64]) -> Scores:
    found: Scores = {}
    for group in channels.groups:
        mean = float(values[group.units].mean()) if len(group.units) else 0.0
        found.update((int(unit), float(values[unit]) / (mean or 1.0)) for unit in group.units)
    return found


def _norms(model: onnx.ModelProto, channels: Channels, order: int) -> NDArray[np.float64]:
    """Of each unit: the norm of all weights that make it, in all layers that are tied."""
    weights = Weights(model)
    nodes = {node.output[0]: node for node in model.graph.node if node.output}
    found = np.zeros(len(channels.unit_of))
    for one in channels.slices:
        if one.role != "makes":
            continue
        values = weights.values(nodes[one.node].input[one.position])
        assert values is not None
        flat = np.moveaxis(values.astype(np.float64), one.axis, 0).reshape(len(one.ids), -1)
        np.add.at(found, channels.unit_of[one.ids], (np.abs(flat) ** order).sum(axis=1))
    norm: NDArray[np.float64] = found ** (1 / order)
    return norm


def _seen(
    model: onnx.ModelProto, channels: Channels, batches: Batches, centred: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each unit: mean square of what is read of it, and its share in what the layers that read it put out."""
    weights = Weights(model)
    nodes = {node.output[0]: node for node in model.graph.node if node.output}
    layers: list[tuple[Layer, NDArray[np.int64], Tensor]] = []
    for one in channels.slices:
        if one.role != "reads":
            continue
        weight = weights.floats(nodes[one.node].input[1])
        layer = layer_of(nodes[one.node], weight) if weight is not None else None
        if layer is not None and weight is not None:
            layers.append((layer, one.ids, layer.matrix(weight)))
    run = ModelRunner(upto(model, [name for layer, _, _ in layers for name in (layer.data, layer.node)]))
    inner: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    rng = np.random.default_rng(0)
    for inputs in batches():
        found = run(inputs)
        for layer, ids, matrix in layers:
            seen, _ = layer.samples(found[layer.data], found[layer.node], PLACES, rng)
            taps = matrix.shape[1] // len(ids)
            wide = seen.reshape(len(seen), len(ids), taps).transpose(1, 2, 0)
            moments = np.matmul(wide, wide.transpose(0, 2, 1)).astype(np.float64)
            inner[layer.node] = inner.get(layer.node, 0) + moments
            sums[layer.node] = sums.get(layer.node, 0) + wide.sum(axis=2, dtype=np.float64)
            counts[layer.node] = counts.get(layer.node, 0) + len(seen)
    units = len(channels.unit_of)
    power, places, share = np.zeros(units), np.zeros(units), np.zeros(units)
    for layer, ids, matrix in layers:
        count = max(counts.get(layer.node, 0), 1)
        square, mean = inner[layer.node] / count, sums[layer.node] / count
        unit = channels.unit_of[ids]
        np.add.at(power, unit, np.einsum("cii->c", square) / square.shape[1])
        np.add.at(places, unit, 1)
        if centred:
            square = square - mean[:, :, None] * mean[:, None, :]
        taps = matrix.reshape(len(matrix), len(ids), -1)
        part = np.einsum("oci,cij,ocj->c", taps, square, taps, optimize=True)
        np.add.at(share, unit, part / max(float(part.sum()), 1e-30))
    return power / np.maximum(places, 1), share


def _bears(model: onnx.ModelProto, channels: Channels, group: Group, scores: Scores, batches: Batches) -> float:
    """How far the network's outputs move for each share of contribution that a group loses."""
    if not len(group.units):
        return 0.0
    order = sorted((int(unit) for unit in group.units), key=lambda unit: scores[unit])
    out = order[: max(1, int(len(order) * TRIED))]
    lost = sum(scores[unit] for unit in out)
    moved = distortion(model, masked(model, channels, out), batches)
    return moved / max(lost, 1e-12)


def distortion(
    before: onnx.ModelProto, after: onnx.ModelProto, batches: Callable[[], Iterator[Mapping[str, Tensor]]]
) -> float:
    """Mean squared error of the outputs over their variance."""
    reference, candidate, found = ModelRunner(before), ModelRunner(after), Distortion()
    for inputs in batches():
        found.add(reference(inputs), candidate(inputs))
    return found.value
