"""Layers that work on more than 8 bits: floats compute them exactly, so that their weights may have more bits, too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx

from .affine import Affine
from .channel_weights import channel_weights
from .layers import WeightLayer, constants_of
from .places import Places
from .tensors import QuantizedTensor
from .weights import WeightOptions, quantized

#: What int8 kernels take.
NARROW_BITS = 8
#: Bits of weights at most: the container is int16, and activations of 11 bits leave no room for more.
MOST_WEIGHT_BITS = 12
#: Sums of products stay below it before weights are fitted and biases are added: half of what float32 holds.
SUM_LIMIT = 1 << 23


def wide_layers(model: onnx.ModelProto, places: Places, quantizers: Mapping[str, Affine]) -> dict[str, Affine]:
    """Weights whose layers, all of them that read them, work on more than 8 bits; and the widest quantizer of those.

    :param quantizers: of tensors that lead others, at least those of more than 8 bits
    """
    seen: dict[str, list[Affine | None]] = {}
    for _, name, lead in places.readers(model):
        seen.setdefault(name, []).append(quantizers.get(lead or ""))
    found = {}
    for name, given in seen.items():
        known = [one for one in given if one is not None and one.bits > NARROW_BITS]
        if len(known) == len(given):
            found[name] = max(known, key=_reach)
    return found


def wide_weights(
    model: onnx.ModelProto, places: Places, quantizers: Mapping[str, Affine], options: WeightOptions
) -> dict[str, int]:
    """Bits of the weights of those layers: as many as sums leave room for; those without room for 8 are left out.

    :param options: how the weights are quantized
    """
    constants = constants_of(model)
    found = {}
    for name, data in wide_layers(model, places, quantizers).items():
        for bits in range(MOST_WEIGHT_BITS, NARROW_BITS - 1, -1):
            own = replace(options, bits=bits, portable=False)
            most = _largest_sum(places.layers[name], quantized(places.layers[name], constants[name], own))
            if most is not None and fits(data, most):
                found[name] = bits
                break
    return found


def sums_behind(
    model: onnx.ModelProto, places: Places, leads: Collection[str], options: WeightOptions
) -> dict[str, int]:
    """Of some leading tensors: the greatest sum of magnitudes that weights of 8 bits multiply their levels with."""
    constants = constants_of(model)
    found = dict.fromkeys(leads, 0)
    for _, name, lead in places.readers(model):
        if lead in found:
            layer = places.layers[name]
            most = _largest_sum(layer, quantized(layer, constants[name], replace(options, bits=NARROW_BITS)))
            found[lead] = max(found[lead], most or 0)
    return found


def fits(data: Affine, weights: int) -> bool:
    """Whether sums of levels and weights stay exact as floats.

    :param weights: the sum of their magnitudes
    """
    return weights * _reach(data) <= SUM_LIMIT


def _reach(data: Affine) -> int:
    """How far a level may be from the one that stands for 0."""
    return max(data.zero_point, data.last - data.zero_point)


def _largest_sum(layer: WeightLayer, tensor: QuantizedTensor) -> int | None:
    found = channel_weights(tensor)
    return int(np.abs(layer.matrix(found.integers)).sum(axis=1).max()) if found is not None else None
