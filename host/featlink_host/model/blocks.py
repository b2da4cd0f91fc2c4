"""Which tensors of a graph can share a unit: a layer's weight, its bias, and the batch normalization behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.model import Block, EncodeSettings


def blocks_of(
    proto: onnx.ModelProto, tensors: Mapping[str, NDArray[Any]], settings: EncodeSettings
) -> tuple[Block, ...]:
    """Blocks of convolutions and fully connected layers whose weight has a row for each output.

    A tensor that several nodes use stays alone, and so does what a block has no syntax for.

    :param proto: a graph, with or without data
    :param tensors: that the stream carries
    """
    graph = proto.graph
    users = Counter(name for node in graph.node for name in node.input)
    readers = {name: node for node in graph.node for name in node.input[:1]}
    outputs = {output.name for output in graph.output}

    def fits(name: str, rows: int | None = None) -> bool:
        values = tensors.get(name)
        if values is None or users[name] != 1 or values.dtype.kind != "f" or not np.isfinite(values).all():
            return False
        how = settings.of(name, values.ndim)
        plain = not how.raw and not how.codebook and how.escape_limit is None
        return plain and (values.ndim > 1 if rows is None else values.shape == (rows,))

    found = []
    for node in graph.node:
        if not _has_row_per_output(node) or len(node.input) < 2 or not fits(node.input[1]):
            continue
        weight = node.input[1]
        rows = tensors[weight].shape[0]
        bias = node.input[2] if len(node.input) > 2 and fits(node.input[2], rows) else None
        normalization: tuple[str, ...] = ()
        after = readers.get(node.output[0])
        alone = users[node.output[0]] == 1 and node.output[0] not in outputs
        if after is not None and alone and after.op_type == "BatchNormalization" and len(after.input) == 5:
            gamma, beta, mean, variance = after.input[1:]
            if all(fits(name, rows) for name in (gamma, beta, mean, variance)):
                normalization = (beta, gamma, mean, variance)
        if bias or normalization:
            found.append(Block(weight, normalization=normalization, bias=bias))
    return tuple(found)


def _has_row_per_output(node: onnx.NodeProto) -> bool:
    if node.op_type == "Gemm":
        return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return node.op_type == "Conv"
