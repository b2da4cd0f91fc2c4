"""What the transformations make is what their definitions say: in onnxruntime, and evaluated by hand in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, version_converter
from pruning_models import by_numpy, judge_of, mixed_model, outputs, pictures
from qdq_networks import network

from featlink_host.prepare.factorization.step import FactorOptions, factorize
from featlink_host.prepare.pruning.structured import ChannelOptions, prune_channels
from featlink_host.prepare.pruning.unstructured import WeightOptions as PruneOptions
from featlink_host.prepare.pruning.unstructured import prune_weights
from featlink_host.prepare.quantization.equalize import equalized
from featlink_host.prepare.quantization.folding import folded
from featlink_host.prepare.quantization.integer import IntegerOptions, integer_backbone
from featlink_host.prepare.quantization.places import find_places
from featlink_host.prepare.quantization.qdq import QdqOptions, insert_qdq
from featlink_host.prepare.quantization.ranges import METHODS, SCHEMES, RangeOptions, observe
from featlink_host.prepare.quantization.step import QuantizeOptions, quantize
from featlink_host.prepare.quantization.weights import VALUE_KINDS, WeightOptions, quantize_weights
from featlink_host.prepare.quantization.weights_stored import to_stored


def convolved(x: np.ndarray, weights: np.ndarray, groups: int = 1, stride: int = 1) -> np.ndarray:
    """The definition: each output is the sum of its window times its group's weights; padded by 1, float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    parts = zip(np.split(windows, groups, axis=1), np.split(weights.astype(np.float64), groups), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", seen, own) for seen, own in parts], axis=1)


