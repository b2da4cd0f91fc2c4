"""d = s (q - z): the formulas, and the levels that ONNX's operators give."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from featlink_codec.errors import SettingsError
from featlink_host.inference import open_session
from featlink_host.prepare.quantization.affine import Affine, asymmetric, power_of_two, step_and_zero, symmetric

SPANS = (
    st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
    .map(sorted)
    .filter(lambda span: span[1] - span[0] > 1e-3)
)


def test_the_formulas_on_a_range_of_two_deviations() -> None:
    mean, deviation = 0.7, 1.3
    step, zero = step_and_zero(mean - 2 * deviation, mean + 2 * deviation, -128, 127)
    assert step == pytest.approx(4 * deviation / 255)
    assert zero == round(-128 - (mean - 2 * deviation) / step)
    assert step * (-128 - zero) == pytest.approx(mean - 2 * deviation, abs=step / 2)


@given(SPANS)
def test_the_range_is_held_and_zero_is_a_level(span: list[float]) -> None:
    low, high = span
    for made in (asymmetric(low, high), symmetric(low, high), power_of_two(low, high)):
        assert made.low <= min(low, 0) + made.scale * 0.51
        assert made.high >= max(high, 0) - made.scale * 0.51
        assert made.dequantize(made.quantize(np.zeros(1))) == 0


@given(SPANS)
def test_a_symmetric_quantizer_puts_the_greatest_magnitude_on_127(span: list[float]) -> None:
    made = symmetric(*span)
    assert made.zero_point == 128
    assert made.quantize(np.array([max(map(abs, (*span, 0.0)))]))[0] in (255,)


@given(SPANS, st.integers(8, 16))
def test_a_step_of_a_power_of_two_is_the_least_that_fits_and_its_zero_point_is_even(
    span: list[float], bits: int
) -> None:
    made = power_of_two(*span, bits)
    assert made.exact
    assert made.zero_point % 2 == 0
    half = made.scale / 2
    below, above = np.ceil(-min(span[0], 0.0) / half), np.ceil(max(span[1], 0.0) / half)
    # With half the step there are not enough levels, an even one for zero among them.
    assert below + below % 2 + above > made.last


@given(
    st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20),
    st.floats(2.0**-10, 8.0, width=32),
    st.integers(0, 255),
    st.sampled_from([8, 16]),
)
def test_levels_are_those_of_onnx(values: list[float], scale: float, zero: int, bits: int) -> None:
    affine = Affine(scale, zero, bits)
    x = np.array(values, np.float32)
    levels, back = _by_onnx(x, affine)
    np.testing.assert_array_equal(affine.quantize(x), levels)
    np.testing.assert_array_equal(affine.dequantize(levels), back)


def _by_onnx(x: np.ndarray, affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    kind = TensorProto.UINT8 if affine.bits == 8 else TensorProto.UINT16
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    graph = helper.make_graph(
        nodes,
        "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor_value_info("q", kind, [None]),
            helper.make_tensor_value_info("d", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [affine.scale]),
            helper.make_tensor("z", kind, [], [affine.zero_point]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    levels, back = open_session(model).run(None, {"x": x})
    return levels, back


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ((0.1, 0, 8), "binary32"),
        ((0.0, 0, 8), "above 0"),
        ((1.0, 256, 8), "zero point 256"),
        ((1.0, 0, 7), "7 bits"),
        ((1.0, 0, 33), "33 bits"),
    ],
)
def test_what_is_no_quantizer_is_refused(given_: tuple[float, int, int], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Affine(*given_)
    for low, high in ((1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(SettingsError, match="range"):
            step_and_zero(low, high, 0, 255)
    with pytest.raises(SettingsError, match="range"):
        asymmetric(0.0, float("inf"))


def test_a_range_of_nothing_is_a_quantizer_still() -> None:
    for make in (asymmetric, symmetric, power_of_two):
        made = make(0.0, 0.0)
        assert made.dequantize(made.quantize(np.zeros(3))).tolist() == [0, 0, 0]
