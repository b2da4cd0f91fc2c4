"""Small networks of the kinds that are split: a chain, a pyramid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from featlink_host.prepare.build_step import BuildArguments


def model_of(
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    outputs: dict[str, list[int | str] | None],
    weights: dict[str, NDArray[np.generic]],
    opset: int = 13,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, one) for name, one in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def chain(batch: int | str = 1, side: int | str = 32, seed: int = 1) -> onnx.ModelProto:
    """image [b,3,s,s] -> conv (stride 2) -> relu [b,8,s/2,s/2] -> conv -> relu2 -> pooled [b,8,1,1] -> scores [b,4]."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.4, (8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32),
        "w3": rng.normal(0, 1, (8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "w2"], ["conv2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["scores"]),
    ]
    return model_of(nodes, [batch, 3, side, side], {"scores": [batch, 4]}, weights)


def pyramid() -> onnx.ModelProto:
    """Two scales, a and b, each with a head: {a, b} separates, and no single tensor behind the stem does."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 0.4, (4, 4, 1, 1)).astype(np.float32)
    weights = {"stem_w": rng.normal(0, 0.4, (4, 3, 1, 1)).astype(np.float32)}
    weights |= {f"{name}_w": kernel for name in ("a", "b", "ha", "hb")}
    nodes = [
        helper.make_node("Conv", ["image", "stem_w"], ["stem_c"]),
        helper.make_node("Relu", ["stem_c"], ["stem"]),
        helper.make_node("Conv", ["stem", "a_w"], ["a_c"], strides=[2, 2]),
        helper.make_node("Relu", ["a_c"], ["a"]),
        helper.make_node("Conv", ["a", "b_w"], ["b_c"], strides=[2, 2]),
        helper.make_node("Relu", ["b_c"], ["b"]),
        helper.make_node("Conv", ["a", "ha_w"], ["fine"]),
        helper.make_node("Conv", ["b", "hb_w"], ["coarse"]),
    ]
    return model_of(nodes, [1, 3, 16, 16], {"fine": [1, 4, 8, 8], "coarse": [1, 4, 4, 4]}, weights)


def pictures(folder: Path, count: int, side: int = 32) -> Path:
    """A square that moves over noise, a PNG a picture."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    ground = rng.integers(0, 80, (side, side, 3), np.uint8)
    for number in range(count):
        picture = ground.copy()
        at = number % (side - 8)
        picture[at : at + 8, 4:20] = (200, 40 + 5 * (number % 20), 90)
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return folder


def small_build(folder: Path, **changes: Any) -> BuildArguments:
    """A build of `chain` on ten pictures, with little to try."""
    onnx.save(chain(), str(folder / "net.onnx"))
    given = BuildArguments(
        model=str(folder / "net.onnx"),
        tensor="",
        images=str(pictures(folder / "pictures", 10)),
        kbps=40.0,
        frames=5,
        modes=("uniform",),
        depths=(8,),
        crfs=(30.0,),
        name="net",
    )
    return replace(given, **changes)
