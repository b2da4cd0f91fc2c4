"""A known distribution is told from its histogram, cut off or not; entropies are those of the levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_host.prepare.distribution import fit_distribution, level_entropy
from featlink_host.prepare.quantization.histograms import StreamedHistogram, ValuesSeen


def seen(values: NDArray[np.float64], parts: int = 5) -> ValuesSeen:
    histogram = StreamedHistogram()
    for part in np.array_split(values, parts):
        histogram.add(part)
    return histogram.seen()


@pytest.mark.parametrize("shift", [-5.0, 0.0, 40.0])
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "laplace"])
def test_the_kind_is_found_with_its_parameters(kind: str, shift: float) -> None:
    rng = np.random.default_rng(1)
    values = {
        "uniform": lambda: rng.uniform(-2, 2, 40_000),
        "gaussian": lambda: rng.normal(0, 2, 40_000),
        "laplace": lambda: rng.laplace(0, 2, 40_000),
    }[kind]()
    found = fit_distribution(seen(values + shift))
    assert found.kind == kind
    assert found.location == pytest.approx(shift, abs=0.1)
    assert found.scale == pytest.approx(4 if kind == "uniform" else 2, rel=0.05)
    assert found.misfit < 0.02


def test_what_an_activation_cut_off_is_still_told() -> None:
    rng = np.random.default_rng(2)
    rectified = fit_distribution(seen(np.maximum(rng.normal(0.3, 1, 60_000), 0)))
    assert (rectified.kind, rectified.scale) == ("gaussian", pytest.approx(1, rel=0.1))
    clipped = fit_distribution(seen(np.clip(rng.laplace(0, 2, 60_000), 0, 6)))
    assert (clipped.kind, clipped.scale) == ("laplace", pytest.approx(2, rel=0.1))


def test_nothing_to_tell_is_constant() -> None:
    assert fit_distribution(seen(np.zeros(10))).kind == "constant"
    assert fit_distribution(seen(np.full(10, 3.5))).kind == "constant"


def test_entropy_is_that_of_the_levels() -> None:
    values = np.random.default_rng(3).normal(1, 1, 50_000).clip(0)
    levels = np.floor(values / values.max() * 255 + 0.5)
    share = np.unique(levels, return_counts=True)[1] / len(levels)
    assert level_entropy(seen(values)) == pytest.approx(-(share * np.log2(share)).sum(), abs=0.03)
    assert level_entropy(seen(np.array([0.0, 1.0] * 50))) == pytest.approx(1)
    assert level_entropy(seen(np.zeros(9))) == 0


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200))
def test_any_values_have_an_answer(values: list[float]) -> None:
    found = fit_distribution(seen(np.array(values), 1))
    assert found.kind in ("uniform", "gaussian", "laplace", "constant")
    assert math.isfinite(found.misfit)
    assert 0 <= level_entropy(seen(np.array(values), 1)) <= 8
