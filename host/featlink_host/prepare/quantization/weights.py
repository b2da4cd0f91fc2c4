"""Weights at any width of 1 to 32 bits: the network with quantized weights, and each tensor's indices and scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..scoring import Judge
from . import value_sets
from .fine_tune import fine_tuned
from .groups import GroupKind, Groups
from .inner_inputs import chunks, inner_inputs, use_of
from .layers import WeightLayer, constants_of, weight_layers
from .refine import Method, Scaled, at_scales, by_error, fixed_point, refined, unsaturated, with_codebook
from .replaced import with_biases, with_constants
from .tensors import QuantizedTensor, tensor_of

Tensor = NDArray[Any]
Progress = Callable[[str, int, int], None]
ValueKind = Literal["uniform", "fixed-point", "power-of-two", "logarithmic", "codebook"]
VALUE_KINDS: tuple[ValueKind, ...] = ("uniform", "fixed-point", "power-of-two", "logarithmic", "codebook")
REFINE: tuple[Method, ...] = ("auto", "always", "never")
#: Bits from which on scales are taken directly, unless something else is said.
HIGH_BITS = 8
#: Times at most that the network is run on the calibration samples, once for so many layers in a row.
PASSES = 16


@dataclass(frozen=True)
class WeightOptions:
    """How weights are quantized.

    :param bits: 1 to 32; sets other than uniform and fixed-point have a table, of at most 16 bits
    :param values: the set of values; fixed-point is uniform with scales that are powers of two
    :param groups: who shares a scale: tensor, channel, or so many inputs of an output channel
    :param refine: scales by turns with the weights; auto: below 8 bits
    :param scale_from: where they are not refined: the largest weight, or the least error of some scales
    :param fine_tune: fit the weights to what the layers put out, see `fine_tune`; needs inputs
    :param portable: integers of 8 bits stay within -64..63, see `value_sets.PORTABLE`
    :param whole: only sets of integers that an int8 container holds, for an integer network
    :param layer_bits: of single layers, by the name of their weights
    :param samples: inputs to fine-tune with
    """

    bits: int = 8
    values: ValueKind = "uniform"
    groups: GroupKind = "channel"
    refine: Method = "auto"
    scale_from: Literal["max", "error"] = "max"
    fine_tune: bool = False
    portable: bool = False
    whole: bool = False
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    samples: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_bits", MappingProxyType(dict(self.layer_bits)))
        if self.values not in VALUE_KINDS:
            raise SettingsError(f"values {self.values!r}, expected one of {', '.join(VALUE_KINDS)}")
        if self.refine not in REFINE:
            raise SettingsError(f"refine {self.refine!r}, expected one of {', '.join(REFINE)}")
        if self.scale_from not in ("max", "error"):
            raise SettingsError(f"scale_from {self.scale_from!r}, expected max or error")
        for bits in (self.bits, *self.layer_bits.values()):
            most = value_sets.MAX_BITS if self.values in ("uniform", "fixed-point") else value_sets.MAX_TABLE_BITS
            most = 8 if self.whole else most
            if not 1 <= bits <= most:
                where = " in an integer network" if self.whole else ""
                raise SettingsError(f"{self.values} weights of {bits} bits{where}, expected 1 to {most}")
        if self.samples < 1:
            raise SettingsError(f"{self.samples} samples to fine-tune with, expected at least 1")
        Groups(self.groups, 1, 1)

    def refines(self, bits: int) -> bool:
        """Whether scales of this width are refined."""
        return self.refine == "always" or (self.refine == "auto" and bits < HIGH_BITS)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {**{key: value for key, value in vars(self).items() if key != "layer_bits"}} | {
            "layer_bits": dict(self.layer_bits)
        }


@dataclass(frozen=True, eq=False)
class WeightsResult:
    """A network with quantized weights.

    :param source: as it was
    :param model: floating point, with the quantized weights' values and, fine-tuned, moved biases
    :param tensors: in the order of the network
    :param left: what was not quantized, with the reason
    :param outputs_error: of fine-tuned layers, by the name of their weights: squared error of what they put out over
        its squares, before and after
    """

    source: onnx.ModelProto
    model: onnx.ModelProto
    options: WeightOptions
    tensors: tuple[QuantizedTensor, ...]
    left: Mapping[str, str]
    outputs_error: Mapping[str, tuple[float, float]]

    @cached_property
    def weights(self) -> int:
        """How many weights were quantized."""
        return sum(one.indices.size for one in self.tensors)

    @cached_property
    def plain_bytes(self) -> int:
        """Of all constants: indices packed to their bits, scales and tables, everything else as it is. No graph."""
        return sum(one.plain_bytes for one in self.tensors) + self.other_bytes

    @cached_property
    def other_bytes(self) -> int:
        """Of the constants that are not quantized."""
        ours = {one.name for one in self.tensors}
        return sum(tensor_bytes(one) for one in self.model.graph.initializer if one.name not in ours)

    @cached_property
    def float_bytes(self) -> int:
        """Of all constants with the quantized weights as binary32, as the source has the rest."""
        return 4 * self.weights + self.other_bytes

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "weights": self.weights,
            "bits": self.options.bits,
            "plain_bytes": self.plain_bytes,
            "float_bytes": self.float_bytes,
            "ratio": self.float_bytes / self.plain_bytes,
            "weights_ratio": 4 * self.weights / sum(one.plain_bytes for one in self.tensors),
            "error": _mean_error(self.tensors),
            "left": dict(self.left),
            "tensors": [
                {
                    "name": one.name,
                    "operator": one.layer.operator,
                    "shape": list(one.shape),
                    "bits": one.bits,
                    "values": one.set.size,
                    "scales": int(one.scales.size),
                    "error": one.error,
                    "outputs_error": list(self.outputs_error.get(one.name, ())),
                }
                for one in self.tensors
            ],
        }


def quantize_weights(
    model: onnx.ModelProto, judge: Judge | None, options: WeightOptions, progress: Progress | None = None
) -> WeightsResult:
    """Quantize the weights of all convolutions and products of matrices with constant weights.

    :param judge: gives the inputs to fine-tune with; labels are not looked at
    :param progress: is told of ("weights" | "fine-tune", done, total)
    :raises SettingsError: nothing to quantize, a layer that is not there, weights that are not finite, no inputs
    """
    if options.fine_tune and judge is None:
        raise SettingsError("fine-tuning needs inputs: give images")
    layers, left = weight_layers(model)
    if not layers:
        raise SettingsError("found no convolution and no product of matrices with constant weights")
    for name in options.layer_bits:
        if name not in layers:
            raise SettingsError(f"no weights {name!r}; there are {', '.join(layers)}")
    constants = constants_of(model)
    weights = {name: constants[name] for name in layers}
    tensors: dict[str, QuantizedTensor] = {}
    for done, (name, layer) in enumerate(layers.items()):
        if progress is not None:
            progress("weights", done, len(layers))
        if not np.isfinite(weights[name]).all():
            raise SettingsError(f"{name}: holds weights that are not finite")
        bits = options.layer_bits.get(name, options.bits)
        tensors[name] = quantized(layer, weights[name], replace(options, bits=bits))
    if progress is not None:
        progress("weights", len(layers), len(layers))
    if not options.fine_tune:
        result = with_constants(model, {name: one.values() for name, one in tensors.items()})
        return WeightsResult(model, result, options, tuple(tensors.values()), left, {})
    assert judge is not None
    return _fine_tuned(model, judge, options, tensors, weights, left, progress)


def quantized(layer: WeightLayer, weights: Tensor, options: WeightOptions) -> QuantizedTensor:
    """The weights of one layer, not fine-tuned."""
    matrix = layer.matrix(weights.astype(np.float64))
    groups = Groups(options.groups, *matrix.shape)
    parts, mask = groups.split(matrix), groups.mask
    energy = float(np.square(matrix).sum())
    scaled = _scaled(parts, mask, options)
    return tensor_of(layer, weights.shape, weights.dtype, groups, scaled, energy)


def _scaled(parts: NDArray[np.float64], mask: NDArray[np.bool_] | None, options: WeightOptions) -> Scaled:
    bits, refine = options.bits, options.refines(options.bits)
    if options.values == "codebook":
        return with_codebook(parts, bits, mask, refine=refine, whole=options.whole, portable=options.portable)
    if options.values == "logarithmic":
        values: value_sets.ValueSet = value_sets.logarithmic(bits, options.portable, options.whole)
    elif options.values == "power-of-two":
        values = value_sets.power_of_two(bits, options.portable)
    else:
        values = value_sets.uniform(bits, options.portable)
    if options.values == "fixed-point":
        return fixed_point(parts, values, mask, saturate=refine or options.scale_from == "error")
    if refine:
        return refined(parts, values, mask)
    scales = unsaturated(parts, values) if options.scale_from == "max" else by_error(parts, values, mask)
    return at_scales(parts, values, scales, mask)


def _fine_tuned(
    model: onnx.ModelProto,
    judge: Judge,
    options: WeightOptions,
    tensors: dict[str, QuantizedTensor],
    weights: Mapping[str, Tensor],
    left: Mapping[str, str],
    progress: Progress | None,
) -> WeightsResult:
    """Chunks of layers in the network's order, each with what the chunks before it have become."""
    layers = {name: one.layer for name, one in tensors.items()}
    uses = {
        name: use
        for name, layer in layers.items()
        if layer.readers == 1 and (use := use_of(model, layer, tensors[name].shape)) is not None
    }
    shifts: dict[str, tuple[WeightLayer, Tensor]] = {}
    errors: dict[str, tuple[float, float]] = {}
    done: dict[str, Tensor] = {}
    order = list(layers)
    for number, part in enumerate(chunks(order, PASSES)):
        if progress is not None:
            progress("fine-tune", number, min(PASSES, len(order)))
        here = {name: uses[name] for name in part if name in uses}
        if here:
            now = with_constants(with_biases(model, shifts), done)
            seen = inner_inputs(model, now, here, judge.batches(options.samples))
            for name, one in seen.items():
                tuned = fine_tuned(tensors[name], weights[name], one, keep_scales=options.values == "fixed-point")
                tensors[name] = tuned.tensor
                shifts[name] = (layers[name], tuned.shift)
                errors[name] = (tuned.before, tuned.after)
        done |= {name: tensors[name].values() for name in part}
    if progress is not None:
        progress("fine-tune", min(PASSES, len(order)), min(PASSES, len(order)))
    result = with_constants(with_biases(model, shifts), done)
    return WeightsResult(model, result, options, tuple(tensors.values()), left, errors)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Of a constant's data."""
    return int(np.prod(tensor.dims, dtype=np.int64)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _mean_error(tensors: tuple[QuantizedTensor, ...]) -> float:
    """In the mean of the tensors, by their number of weights."""
    return float(np.average([one.error for one in tensors], weights=[one.indices.size for one in tensors]))
