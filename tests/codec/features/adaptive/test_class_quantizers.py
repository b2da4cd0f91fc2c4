"""Quantizers of a class against the source's equations, element by element, and as the C core takes them."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features import Packing, RepackMode
from featlink_codec.features.adaptive import ClassParameters, Distribution
from featlink_codec.features.packer import MapPacker, Saw

AFFINE = [Distribution.UNIFORM, Distribution.GAUSSIAN, Distribution.LAPLACE]
LARGEST = float(np.finfo(np.float32).max)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
steps = st.sampled_from([0.25, 0.75, 1.0, 1.5, 3.0, 7.0]) | st.floats(2.0**-20, 2.0**20, width=32)
offsets = st.sampled_from([0.5, 0.0, 0.25, -1.0]) | finite


@st.composite
def parameters(draw, distributions=tuple(Distribution)):
    """Any class that is taken: narrow and wide, near 0 and far away."""
    distribution = draw(st.sampled_from(distributions))
    depth = draw(st.integers(2 if distribution.signed else 1, 8))
    highest = 40.0 if distribution is Distribution.LOGARITHMIC else 2.0**125
    spread = draw(st.floats(2.0**-149, highest, width=32) | st.floats(0.5, 30.0, width=32))
    center = draw(st.floats(-(2.0**125), 2.0**125, width=32) | st.floats(-4.0, 4.0, width=32))
    return ClassParameters(distribution, depth, center, spread, draw(steps), draw(offsets))


def as_printed(p, x):
    """Equations 1-7 and the clipping, one element in Python's floats, which are binary64."""
    if math.isinf(x):
        return p.peak if x > 0 else 0
    peak, m = 2**p.bit_depth - 1, 2 ** (p.bit_depth - 1) - 1
    normalised = (x - p.center) / p.spread
    n = normalised * peak if p.distribution is Distribution.UNIFORM else normalised * m + m
    return min(max(math.floor((n + p.offset) / p.step), 0), peak)


def probes(quantizer, values):
    """The values, and every threshold with both its neighbours, as finite float32 and infinities."""
    t = quantizer.thresholds
    with np.errstate(over="ignore"):
        near = np.concatenate([t, np.nextafter(t, np.float32(-np.inf)), np.nextafter(t, np.float32(np.inf))])
    ends = [0.0, -0.0, LARGEST, -LARGEST, 1e-45, -1e-45, math.inf, -math.inf]
    return np.concatenate([near, np.array([*values, *ends], np.float32)]).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(parameters(AFFINE), st.lists(finite, max_size=20))
@example(ClassParameters(Distribution.LAPLACE, 3, 0.0, 1.0, step=0.5), [])
@example(ClassParameters(Distribution.GAUSSIAN, 2, 2.0**100, 2.0**-149), [2.0**100])
@example(ClassParameters(Distribution.UNIFORM, 1, -1.0, 2.0), [0.0])
def test_levels_are_the_equations(p, values):
    quantizer = p.quantizer()
    x = probes(quantizer, values)
    assert quantizer.quantize(x).tolist() == [as_printed(p, float(v)) for v in x]


@given(parameters(AFFINE))
def test_level_values_are_the_inverse_equations(p):
    peak, m = 2**p.bit_depth - 1, 2 ** (p.bit_depth - 1) - 1
    for level, value in enumerate(p.quantizer().level_values.tolist()):
        n = min(max(0, level * p.step), peak)
        if p.distribution is Distribution.UNIFORM:
            expected = n / peak * p.spread + p.center
        else:
            expected = (n / m - 1) * p.spread + p.center
        assert value == float(np.float32(expected))


@given(parameters([Distribution.LOGARITHMIC]))
def test_logarithmic_thresholds_are_the_smallest_binary32_not_below_the_inverse(p):
    quantizer = p.quantizer()
    for level in range(1, quantizer.peak + 1):
        y = ((level * p.step - p.offset) / quantizer.parameters.half - 1) * p.spread
        bound = math.copysign(2.0 ** abs(y) - 1 if abs(y) < 1000 else math.inf, y) + p.center
        threshold = quantizer.thresholds[level - 1]
        assert float(threshold) >= bound
        with np.errstate(over="ignore"):
            below = np.nextafter(threshold, np.float32(-np.inf))
        assert float(below) < bound or below == -math.inf


@given(parameters([Distribution.LOGARITHMIC]), st.lists(st.floats(-1e6, 1e6, width=32), max_size=20))
def test_logarithmic_levels_are_within_rounding_of_the_formula(p, values):
    quantizer = p.quantizer()
    for x, level in zip(values, quantizer.quantize(np.array(values, np.float32)).tolist(), strict=True):
        y = math.copysign(math.log2(abs(x - p.center) + 1), x - p.center)
        n = (y / p.spread * p.half + p.half + p.offset) / p.step
        room = 1e-6 * (1 + abs(n) + abs(p.offset / p.step) + p.half / p.spread / p.step)
        lower, upper = (min(max(math.floor(k), 0), p.peak) for k in (n - room, n + room))
        assert lower <= level <= upper


@given(parameters())
def test_tables_never_decrease_and_hold_no_nan(p):
    quantizer = p.quantizer()
    t, v = quantizer.thresholds, quantizer.level_values
    assert t.dtype == v.dtype == np.float32
    assert t.shape == (quantizer.peak,)
    assert v.shape == (quantizer.peak + 1,)
    assert (t[1:] >= t[:-1]).all()
    assert t[0] >= -LARGEST
    assert (v[1:] >= v[:-1]).all()
    assert np.isfinite(v).all()


