"""Integers of few different values as places in a table: what entropy coding can make more of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .replaced import without

#: A table is worth it where no more than this share of the integers between the least and the greatest occur.
FEW = 0.5


def with_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network: int8 constants of few different values are looked up in a table of them (Gather).

    onnxruntime computes them when it opens the network, before it looks for what can be done in integers.
    """
    tables: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for one in model.graph.initializer:
        if one.data_type == TensorProto.INT8 and np.prod(one.dims, dtype=np.int64) > 1:
            values = np.asarray(numpy_helper.to_array(one))
            table, places = np.unique(values, return_inverse=True)
            if len(table) <= FEW * (int(table[-1]) - int(table[0]) + 1):
                zero = int(np.abs(table.astype(np.int64)).argmin())
                codes = (places.reshape(values.shape) - zero).astype(np.int16 if len(table) > 128 else np.int8)
                tables[one.name] = np.roll(table, -zero), codes
    constants, nodes = [], []
    for name, (table, codes) in tables.items():
        constants += [numpy_helper.from_array(table, f"{name}/table"), numpy_helper.from_array(codes, f"{name}/codes")]
        # Gather wants wide indices; those below zero count from the table's end.
        nodes.append(helper.make_node("Cast", [f"{name}/codes"], [f"{name}/places"], to=TensorProto.INT32))
        nodes.append(helper.make_node("Gather", [f"{name}/table", f"{name}/places"], [name], axis=0))
    result = without(model, tables, constants)
    nodes += list(result.graph.node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return result
