"""QDQ networks: each operator's levels are those of its definition in whole numbers, whatever onnxruntime is told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from qdq_networks import convolved, network, requantized

from featlink_codec.errors import SettingsError
from featlink_host.prepare.quantization.affine import Affine
from featlink_host.prepare.quantization.channel_weights import channel_weights
from featlink_host.prepare.quantization.folding import folded
from featlink_host.prepare.quantization.golden import RUN_SETTINGS
from featlink_host.prepare.quantization.layers import weight_layers
from featlink_host.prepare.quantization.places import find_places
from featlink_host.prepare.quantization.qdq import QdqNetwork, QdqOptions, insert_qdq
from featlink_host.prepare.quantization.ranges import RangeOptions, observe, with_outputs
from featlink_host.prepare.quantization.weights import WeightOptions, quantized

EXACT = QdqOptions(RangeOptions("minmax", "power-of-two"), first_input=True, outputs=True, exact_weights=True)


def made(model: onnx.ModelProto, x: np.ndarray, options: QdqOptions = EXACT) -> QdqNetwork:
    """The network with levels, calibrated with x."""
    plain = folded(model)
    leaders = find_places(plain, options.scope, first_input=options.first_input, outputs=options.outputs).leaders
    return insert_qdq(plain, None, observe(plain, [{"x": x}], leaders), options)


def levels_of(found: QdqNetwork, x: np.ndarray, tensor: str = "out") -> np.ndarray:
    """A tensor's levels, which all settings of onnxruntime give alike."""
    opened = with_outputs(found.model, [f"{tensor}/levels"])
    every = [setting.open(opened).run([f"{tensor}/levels"], {"x": x})[0] for setting in RUN_SETTINGS]
    for one in every[1:]:
        np.testing.assert_array_equal(one, every[0])
    return every[0].astype(np.int64)


def centred(found: QdqNetwork, x: np.ndarray, tensor: str = "x") -> np.ndarray:
    """Its levels with the zero point taken off."""
    affine = found.quantizers[tensor]
    return affine.quantize(x) - affine.zero_point


def bias_levels(found: QdqNetwork, name: str) -> np.ndarray:
    held = {one.name: one for one in found.model.graph.initializer}
    return onnx.numpy_helper.to_array(held[f"{name}/bias/levels"]).astype(np.int64)


@settings(max_examples=12)
@given(
    st.integers(0, 10**6), st.sampled_from(["none", "Relu", "Clip"]), st.sampled_from([1, 4]), st.sampled_from([1, 2])
)
def test_a_convolution_is_whole_numbers(seed: int, activation: str, groups: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (8, 4 // groups, 3, 3)).astype(np.float32) * rng.uniform(0.01, 2, (8, 1, 1, 1)).astype(
        "f"
    )
    bias = rng.normal(0, 1, 8).astype(np.float32)
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "w", "b"],
            ["sum" if activation != "none" else "out"],
            group=groups,
            strides=[stride] * 2,
            pads=[1] * 4,
        )
    ]
    constants = {"w": weights, "b": bias}
    if activation == "Relu":
        nodes.append(helper.make_node("Relu", ["sum"], ["out"]))
    if activation == "Clip":
        nodes.append(helper.make_node("Clip", ["sum", "low", "high"], ["out"]))
        constants |= {"low": np.float32(0).reshape(()), "high": np.float32(3).reshape(())}
    x = rng.normal(0, 1, (1, 4, 9, 7)).astype(np.float32)
    found = made(network(nodes, (1, 4, 9, 7), constants), x)
    assert found.doubts == []
    held = found.weights["w"]
    assert held.portable()
    sums = convolved(centred(found, x), held.integers, stride, groups, 1) + bias_levels(found, "out").reshape(
        1, -1, 1, 1
    )
    assert np.abs(sums).max() <= found.sums["out" if activation == "none" else "sum"]
    out = found.quantizers["out"]
    low = int(out.quantize(np.float32(0))) if activation != "none" else 0
    high = int(out.quantize(np.float32(3))) if activation == "Clip" else 255
    units = (found.quantizers["x"].scale * held.scales).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(levels_of(found, x), requantized(sums, units, out.scale, out.zero_point, low, high))


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["Gemm", "MatMul"]))
def test_a_product_of_matrices_is_whole_numbers(seed: int, transposed: bool, kind: str) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.3, (12, 5)).astype(np.float32)
    stored = weights.T.copy() if transposed and kind == "Gemm" else weights
    constants = {"w": stored, "b": rng.normal(0, 1, 5).astype(np.float32)}
    if kind == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["out"], transB=int(transposed))]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["out"])]
    x = rng.normal(0.5, 1, (6, 12)).astype(np.float32)
    found = made(network(nodes, (6, 12), constants if kind == "Gemm" else {"w": stored}), x)
    held = found.weights["w"]
    matrix = held.integers.T if transposed and kind == "Gemm" else held.integers
    sums = centred(found, x) @ matrix
    if kind == "Gemm":
        sums = sums + bias_levels(found, "out")
    out = found.quantizers["out"]
    wanted = requantized(sums, found.quantizers["x"].scale * held.scales, out.scale, out.zero_point)
    np.testing.assert_array_equal(levels_of(found, x), wanted)


