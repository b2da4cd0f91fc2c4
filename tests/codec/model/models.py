"""Small models, the golden vectors, and the cores that must agree on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featlink_codec.model import twin
from featlink_codec.model.core import default_core
from featlink_codec.model.reader import ModelStream

VECTORS = Path(__file__).parents[2] / "vectors" / "nnc"
INDEX = {vector["name"]: vector for vector in json.loads((VECTORS / "index.json").read_text())["vectors"]}

#: The readable definition, and what is in use.
both_cores = pytest.mark.parametrize("core", [twin, default_core()], ids=["twin", "default"])


def golden(name: str, core=None) -> ModelStream:
    return ModelStream((VECTORS / INDEX[name]["file"]).read_bytes(), core=core or twin)


def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(VECTORS / INDEX[name]["expected"]) as arrays:
        return {key: arrays[key] for key in arrays.files}


def small_model(seed: int = 0) -> dict[str, np.ndarray]:
    """A model with every type of tensor that is coded; a row of `fc.weight` is zero."""
    rng = np.random.default_rng(seed)
    model = {
        "conv.weight": rng.laplace(0, 0.05, (10, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(0, 0.1, 20).astype(np.float32),
        "dw.weight": rng.normal(0, 0.1, (8, 1, 3, 3)).astype(np.float32),
        "fc.weight": rng.laplace(0, 0.05, (18, 13)).astype(np.float32),
        "fc.bias": rng.normal(0, 0.1, 4).astype(np.float32),
        "half": rng.normal(0, 1, (6, 5)).astype(np.float16),
        "double": rng.normal(0, 1, (6, 5)),
        "counts": rng.integers(-300, 300, (5, 7)).astype(np.int64),
        "mask": rng.integers(0, 2, (4, 6)).astype(bool),
        "bytes": rng.integers(0, 256, 9).astype(np.uint8),
        "scalar": np.array(7, np.int32),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
    }
    model["fc.weight"][3] = 0
    return model


def changed(model: dict[str, np.ndarray], seed: int, share: float = 0.4) -> dict[str, np.ndarray]:
    """The model, some of its finite floating-point numbers a little different."""
    rng = np.random.default_rng(seed)
    return {
        name: (tensor + rng.normal(0, 0.02, tensor.shape) * (rng.random(tensor.shape) < share)).astype(tensor.dtype)
        if tensor.dtype.kind == "f" and name != "special"
        else tensor
        for name, tensor in model.items()
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape), name
        assert tensor.tobytes() == other[name].tobytes(), name
