"""Takes channels out of a graph; beside it the same network with those channels set to zero, to compare with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from featlink_codec.errors import FeatlinkError

from ...inference import one_line
from ..scoring_runs import ModelRunner
from .channels import Channels
from .weights import Weights, tidy

Tensor = NDArray[Any]
#: Largest difference that another order of summation makes, over the largest output.
TOLERANCE = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-9}


def remove(model: onnx.ModelProto, channels: Channels, units: Collection[int]) -> onnx.ModelProto:
    """A network without some channels: smaller weights, fewer channels in every tensor that had them.

    :param channels: of this network
    :param units: which; each tensor keeps one at least
    :raises FeatlinkError: the result is no valid network (this is a fault of this package)
    """
    after = onnx.ModelProto()
    after.CopyFrom(model)
    gone = channels.gone(units)
    nodes = {node.output[0]: node for node in after.graph.node if node.output}
    weights = Weights(after)
    cuts: dict[tuple[str, int], list[tuple[int, NDArray[np.intp]]]] = {}
    for one in channels.slices:
        stay = np.flatnonzero(~gone[one.ids])
        if len(stay) < len(one.ids):
            cuts.setdefault((one.node, one.position), []).append((one.axis, stay))
    for (name, position), axes in cuts.items():
        values = weights.values(nodes[name].input[position])
        assert values is not None
        for axis, stay in axes:
            values = np.take(values, stay, axis)
        weights.put(nodes[name], position, values)
    for name, ids in channels.depthwise.items():
        for attribute in nodes[name].attribute:
            if attribute.name == "group":
                attribute.i = int((~gone[ids]).sum())
    for name, (axis, ids) in channels.reshaped.items():
        left = int((~gone[ids]).sum())
        if left < len(ids):
            target = weights.values(nodes[name].input[1])
            assert target is not None
            target = target.copy()
            target[axis] = left
            weights.put(nodes[name], 1, target)
    tidy(after)
    check(after)
    return after


def masked(model: onnx.ModelProto, channels: Channels, units: Collection[int]) -> onnx.ModelProto:
    """The network as it was, but that the layers which read these channels read zeros: what `remove` has to equal."""
    after = onnx.ModelProto()
    after.CopyFrom(model)
    gone = channels.gone(units)
    weights = Weights(after)
    reading = {one.node: one for one in channels.slices if one.role == "reads" and gone[one.ids].any()}
    nodes = list(after.graph.node)
    del after.graph.node[:]
    for node in nodes:
        one = reading.get(node.output[0]) if node.output else None
        if one is not None:
            values = weights.values(node.input[1])
            assert values is not None
            mask = (~gone[one.ids]).astype(values.dtype).reshape(1, -1, *[1] * (channels.rank[one.node] - 2))
            name = weights.new(f"{one.node}/mask", mask)
            after.graph.node.append(
                helper.make_node("Mul", [node.input[0], name], [f"{name}/masked"], f"{name}/masked")
            )
            node.input[0] = f"{name}/masked"
        after.graph.node.append(node)
    del after.graph.value_info[:]
    return after


def verify(pruned: onnx.ModelProto, mask: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> float:
    """The largest difference between the outputs of the two, over the largest output.

    :raises FeatlinkError: it is more than rounding explains
    """
    wanted, found = ModelRunner(mask)(inputs), ModelRunner(pruned)(inputs)
    worst = 0.0
    coarse = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in mask.graph.initializer) and any(
        value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 for value in mask.graph.output
    )
    for name, one in wanted.items():
        if one.dtype.kind != "f":
            continue
        scale = float(np.abs(one.astype(np.float64)).max()) or 1.0
        error = float(np.abs(found[name].astype(np.float64) - one.astype(np.float64)).max()) / scale
        worst = max(worst, error)
        if not error <= TOLERANCE["float16" if coarse else one.dtype.name]:
            raise FeatlinkError(f"output {name!r} differs by {error:.3g} of its peak from the network with zeros")
    return worst


def check(model: onnx.ModelProto) -> None:
    """ONNX's checker with shape inference.

    :raises FeatlinkError: it refuses the model
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's errors share no base
        raise FeatlinkError(f"the changed network is refused by the ONNX checker: {one_line(error)}") from None
