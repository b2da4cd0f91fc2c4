"""Light-weight blocks: their parameters are the formulas', and what a student counts is what its ONNX file holds."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from featlink_codec.errors import SettingsError
from featlink_host.prepare.graph import DataGraph
from featlink_host.training.architecture import (
    Architecture,
    Block,
    Convolution,
    DepthwiseSeparable,
    Ghost,
    convolutions,
    student,
)
from featlink_host.training.export import EPSILON, FEATURES, INPUT, OUTPUT, folded, student_model

channels = st.integers(1, 40)
odd = st.sampled_from([1, 3, 5, 7])


@given(channels, channels, odd, st.integers(1, 8))
def test_groups_divide_the_parameters_of_a_convolution(inputs: int, outputs: int, kernel: int, groups: int) -> None:
    inputs, outputs = inputs * groups, outputs * groups
    ordinary = Convolution(inputs, outputs, kernel)
    assert ordinary.parameters == kernel * kernel * inputs * outputs
    grouped = Convolution(inputs, outputs, kernel, groups=groups)
    # g problems of D_i / g and D_o / g channels
    assert grouped.parameters == groups * (kernel * kernel * (inputs // groups) * (outputs // groups))
    assert grouped.parameters * groups == ordinary.parameters
    assert np.prod(grouped.weight_shape) == grouped.parameters


@given(channels, channels, odd)
def test_a_depthwise_separable_convolution_has_both_parts(inputs: int, outputs: int, kernel: int) -> None:
    block = DepthwiseSeparable(inputs, outputs, kernel)
    assert block.depthwise.parameters == kernel * kernel * inputs
    assert block.pointwise.parameters == inputs * outputs
    assert block.parameters == kernel * kernel * inputs + inputs * outputs


@given(channels, channels, st.integers(2, 5), odd, odd)
def test_a_ghost_module_computes_few_maps_and_derives_the_others(
    inputs: int, intrinsic: int, ratio: int, kernel: int, linear: int
) -> None:
    block = Ghost(inputs, intrinsic * ratio, ratio, kernel, linear)
    primary = kernel * kernel * inputs * intrinsic
    assert block.parameters == primary + (ratio - 1) * linear * linear * intrinsic
    assert block.primary.outputs + block.linear.outputs == block.outputs
    assert block.linear.groups == intrinsic


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Convolution(6, 4, groups=4), "groups"),
        (lambda: Convolution(6, 4, kernel=2), "odd"),
        (lambda: Convolution(0, 4), "at least 1"),
        (lambda: Ghost(4, 9, ratio=2), "ratio"),
        (lambda: Ghost(4, 8, ratio=1), "ratio"),
        (lambda: Architecture((Convolution(1, 4),), (Convolution(8, 4),), 10, 8), "gives 4"),
        (lambda: Architecture((Convolution(1, 4, relu=False),), (), 10, 8), "ReLU"),
        (lambda: Architecture((Convolution(1, 4),), (), 1, 8), "classes"),
    ],
)
def test_what_cannot_be_built_is_refused(make: object, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        make()  # type: ignore[operator]


def random_arrays(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Numbers by PyTorch's names, batch normalisation's far from neutral."""
    rng = np.random.default_rng(seed)
    arrays = {
        "classifier.weight": rng.normal(0, 0.3, (architecture.classes, architecture.flat)),
        "classifier.bias": rng.normal(0, 1, architecture.classes),
    }
    for name, block in zip(architecture.names(), architecture.blocks, strict=True):
        for inner, one in convolutions(block, name):
            arrays[f"{inner}.conv.weight"] = rng.normal(0, 0.5, one.weight_shape)
            arrays[f"{inner}.norm.weight"] = rng.uniform(0.5, 2, one.outputs)
            arrays[f"{inner}.norm.bias"] = rng.normal(0, 0.5, one.outputs)
            arrays[f"{inner}.norm.running_mean"] = rng.normal(0, 0.5, one.outputs)
            arrays[f"{inner}.norm.running_var"] = rng.uniform(0.2, 3, one.outputs)
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def evaluate(architecture: Architecture, arrays: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits by definition, in float64: convolution, then normalisation, then ReLU."""

    def layer(one: Convolution, name: str, x: np.ndarray) -> np.ndarray:
        w = arrays[f"{name}.conv.weight"].astype(np.float64)
        half, side = one.kernel // 2, one.side(x.shape[2])
        padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)))
        per_in, per_out = one.inputs // one.groups, one.outputs // one.groups
        y = np.zeros((len(x), one.outputs, side, side))
        for o in range(one.outputs):
            first = o // per_out * per_in
            for i in range(per_in):
                for r in range(one.kernel):
                    for c in range(one.kernel):
                        part = padded[:, first + i, r :: one.stride, c :: one.stride][:, :side, :side]
                        y[:, o] += w[o, i, r, c] * part
        gamma, beta, mean, var = (
            arrays[f"{name}.norm.{key}"].astype(np.float64)[:, None, None]
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        y = (y - mean) / np.sqrt(var + EPSILON) * gamma + beta
        return np.maximum(y, 0) if one.relu else y

    def run(block: Block, name: str, x: np.ndarray) -> np.ndarray:
        if isinstance(block, Ghost):
            (first, primary), (second, linear) = convolutions(block, name)
            intrinsic = layer(primary, first, x)
            return np.maximum(np.concatenate([intrinsic, layer(linear, second, intrinsic)], axis=1), 0)
        for inner, one in convolutions(block, name):
            x = layer(one, inner, x)
        return x

    x = x.astype(np.float64)
    for at, (name, block) in enumerate(zip(architecture.names(), architecture.blocks, strict=True)):
        x = run(block, name, x)
        if at == len(architecture.backbone) - 1:
            features = x
    return features, x.reshape(len(x), -1) @ arrays["classifier.weight"].T + arrays["classifier.bias"]


GROUPED = Architecture(
    (Convolution(2, 6, 3), Ghost(6, 9, ratio=3, kernel=3, linear_kernel=5), Convolution(9, 12, 3, 2, groups=3)),
    (DepthwiseSeparable(12, 5, 5, 2),),
    classes=3,
    size=9,
)


@pytest.mark.parametrize("architecture", [student(2, size=12, classes=4), GROUPED])
def test_the_exported_student_is_the_definition(architecture: Architecture) -> None:
    arrays = random_arrays(architecture, 3)
    model = student_model(architecture, arrays)
    x = np.random.default_rng(4).normal(size=(3, architecture.blocks[0].inputs, *2 * [architecture.size]))
    model.graph.output.add().name = FEATURES
    features, logits = evaluate(architecture, arrays, x.astype(np.float32))
    found, at_cut = ort.InferenceSession(model.SerializeToString()).run(
        [OUTPUT, FEATURES], {INPUT: x.astype(np.float32)}
    )
    assert np.abs(logits).max() > 1
    np.testing.assert_allclose(at_cut, features, rtol=1e-4, atol=1e-5 * np.abs(features).max())
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize("architecture", [student(), student(3, 3, 32, 7), GROUPED])
def test_a_student_holds_the_numbers_that_it_counts(architecture: Architecture) -> None:
    model = student_model(architecture, random_arrays(architecture, 1))
    held = sum(numpy_helper.to_array(one).size for one in model.graph.initializer)
    assert held == architecture.parameters
    assert {node.op_type for node in model.graph.node} <= {"Conv", "Relu", "Concat", "Flatten", "Gemm"}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]


def test_macs_are_those_of_each_place() -> None:
    one = Architecture((Convolution(1, 4, 3, 2),), (), 10, 28)
    assert one.macs == 9 * 4 * 14 * 14 + 4 * 14 * 14 * 10


def test_a_student_can_be_split_at_its_features() -> None:
    architecture = student()
    graph = DataGraph(student_model(architecture, random_arrays(architecture, 1)))
    cut = next(cut for cut in graph.cuts if cut.name == FEATURES)
    assert cut.non_negative
    assert cut.shape == (None, 48, 7, 7)


def test_folding_keeps_float64_until_the_end() -> None:
    arrays = random_arrays(student(), 5)
    weights, bias = folded(arrays, "backbone.0")
    gamma, beta, mean, var = (
        arrays[f"backbone.0.norm.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(var + 1e-5)
    exact = arrays["backbone.0.conv.weight"].astype(np.float64) * factor[:, None, None, None]
    assert np.array_equal(weights, exact.astype(np.float32))
    assert np.array_equal(bias, (beta - mean * factor).astype(np.float32))
