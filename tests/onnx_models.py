"""Small ONNX models that have what real ones have: casts, constants, branches, odd types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ASSETS = Path(__file__).parent / "assets"
FMNIST, FMNIST_UPDATE = ASSETS / "fmnist_cnn.onnx", ASSETS / "fmnist_cnn_update.onnx"


def odd_model(seed: int = 3) -> onnx.ModelProto:
    """image [n,2,8,8] -> scores [n,5]: float16 behind a Cast, constants, typed data, int64, subgraphs, doc strings."""
    rng = np.random.default_rng(seed)
    w1 = rng.normal(0, 0.3, (4, 2, 3, 3)).astype(np.float16)
    w2 = rng.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32)
    w3 = rng.normal(0, 0.2, (5, 256)).astype(np.float32)
    table = rng.integers(-(1 << 20), 1 << 20, 100).astype(np.int64)
    typed = helper.make_tensor("b1", TensorProto.FLOAT, [4], rng.normal(0, 0.1, 4).astype(np.float32).tolist())
    half = helper.make_tensor("h", TensorProto.FLOAT16, [4, 1, 1], np.ones((4, 1, 1), np.float16))
    inside = {
        word: helper.make_graph(
            [
                helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(value)),
                helper.make_node("Mul", ["deep", "k"], [f"{word}_out"]),
            ],
            word,
            [],
            [helper.make_tensor_value_info(f"{word}_out", TensorProto.FLOAT, None)],
        )
        for word, value in (("then", np.full((1, 4, 1, 1), 0.5, "f")), ("else", np.full((1, 4, 1, 1), 2, "f")))
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["w1"], ["w1f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["image", "w1f", "b1"], ["first"], "first", doc_string="from here", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["relu"]),
        helper.make_node("Conv", ["relu", "w2"], ["deepwise"], name="deep", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["deepwise", "hf"], ["deep"]),
        helper.make_node("If", ["flag"], ["branch"], then_branch=inside["then"], else_branch=inside["else"]),
        helper.make_node("Reshape", ["branch", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], name="last", transB=1),
        helper.make_node("Gather", ["table", "one"], ["picked"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5]),
            helper.make_tensor_value_info("picked", TensorProto.INT64, [1]),
        ],
        [
            numpy_helper.from_array(w1, "w1"),
            typed,
            numpy_helper.from_array(w2, "w2"),
            half,
            numpy_helper.from_array(np.array(True), "flag"),
            numpy_helper.from_array(np.array([-1, 256], np.int64), "shape"),
            numpy_helper.from_array(w3, "w3"),
            numpy_helper.from_array(rng.normal(0, 0.1, 5).astype(np.float32), "b3"),
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([7], np.int64), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def moved(model: onnx.ModelProto, names: tuple[str, ...], by: float = 0.01) -> onnx.ModelProto:
    """The same model with some initialisers moved a little."""
    after = onnx.ModelProto.FromString(model.SerializeToString())
    rng = np.random.default_rng(9)
    for tensor in after.graph.initializer:
        if tensor.name in names:
            values = numpy_helper.to_array(tensor)
            change = rng.normal(0, by, values.shape) * (rng.random(values.shape) < 0.3)
            tensor.CopyFrom(numpy_helper.from_array((values + change).astype(values.dtype), tensor.name))
    return after


def run(model: bytes | Path, **inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs in onnxruntime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def pictures(count: int = 6, seed: int = 1) -> np.ndarray:
    """Inputs for `odd_model`."""
    return np.random.default_rng(seed).normal(0, 1, (count, 2, 8, 8)).astype(np.float32)


def blobs(count: int, seed: int = 0) -> np.ndarray:
    """Soft spots on a dark ground: something that moves every layer."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    centres = rng.uniform(6, 22, (count, 2, 1, 1))
    spots = np.exp(-((y - centres[:, :1, 0, 0][:, :, None]) ** 2 + (x - centres[:, 1:, 0, 0][:, :, None]) ** 2) / 30)
    return ((spots + rng.uniform(0, 0.1, spots.shape))[:, None] * 2 - 0.8).astype(np.float32)
