"""Channels of a tensor made as large as they may be before they share a quantizer, and what reads them smaller.

A convolution's channel may be larger if what reads it has smaller weights: the network stays the same. Behind a ReLU
too, and behind a Clip to 0..6 as long as the channel stays below 6. One step for all channels is coarse for a channel
that never goes far, and where the next layer takes differences of neighbours, its rounding is what remains.

A Clip's end is moved, too, and all channels with it: to the last of 256 levels with steps of a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from featlink_codec.errors import SettingsError

from ...inference import one_line, open_session
from .places import find_places
from .ranges import with_outputs
from .replaced import with_constants

#: No channel becomes larger than by this.
LARGEST_FACTOR = 64.0
#: What a channel keeps free below the end of a Clip, beyond the largest value that was seen.
HEADROOM = 1.05


@dataclass(frozen=True)
class Link:
    """A tensor between convolutions.

    :param tensor: behind the activation, if there is one
    :param maker: place of the convolution that makes it
    :param readers: places of the convolutions that read it
    :param clip: place of the Clip that cuts values off; None: nothing above is
    :param limit: its end
    """

    tensor: str
    maker: int
    readers: tuple[int, ...]
    clip: int | None = None
    limit: float | None = None


def equalized(
    model: onnx.ModelProto, batches: Iterable[Mapping[str, NDArray[Any]]]
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """The same network with other weights; it differs only beyond `HEADROOM` times what was seen.

    :param model: as `folding.folded` gives it
    :param batches: samples, one batch is held at a time
    :returns: and for each tensor the largest factor
    :raises SettingsError: no batch, or the network cannot be run
    """
    links = find_links(model)
    if not links:
        return model, {}
    reach = _reach(model, batches, [link.tensor for link in links])
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    changed: dict[str, NDArray[Any]] = {}
    ends: dict[int, float] = {}
    largest: dict[str, float] = {}
    for link in links:
        factors = factors_for(reach[link.tensor], link.limit)
        if link.clip is not None and link.limit is not None:
            ends[link.clip] = filled(link.limit)
            factors = factors * (ends[link.clip] / link.limit)
        largest[link.tensor] = float(factors.max())
        for name in model.graph.node[link.maker].input[1:3]:
            changed[name] = _times(changed.get(name, constants[name]), factors, 0)
        for place in link.readers:
            node = model.graph.node[place]
            axis = 1 if _groups(node) == 1 else 0
            changed[node.input[1]] = _times(changed.get(node.input[1], constants[node.input[1]]), 1 / factors, axis)
    result = with_constants(model, changed)
    for place, end in ends.items():
        node = result.graph.node[place]
        name = f"{node.output[0]}/end"
        result.graph.initializer.append(numpy_helper.from_array(np.array(end, np.float32), name))
        node.input[2] = name
    return result, largest


def factors_for(reach: NDArray[np.float64], limit: float | None) -> NDArray[np.float64]:
    """From 1 up: each channel as near to the limit as it may.

    :param reach: largest magnitude of each channel
    :param limit: None: of the widest channel
    """
    most = limit / HEADROOM if limit is not None else float(reach.max())
    used = reach > 0
    found: NDArray[np.float64] = np.where(used, most / np.where(used, reach, 1.0), 1.0).clip(1.0, LARGEST_FACTOR)
    return found


def filled(limit: float) -> float:
    """The end that 255 of the least steps 2^k make that hold a limit."""
    return 255 * 2.0 ** math.ceil(math.log2(limit / 255))


def find_links(model: onnx.ModelProto) -> list[Link]:
    """Tensors that a convolution makes and only convolutions read, with weights of their own; graph order."""
    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    readers: dict[str, list[int]] = {}
    makers: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        makers.update(dict.fromkeys(node.output, number))
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(number)
    outputs = {one.name for one in graph.output}
    activations = find_places(model).activations

    def own(place: int) -> bool:
        node = graph.node[place]
        held = [name for name in node.input[1:3] if name]
        return node.op_type == "Conv" and all(name in constants and len(readers[name]) == 1 for name in held)

    def reads(place: int, name: str) -> bool:
        node = graph.node[place]
        if not own(place) or node.input[0] != name:
            return False
        count, each = constants[node.input[1]].dims[:2]
        return _groups(node) == 1 or (each == 1 and _groups(node) == count)

    found = []
    for tensor, number in makers.items():
        activation = activations.get(tensor)
        maker = makers[graph.node[number].input[0]] if activation is not None else number
        reading = readers.get(tensor, [])
        if tensor in outputs or not reading or not own(maker) or not all(reads(place, tensor) for place in reading):
            continue
        if activation is not None and activation.low != 0.0:
            continue
        if activation is not None and activation.high is not None:
            if activation.high > 0:
                found.append(Link(tensor, maker, tuple(reading), activation.node, activation.high))
            continue
        found.append(Link(tensor, maker, tuple(reading)))
    return found


def _reach(
    model: onnx.ModelProto, batches: Iterable[Mapping[str, NDArray[Any]]], tensors: list[str]
) -> dict[str, NDArray[np.float64]]:
    """The largest magnitude of each channel."""
    session = open_session(with_outputs(model, tensors))
    found: dict[str, NDArray[np.float64]] = {}
    for batch in batches:
        try:
            values = session.run(tensors, dict(batch))
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"the network cannot be run: {one_line(error)}") from None
        for name, one in zip(tensors, values, strict=True):
            most = np.abs(one).max(axis=(0, *range(2, one.ndim))).astype(np.float64)
            found[name] = np.maximum(found[name], most) if name in found else most
    if not found:
        raise SettingsError("no images to calibrate with")
    return found


def _groups(node: onnx.NodeProto) -> int:
    return next((int(one.i) for one in node.attribute if one.name == "group"), 1)


def _times(values: NDArray[Any], factors: NDArray[np.float64], axis: int) -> NDArray[Any]:
    shape = [1] * values.ndim
    shape[axis] = -1
    made: NDArray[Any] = (values.astype(np.float64) * factors.reshape(shape)).astype(values.dtype)
    return made