def test_sums_products_and_joins_of_levels() -> None:
    """(Conv + x) * constant, both joined: Add, Mul and Concat have quantizers of their own."""
    rng = np.random.default_rng(4)
    constants = {
        "w": rng.normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32),
        "k": rng.uniform(-2, 2, (1, 3, 1, 1)).astype(np.float32),
        "last": rng.normal(0, 0.5, (2, 6, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["a"]),
        helper.make_node("Mul", ["a", "k"], ["m"]),
        helper.make_node("Concat", ["m", "c"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "last"], ["out"]),
    ]
    x = rng.normal(0, 1, (1, 3, 5, 5)).astype(np.float32)
    found = made(network(nodes, (1, 3, 5, 5), constants), x)
    assert found.doubts == []
    step = {name: one.scale for name, one in found.quantizers.items()}
    c = levels_of(found, x, "c") - found.quantizers["c"].zero_point
    a = requantized(c * step["c"] + centred(found, x) * step["x"], 1.0, step["a"], found.quantizers["a"].zero_point)
    np.testing.assert_array_equal(levels_of(found, x, "a"), a)
    held = {one.name: onnx.numpy_helper.to_array(one) for one in found.model.graph.initializer}
    k = (held["k/levels"].astype(np.int64) - held["k/zero"].astype(np.int64)) * float(held["k/step"])
    m = requantized(
        (a - found.quantizers["a"].zero_point) * step["a"] * k, 1.0, step["m"], found.quantizers["m"].zero_point
    )
    np.testing.assert_array_equal(levels_of(found, x, "m"), m)
    joined = np.concatenate([(m - found.quantizers["m"].zero_point) * step["m"], c * step["c"]], axis=1)
    j = requantized(joined, 1.0, step["j"], found.quantizers["j"].zero_point)
    np.testing.assert_array_equal(levels_of(found, x, "j"), j)


def test_what_moves_or_chooses_keeps_its_quantizer() -> None:
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["out"]),
    ]
    constants = {"w": rng.normal(0, 1, (3, 2, 1, 1)).astype("f"), "v": rng.normal(0, 1, (27, 2)).astype("f")}
    x = rng.normal(0, 1, (1, 2, 6, 6)).astype(np.float32)
    found = made(network(nodes, (1, 2, 6, 6), constants), x)
    assert found.places.tensors == {"x": "x", "c": "c", "p": "c", "f": "c", "out": "out"}
    c = levels_of(found, x, "c")
    pooled = c.reshape(1, 3, 3, 2, 3, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(levels_of(found, x, "f"), pooled.reshape(1, -1))


def test_the_first_layer_and_the_outputs_stay_float_unless_asked() -> None:
    rng = np.random.default_rng(6)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["out"]),
    ]
    constants = {"w": rng.normal(0, 1, (3, 2, 1, 1)).astype("f"), "v": rng.normal(0, 1, (2, 3, 1, 1)).astype("f")}
    x = rng.normal(0, 1, (1, 2, 6, 6)).astype(np.float32)
    found = made(network(nodes, (1, 2, 6, 6), constants), x, QdqOptions())
    assert list(found.quantizers) == ["r"]
    assert found.places.floats == {"c": "Conv", "out": "Conv"}
    assert any("Conv 'c' stays float" in one for one in found.doubts)