@given(parameters(), st.lists(finite, max_size=20))
def test_the_core_takes_every_class(p, values):
    """Also thresholds of the lowest finite number and of +inf, and crowds of equal ones."""
    quantizer = p.quantizer()
    x = probes(quantizer, values)
    packing = Packing(RepackMode.TILE, 1, tile_h=1, tile_w=1)
    packer = MapPacker(packing, 1, x.size, np.float32, thresholds=quantizer.thresholds, refuse=Saw.NAN)
    picture = np.zeros(packing.picture_size(1, x.size), np.uint8)
    packer.pack(x[None, :, None], 0, picture)
    assert picture.ravel()[: x.size].tolist() == quantizer.quantize(x).tolist()


@pytest.mark.parametrize("distribution", Distribution)
def test_a_step_above_one_skips_values_and_one_below_cuts_the_highest(distribution):
    coarse = ClassParameters(distribution, 4, 0.0, 2.0, step=3.0, offset=1.5).quantizer()
    # levels stand for n = 0, 3, 6, ... 15 and are all reached
    assert np.unique(coarse.level_values).size == 6
    assert (coarse.level_values[5:] == coarse.level_values[5]).all()
    assert coarse.quantize(coarse.level_values[:6]).tolist() == [0, 1, 2, 3, 4, 5]
    fine = ClassParameters(distribution, 4, 0.0, 2.0, step=0.5, offset=0.25).quantizer()
    whole = ClassParameters(distribution, 4, 0.0, 2.0).quantizer()
    assert fine.level_values[::2].tolist() == whole.level_values[:8].tolist()
    assert fine.quantize(whole.level_values)[8:].tolist() == [15] * 8


def test_levels_out_of_reach_have_the_ends_of_the_line():
    beyond = ClassParameters(Distribution.LAPLACE, 2, 0.0, 2.0**126, step=4.0).quantizer()
    assert beyond.thresholds.tolist()[-1] == math.inf
    assert beyond.quantize(np.array([LARGEST, math.inf], np.float32)).tolist() == [1, 3]
    below = ClassParameters(Distribution.LAPLACE, 2, 0.0, 1.0, offset=LARGEST, step=2.0**-20)
    assert below.quantizer().quantize(np.array([-(2.0**100), -math.inf], np.float32)).tolist() == [3, 0]
    everywhere = ClassParameters(Distribution.LAPLACE, 2, 0.0, 2.0**10, offset=LARGEST).quantizer()
    assert everywhere.thresholds.tolist() == [-LARGEST] * 3
    assert everywhere.quantize(np.array([-LARGEST, -math.inf], np.float32)).tolist() == [3, 0]


def test_sixteen_bits():
    p = ClassParameters(Distribution.GAUSSIAN, 16, 0.25, 3.0)
    x = np.random.default_rng(1).normal(0.25, 2, 500).astype(np.float32)
    assert p.quantizer().quantize(x).tolist() == [as_printed(p, float(v)) for v in x]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spread": 0.0}, "spread is 0.0, expected a finite number above 0"),
        ({"spread": -1.0}, "spread is -1.0, expected a finite number above 0"),
        ({"spread": math.inf}, "spread is inf, expected a finite number above 0"),
        ({"spread": math.nan}, "spread is nan, expected a finite number above 0"),
        ({"step": 0.0}, "step is 0.0, expected a finite number above 0"),
        ({"step": math.nan}, "step is nan, expected a finite number above 0"),
        ({"offset": math.inf}, "offset is inf, expected a finite number"),
        ({"center": math.nan}, "center is nan, expected a finite number"),
        ({"center": 0.1}, "center 0.1 is no binary32; the nearest one is 0.10000000149011612"),
        ({"bit_depth": 17}, "class depth 17 of a gaussian class is not within 2..16"),
        ({"bit_depth": 1}, "class depth 1 of a gaussian class is not within 2..16"),
        ({"bit_depth": 0, "distribution": 0}, "class depth 0 of a uniform class is not within 1..16"),
        ({"distribution": 4}, "distribution 4 is not within 0..3"),
        ({"distribution": 3, "spread": 128.0}, "spread 128.0 of a logarithmic class is not below 128"),
        (
            {"spread": 2.0**127, "bit_depth": 2},
            f"center 0.0 and spread {2.0**127} take level 3 beyond the largest binary32",
        ),
    ],
)
def test_what_is_no_class_is_refused(change, text):
    good = {"distribution": Distribution.GAUSSIAN, "bit_depth": 8, "center": 0.0, "spread": 1.0}
    ClassParameters(**good)
    with pytest.raises(SettingsError) as caught:
        ClassParameters(**{**good, **change})
    assert str(caught.value) == text


def test_rounding_keeps_a_spread_of_next_to_nothing():
    p = ClassParameters.rounded(Distribution.LAPLACE, 4, 0.1, 1e-300)
    assert p.center == float(np.float32(0.1))
    assert p.spread == 2.0**-149
    with pytest.raises(SettingsError, match="spread is 0"):
        ClassParameters.rounded(Distribution.LAPLACE, 4, 0.1, 0.0)
