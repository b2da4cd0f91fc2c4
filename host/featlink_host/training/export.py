"""A student as ONNX: plain operators of opset 17, batch normalisation folded into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .architecture import Architecture, Block, Convolution, Ghost, convolutions

OPSET = 17
#: Names of the student's input, the tensor at which it is meant to be split, and its output.
INPUT, FEATURES, OUTPUT = "image", "features", "logits"
#: What PyTorch's batch normalisation adds to variances.
EPSILON = 1e-5

Arrays = Mapping[str, NDArray[np.float32]]


def folded(arrays: Arrays, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights and bias of a convolution with its batch normalisation in them, in float64 until the last rounding."""
    gamma, beta, mean, variance = (
        arrays[f"{name}.norm.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(variance + EPSILON)
    weights = arrays[f"{name}.conv.weight"].astype(np.float64) * factor[:, None, None, None]
    return weights.astype(np.float32), (beta - mean * factor).astype(np.float32)


def student_model(architecture: Architecture, arrays: Arrays) -> onnx.ModelProto:
    """The network, checked; it takes any number of pictures at a time.

    :param arrays: float32 by PyTorch's names: NAME.conv.weight, NAME.norm.{weight,bias,running_mean,running_var} for
        each of `architecture.convolutions`, classifier.weight, classifier.bias
    """
    graph = _Graph(arrays)
    tensor = INPUT
    last = f"backbone.{len(architecture.backbone) - 1}"
    for name, block in zip(architecture.names(), architecture.blocks, strict=True):
        tensor = graph.block(block, name, tensor, FEATURES if name == last else f"{name}.out")
    graph.add("Flatten", [tensor], "flat", axis=1)
    for key in ("weight", "bias"):
        graph.weight(f"classifier.{key}", arrays[f"classifier.{key}"])
    graph.add("Gemm", ["flat", "classifier.weight", "classifier.bias"], OUTPUT, transB=1)
    first = architecture.blocks[0]
    picture: list[str | int | None] = ["n", first.inputs, architecture.size, architecture.size]
    made = helper.make_graph(
        graph.nodes,
        "student",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", architecture.classes])],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    model.producer_name = "featlink"
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and weights, as they come up."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, array: NDArray[np.float32]) -> None:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))

    def block(self, block: Block, name: str, tensor: str, output: str) -> str:
        if isinstance(block, Ghost):
            (first, primary), (second, linear) = convolutions(block, name)
            intrinsic = self.convolution(primary, first, tensor, f"{first}.sum")
            ghosts = self.convolution(linear, second, intrinsic, f"{second}.sum")
            self.add("Concat", [intrinsic, ghosts], f"{name}.all", axis=1)
            return self.add("Relu", [f"{name}.all"], output)
        steps = list(convolutions(block, name))
        for at, (inner, one) in enumerate(steps):
            made = output if at == len(steps) - 1 else f"{inner}.out"
            if one.relu:
                self.convolution(one, inner, tensor, f"{inner}.sum")
                tensor = self.add("Relu", [f"{inner}.sum"], made)
            else:
                tensor = self.convolution(one, inner, tensor, made)
        return tensor

    def convolution(self, one: Convolution, name: str, tensor: str, output: str) -> str:
        for key, array in zip(("weight", "bias"), folded(self._arrays, name), strict=True):
            self.weight(f"{name}.{key}", array)
        pads, sides = [one.kernel // 2] * 4, [one.kernel] * 2
        inputs = [tensor, f"{name}.weight", f"{name}.bias"]
        return self.add(
            "Conv", inputs, output, kernel_shape=sides, pads=pads, strides=[one.stride] * 2, group=one.groups
        )  # fmt: skip