def test_operators_that_are_no_integers_are_named() -> None:
    rng = np.random.default_rng(6)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["d"]),
        helper.make_node("AveragePool", ["d"], ["out"], kernel_shape=[2, 2]),
    ]
    x = rng.normal(0, 1, (1, 2, 6, 6)).astype(np.float32)
    found = made(network(nodes, (1, 2, 6, 6), {"w": rng.normal(0, 1, (2, 2, 1, 1)).astype("f")}), x)
    # Levels of "c" would be of no use.
    assert found.places.floats == {"c": "Conv", "s": "Sigmoid"}
    assert [one for one in found.doubts if "Sigmoid 's' stays float" in one]
    assert [one for one in found.doubts if "AveragePool" in one]


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([9, 10, 12, 16, 20, 32]))
def test_wider_inputs_are_rounded_as_they_are_defined(seed: int, bits: int) -> None:
    """uint16 levels up to 16 bits, float64 beyond; what a layer works on is what the levels stand for."""
    rng = np.random.default_rng(seed)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["out"])]
    model = network(nodes, (1, 2, 4, 4), {"w": rng.normal(0, 1, (2, 2, 1, 1)).astype("f")}, opset=21)
    x = rng.normal(0, 3, (1, 2, 4, 4)).astype(np.float32)
    options = QdqOptions(RangeOptions("minmax", "asymmetric", bits))
    found = made(model, x, options)
    affine = found.quantizers["r"]
    (got,) = RUN_SETTINGS[0].open(with_outputs(found.model, ["r"])).run(["r"], {"x": x})
    given_ = np.clip(np.maximum(x, 0), affine.low, affine.high)
    np.testing.assert_array_equal(got, affine.dequantize(affine.quantize(given_)))
    assert np.abs(got - np.maximum(x, 0)).max() <= affine.scale * 0.5 + 1e-5


def test_sixteen_bits_need_a_newer_opset_and_say_so() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["out"])]
    model = network(nodes, (1, 2, 4, 4), {"w": np.ones((2, 2, 1, 1), "f")})
    with pytest.raises(SettingsError, match="need opset 21"):
        made(model, np.ones((1, 2, 4, 4), np.float32), QdqOptions(RangeOptions(bits=16)))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_weights_keep_their_bits_whatever_the_width_of_the_inputs(bits: int) -> None:
    """A bias in units of very small steps does not fit in 32 bits: it stays a float."""
    rng = np.random.default_rng(bits)
    constants = {"w": rng.normal(0, 1, (3, 2, 1, 1)).astype("f"), "b": np.array([1, -2, 3], "f")}
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w", "b"], ["out"])]
    x = rng.normal(0, 1, (1, 2, 4, 4)).astype(np.float32)
    found = made(network(nodes, (1, 2, 4, 4), constants, opset=21), x, QdqOptions(RangeOptions("minmax", bits=bits)))
    assert np.abs(found.weights["w"].integers).max() >= 63
    wanted = RUN_SETTINGS[0].open(network(nodes, (1, 2, 4, 4), constants, opset=21)).run(None, {"x": x})[0]
    assert np.abs(RUN_SETTINGS[0].open(found.model).run(None, {"x": x})[0] - wanted).max() < 0.1


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_narrow_weights_are_held_in_int8(bits: int) -> None:
    rng = np.random.default_rng(bits)
    weights = rng.normal(0, 1, (4, 3, 1, 1)).astype(np.float32)
    plain = folded(network([helper.make_node("Conv", ["x", "w"], ["out"])], (1, 3, 5, 5), {"w": weights}))
    layers, _ = weight_layers(plain)
    tensor = quantized(layers["w"], weights, WeightOptions(bits, portable=True))
    x = rng.normal(0, 1, (1, 3, 5, 5)).astype(np.float32)
    found = insert_qdq(plain, {"w": tensor}, observe(plain, [{"x": x}], ["x", "out"]), EXACT)
    held = found.weights["w"]
    assert held.portable()
    np.testing.assert_array_equal(held.values(layers["w"]), tensor.values())
    ours = channel_weights(tensor)
    assert ours is not None
    assert len(np.unique(ours.integers)) <= 2**bits


