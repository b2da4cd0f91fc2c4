"""Networks with one operator that is to be integers, and their evaluation in whole numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(
    nodes: list[onnx.NodeProto],
    inputs: tuple[int | str, ...],
    constants: dict[str, np.ndarray],
    outputs: tuple[str, ...] = ("out",),
    opset: int = 13,
) -> onnx.ModelProto:
    """x -> ... -> outputs, float32, checked."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(inputs))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def convolved(levels: np.ndarray, weights: np.ndarray, stride: int = 1, groups: int = 1, pad: int = 0) -> np.ndarray:
    """The sums of a convolution, int64.

    :param levels: [1, C, H, W], their zero point taken off
    :param weights: [O, C / groups, k, k]
    """
    padded = np.pad(levels.astype(np.int64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    outputs, each, high, wide = weights.shape
    rows = (padded.shape[2] - high) // stride + 1
    columns = (padded.shape[3] - wide) // stride + 1
    sums = np.zeros((1, outputs, rows, columns), np.int64)
    for out in range(outputs):
        first = out // (outputs // groups) * each
        for row in range(rows):
            for column in range(columns):
                seen = padded[
                    0,
                    first : first + each,
                    row * stride : row * stride + high,
                    column * stride : column * stride + wide,
                ]
                sums[0, out, row, column] = (seen * weights[out]).sum()
    return sums


def requantized(
    sums: np.ndarray, scale: np.ndarray | float, step: float, zero: int, low: int = 0, high: int = 255
) -> np.ndarray:
    """Sums in units of `scale` as levels, in whole numbers and exact fractions: halves to even."""
    ratio = np.asarray(scale, np.float64) / step  # powers of two: exact
    return np.clip(np.rint(sums * ratio) + zero, low, high).astype(np.int64)
