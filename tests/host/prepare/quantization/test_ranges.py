"""Ranges: histograms that arrive in pieces, and where they are cut off, beside onnxruntime's own calibration."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnxruntime.quantization.calibrate import HistogramCollector
from qdq_networks import network

from featlink_codec.errors import SettingsError
from featlink_host.prepare.quantization import thresholds
from featlink_host.prepare.quantization.affine import asymmetric
from featlink_host.prepare.quantization.histograms import StreamedHistogram, ValuesSeen
from featlink_host.prepare.quantization.ranges import RangeOptions, observe, quantizer_for

ARRAYS = st.lists(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40).map(lambda one: np.array(one, np.float32)),
    min_size=1,
    max_size=5,
)


def seen_of(*arrays: np.ndarray, bins: int = 4096) -> ValuesSeen:
    histogram = StreamedHistogram(bins)
    for one in arrays:
        histogram.add(one)
    return histogram.seen()


def relu_like(count: int = 20000, seed: int = 1) -> np.ndarray:
    """Half zeros, and a long tail."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.laplace(0, 0.8, count), 0).astype(np.float32)


@given(ARRAYS, st.randoms())
def test_a_histogram_does_not_depend_on_the_order_or_the_pieces(arrays: list[np.ndarray], random: object) -> None:
    one = seen_of(*arrays, bins=64)
    shuffled = list(arrays)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for other in (seen_of(*shuffled, bins=64), seen_of(np.concatenate(arrays), bins=64)):
        assert (one.width, one.first) == (other.width, other.first)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.minimum, one.maximum, one.zeros) == (other.minimum, other.maximum, other.zeros)
        assert one.mean == pytest.approx(other.mean, abs=1e-9, rel=1e-9)
        assert one.deviation == pytest.approx(other.deviation, abs=1e-6, rel=1e-9)


@given(ARRAYS)
def test_every_value_is_in_its_bin_and_bins_are_bounded(arrays: list[np.ndarray]) -> None:
    seen = seen_of(*arrays, bins=64)
    values = np.concatenate(arrays).astype(np.float64)
    edges = (np.arange(len(seen.counts) + 1) + seen.first) * seen.width
    assert len(seen.counts) <= 64
    expected = [int(((values >= low) & (values < low + seen.width)).sum()) for low in edges[:-1]]
    assert seen.counts.tolist() == expected
    points, counts = seen.points()
    assert counts.sum() == values.size
    assert np.abs(np.sort(np.repeat(points, counts)) - np.sort(values)).max() <= seen.width


def test_the_divergence_is_that_of_onnxruntime() -> None:
    for values, levels in ((relu_like(), 128), (relu_like(seed=2) - relu_like(seed=3), 128), (relu_like(), 256)):
        counts, edges = seen_of(values).symmetric(512)
        collector = HistogramCollector("entropy", False, 512, levels, 99.99, "same")
        limits = np.float64(-1e9), np.float64(1e9)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = collector.get_entropy_threshold((counts, edges, *limits, edges[-1]), levels)
        assert thresholds.divergence_edges(counts, edges, levels) == pytest.approx([float(one) for one in theirs])


def test_percentiles_are_those_of_the_values() -> None:
    values = np.concatenate([relu_like(), -relu_like(seed=5)])
    seen = seen_of(values)
    for percent in (90.0, 99.0, 99.9, 100.0):
        low, high = thresholds.percentile(seen, percent)
        cut = (100 - percent) / 200 * values.size
        # So many are cut off at most, and with one bin more it would be too many.
        for gone, more in ((values < low, values < low + seen.width), (values > high, values > high - seen.width)):
            assert gone.sum() <= cut + 1e-6
            assert more.sum() >= cut - 1e-6


def test_percentiles_are_those_of_onnxruntime_within_a_bin() -> None:
    values = relu_like() - relu_like(seed=3)
    counts, edges = seen_of(values).symmetric(4096)
    collector = HistogramCollector("percentile", False, len(counts), 128, 99.5, "same")
    collector.histogram_dict = {"t": (counts, edges, values.min(), values.max(), edges[-1])}
    with contextlib.redirect_stdout(io.StringIO()):
        low, high, *_ = collector.compute_percentile()["t"]
    width = edges[1] - edges[0]
    assert thresholds.percentile(seen_of(values), 99.5) == pytest.approx((float(low), float(high)), abs=2 * width)


@pytest.mark.parametrize(
    "values",
    [np.append(relu_like(), np.float32(60)), relu_like() * 3 - relu_like(seed=4)],
    ids=["one side", "both sides"],
)
def test_no_share_of_the_range_has_a_smaller_squared_error(values: np.ndarray) -> None:
    """Of the values themselves, not of their histogram."""
    low, high = thresholds.squared_error(seen_of(values), asymmetric)

    def error(span: tuple[float, float]) -> float:
        affine = asymmetric(*span)
        return float(np.square(affine.dequantize(affine.quantize(values)) - values.astype(np.float64)).sum())

    found = error((low, high))
    least, most = min(float(values.min()), 0.0), float(values.max())
    assert found <= min(error((least * share, most * share)) for share in thresholds.SHARES) * 1.02
    assert found <= error((least, most))


@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric", "fixed-point", "power-of-two"])
@pytest.mark.parametrize("method", ["minmax", "percentile", "kl", "mse"])
def test_every_method_gives_a_quantizer_of_every_scheme(method: str, scheme: str) -> None:
    seen = seen_of(relu_like())
    made = quantizer_for(seen, RangeOptions(method, scheme))  # type: ignore[arg-type]
    assert made.zero_point == {"asymmetric": 0, "power-of-two": 0}.get(scheme, 128)
    if method == "minmax":
        assert made.high >= seen.maximum - made.scale / 2
    if scheme in ("fixed-point", "power-of-two"):
        assert made.exact


def test_observing_looks_at_inner_tensors_a_batch_at_a_time() -> None:
    model = network([helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Relu", ["n"], ["out"])], ("b", 4), {})
    rng = np.random.default_rng(1)
    batches = [{"x": rng.normal(0, 1, (3, 4)).astype(np.float32)} for _ in range(5)]
    told: list[tuple[str, int, int]] = []
    seen = observe(model, iter(batches), ["x", "n", "out"], lambda *words: told.append(words), 5)
    whole = np.concatenate([one["x"] for one in batches])
    assert seen["n"].minimum == -float(whole.max())
    assert seen["out"].zeros == int((whole >= 0).sum())
    assert told[-1] == ("calibrate", 5, 5)


def test_what_cannot_be_looked_at_is_said() -> None:
    model = network([helper.make_node("Relu", ["x"], ["out"])], ("b", 4), {})
    with pytest.raises(SettingsError, match="no images"):
        observe(model, [], ["out"])
    with pytest.raises(SettingsError, match="no tensor 'gone'"):
        observe(model, [{"x": np.zeros((1, 4), np.float32)}], ["gone"])
    with pytest.raises(SettingsError, match="'x': found NaN"):
        observe(model, [{"x": np.full((1, 4), np.nan, np.float32)}], ["x"])
    for words in ({"method": "best"}, {"scheme": "odd"}, {"bits": 4}, {"bits": 33}, {"percent": 0.0}):
        with pytest.raises(SettingsError):
            RangeOptions(**words)  # type: ignore[arg-type]