def test_weights_of_blocks_stay_as_exact_as_they_were() -> None:
    """onnxruntime would round float weights between levels to 8 bits with one scale for all."""
    rng = np.random.default_rng(3)
    weights = (rng.normal(0, 1, (4, 16, 1, 1)) * np.array([1, 100, 0.01, 1]).reshape(4, 1, 1, 1)).astype(np.float32)
    plain = folded(network([helper.make_node("Conv", ["x", "w"], ["out"])], (1, 16, 5, 5), {"w": weights}))
    layers, _ = weight_layers(plain)
    tensor = quantized(layers["w"], weights, WeightOptions(5, groups=4))
    assert channel_weights(tensor) is None
    x = rng.normal(0, 1, (1, 16, 5, 5)).astype(np.float32)
    options = QdqOptions(RangeOptions("minmax", "asymmetric"), first_input=True, outputs=True)
    found = insert_qdq(plain, {"w": tensor}, observe(plain, [{"x": x}], ["x", "out"]), options)
    assert found.plain_weights == ["w"]
    x_seen = found.quantizers["x"].dequantize(found.quantizers["x"].quantize(x)).astype(np.float64)
    exact = np.einsum("nchw,oc->nohw", x_seen, tensor.values().reshape(4, 16).astype(np.float64))
    out = found.quantizers["out"]
    for setting in RUN_SETTINGS:
        (got,) = setting.open(found.model).run(["out"], {"x": x})
        assert np.abs(got - np.clip(exact, out.low, out.high)).max() <= out.scale * 0.51


def test_a_large_bias_makes_its_channel_coarser_instead_of_overflowing() -> None:
    weights = np.zeros((2, 2, 1, 1), np.float32)
    weights[0], weights[1] = 1e-9, 0.5
    bias = np.array([3.0, -1.0], np.float32)
    x = np.random.default_rng(1).normal(0, 1, (1, 2, 4, 4)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["out"])]
    found = made(network(nodes, (1, 2, 4, 4), {"w": weights, "b": bias}), x)
    assert found.doubts == []
    out = found.quantizers["out"]
    first = out.dequantize(levels_of(found, x))[0, 0]
    assert np.abs(first - 3.0).max() <= out.scale


def test_batch_normalization_and_constants_behind_a_sum_go_into_the_convolution() -> None:
    rng = np.random.default_rng(8)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "v"], ["d"]),
        helper.make_node("Add", ["d", "n"], ["s"]),
        helper.make_node("Add", ["k", "s"], ["out"]),
    ]
    constants = {name: rng.uniform(0.5, 2, 3).astype("f") for name in ("g", "b", "mean", "var")}
    constants |= {"w": rng.normal(0, 1, (3, 2, 1, 1)).astype("f"), "v": rng.normal(0, 1, (3, 3, 1, 1)).astype("f")}
    constants |= {"k": rng.normal(0, 1, (1, 3, 1, 1)).astype("f")}
    model = network(nodes, (1, 2, 4, 4), constants)
    plain = folded(model)
    assert [node.op_type for node in plain.graph.node] == ["Conv", "Conv", "Add"]
    x = rng.normal(0, 1, (1, 2, 4, 4)).astype(np.float32)
    ours, theirs = (RUN_SETTINGS[0].open(one).run(None, {"x": x})[0] for one in (plain, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_tensor_that_was_not_looked_at_is_named() -> None:
    plain = folded(
        network([helper.make_node("Conv", ["x", "w"], ["out"])], (1, 1, 2, 2), {"w": np.ones((1, 1, 1, 1), "f")})
    )
    with pytest.raises(SettingsError, match="'x' was not looked at"):
        insert_qdq(plain, None, {}, EXACT)
    found = insert_qdq(plain, None, {}, QdqOptions(overrides={"x": Affine(0.5, 0)}, first_input=True))
    assert found.quantizers == {"x": Affine(0.5, 0)}
    bare = network([helper.make_node("Relu", ["x"], ["out"])], (1, 2), {})
    with pytest.raises(SettingsError, match="nothing to quantize"):
        find_places(bare)
