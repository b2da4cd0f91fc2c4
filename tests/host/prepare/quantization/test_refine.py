"""Scales: no step makes the error greater, several starts help, padding counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_host.prepare.quantization.groups import Groups
from featlink_host.prepare.quantization.refine import (
    at_scales,
    by_error,
    fixed_point,
    refined,
    unsaturated,
    with_codebook,
)
from featlink_host.prepare.quantization.value_sets import ValueSet, logarithmic, power_of_two, uniform

SETS: list[ValueSet] = [uniform(1), uniform(2), uniform(3), power_of_two(3), logarithmic(2), logarithmic(4), uniform(5)]


def weights(seed: int, rows: int = 4, columns: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.laplace(0, rng.uniform(0.01, 3, (rows, 1)), (rows, columns))


@given(st.integers(0, 10_000), st.sampled_from(SETS))
@settings(max_examples=40)
def test_no_step_of_refining_makes_the_error_greater(seed: int, values: ValueSet) -> None:
    told: list[float] = []
    # One group: each start is told of step by step until it is settled.
    parts = weights(seed, rows=1)
    found = refined(parts, values, seen=told.append)
    falls = np.diff(told) <= 1e-12 * told[0]
    # A new start begins with a greater error; there are three of them.
    assert np.count_nonzero(~falls) <= 2
    assert found.errors.sum() <= min(told) * (1 + 1e-6)


@given(st.integers(0, 10_000), st.sampled_from(SETS))
@settings(max_examples=40)
def test_refined_scales_are_no_worse_than_direct_ones(seed: int, values: ValueSet) -> None:
    parts = weights(seed)
    refined_errors = refined(parts, values).errors
    for scales in (unsaturated(parts, values), by_error(parts, values)):
        assert (refined_errors <= at_scales(parts, values, scales).errors * (1 + 1e-6)).all()


@given(st.integers(0, 10_000), st.sampled_from(SETS))
@settings(max_examples=20)
def test_refined_scales_are_settled(seed: int, values: ValueSet) -> None:
    parts = weights(seed)
    found = refined(parts, values)
    chosen = values.values(found.indices)
    solved = (parts * chosen).sum(axis=1) / np.square(chosen).sum(axis=1)
    assert solved == pytest.approx(found.scales, rel=1e-5)
    assert np.array_equal(values.nearest(parts / found.scales[:, None]), found.indices)


def test_one_bit_is_the_mean_of_the_magnitudes() -> None:
    parts = weights(3)
    assert refined(parts, uniform(1)).scales == pytest.approx(np.abs(parts).mean(axis=1), rel=1e-6)


@given(st.integers(0, 10_000), st.sampled_from(SETS))
@settings(max_examples=20)
def test_unsaturated_scales_hold_every_weight(seed: int, values: ValueSet) -> None:
    parts = weights(seed)
    inside = parts / unsaturated(parts, values)[:, None]
    assert inside.min() >= values.low * (1 + 1e-12)
    assert inside.max() <= values.high * (1 + 1e-12)


def test_fixed_point_scales_are_powers_of_two() -> None:
    parts = weights(5)
    direct, best = (fixed_point(parts, uniform(4), saturate=one) for one in (False, True))
    for found in (direct, best):
        assert (np.frexp(found.scales)[0] == 0.5).all()
    assert (best.errors <= direct.errors).all()
    assert (direct.scales >= unsaturated(parts, uniform(4))).all()
    assert (direct.scales / 2 < unsaturated(parts, uniform(4))).all()


def test_codebook_and_scales_take_turns_for_less_error() -> None:
    parts = weights(6, rows=8, columns=200)
    direct, turned = (with_codebook(parts, 2, refine=one) for one in (False, True))
    assert turned.errors.sum() < direct.errors.sum()
    assert turned.errors.sum() < refined(parts, uniform(2)).errors.sum()


@pytest.mark.parametrize("portable", [False, True])
def test_codebooks_of_integers(portable: bool) -> None:
    parts = weights(7, rows=8, columns=200)
    found = with_codebook(parts, 3, refine=True, whole=True, portable=portable)
    integers = found.values.integers(np.arange(found.values.size))
    assert integers is not None
    assert integers.min() >= (-64 if portable else -127)
    assert integers.max() <= (63 if portable else 127)
    assert found.errors.sum() < 1.05 * with_codebook(parts, 3, refine=True).errors.sum()


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 12))
def test_blocks_come_together_again(rows: int, columns: int, block: int) -> None:
    groups = Groups(block, rows, columns)
    matrix = np.arange(rows * columns, dtype=float).reshape(rows, columns) + 1
    parts = groups.split(matrix)
    assert parts.shape == (groups.count, groups.block)
    assert np.array_equal(groups.join(parts), matrix)
    mask = groups.mask
    assert np.array_equal(parts != 0, mask if mask is not None else np.ones_like(parts, bool))
    spread = np.broadcast_to(groups.spread(np.arange(groups.count)), matrix.shape)
    assert all(len(set(groups.split(spread + 1)[k][parts[k] != 0])) == 1 for k in range(groups.count))


def test_padding_does_not_count() -> None:
    matrix = weights(8, rows=3, columns=7)
    groups = Groups(4, 3, 7)
    found = refined(groups.split(matrix), uniform(1), groups.mask)
    wanted = [np.abs(row[cut]).mean() for row in matrix for cut in (slice(0, 4), slice(4, 7))]
    assert found.scales == pytest.approx(wanted, rel=1e-6)


def test_a_group_of_zeros_stays_zero() -> None:
    for values in SETS:
        found = refined(np.zeros((2, 5)), values)
        assert not (values.values(found.indices) * found.scales[:, None]).any()


def test_groups_of_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="groups 0"):
        Groups(0, 2, 2)
