"""Weights fitted to what their layers see once activations are levels: `fine_tune` inside the network of integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import onnx
import onnx.utils
from numpy.typing import NDArray

from ..calibrate import Progress
from .fine_tune import fine_tuned
from .histograms import ValuesSeen
from .inner_inputs import chunks, inner_inputs, use_of
from .layers import WeightLayer, constants_of
from .places import find_places
from .qdq import QdqNetwork, QdqOptions, insert_qdq, leading_quantizers
from .replaced import with_biases
from .room import exact_scales, with_room
from .tensors import QuantizedTensor
from .weights import WeightOptions, quantized

#: Times at most that the networks are run on the samples, once for so many layers in a row.
PASSES = 32


def tuned_qdq(
    model: onnx.ModelProto,
    weights: WeightOptions,
    seen: Mapping[str, ValuesSeen],
    batches: Callable[[], Iterable[Mapping[str, NDArray[Any]]]],
    options: QdqOptions,
    progress: Progress | None = None,
) -> tuple[QdqNetwork, dict[str, tuple[float, float]]]:
    """`insert_qdq`, its weights and biases fitted layer by layer to what the layers before have become.

    :param model: as `folding.folded` gives it
    :param weights: bits and values
    :param batches: gives the samples anew each time
    :param progress: told ("fine-tune", parts done, parts)
    :returns: and of each layer the squared error of its outputs over their squares, before and after
    """
    places = find_places(model, options.scope, first_input=options.first_input, outputs=options.outputs)
    constants = constants_of(model)
    exact = weights.values == "fixed-point"
    least = exact_scales(model, places, leading_quantizers(places, seen, options)) if exact else {}
    tensors: dict[str, QuantizedTensor] = {}
    for name, layer in places.layers.items():
        bits = weights.layer_bits.get(name, weights.bits)
        if name in options.weight_bits:
            own = replace(weights, bits=options.weight_bits[name], portable=False)
        else:
            own = replace(weights, bits=bits)
        tensors[name] = quantized(layer, constants[name], own)
        if name in least:
            tensors[name] = with_room(tensors[name], constants[name], least[name])
    uses = {
        name: use
        for name, one in tensors.items()
        if one.layer.readers == 1 and (use := use_of(model, one.layer, one.shape)) is not None
    }
    shifts: dict[str, tuple[WeightLayer, Any]] = {}
    errors: dict[str, tuple[float, float]] = {}
    parts = list(chunks(list(tensors), PASSES))
    done: set[str] = set()
    for number, part in enumerate(parts):
        if progress is not None:
            progress("fine-tune", number, len(parts))
        here = {name: uses[name] for name in part if name in uses}
        if here:
            rest = frozenset(tensors) - done
            now = insert_qdq(with_biases(model, shifts), tensors, seen, replace(options, plain=rest)).model
            ends = sorted({use.data for use in here.values()} - {value.name for value in model.graph.input})
            before, after = (_up_to(one, ends) if ends else one for one in (model, now))
            for name, one in inner_inputs(before, after, here, batches()).items():
                # Powers of two stay such.
                tuned = fine_tuned(tensors[name], constants[name], one, keep_scales=exact)
                tensors[name] = tuned.tensor
                shifts[name] = places.layers[name], tuned.shift
                errors[name] = tuned.before, tuned.after
        done.update(part)
    if progress is not None:
        progress("fine-tune", len(parts), len(parts))
    return insert_qdq(with_biases(model, shifts), tensors, seen, options), errors


def _up_to(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """What makes some tensors; the rest need not be run."""
    inputs = [value.name for value in model.graph.input]
    return onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(inputs, tensors)
