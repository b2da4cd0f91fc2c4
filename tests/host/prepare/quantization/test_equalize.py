"""Channels made larger, and what reads them smaller: the same network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from qdq_networks import network

from featlink_codec.errors import SettingsError
from featlink_host.inference import open_session
from featlink_host.prepare.quantization.equalize import equalized, factors_for, filled, find_links
from featlink_host.prepare.quantization.places import find_places
from featlink_host.prepare.quantization.qdq import QdqOptions, insert_qdq
from featlink_host.prepare.quantization.ranges import RangeOptions, observe


def blocks(clip: bool = True) -> onnx.ModelProto:
    """Conv, ReLU6 (or ReLU), depthwise Conv, ReLU6, Conv: channels of very different reach."""
    rng = np.random.default_rng(3)
    reach = np.array([1, 0.02, 0.3, 0.005], np.float32).reshape(4, 1, 1, 1)
    constants = {
        "w1": rng.normal(0, 1, (4, 3, 3, 3)).astype("f") * reach,
        "b1": rng.normal(0, 0.3, 4).astype("f") * reach.reshape(4),
        "w2": rng.normal(0, 1, (4, 1, 3, 3)).astype("f") / reach,
        "w3": rng.normal(0, 1, (2, 4, 1, 1)).astype("f"),
        "low": np.array(0, "f"),
        "high": np.array(6, "f"),
    }
    ends = ["low", "high"] if clip else []
    kind = "Clip" if clip else "Relu"
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node(kind, ["c1", *ends], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=4),
        helper.make_node(kind, ["c2", *ends], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["out"]),
    ]
    return network(nodes, (1, 3, 9, 9), constants)


def pictures(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(0, 0.5, (1, 3, 9, 9)).astype("f")} for _ in range(count)]


def outputs(model: onnx.ModelProto) -> np.ndarray:
    session = open_session(model)
    return np.concatenate([session.run(None, one)[0] for one in pictures()])


@pytest.mark.parametrize("clip", [True, False])
def test_the_network_stays_the_same(clip: bool) -> None:
    model = blocks(clip)
    changed, factors = equalized(model, pictures())
    assert max(factors.values()) > 2
    np.testing.assert_allclose(outputs(changed), outputs(model), rtol=1e-4, atol=1e-4)


def test_levels_lose_less() -> None:
    model = blocks()
    errors = []
    for one in (model, equalized(model, pictures())[0]):
        plain = frozenset(find_places(one).layers)
        seen = observe(one, pictures(), find_places(one).leaders)
        options = QdqOptions(RangeOptions("minmax", "power-of-two"), plain=plain)
        errors.append(np.square(outputs(insert_qdq(one, None, seen, options).model) - outputs(model)).mean())
    assert errors[1] < errors[0] / 4


def test_a_clip_ends_at_the_last_level() -> None:
    assert filled(6.0) == 255 / 32
    changed, _ = equalized(blocks(), pictures())
    seen = observe(changed, [{"x": 9 * one["x"]} for one in pictures()], ["r1"])
    made = insert_qdq(changed, None, {**seen, "r2": seen["r1"]}, QdqOptions(RangeOptions("minmax", "power-of-two")))
    assert made.quantizers["r1"].high == 255 / 32
    # All that a Clip did, the levels' end does.
    assert not any(node.op_type == "Clip" for node in made.model.graph.node)


def test_a_channel_keeps_headroom_and_one_of_zeros_stays() -> None:
    factors = factors_for(np.array([6.0, 3.0, 0.0, 1e-9]), 6.0)
    assert factors.tolist() == [1.0, pytest.approx(6 / 1.05 / 3), 1.0, 64.0]
    assert factors_for(np.array([4.0, 1.0]), None).tolist() == [1.0, 4.0]


def test_what_others_read_is_left_alone() -> None:
    rng = np.random.default_rng(3)
    constants = {"w": rng.normal(0, 1, (3, 3, 1, 1)).astype("f"), "v": rng.normal(0, 1, (3, 3, 1, 1)).astype("f")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["out"]),
    ]
    model = network(nodes, (1, 3, 4, 4), constants)
    assert find_links(model) == []
    assert equalized(model, []) == (model, {})
    with pytest.raises(SettingsError, match="no images"):
        equalized(blocks(), [])
