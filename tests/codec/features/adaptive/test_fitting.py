"""Fitted quantizers against the standard's uniform one, against a search of their own kind, and against themselves."""

import functools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features import UniformQuantizer
from featlink_codec.features.adaptive import ClassParameters, Distribution, Histogram, decide, expected_error, fit
from featlink_codec.features.adaptive.histogram import BINS

DEPTHS = range(2, 9)
COUNT = 12_000


def numbers(seed=7):
    return np.random.default_rng(seed)


DATA = {
    "gaussian": lambda: numbers().normal(0, 1, COUNT),
    "laplace": lambda: numbers().laplace(0, 1, COUNT),
    "uniform": lambda: numbers().uniform(-1, 1, COUNT),
    "gaussian, shifted": lambda: numbers().normal(40, 3, COUNT),
    "laplace, shifted, narrow": lambda: numbers().laplace(-0.5, 0.01, COUNT),
    "uniform, shifted": lambda: numbers().uniform(5, 9, COUNT),
    "gaussian, skewed": lambda: numbers().gamma(2, 1, COUNT) - 1,
    "laplace, skewed": lambda: np.where(numbers(1).random(COUNT) < 0.8, 1, -0.2) * numbers().exponential(1, COUNT),
    "uniform, skewed": lambda: numbers().uniform(0, 1, COUNT) ** 2,
    "gaussian, through a ReLU": lambda: np.maximum(numbers().normal(0, 1, COUNT), 0),
}
FITTED = [Distribution.UNIFORM, Distribution.GAUSSIAN]


@functools.cache
def data(name):
    return DATA[name]().astype(np.float32)


@functools.cache
def fitted(name, distribution, depth):
    return fit(data(name), distribution, depth)


def squared_error(quantizer, x):
    away = quantizer.dequantize(quantizer.quantize(x)).astype(np.float64) - x.astype(np.float64)
    return float(np.mean(away * away))


def error_of_standard(x, depth):
    """Of the uniform standard quantizer, on the data moved to where it applies."""
    moved = x - x.min()
    return squared_error(UniformQuantizer(float(moved.max()), depth), moved)


class Sorted:
    """Exact errors of any scalar quantizer on a sample, by sums over the sorted values."""

    def __init__(self, x):
        self.x = np.sort(x.astype(np.float64))
        self.middle = float(np.mean(self.x))
        y = self.x - self.middle
        self.sums = [np.concatenate(([0.0], np.cumsum(y**k))) for k in range(3)]

    def errors(self, values, bounds):
        """values [n, levels], bounds [n, levels - 1], rising: mean squared errors [n]."""
        places = np.searchsorted(self.x, bounds)
        ends = np.pad(places, ((0, 0), (1, 1)), constant_values=((0, 0), (0, len(self.x))))
        ones, firsts, seconds = (np.diff(one[ends], axis=1) for one in self.sums)
        v = values - self.middle
        return (seconds - 2 * v * firsts + v * v * ones).sum(axis=1) / len(self.x)


@functools.cache
def best_by_search(name, depth, kind):
    """The least error over a grid of spreads and centers, as the equations have it; offsets and steps more coarsely.

    Logarithmic classes: spreads and centers alone, as other steps and offsets make other kinds of them.
    """
    sample = Sorted(data(name))
    low, high = sample.x[0], sample.x[-1]
    reach = high - low
    peak, m = 2**depth - 1, 2 ** (depth - 1) - 1
    best = math.inf
    # many levels are best spread over most of the range
    spreads, least, places = (90, 0.02, 45) if depth < 6 else (40, 0.25, 33)
    others = ((1, 0.4, 6), (1, 0.6, 6), (1.5, 0.75, 6), (0.75, 0.375, 6)) if kind == "affine" else ()
    for step, offset, number in ((1, 0.5, spreads), *others):
        for part in np.geomspace(1.1, least, number):
            n_values = np.clip(np.arange(peak + 1) * step, 0, peak)
            n_bounds = np.arange(1, peak + 1) * step - offset
            if kind == "log":
                top = math.log2(reach * part + 1)
                values, bounds = ((n / m - 1) * top for n in (n_values, n_bounds))
                values, bounds = (np.sign(y) * (2 ** np.abs(y) - 1) for y in (values, bounds))
                centers = np.linspace(low, high, places)
            else:
                # spreads and centers by where the lowest and the highest level lie: the same grids for both forms
                values, bounds = (n / peak * reach * part for n in (n_values, n_bounds))
                centers = np.linspace(low - 0.1 * reach, high - 0.9 * reach * part, places)
            found = sample.errors(values + centers[:, None], bounds + centers[:, None])
            best = min(best, float(found.min()))
    return best


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", DATA)
def test_the_chosen_quantizer_is_never_worse_than_the_standard_uniform_one(name, depth):
    x = data(name)
    chosen = fitted(name, decide("histogram", x), depth)
    assert squared_error(chosen.quantizer(), x) <= error_of_standard(x, depth)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "uniform"])
