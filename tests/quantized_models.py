"""A network with every kind of layer whose weights are quantized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Tensor = NDArray[Any]


def every_layer(opset: int = 13, seed: int = 0) -> onnx.ModelProto:
    """image [n,4,10,10] -> out [n,5]: convolutions plain, in groups, dilated, transposed; Gemm both ways, MatMul.

    One weight is float16 behind a Cast, one the output of a Constant.
    """
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Tensor:
        return rng.normal(0, 0.4, shape).astype(np.float32)

    constants = {
        "w1": weight(6, 4, 3, 3).astype(np.float16),
        "b1": weight(6),
        "depthwise": weight(6, 1, 3, 3),
        "dilated": weight(8, 6, 3, 3),
        "up": weight(8, 3, 2, 2),
        "up_groups": weight(3 * 2, 2, 2, 2),
        "w6": weight(7, 4),
        "b6": weight(7),
        "w7": weight(7, 6),
        "w8": weight(6, 5),
        "b9": weight(5),
    }
    nodes = [
        helper.make_node("Cast", ["w1"], ["w1f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["image", "w1f", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "depthwise"], ["c2"], group=6, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["c2", "dilated"], ["c3"], dilations=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("ConvTranspose", ["c3", "up"], ["c4"], strides=[2, 2]),
        helper.make_node("Concat", ["c4", "c4"], ["both"], axis=1),
        helper.make_node("ConvTranspose", ["both", "up_groups"], ["c5"], group=2),
        helper.make_node("GlobalAveragePool", ["c5"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Constant", [], ["w6c"], value=numpy_helper.from_array(constants.pop("w6"))),
        helper.make_node("Gemm", ["flat", "w6c", "b6"], ["g6"], transB=1),
        helper.make_node("Gemm", ["g6", "w7"], ["g7"]),
        helper.make_node("MatMul", ["g7", "w8"], ["m8"]),
        helper.make_node("Add", ["m8", "b9"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "every",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, 10, 10])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def images(count: int = 64, seed: int = 1) -> Tensor:
    """Inputs for it: smooth, so that neighbours are alike as in pictures."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, (count, 4, 12, 12))
    smooth = (rough[..., 2:, 2:] + rough[..., 1:-1, 2:] + rough[..., 2:, 1:-1] + rough[..., 1:-1, 1:-1]) / 2
    return smooth.astype(np.float32)


class Inputs:
    """Stands for a judge: gives inputs, and knows nothing else."""

    kind = "outputs"

    def __init__(self, model: onnx.ModelProto, given: Tensor) -> None:
        self._name, self._given = model.graph.input[0].name, given
        self.samples = len(given)

    def batches(self, limit: int | None = None) -> Iterator[dict[str, Tensor]]:
        for begin in range(0, min(limit or len(self._given), len(self._given)), 16):
            yield {self._name: self._given[begin : begin + 16]}
