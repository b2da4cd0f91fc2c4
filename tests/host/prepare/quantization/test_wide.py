"""Layers on more than 8 bits: wider weights where sums leave room, and still the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from qdq_networks import network

from featlink_host.prepare.quantization.affine import Affine
from featlink_host.prepare.quantization.golden import RUN_SETTINGS
from featlink_host.prepare.quantization.integer import IntegerBackbone, IntegerOptions, integer_backbone
from featlink_host.prepare.quantization.nodes import levels_name
from featlink_host.prepare.quantization.places import find_places
from featlink_host.prepare.quantization.qdq import FLOAT_WHOLE
from featlink_host.prepare.quantization.weights import WeightOptions
from featlink_host.prepare.quantization.wide import MOST_WEIGHT_BITS, fits, sums_behind, wide_layers, wide_weights


def convolutions(channels: int) -> tuple[list[object], dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["middle"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["middle", "second"], ["out"]),
    ]
    constants = {
        "first": rng.normal(0, 1, (4, channels, 3, 3)).astype(np.float32),
        "second": rng.normal(0, 1, (3, 4, 1, 1)).astype(np.float32),
    }
    return nodes, constants


@pytest.fixture(scope="module", params=[True, False], ids=["fitted", "direct"])
def wide(request: pytest.FixtureRequest) -> IntegerBackbone:
    """Three channels to five, a ReLU, and two outputs of them."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["feature"]),
        helper.make_node("Conv", ["feature", "v"], ["out"]),
    ]
    constants = {
        "w": rng.normal(0, 1, (5, 3, 1, 1)).astype("f"),
        # A channel that hardly looks at its inputs: its bias is many of its steps.
        "b": np.array([0.5, -1, 2, 3, 0.1], "f"),
        "v": rng.normal(0, 1, (2, 5, 1, 1)).astype("f"),
    }
    constants["w"][3] *= 1e-6
    pictures = [{"x": rng.normal(0, 1, (1, 3, 9, 8)).astype("f")} for _ in range(3)]
    options = IntegerOptions(wide_share=0.01, fine_tune=request.param)
    return integer_backbone(network(nodes, (1, 3, 9, 8), constants), "feature", None, options, batches=lambda: pictures)


def test_only_layers_on_more_than_eight_bits_have_wider_weights() -> None:
    nodes, constants = convolutions(2)
    model = network(nodes, (1, 2, 6, 6), constants)
    places = find_places(model, first_input=True, outputs=True)
    quantizers = {"x": Affine(0.125, 2048, 12), "middle": Affine(0.25, 128)}
    assert wide_layers(model, places, quantizers) == {"first": quantizers["x"]}
    assert wide_weights(model, places, {"middle": quantizers["middle"]}, WeightOptions(values="fixed-point")) == {}


@pytest.mark.parametrize(("channels", "least", "most"), [(1, 11, MOST_WEIGHT_BITS), (8, 9, 10), (256, 0, 0)])
def test_bits_are_as_many_as_sums_leave_room_for(channels: int, least: int, most: int) -> None:
    """Layers without room for 8 keep to the narrower weights of all others."""
    nodes, constants = convolutions(channels)
    model = network(nodes, (1, channels, 6, 6), constants)
    places = find_places(model, first_input=True, outputs=True)
    options = WeightOptions(values="fixed-point", scale_from="error")
    found = wide_weights(model, places, {"x": Affine(0.125, 2048, 12)}, options)
    assert least <= found.get("first", 0) <= most
    behind = sums_behind(model, places, ["x"], options)["x"]
    assert behind <= 9 * channels * 128
    assert fits(Affine(0.125, 128), behind)
    assert fits(Affine(0.125, 2048, 12), behind) == (channels < 256)


def test_levels_are_those_of_whole_numbers_whatever_runs_it(wide: IntegerBackbone) -> None:
    """Against sums of int64: what the definition of the layer gives, to the bit."""
    network = wide.network
    assert network.doubts == []
    assert wide.golden.holds
    assert len(wide.golden.equal) == len(RUN_SETTINGS)
    (name,) = network.wide
    weights, data, out = network.weights[name], network.quantizers["x"], network.quantizers["feature"]
    assert weights.span[1] > 127
    assert max(network.sums.values()) < FLOAT_WHOLE
    held = {one.name: numpy_helper.to_array(one) for one in network.model.graph.initializer}
    assert held[levels_name(name)].dtype == np.int16
    given = np.random.default_rng(7).normal(0, 1, (1, 3, 9, 8)).astype(np.float32)
    sums = np.einsum(
        "nchw,oc->nohw", data.quantize(given).astype(np.int64) - data.zero_point, weights.integers[..., 0, 0]
    )
    bias = held[levels_name("feature/bias")]
    scales = data.scale * weights.scales.reshape(1, -1, 1, 1)
    exact = np.maximum((sums + bias.reshape(1, -1, 1, 1)) * scales, 0)
    levels = np.clip(np.rint(exact / out.scale) + out.zero_point, 0, out.last).astype(np.uint8)
    assert len(np.unique(levels)) > 50
    for setting in RUN_SETTINGS:
        (found,) = setting.open(wide.backbone).run(None, {"x": given})
        np.testing.assert_array_equal(found, levels)