def convolution(rng: np.random.Generator, groups: int = 1, stride: int = 1) -> tuple[onnx.ModelProto, np.ndarray]:
    """A network of one, and its bias."""
    constants = {
        "w": (rng.normal(0, 1, (8, 4 // groups, 3, 3)) * rng.uniform(0.05, 2, (8, 1, 1, 1))).astype(np.float32),
        "b": rng.normal(0, 1, 8).astype(np.float32),
    }
    node = helper.make_node("Conv", ["x", "w", "b"], ["out"], group=groups, strides=[stride] * 2, pads=[1] * 4)
    return network([node], (2, 4, 7, 6), constants), constants["b"]


@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.sampled_from(VALUE_KINDS),
    st.sampled_from(["tensor", "channel", 5]),
    st.integers(1, 8),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
)
def test_a_quantized_convolution_sums_windows_times_set_times_scale(
    seed: int, values: Any, shared: Any, bits: int, groups: int, stride: int
) -> None:
    rng = np.random.default_rng(seed)
    model, bias = convolution(rng, groups, stride)
    found = quantize_weights(model, None, WeightOptions(bits=bits, values=values, groups=shared))
    (one,) = found.tensors
    per_row = -(-one.indices.shape[1] // 5)
    scales = np.empty(one.indices.shape)
    for (row, column), _ in np.ndenumerate(one.indices):
        scales[row, column] = one.scales[{"tensor": 0, "channel": row}.get(shared, row * per_row + column // 5)]
    weights = (one.set.values(one.indices) * scales).reshape(one.shape)
    assert len(np.unique(one.indices)) <= 2**bits
    x = rng.normal(0, 1, (2, 4, 7, 6)).astype(np.float32)
    wanted = convolved(x, weights, groups, stride) + bias.reshape(1, -1, 1, 1)
    for stored in (to_stored(found), to_stored(found, codes=True)):
        onnx.checker.check_model(stored, full_check=True)
        np.testing.assert_allclose(outputs(stored, x=x)["out"], wanted, rtol=1e-4, atol=1e-4)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(VALUE_KINDS), st.integers(1, 8), st.sampled_from(["Gemm", "MatMul"]))
def test_a_quantized_product_is_the_matrix_of_set_times_scale(seed: int, values: Any, bits: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.5, (6, 5)).astype(np.float32)
    model = network([helper.make_node(kind, ["x", "w"], ["out"])], (3, 6), {"w": weights})
    found = quantize_weights(model, None, WeightOptions(bits=bits, values=values))
    (one,) = found.tensors
    # A row of indices is an output, a column of the matrix that stands on the right.
    matrix = (one.set.values(one.indices) * one.scales[:, None]).T
    x = rng.normal(0, 1, (3, 6)).astype(np.float32)
    stored = to_stored(found)
    onnx.checker.check_model(stored, full_check=True)
    np.testing.assert_allclose(outputs(stored, x=x)["out"], x @ matrix, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_of_levels_computes_with_what_its_levels_stand_for(method: Any, scheme: Any) -> None:
    rng = np.random.default_rng(len(method) * 10 + len(scheme))
    model, _ = convolution(rng, groups=2)
    plain = folded(model)
    x = rng.laplace(0.3, 1, (2, 4, 7, 6)).astype(np.float32)
    options = QdqOptions(RangeOptions(method, scheme), scope="layers", first_input=True)
    seen = observe(plain, [{"x": x}], find_places(plain, "layers", first_input=True).leaders)
    found = insert_qdq(plain, None, seen, options)
    onnx.checker.check_model(found.model, full_check=True)
    affine, held = found.quantizers["x"], found.weights["w"]
    # d = s (q - z), q = round(x / s) + z cut off at both ends.
    levels = np.clip(np.rint(x / np.float32(affine.scale)) + affine.zero_point, 0, 255)
    given_ = (levels - affine.zero_point) * affine.scale
    kept = {one.name: numpy_helper.to_array(one) for one in found.model.graph.initializer}
    bias = kept["out/bias/levels"] * (affine.scale * held.scales) if "out/bias/levels" in kept else kept["b"]
    weights = held.integers * held.scales.reshape(-1, 1, 1, 1)
    wanted = convolved(given_, weights, groups=2) + bias.reshape(1, -1, 1, 1)
    np.testing.assert_allclose(outputs(found.model, x=x)["out"], wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(bias - kept.get("b", bias)).max() < affine.scale * held.scales.max()


def _quantized(values: Any, bits: int, inputs: int = 32) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    options = QuantizeOptions(WeightOptions(bits=bits, values=values), inputs=inputs)
    return lambda model: quantize(model, judge_of(model, 16), options).model


def _equalized(model: onnx.ModelProto) -> onnx.ModelProto:
    changed, factors = equalized(folded(model), [{"image": pictures(4)}])
    assert factors
    return changed


TRANSFORMATIONS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    **{f"{values} 3 bits": _quantized(values, 3) for values in VALUE_KINDS},
    "8 bits fine-tuned": lambda model: quantize(
        model, judge_of(model, 16), QuantizeOptions(WeightOptions(fine_tune=True))
    ).model,
    **{f"{values} 3 bits, inputs 8": _quantized(values, 3, 8) for values in VALUE_KINDS},
    **{f"inputs {bits}": _quantized("uniform", 8, bits) for bits in (8, 12, 16, 24)},
    "channels": lambda model: prune_channels(model, judge_of(model, 32), ChannelOptions(0.3)).model,
    "zeros": lambda model: prune_weights(model, judge_of(model, 32), PruneOptions(0.5)).model,
    "factors": lambda model: factorize(model, judge_of(model, 32), FactorOptions(0.8, spatial=True)).model,
    "folded": folded,
    "equalized": _equalized,
    "integer": lambda model: integer_backbone(
        model, "sum", judge_of(model, 16), IntegerOptions(samples=16)
    ).whole,
}  # fmt: skip


HALF = ("uniform 3 bits", "uniform 3 bits, inputs 8", "inputs 16", "channels", "zeros", "factors", "folded", "integer")


@pytest.mark.parametrize(
    ("name", "half"), [*((name, False) for name in TRANSFORMATIONS), *((name, True) for name in HALF)]
)
def test_every_transformed_network_is_valid_and_runs_as_onnx_defines_it(name: str, half: bool) -> None:
    """In onnxruntime as in ONNX's reference, which is NumPy."""
    changed = TRANSFORMATIONS[name](mixed_model(half=half))
    onnx.checker.check_model(changed, full_check=True)
    image = pictures(4, seed=9)
    # ONNX's reference knows DequantizeLinear of some opsets only.
    known = version_converter.convert_version(changed, 21) if changed.opset_import[0].version < 21 else changed
    found, wanted = outputs(changed, image=image)["scores"], by_numpy(known, image=image)["scores"]
    # A number on the edge of two levels may fall to either side: of few outputs, and by no more than a level does.
    away = np.abs(found - wanted) / np.abs(wanted).max()
    assert np.median(away) < 1e-4
    levels = any(node.op_type == "QuantizeLinear" for node in changed.graph.node)
    assert away.max() < (2e-2 if levels else 1e-4)


@pytest.mark.parametrize("make", [folded, _equalized], ids=["folded", "equalized"])
def test_networks_that_are_only_written_otherwise_put_out_the_same(
    make: Callable[[onnx.ModelProto], onnx.ModelProto],
) -> None:
    model, image = mixed_model(), pictures(4)
    np.testing.assert_allclose(
        by_numpy(make(model), image=image)["scores"], by_numpy(model, image=image)["scores"], rtol=1e-3, atol=1e-3
    )


def test_an_integer_backbone_gives_the_levels_of_onnxs_definition() -> None:
    """Exactly: with steps of powers of two nothing is on the edge of two levels in one and not in the other."""
    model = mixed_model()
    found = integer_backbone(model, "sum", judge_of(model, 16), IntegerOptions(samples=16))
    image = pictures(3, seed=5)
    for one in (found.backbone, found.head):
        onnx.checker.check_model(one, full_check=True)
    levels = outputs(found.backbone, image=image)[found.tensor]
    np.testing.assert_array_equal(levels, by_numpy(found.backbone, image=image)[found.tensor])
    affine = found.affine
    stands_for = (levels.astype(np.float64) - affine.zero_point) * affine.scale
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    kept.graph.output.append(helper.make_empty_tensor_value_info("sum"))
    exact = by_numpy(kept, image=image)["sum"]
    assert np.square(stands_for - exact).mean() < 0.01 * exact.var()
