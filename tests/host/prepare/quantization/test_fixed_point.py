"""Dynamic fixed point: a * 2^-f."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_host.prepare.quantization.fixed_point import FixedPoint, fitting


def test_a_fraction_of_four_in_eight_bits() -> None:
    """One sign bit, three before the point, four behind it."""
    format_ = FixedPoint(4)
    assert (format_.low, format_.high, format_.step) == (-8.0, 7.9375, 0.0625)
    values = np.array([-9.0, -8.0, 0.03, 0.04, 1.0, 7.9375, 8.0, 0.09375])
    assert format_.integers(values).tolist() == [-128, -128, 0, 1, 16, 127, 127, 2]
    assert format_.values(np.array([-128, 127])).tolist() == [-8.0, 7.9375]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 16))
def test_the_longest_fraction_that_holds_the_range(one: float, other: float, bits: int) -> None:
    low, high = sorted((one, other))
    found = fitting(low, high, bits)
    half = found.step / 2
    assert found.low - half <= low
    assert high <= found.high + half
    if max(abs(low), abs(high)) > 1e-20:
        finer = FixedPoint(found.fraction + 1, bits)
        assert low < finer.low - finer.step / 2 or high > finer.high + finer.step / 2


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30), st.integers(-2, 8))
def test_its_levels_are_its_integers_further_up(values: list[float], fraction: int) -> None:
    format_ = FixedPoint(fraction)
    affine = format_.affine()
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(affine.quantize(x) - 128, format_.integers(x))
    np.testing.assert_array_equal(affine.dequantize(affine.quantize(x)), format_.values(format_.integers(x)))


def test_what_is_no_format_is_refused() -> None:
    for words in ((4, 1), (4, 33), (1000, 8)):
        with pytest.raises(SettingsError):
            FixedPoint(*words)
    with pytest.raises(SettingsError, match="range"):
        fitting(0.0, float("inf"))
