"""Quantizers against Annex B, against the equations as printed, and against each other."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features import CustomQuantizer, LogQuantizer, UniformQuantizer, annex_b
from featlink_codec.features.presets import ANNEX_B_MAXIMA

positive = st.floats(2.0**-140, float(np.finfo(np.float32).max), width=32)
log_maxima = st.floats(2.0**-20, 127.0, width=32)
depths = st.sampled_from([2, 4, 8, 16])


def rows(vectors):
    with (vectors / "annex_b.csv").open() as file:
        return list(csv.DictReader(file))


def test_all_1512_intervals_of_annex_b(vectors):
    """The equation's bounds agree with every row within 0.0001 inclusive, and the thresholds are those bounds."""
    table = rows(vectors)
    assert len(table) == 1512
    for row in table:
        bits, level = int(row["bits"]), int(row["level"])
        quantizer = annex_b(row["layer"], bits)
        printed_maximum, peak = ANNEX_B_MAXIMA[row["layer"]], quantizer.peak
        lower = 0.0 if level == 0 else (level - 0.5) * printed_maximum / peak
        upper = printed_maximum if level == peak else (level + 0.5) * printed_maximum / peak
        assert round(abs(lower - float(row["lower"])), 9) <= 0.0001, row
        assert round(abs(upper - float(row["upper"])), 9) <= 0.0001, row
        assert row["upper_end"] == ("closed" if level == peak else "open")
        if level:
            # the maximum and the threshold are each rounded once to binary32
            assert abs(float(quantizer.thresholds[level - 1]) - lower) <= 2 * np.spacing(np.float32(printed_maximum))
        middle = np.float32((float(row["lower"]) + float(row["upper"])) / 2)
        assert quantizer.quantize(middle) == level, row


def test_annex_b_intervals_are_closed_below_and_the_top_one_above():
    quantizer = annex_b("resnet18_conv5", 4)
    for level, threshold in enumerate(quantizer.thresholds, 1):
        assert quantizer.quantize(threshold) == level
        assert quantizer.quantize(np.nextafter(threshold, np.float32(0))) == level - 1
    assert quantizer.quantize(np.float32(quantizer.max_feat_digit)) == quantizer.peak


def test_unknown_presets_suggest_near_ones():
    with pytest.raises(SettingsError, match="resnet18_conv5"):
        annex_b("resnet18_conv4", 8)
    assert len(ANNEX_B_MAXIMA) == 6


def uniform_as_printed(x, maximum, peak):
    if x == math.inf:
        return peak
    return min(max(math.floor(float(x) / maximum * peak + 0.5), 0), peak)


@given(positive, depths, st.lists(st.floats(width=32, allow_nan=False), max_size=30))
def test_uniform_levels_are_the_equation(maximum, depth, values):
    quantizer = UniformQuantizer(maximum, depth)
    near = [
        math.nextafter(float(t), d) for t in quantizer.thresholds[:: max(1, quantizer.peak // 40)] for d in (0, 1e39)
    ]
    x = np.array([*values, *near, 0.0, -0.0, math.inf, -math.inf, maximum], np.float64).astype(np.float32)
    x = np.concatenate([x, quantizer.thresholds[:500], np.nextafter(quantizer.thresholds[:500], np.float32(-1))])
    expected = [uniform_as_printed(v, maximum, quantizer.peak) if v != -math.inf else 0 for v in x.tolist()]
    assert quantizer.quantize(x).tolist() == expected


@given(log_maxima, depths)
def test_log_thresholds_are_the_smallest_binary32_not_below_the_bound(maximum, depth):
    quantizer = LogQuantizer(maximum, depth)
    for t in {1, 2, quantizer.peak // 2, quantizer.peak}:
        bound = 2.0 ** ((t - 0.5) * maximum / quantizer.peak) - 1
        threshold = quantizer.thresholds[t - 1]
        assert float(threshold) >= bound
        assert float(np.nextafter(threshold, np.float32(-1))) < bound


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3, unique=True).map(sorted))
def test_custom_levels_count_the_bounds_strictly_below(bounds):
    quantizer = CustomQuantizer(np.array(bounds, np.float32), 2)
    x = np.array(
        [v for b in bounds for v in (b, np.nextafter(np.float32(b), np.float32(1e38)))] + [-math.inf, math.inf],
        np.float32,
    )
    assert quantizer.quantize(x).tolist() == [sum(b < v for b in bounds) for v in x.tolist()]


def test_custom_levels_stand_for_the_middles():
    quantizer = CustomQuantizer(np.array([0, 1, 3], np.float32), 2)
    assert quantizer.level_values.tolist() == [0, 0.5, 2, 2]
    assert quantizer.quantize(np.array([-1, 0, 0.5, 1, 2, 3, 4], np.float32)).tolist() == [0, 0, 1, 1, 2, 2, 3]


@given(st.floats(2.0**-100, 2.0**100, width=32), st.floats(2.0**-6, 127.0, width=32), depths)
def test_a_level_s_value_has_that_level(maximum, log_maximum, depth):
    for quantizer in (UniformQuantizer(maximum, depth), LogQuantizer(log_maximum, depth)):
        levels = np.arange(quantizer.peak + 1).astype(np.uint16)
        values = quantizer.dequantize(levels)
        # Where a step is only a few ulp (16-bit logarithms), a value and its bounds may round to one number.
        room = np.diff(values) > 8 * np.spacing(values[1:])
        assert (quantizer.quantize(values) == levels)[1:][room].all()
        assert room.any()
        if depth <= 8:
            assert room.all()


@pytest.mark.parametrize("make", [UniformQuantizer, LogQuantizer])
@pytest.mark.parametrize("maximum", [0.0, -1.0, math.nan, math.inf, 0.1])
def test_bad_maxima_are_refused(make, maximum):
    with pytest.raises(SettingsError, match="max_feat_digit"):
        make(maximum, 8)


def test_a_logarithmic_maximum_stays_below_128():
    LogQuantizer(float(np.nextafter(np.float32(128), np.float32(0))), 8)
    with pytest.raises(SettingsError, match="not below 128"):
        LogQuantizer(128.0, 8)


def test_the_largest_logarithmic_maximum_does_not_overflow():
    quantizer = LogQuantizer(float(np.nextafter(np.float32(128), np.float32(0))), 16)
    assert np.isfinite(quantizer.level_values).all()
    assert np.isfinite(quantizer.thresholds).all()


@pytest.mark.parametrize("bounds", [[0, 0, 1], [0, 1, math.nan], [1, 0, 2], [0, 1, math.inf], [0, 1], [0, 1, 2, 3]])
def test_bad_partitions_are_refused(bounds):
    with pytest.raises(SettingsError):
        CustomQuantizer(np.array(bounds, np.float32), 2)


def test_nan_in_a_map_is_refused_with_its_place():
    x = np.zeros((2, 3, 4), np.float32)
    x[1, 2, 3] = np.nan
    with pytest.raises(SettingsError, match=r"first at \(1, 2, 3\)"):
        UniformQuantizer(6.0, 8).quantize(x)


def test_types_that_float32_does_not_hold_are_refused():
    with pytest.raises(SettingsError, match="float64"):
        UniformQuantizer(6.0, 8).quantize(np.zeros(3))


def test_levels_above_peak_are_refused():
    with pytest.raises(SettingsError, match="above the peak"):
        UniformQuantizer(6.0, 2).dequantize(np.array([4], np.uint8))
