"""A small network with everything that channels go through, and judges of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featlink_host.prepare.samples import Batch
from featlink_host.prepare.scoring import LabelledJudge

SIDE = 8


class Builder:
    """Nodes and constants of a graph."""

    def __init__(self, seed: int, half: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, loc: float = 0.0, scale: float = 0.4) -> str:
        values = self.rng.normal(loc, scale, shape).astype(np.float32)
        if not self.half:
            self.constants.append(numpy_helper.from_array(values, name))
            return name
        self.constants.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_h"))
        self.nodes.append(helper.make_node("Cast", [f"{name}_h"], [name], to=TensorProto.FLOAT))
        return name

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def model(self, outputs: dict[str, list[Any]], channels: int = 3, opset: int = 15) -> onnx.ModelProto:
        shape = ["n", channels, SIDE, SIDE]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, kind) for name, kind in outputs.items()],
            self.constants,
        )
        found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(found, full_check=True)
        return found


def mixed_model(seed: int = 0, half: bool = False) -> onnx.ModelProto:
    """Convolution, normalisation, ReLU6, depthwise, residual sum, concatenation, pooling, flattening, products."""
    b = Builder(seed, half)
    b.constant("zero", np.float32(0))
    b.constant("six", np.float32(6))
    x = b.node("Conv", ["image", b.weight("stem/W", 8, 3, 3, 3)], "stem", pads=[1, 1, 1, 1])
    norm = [b.weight("scale", 8, loc=1), b.weight("shift", 8), b.weight("mean", 8), "variance"]
    b.constant("variance", b.rng.uniform(0.5, 1.5, 8).astype(np.float32))
    x = b.node("BatchNormalization", [x, *norm], "norm")
    x = b.node("Clip", [x, "zero", "six"], "stem6")
    deep = [x, b.weight("deep/W", 8, 1, 3, 3), b.weight("deep/b", 8)]
    y = b.node("Conv", deep, "deep", group=8, auto_pad="SAME_UPPER")
    y = b.node("Relu", [y], "deep_relu")
    y = b.node("Conv", [y, b.weight("point/W", 8, 8, 1, 1), b.weight("point/b", 8)], "point")
    y = b.node("Add", [b.weight("offset", 1, 8, 1, 1), y], "point_offset")
    x = b.node("Add", [x, y], "sum")
    side = b.node("Conv", [x, b.weight("side/W", 6, 8, 3, 3), b.weight("side/b", 6)], "side", pads=[1, 1, 1, 1])
    side = b.node("Relu", [side], "side_relu")
    x = b.node("Concat", [x, side], "both", axis=1)
    x = b.node("MaxPool", [x], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    flat = b.node("Reshape", [x, b.constant("shape", np.array([-1, 14 * 16], np.int64))], "flat")
    x = b.node("Gemm", [flat, b.weight("fc1/W", 20, 14 * 16, scale=0.1), b.weight("fc1/b", 20)], "fc1", transB=1)
    x = b.node("Relu", [x], "fc1_relu")
    b.node("MatMul", [x, b.weight("fc2/W", 20, 5)], "scores")
    return b.model({"scores": ["n", 5]})


def pictures(count: int, seed: int = 1, channels: int = 3) -> NDArray[np.float32]:
    """Inputs with something in common between neighbours."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (count, channels, SIDE // 2, SIDE // 2)).repeat(2, axis=2).repeat(2, axis=3)
    return (coarse + rng.normal(0, 0.3, coarse.shape)).astype(np.float32)


class Held:
    """Samples in memory."""

    labelled = True

    def __init__(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self.images, self.labels, self.count = images, labels, len(images)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        places = np.linspace(0, self.count - 1, min(limit or self.count, self.count)).round().astype(int)
        for first in range(0, len(places), size):
            some = places[first : first + size]
            yield Batch({"image": self.images[some]}, self.labels[some], first)


def judge_of(model: onnx.ModelProto, count: int = 96, seed: int = 1) -> LabelledJudge:
    """A judge whose labels are what the network itself says."""
    images = pictures(count, seed)
    return LabelledJudge(model, Held(images, outputs(model, image=images)["scores"].argmax(axis=1)))


def outputs(model: onnx.ModelProto, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """In onnxruntime."""
    from featlink_host.prepare.scoring_runs import ModelRunner

    return ModelRunner(model)(inputs)


def by_numpy(model: onnx.ModelProto, **inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """In ONNX's reference, which is NumPy."""
    from onnx.reference import ReferenceEvaluator

    found: Any = ReferenceEvaluator(model).run(None, inputs)
    return dict(zip([value.name for value in model.graph.output], found, strict=True))