def test_the_histogram_chooses_the_distribution_that_the_data_have(name):
    assert decide("histogram", data(name)).name.lower() == name


@pytest.mark.parametrize("distribution", FITTED)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", DATA)
def test_least_squares_is_within_a_twentieth_of_the_best_of_its_kind(name, depth, distribution):
    x = data(name)
    found = squared_error(fitted(name, distribution, depth).quantizer(), x)
    assert found <= 1.05 * best_by_search(name, depth, "affine")


@pytest.mark.parametrize("name", DATA)
def test_laplace_classes_have_the_numbers_of_gaussian_ones(name):
    """Their equations are the same but for the center, which the source leaves at 0 and least squares does not."""
    gaussian, laplace = (fitted(name, one, 4) for one in (Distribution.GAUSSIAN, Distribution.LAPLACE))
    assert (laplace.center, laplace.spread) == (gaussian.center, gaussian.spread)


@pytest.mark.parametrize("depth", [2, 3, 5, 8])
@pytest.mark.parametrize("name", DATA)
def test_logarithmic_classes_are_within_a_twentieth_of_the_best_of_their_kind(name, depth):
    x = data(name)
    found = squared_error(fitted(name, Distribution.LOGARITHMIC, depth).quantizer(), x)
    assert found <= 1.05 * best_by_search(name, depth, "log")


def test_the_search_of_these_tests_finds_what_is_known():
    """Two bits for a Gaussian: the best uniform quantizer has an error of 0.1188 (Max, 1960, table 2)."""
    assert best_by_search("gaussian", 2, "affine") == pytest.approx(0.1188, rel=0.02)


@pytest.mark.parametrize(("depth", "part"), [(2, 0.1), (4, 0.1), (6, 0.95), (8, 0.97)])
def test_a_single_outlier_does_not_take_all_levels(depth, part):
    x = np.append(numbers().normal(0, 1, COUNT), 100).astype(np.float32)
    found = squared_error(fit(x, Distribution.GAUSSIAN, depth).quantizer(), x)
    assert found < part * error_of_standard(x, depth)


@pytest.mark.parametrize("name", DATA)
def test_the_expected_error_is_the_error(name):
    x = data(name)
    for depth in (2, 5, 8):
        for distribution in Distribution:
            found = fitted(name, distribution, depth)
            assert expected_error(x, found) == pytest.approx(squared_error(found.quantizer(), x), rel=0.01)


def test_literal_numbers_are_the_source_s():
    x = data("gaussian, shifted")
    gaussian = fit(x, Distribution.GAUSSIAN, 8, "literal")
    width = (float(x.max()) - float(x.min())) / (BINS / 2)
    assert gaussian.center == pytest.approx(float(x.mean(dtype=np.float64)), abs=width)
    assert gaussian.spread == pytest.approx(float(x.var(dtype=np.float64)), rel=1e-3)
    uniform = fit(x, Distribution.UNIFORM, 8, "literal")
    assert uniform.center == float(x.min())
    assert uniform.spread == float(np.float32(float(x.max()) - float(x.min())))
    laplace = fit(data("laplace"), Distribution.LAPLACE, 8, "literal")
    assert laplace.center == 0
    assert laplace.spread == pytest.approx(float(np.abs(data("laplace")).mean(dtype=np.float64)), rel=1e-3)
    log = fit(data("laplace"), Distribution.LOGARITHMIC, 8, "literal")
    assert log.spread == pytest.approx(math.log2(float(np.abs(data("laplace")).max()) + 1))


def test_a_literal_variance_clips_where_the_deviation_is_far_from_1():
    """Why least squares is there: a spread of 0.04 leaves four fifths of a Gaussian of deviation 0.2 out."""
    x = numbers().normal(0, 0.2, COUNT).astype(np.float32)
    literal, fitted = (fit(x, Distribution.GAUSSIAN, 8, how) for how in ("literal", "least-squares"))
    assert squared_error(literal.quantizer(), x) > 1000 * squared_error(fitted.quantizer(), x)


