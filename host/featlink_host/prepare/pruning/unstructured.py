"""Unstructured pruning: the smallest weights become zero; the graph stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..scoring import Judge
from .refit import Refit, refit
from .removal import check
from .sizes import Size, size_of
from .structured import CALIBRATION, batches_of
from .weights import Weights, label_of

Tensor = NDArray[Any]
Progress = Callable[[str, int, int], None]
#: One threshold for all tensors, or one for each.
SCOPES = ("global", "tensor")
#: Operators whose second input is a tensor of weights.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class WeightOptions:
    """How weights are zeroed.

    :param sparsity: share of the weights that is zero afterwards, 0 to less than 1
    :param scope: one threshold for all tensors ("global"), or one for each ("tensor")
    :param refit: weights that stay are fitted anew by least squares, where there are samples
    :param keep: layers whose weights stay as they are
    :param calibration: samples for the refit
    """

    sparsity: float
    scope: str = "global"
    refit: bool = True
    keep: tuple[str, ...] = ()
    calibration: int = CALIBRATION

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise SettingsError(f"sparsity: found {self.sparsity:g}, expected 0 to less than 1")
        if self.scope not in SCOPES:
            raise SettingsError(f"scope: found {self.scope!r}, expected one of {', '.join(SCOPES)}")
        if self.calibration < 1:
            raise SettingsError(f"calibration: found {self.calibration}, expected at least 1 sample")


@dataclass(frozen=True)
class PrunedWeights:
    """A network with weights of zero.

    :param layers: of each layer: its weights, and how many are zero
    :param refit: None: none was asked for
    """

    model: onnx.ModelProto = field(repr=False)
    layers: dict[str, tuple[int, int]]
    refit: Refit | None
    before: Size
    after: Size

    @property
    def sparsity(self) -> float:
        """Share of the layers' weights that is zero."""
        whole = sum(size for size, _ in self.layers.values())
        return sum(zeros for _, zeros in self.layers.values()) / whole if whole else 0.0

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sparsity": self.sparsity,
            "before": self.before.figures(),
            "after": self.after.figures(),
            "layers": {name: {"weights": size, "zeros": zeros} for name, (size, zeros) in self.layers.items()},
            "refit": None if self.refit is None else {"fitted": len(self.refit.fitted), "left": self.refit.left},
        }


def prune_weights(
    model: onnx.ModelProto, judge: Judge | None, options: WeightOptions, progress: Progress | None = None
) -> PrunedWeights:
    """Set the smallest weights of convolutions and products to zero.

    Of equal weights the first ones go. Biases and normalisations are left alone.

    :param judge: its samples are for the refit; None: no refit
    :raises SettingsError: no weights, or layers to keep that there are not
    """
    after = onnx.ModelProto()
    after.CopyFrom(model)
    weights = Weights(after)
    nodes = _layers(after, weights, options.keep)
    before = size_of(model)
    values = {name: weights.floats(node.input[1]) for name, node in nodes.items()}
    known: dict[str, Tensor] = {name: one for name, one in values.items() if one is not None}
    zeroed = masks(known, options.sparsity, options.scope)
    for name, node in nodes.items():
        weights.put(node, 1, np.where(zeroed[name], 0, known[name]))
    check(after)
    fitted = None
    if options.refit and judge is not None and options.sparsity:
        free = {name: ~mask for name, mask in zeroed.items()}
        fitted = refit(model, after, batches_of(judge, options.calibration), free=free, progress=progress)
        check(after)
    weights = Weights(after)
    layers = {}
    for node in after.graph.node:
        if node.output and node.output[0] in zeroed:
            found = weights.values(node.input[1])
            assert found is not None
            layers[label_of(node)] = (found.size, found.size - int(np.count_nonzero(found)))
    return PrunedWeights(after, layers, fitted, before, size_of(after))


def masks(tensors: dict[str, Tensor], sparsity: float, scope: str) -> dict[str, NDArray[np.bool_]]:
    """Of each tensor: which weights become zero; of all together, or of each, round(sparsity * weights)."""
    sizes = {name: np.abs(values.astype(np.float64)) for name, values in tensors.items()}
    if scope == "tensor":
        return {name: _smallest(one, sparsity) for name, one in sizes.items()}
    flat = _smallest(np.concatenate([one.reshape(-1) for one in sizes.values()]), sparsity)
    ends = np.cumsum([one.size for one in sizes.values()])[:-1]
    parts = np.split(flat, ends)
    return {name: part.reshape(one.shape) for (name, one), part in zip(sizes.items(), parts, strict=True)}


def _smallest(sizes: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    found = np.zeros(sizes.size, bool)
    found[np.argsort(sizes, axis=None, kind="stable")[: round(share * sizes.size)]] = True
    return found.reshape(sizes.shape)


def _layers(model: onnx.ModelProto, weights: Weights, keep: tuple[str, ...]) -> dict[str, onnx.NodeProto]:
    """Layers by their outputs."""
    every = [node for node in model.graph.node if node.op_type in LAYERS and len(node.input) > 1]
    found = {node.output[0]: node for node in every if weights.floats(node.input[1]) is not None}
    names = {label_of(node) for node in found.values()}
    if unknown := [name for name in keep if name not in names]:
        raise SettingsError(f"keep: found no layer {unknown[0]!r}; there are {', '.join(sorted(names))}")
    found = {name: node for name, node in found.items() if label_of(node) not in keep}
    if not found:
        raise SettingsError("no weights: found no convolution or product with constant weights to prune")
    return found
