"""The step: fully connected layers and convolutions as two thinner layers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from featlink_codec.errors import SettingsError

from ..pruning.moments import Moments
from ..pruning.patches import Layer, layer_of
from ..pruning.refit import MAX_INPUTS, PLACES, Batches, Refit, refit, upto
from ..pruning.removal import check
from ..pruning.sizes import Size, budget_of, layer_macs, size_of
from ..pruning.structured import CALIBRATION, LayerChange, batches_of, changes
from ..pruning.weights import Weights, label_of, tidy
from ..scoring import Judge
from ..scoring_runs import ModelRunner
from .ranks import by_budget, by_energy, by_rank
from .svd import Factors, factor

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FactorOptions:
    """How layers are factorized: by one of energy, rank and budget_macs.

    :param energy: share of a layer's energy that is kept
    :param rank: of all layers, or of those that are named
    :param budget_macs: MACs that may be left, a share of all up to 1, else a number
    :param data_aware: energy is the variance of what a layer puts out, where there are samples; else that of weights
    :param refit: the layers behind are fitted anew by least squares, where there are samples
    :param spatial: convolutions with larger kernels too, as one of few filters and a 1x1 one
    :param keep: layers that stay whole
    :param calibration: samples for covariances and refit
    """

    energy: float | None = None
    rank: int | Mapping[str, int] | None = None
    budget_macs: float | None = None
    data_aware: bool = True
    refit: bool = True
    spatial: bool = False
    keep: tuple[str, ...] = ()
    calibration: int = CALIBRATION

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.energy, self.rank, self.budget_macs)) != 1:
            raise SettingsError("factorization: expected one of an energy, a rank and a budget of MACs")
        if self.calibration < 1:
            raise SettingsError(f"calibration: found {self.calibration}, expected at least 1 sample")


@dataclass(frozen=True)
class Factorized:
    """A network with layers in two parts.

    :param ranks: of each layer that was factorized: outputs v, inputs u, rank t, share of energy that is lost
    :param whole: layers that were not, and why
    """

    model: onnx.ModelProto = field(repr=False)
    ranks: dict[str, tuple[int, int, int, float]]
    whole: dict[str, str]
    layers: tuple[LayerChange, ...]
    refit: Refit | None
    before: Size
    after: Size

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "before": self.before.figures(),
            "after": self.after.figures(),
            "layers": {
                name: {"outputs": v, "inputs": u, "rank": t, "lost": lost}
                for name, (v, u, t, lost) in self.ranks.items()
            },
            "whole": self.whole,
            "refit": None if self.refit is None else {"fitted": len(self.refit.fitted), "left": self.refit.left},
        }


def factorize(
    model: onnx.ModelProto, judge: Judge | None, options: FactorOptions, progress: Progress | None = None
) -> Factorized:
    """Make two layers of one where that saves multiplications: y = W x = U (S V^T) x, t (u + v) instead of u v.

    :param judge: its samples are for covariances and the refit; None: by the weights alone
    :raises SettingsError: nothing to factorize, or a budget that cannot be reached
    """
    batches = None if judge is None else batches_of(judge, options.calibration)
    layers, whole = _candidates(model, options)
    if not layers:
        raise SettingsError("found no fully connected layer and no 1x1 convolution of constant weights to factorize")
    before = size_of(model)
    moments = {}
    if options.data_aware and batches is not None:
        moments = _covariances(model, layers, batches, progress)
    weights = Weights(model)
    nodes = {node.output[0]: node for node in model.graph.node if node.output}
    labels = {name: label_of(nodes[name]) for name in layers}
    factors: dict[str, Factors] = {}
    for name, layer in layers.items():
        values = weights.floats(nodes[name].input[1])
        assert values is not None
        covariance = moments[name].covariance[0] if name in moments else None
        factors[labels[name]] = factor(layer.matrix(values), covariance)
    ranks = _ranks(model, factors, {label: name for name, label in labels.items()}, options)
    whole.update((label, "two layers would not cost less") for label in factors if label not in ranks)
    after = onnx.ModelProto()
    after.CopyFrom(model)
    for name, layer in layers.items():
        if labels[name] in ranks:
            mean = moments[name].mean[0] if name in moments else None
            _split(after, layer, factors[labels[name]], ranks[labels[name]], mean)
    tidy(after)
    check(after)
    fitted = None
    if options.refit and batches is not None and ranks:
        fitted = refit(model, after, batches, progress=progress)
        check(after)
    return Factorized(
        after,
        {label: (*factors[label].shape, rank, factors[label].lost(rank)) for label, rank in ranks.items()},
        whole,
        changes(model, after),
        fitted,
        before,
        size_of(after),
    )


def _candidates(model: onnx.ModelProto, options: FactorOptions) -> tuple[dict[str, Layer], dict[str, str]]:
    """Layers that can be factorized by their outputs, and why others cannot."""
    weights = Weights(model)
    found: dict[str, Layer] = {}
    whole: dict[str, str] = {}
    names = set()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        label = label_of(node)
        names.add(label)
        values = weights.floats(node.input[1])
        layer = layer_of(node, values) if values is not None else None
        if layer is None or values is None:
            whole[label] = "is no layer y = W x + b with constant weights"
        elif label in options.keep:
            whole[label] = "to be kept"
        elif layer.groups != 1:
            whole[label] = f"has {layer.groups} groups"
        elif set(layer.kernel) - {1} and not options.spatial:
            whole[label] = f"has a kernel of {'x'.join(map(str, layer.kernel))}"
        elif layer.matrix(values).shape[1] > MAX_INPUTS and options.data_aware:
            whole[label] = f"has more than {MAX_INPUTS} inputs"
        else:
            found[node.output[0]] = layer
    if unknown := [name for name in options.keep if name not in names]:
        raise SettingsError(f"keep: found no layer {unknown[0]!r}; there are {', '.join(sorted(names))}")
    return found, whole


def _ranks(
    model: onnx.ModelProto, factors: Mapping[str, Factors], outputs: Mapping[str, str], options: FactorOptions
) -> dict[str, int]:
    if options.energy is not None:
        return by_energy(factors, options.energy)
    if options.rank is not None:
        return by_rank(factors, options.rank)
    assert options.budget_macs is not None
    macs = layer_macs(model)
    every = sum(macs.values())
    mine = {label: macs[outputs[label]] for label in factors}
    return by_budget(factors, mine, every - sum(mine.values()), budget_of(options.budget_macs, every))


def _covariances(
    model: onnx.ModelProto, layers: Mapping[str, Layer], batches: Batches, progress: Progress | None
) -> dict[str, Moments]:
    """What each layer is given, in second moments."""
    run = ModelRunner(upto(model, [name for layer in layers.values() for name in (layer.data, layer.node)]))
    sums: dict[str, Moments] = {}
    rng = np.random.default_rng(0)
    for done, inputs in enumerate(batches(), 1):
        found = {**inputs, **run(inputs)}
        for name, layer in layers.items():
            seen, out = layer.samples(found[layer.data], found[layer.node], PLACES, rng)
            if name not in sums:
                sums[name] = Moments(1, seen.shape[2], 1)
            sums[name].add(seen, out[:, :1])
        if progress:
            progress("covariances", done, done)
    return sums


def _split(model: onnx.ModelProto, layer: Layer, factors: Factors, rank: int, mean: NDArray[np.float64] | None) -> None:
    """Two nodes instead of one, in place."""
    weights = Weights(model)
    at = next(place for place, one in enumerate(model.graph.node) if one.output and one.output[0] == layer.node)
    node = model.graph.node[at]
    values = weights.floats(node.input[1])
    assert values is not None
    # As they are kept: float16 behind a Cast stays so, and gets a Cast of its own.
    kept = weights.stored_type(node.input[1])
    v, _ = factors.shape
    # The two parts have singular values of one size, so that half precision suits both.
    balance = np.maximum(factors.energies[:rank], 0) ** 0.25
    own = np.sqrt(np.sum(factors.right[:rank] ** 2, axis=1))
    scale = np.where(own > 0, np.where(balance > 0, np.sqrt(np.maximum(own, 1e-12)), 1.0), 1.0)
    first = (factors.right[:rank] / scale[:, None]).astype(kept)
    second = (factors.left[:, :rank] * scale).astype(kept)
    casts: list[onnx.NodeProto] = []

    def constant(array: NDArray[Any], what: str) -> str:
        name = weights.new(f"{layer.node}/{what}", array)
        if kept == values.dtype:
            return name
        casts.append(
            helper.make_node(
                "Cast", [name], [f"{name}/wide"], f"{name}/wide", to=helper.np_dtype_to_tensor_dtype(values.dtype)
            )
        )
        return f"{name}/wide"

    between = f"{layer.node}/factors"
    label = label_of(node)
    if layer.kernel:
        into = constant(first.reshape(rank, -1, *layer.kernel), "right")
        out = constant(second.reshape(v, rank, 1, 1), "left")
        one = helper.make_node("Conv", [node.input[0], into], [between], f"{label}/right")
        one.attribute.extend(node.attribute)
        two = helper.make_node("Conv", [between, out, *node.input[2:]], [layer.node], label, kernel_shape=[1, 1])
    elif node.op_type == "Gemm":
        into, out = constant(first, "right"), constant(second, "left")
        one = helper.make_node("Gemm", [node.input[0], into], [between], f"{label}/right", transB=1)
        two = helper.make_node("Gemm", [between, out, *node.input[2:]], [layer.node], label, transB=1)
    else:
        into, out = constant(np.ascontiguousarray(first.T), "right"), constant(np.ascontiguousarray(second.T), "left")
        one = helper.make_node("MatMul", [node.input[0], into], [between], f"{label}/right")
        two = helper.make_node("MatMul", [between, out], [layer.node], label)
    if mean is not None and layer.biased:
        # What is left out is so around the mean of the inputs, which the bias makes good.
        lost = (layer.matrix(values) - factors.left[:, :rank] @ factors.right[:rank]) @ mean
        bias = weights.floats(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        shifted = lost + (np.zeros(v) if bias is None else np.broadcast_to(bias.reshape(-1), v))
        name = weights.new(f"{layer.node}/bias", shifted.astype(values.dtype))
        del two.input[2:]
        two.input.append(name)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], *casts, one, two, *rest[at + 1 :]])
