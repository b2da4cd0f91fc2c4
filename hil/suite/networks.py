"""Small networks and pictures for boards: a machine that QEMU emulates shall not take minutes for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

#: Of the pictures and of the networks' input: nothing is resized.
WIDTH, HEIGHT = 96, 80
#: Channels of `feature`, which is [1, CHANNELS, HEIGHT / 2, WIDTH / 2]: 4 x 4 tiles make a picture of 192 x 160, which
#: is more than the least that any known hardware encoder takes.
CHANNELS = 16
#: Where both networks are split.
TENSOR = "feature"


def exact_network(path: Path) -> Path:
    """image -> MaxPool, scaled and shifted copies, Relu (`feature`) -> GlobalMaxPool (`scores`).

    Pooling and single float32 operations on single elements: every machine gives the same bits, as IEEE 754 rounds.
    No Conv: sums in another order are other numbers.
    """
    copies = CHANNELS // 3 + 1
    scales = np.linspace(0.25, 2.0, CHANNELS, dtype=np.float32).reshape(1, CHANNELS, 1, 1)
    shifts = np.linspace(-0.5, 0.0, CHANNELS, dtype=np.float32).reshape(1, CHANNELS, 1, 1)
    nodes = [
        helper.make_node("MaxPool", ["image"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["pooled"] * copies, ["copies"], axis=1),
        helper.make_node("Slice", ["copies", "begin", "end", "axis"], ["channels"]),
        helper.make_node("Mul", ["channels", "scales"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shifts"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], [TENSOR]),
        helper.make_node("GlobalMaxPool", [TENSOR], ["scores"]),
    ]
    values = {"scales": scales, "shifts": shifts, "begin": np.array([0]), "end": np.array([CHANNELS])}
    return _save(path, "exact", nodes, {**values, "axis": np.array([1])})


def conv_network(path: Path) -> Path:
    """image -> Conv, Relu (`feature`) -> Conv, GlobalAveragePool (`scores`): as real ones, not exact."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.4, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, CHANNELS).astype(np.float32),
        "w2": rng.normal(0, 0.4, (4, CHANNELS, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["signed"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["signed"], [TENSOR]),
        helper.make_node("Conv", [TENSOR, "w2"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["scores"]),
    ]
    return _save(path, "conv", nodes, weights, classes=4)


NETWORKS = {"exact": exact_network, "conv": conv_network}


def moving_square(folder: Path, pictures: int) -> Path:
    """A folder of PNG files, WIDTH x HEIGHT: a bright square moves over a gradient."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ground = np.stack([rows + 20, columns, (rows + columns) // 2], axis=-1).astype(np.uint8)
    for k in range(pictures):
        picture = ground.copy()
        left = 5 * k % (WIDTH - 30)
        picture[20:50, left : left + 30] = (220, 180, 90)
        Image.fromarray(picture).save(folder / f"{k:03d}.png")
    return folder


def _save(path: Path, name: str, nodes: list[onnx.NodeProto], values: dict[str, np.ndarray], classes: int = 0) -> Path:
    """:param classes: channels of `scores`; 0: as many as `feature` has."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes or CHANNELS, 1, 1])],
        [numpy_helper.from_array(array, key) for key, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def tile_picture(levels: np.ndarray) -> np.ndarray:
    """The picture of a map's tiles, as the encoder was given it: uint8 [4 H, 4 W] of levels [H, W, 16]."""
    height, width, channels = levels.shape
    side = round(channels**0.5)
    tiles = levels.reshape(height, width, side, side).transpose(2, 0, 3, 1)
    return tiles.reshape(side * height, side * width).astype(np.uint8)