@pytest.mark.parametrize("how", ["literal", "least-squares"])
@pytest.mark.parametrize("distribution", Distribution)
@pytest.mark.parametrize("value", [0.0, 3.25, -1e30, 1e-45])
def test_maps_of_one_value_come_back_exactly(value, distribution, how):
    x = np.full(50, value, np.float32)
    quantizer = fit(x, distribution, 4, how).quantizer()
    assert (quantizer.dequantize(quantizer.quantize(x)) == x).all()


@pytest.mark.parametrize("distribution", Distribution)
def test_zeros_after_a_relu_come_back_as_zero_nearly(distribution):
    x = data("gaussian, through a ReLU")
    quantizer = fit(x, distribution, 6).quantizer()
    zero = quantizer.dequantize(quantizer.quantize(np.zeros(1, np.float32)))[0]
    assert abs(zero) < 0.05 * np.diff(quantizer.level_values).max()


@settings(max_examples=15, deadline=None)
@example([0.0, 2.0**96], Distribution.LOGARITHMIC, 2)
@example([-(2.0**126), 2.0**127], Distribution.GAUSSIAN, 2)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8),
    st.sampled_from(Distribution),
    st.integers(2, 6),
)
def test_any_finite_values_give_a_class(values, distribution, depth):
    x = np.array(values, np.float32)
    assert isinstance(fit(x, distribution, depth), ClassParameters)


def test_sixteen_bits_are_fitted_too():
    x = data("gaussian")
    found = squared_error(fit(x, Distribution.GAUSSIAN, 16).quantizer(), x)
    assert found <= 1.05 * error_of_standard(x, 16)


def test_the_fit_is_the_same_on_every_machine():
    """Numbers from a linear congruence, so that no generator of anybody else's has a part in it."""
    k = np.arange(1 << 14, dtype=np.uint64)
    noise = ((k * np.uint64(2862933555777941757) + np.uint64(3037000493)) >> np.uint64(40)).astype(np.float64) / 2**24
    x = (noise + np.roll(noise, 1) + np.roll(noise, 5) - 1.25).astype(np.float32)
    found = [fit(x, one, 5) for one in Distribution]
    assert [(one.center.hex(), one.spread.hex()) for one in found] == GOLDEN


GOLDEN = [
    ("-0x1.5f68420000000p-1", "0x1.ca974c0000000p+0"),
    ("0x1.7aadb80000000p-3", "0x1.bbcc380000000p-1"),
    ("0x1.7aadb80000000p-3", "0x1.bbcc380000000p-1"),
    ("0x1.679ae80000000p-3", "0x1.c936b80000000p-1"),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, -3.5, 100.0, 1e-3, 7e5]), min_size=1, max_size=12), st.randoms())
def test_batches_and_their_order_make_no_difference(scales, random):
    parts = [(numbers(k).normal(0, 1, 50) * scale).astype(np.float32) for k, scale in enumerate(scales)]
    whole, shuffled = Histogram(), Histogram()
    whole.add(np.concatenate(parts))
    random.shuffle(parts)
    for part in parts:
        shuffled.add(part.reshape(5, 10).T)
    a, b = whole.summary(), shuffled.summary()
    assert (a.counts == b.counts).all()
    assert (a.origin, a.width, a.zeros, a.minimum, a.maximum) == (b.origin, b.width, b.zeros, b.minimum, b.maximum)
    assert a.count == 50 * len(parts)


def test_at_least_half_of_the_bins_span_the_values():
    for name in DATA:
        histogram = Histogram()
        histogram.add(data(name))
        assert BINS / 2 - 2 <= (histogram.maximum - histogram.minimum) / histogram.summary().width <= BINS


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([1, np.nan], np.float32), "the map holds nan, expected finite values"),
        (np.array([1, -np.inf], np.float32), "the map holds -inf, expected finite values"),
        (np.zeros(3), "values are float64, expected float32, float16 or integers of up to 16 bits"),
        (np.zeros(0, np.float32), "found no values, expected at least one to fit a quantizer to"),
    ],
)
def test_what_cannot_be_fitted_to_is_refused(values, text):
    with pytest.raises(SettingsError) as caught:
        fit(values, Distribution.UNIFORM, 8)
    assert str(caught.value) == text


def test_other_ways_and_depths_are_refused():
    with pytest.raises(SettingsError, match="fit 'guess', expected one of least-squares, literal"):
        fit(data("gaussian"), Distribution.UNIFORM, 8, "guess")
    with pytest.raises(SettingsError, match=r"class depth 1 of a laplace class is not within 2..16"):
        fit(data("gaussian"), Distribution.LAPLACE, 1)
