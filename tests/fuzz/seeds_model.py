"""Good model streams to start from: nncodec's golden vectors, and ours with every feature that the format has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.model import (
    Description,
    EncodedModel,
    EncodeSettings,
    Layer,
    ModelStream,
    TensorSettings,
    apply_update,
    encode,
    encode_update,
)
from featlink_codec.model.control_data import DataSet, ModelInfo, Topology
from featlink_codec.model.decoded import TensorContext
from featlink_codec.model.inference import InferenceFormat
from featlink_codec.model.onnx_bytes import FORMAT
from featlink_codec.model.orders import Order, OrderKind
from featlink_codec.model.processing import Processing, ProcessingOption
from featlink_codec.model.protobuf import bytes_head, varint
from featlink_codec.model.tensor_level import Part, Rule, Supplement, Version

VECTORS = Path(__file__).parents[1] / "vectors" / "nnc"
ORDERS = (
    Order(OrderKind.COLUMN),
    Order(OrderKind.BLOCKED, 4),
    Order(OrderKind.DIAGONAL),
    Order(OrderKind.NEURONS, permutation=(3, 0, 2, 1, 4, 5)),
)


@dataclass(frozen=True)
class Base:
    """A model that updates are for.

    :param streams: whole model and updates that lead to it
    """

    streams: tuple[bytes, ...]
    tensors: Mapping[str, NDArray[Any]]
    model_sha256: str
    contexts: Mapping[str, TensorContext]


def _base(*streams: bytes) -> Base:
    first = ModelStream(streams[0])
    tensors, identity, contexts = first.tensors(), first.model_sha256(), {}
    for data in streams[1:]:
        made = apply_update(tensors, identity, ModelStream(data), contexts)
        tensors, identity, contexts = made.tensors, made.model_sha256, dict(made.contexts)
    return Base(streams, tensors, identity, contexts)


@cache
def golden() -> dict[str, bytes]:
    """nncodec's streams by name."""
    vectors = json.loads((VECTORS / "index.json").read_text())["vectors"]
    return {vector["name"]: (VECTORS / vector["file"]).read_bytes() for vector in vectors}


@cache
def chain() -> tuple[EncodedModel, ...]:
    """A model, and updates each in the light of those before."""
    settings = EncodeSettings(weights=TensorSettings(qp=-20, scan_order=1))
    rng = np.random.default_rng(5)
    found = [encode(_model(), settings)]
    for _ in range(3):
        after = {
            name: (tensor + (rng.random(tensor.shape) < 0.3) * 0.25).astype(tensor.dtype)
            if tensor.dtype.kind == "f" and name != "special"
            else tensor
            for name, tensor in found[-1].tensors.items()
            if name != "bytes" or len(found) < 3
        }
        found.append(encode_update(found[-1].tensors, found[-1].model_sha256, after, settings, found[-1].contexts))
    return tuple(found)


@cache
def bases() -> tuple[Base | None, ...]:
    """What an input may be an update of; a byte chooses."""
    vectors, own = golden(), [one.data for one in chain()]
    foreign = [vectors[name] for name in ("p02_dq_default_api", "p13_update1", "p13_update2")]
    return (
        None,
        *(_base(*foreign[:count]) for count in (1, 2, 3)),
        *(_base(*own[:count]) for count in (1, 2, 3)),
        None,
    )


@cache
def streams() -> dict[str, bytes]:
    """All of them, by name."""
    found = dict(golden())
    found |= {f"update{number}" if number else "scan": one.data for number, one in enumerate(chain())}
    weights = {name: tensor for name, tensor in _model().items() if tensor.dtype == np.float32 and name != "special"}
    small = _model(6, 5)
    for name, settings in {
        "plain": EncodeSettings(),
        "uniform": EncodeSettings(weights=TensorSettings(dq=False, codebook=True, row_skip=False), raw_elements=0),
        "rate": EncodeSettings(weights=TensorSettings(rate_weight=0.1, codebook=True), unary_length=1),
        "fine": EncodeSettings(weights=TensorSettings(qp=-130), unary_length=256, qp_density=3),
    }.items():
        found[name] = encode(_model(), settings).data
        found[f"{name} without control data"] = encode(
            weights, EncodeSettings(settings.weights, unary_length=settings.unary_length, control_data=False)
        ).data
    special = {
        "conv.weight": TensorSettings(dq=False, escape_limit=3, inference=InferenceFormat("int8")),
        "fc.weight": TensorSettings(inference=InferenceFormat("fixed 2.6"), order=ORDERS[2]),
        "half": TensorSettings(order=ORDERS[3], inference=InferenceFormat("float16")),
        "double": TensorSettings(order=ORDERS[0]),
        "conv.bias": TensorSettings(raw=True, inference=InferenceFormat("fixed 1.31")),
        "counts": TensorSettings(order=ORDERS[1], dq=False, codebook=True),
    }
    found["described"] = encode(small, EncodeSettings(tensors=special), _description(small)).data
    found["versions"] = _versions()
    return found


def _model(rows: int = 18, columns: int = 13) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(rows)
    model: dict[str, NDArray[Any]] = {
        "conv.weight": rng.laplace(0, 0.05, (rows, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(0, 0.1, 20).astype(np.float32),
        "fc.weight": rng.laplace(0, 0.05, (rows, columns)).astype(np.float32),
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


def _description(model: Mapping[str, NDArray[Any]]) -> Description:
    option = ProcessingOption(Processing.DEPENDS_ON, True, ("fc",))
    return Description(
        layers=(Layer("conv", "convolution", ("conv.weight", "conv.bias"), (option,)),),
        topology=Topology(FORMAT, _graph(model)),
        model=ModelInfo("street", "2", {"epochs": 3}, {"accuracy": 0.9}),
        data_set=DataSet("streets", {"pictures": 60000}),
        options={"half": (ProcessingOption(Processing.PER_CHANNEL),)},
        parameter_types={"half": "recurrent"},
    )


def _graph(model: Mapping[str, NDArray[Any]]) -> bytes:
    """An ONNX model that has places for float32 tensors, and nothing else."""
    graph = b""
    for name, tensor in model.items():
        if tensor.dtype == np.float32:
            shape = b"".join(varint(1 << 3) + varint(size) for size in tensor.shape)
            proto = shape + varint(2 << 3) + varint(1) + bytes_head(8, len(name)) + name.encode()
            graph += bytes_head(5, len(proto)) + proto
    return bytes_head(7, len(graph)) + graph


def _versions() -> bytes:
    rng = np.random.default_rng(1)
    shapes = {"a": (6, 5), "a finer": (6, 5), "a larger": (8, 7), "beside": (3, 5), "a relevance": (6, 5)}
    model = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    versions = (
        Version("small", None, (Part("a", "a"),)),
        Version("fine", "small", (Part("a", "a finer", Rule.DIFFERENCE), Part("b", "beside", Rule.COMPENSATION))),
        Version("large", "fine", (Part("a", "a larger", Rule.GROWTH),)),
    )
    supplements = (Supplement("relevance", "a", "a relevance"),)
    return encode(model, None, Description(versions=versions, supplements=supplements)).data
