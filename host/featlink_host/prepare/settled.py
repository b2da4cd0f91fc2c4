"""What a network computes of constants alone, as constants: shape inference knows sizes then that it cannot follow.

Exporters write a handful of operators for the padding of a layer or the size of an enlarged map. ONNX's shape inference
does not compute all of them, and leaves open whatever comes behind.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .pruning.weights import Weights

#: Larger ones are no shapes, pads or axes.
_MOST = 1024
_WHOLE = (TensorProto.INT32, TensorProto.INT64)


def settled(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy in which whole numbers that are computed of constants are initializers; None where there are none.

    For looking at shapes: all other nodes stay as they are, nothing is noted of their results.

    :param model: with inferred shapes, as far as that went
    """
    weights = Weights(model)
    whole = {one.name for one in model.graph.value_info if one.type.tensor_type.elem_type in _WHOLE}
    known: list[onnx.TensorProto] = []
    for node in model.graph.node:
        if node.op_type == "Constant" or len(node.output) != 1 or node.output[0] not in whole:
            continue
        values = weights.values(node.output[0])
        if values is not None and values.size <= _MOST:
            known.append(numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
    if not known:
        return None
    found = onnx.ModelProto()
    found.CopyFrom(model)
    names = {one.name for one in known}
    rest = [node for node in found.graph.node if not names.intersection(node.output)]
    del found.graph.node[:]
    found.graph.node.extend(rest)
    found.graph.initializer.extend(known)
    del found.graph.value_info[:]
    return found
