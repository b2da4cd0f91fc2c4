"""Sets of values: the seed's own examples, ties, ends, and the nearest value by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_host.prepare.quantization.codebook import learned
from featlink_host.prepare.quantization.value_sets import (
    TableSet,
    UniformSet,
    ValueSet,
    logarithmic,
    power_of_two,
    uniform,
    whole_numbers,
)

EXAMPLE = np.array([0.52, 2.11, 0.24, -0.25, -0.7, 0.31])
#: As the source prints it. Its last number is not the nearest: 0.31 is 0.19 from 0.5 and 0.31 from 0. All six follow
#: from cutting off towards zero instead, which the text does not say.
PRINTED = [0.5, 0.5, 0, 0, -0.5, 0]


def test_two_bits_of_the_sources_example_are_nearest_but_for_the_last_number() -> None:
    values = power_of_two(2)
    assert (np.array(values.table) * 0.5).tolist() == [-1, -0.5, 0, 0.5]
    found = values.values(values.nearest(EXAMPLE / 0.5)) * 0.5
    assert found[:5].tolist() == PRINTED[:5]
    assert found[5] == 0.5
    assert abs(found[5] - 0.31) < abs(PRINTED[5] - 0.31)
    assert np.clip(np.trunc(EXAMPLE / 0.5) * 0.5, -1, 0.5).tolist() == PRINTED


def test_one_bit_of_the_sources_example() -> None:
    given = np.array([0.51, 0.26, 0.24, -0.24, -0.26, -0.66])
    for values in (power_of_two(1), uniform(1), logarithmic(1)):
        assert values.values(values.nearest(given)).tolist() == [1, 1, 1, -1, -1, -1]


def test_uniform_two_bits_are_the_powers_of_two() -> None:
    both = uniform(2), power_of_two(2)
    given = np.linspace(-3, 3, 61)
    assert np.array_equal(both[0].nearest(given), both[1].nearest(given))


@pytest.mark.parametrize(
    ("bits", "portable", "ends"),
    [(2, False, (-2, 1)), (7, True, (-64, 63)), (8, False, (-127, 127)), (8, True, (-64, 63)), (9, True, (-256, 255))],
)
def test_uniform_ends(bits: int, portable: bool, ends: tuple[int, int]) -> None:
    values = uniform(bits, portable)
    assert (values.low, values.high) == ends
    assert values.values(values.nearest(np.array([-1e9, 1e9]))).tolist() == list(ends)


def test_32_bits_are_uniform_without_a_table() -> None:
    values = uniform(32)
    given = np.array([-(2.0**31), -1.4, 0.0, 2.0**31 - 1, 1e20])
    assert values.integers(values.nearest(given)).tolist() == [-(2**31), -1, 0, 2**31 - 1, 2**31 - 1]  # type: ignore[union-attr]


def test_powers_of_two_have_one_value_fewer_above_zero() -> None:
    assert power_of_two(3).table == (-8, -4, -2, -1, 0, 1, 2, 4)
    assert power_of_two(4).table == (-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64)
    assert power_of_two(4, portable=True).table[-1] == 32
    assert power_of_two(8).table == power_of_two(4).table


def test_logarithmic_values_are_even_in_the_logarithm_and_the_same_on_either_side() -> None:
    assert logarithmic(2).table == (-1, 0, 1)
    assert logarithmic(3).table == (-4, -2, -1, 0, 1, 2, 4)
    for bits in (4, 5, 6, 8):
        table = np.array(logarithmic(bits).table)
        assert np.array_equal(table, -table[::-1])
        steps = np.diff(np.log2(table[table > 0]))
        assert steps == pytest.approx(np.full(len(steps), 2.0 ** -(bits - 4)), rel=1e-4)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_integers_of_an_int8_container_are_within_it(bits: int, portable: bool) -> None:
    for values in (power_of_two(bits, portable), logarithmic(bits, portable, whole=True), uniform(bits, portable)):
        integers = values.integers(np.arange(values.size))
        assert integers is not None
        low, high = (-64, 63) if portable else (-127, 127)
        assert low <= integers.min()
        assert integers.max() <= high


def test_whole_numbers_keep_a_tables_proportions() -> None:
    found = whole_numbers(3, np.array([-1.0, -0.5, -0.001, 0.25, 0.75]))
    assert found.table == (-127, -64, 0, 32, 95)


SETS: list[ValueSet] = [
    UniformSet(3, -4, 3),
    power_of_two(1),
    power_of_two(3),
    logarithmic(6),
    TableSet(3, (-0.7, -0.1, 0.4, 2.0)),
]


@given(st.sampled_from(SETS), st.lists(st.floats(-20, 20), min_size=1, max_size=20))
def test_the_nearest_value_is_taken_and_ties_go_towards_zero(values: ValueSet, given: list[float]) -> None:
    table = values.values(np.arange(values.size))
    found = values.values(values.nearest(np.array(given)))
    for number, chosen in zip(given, found, strict=True):
        away = np.abs(table - number)
        near = table[away == away.min()]
        wanted = near[np.abs(near) == np.abs(near).min()].max()
        # Middles are computed in float64, too: numbers that are a rounding error from a tie may go either way.
        assert chosen == wanted or abs(abs(chosen - number) - away.min()) <= 1e-14 * max(1, abs(number))


@pytest.mark.parametrize(("number", "wanted"), [(0.5, 0.0), (-0.5, 0.0), (1.5, 1.0), (-3.0, -2.0), (3.0, 2.0)])
def test_ties_go_towards_zero(number: float, wanted: float) -> None:
    values = power_of_two(3)
    assert values.values(values.nearest(np.array([number])))[0] == wanted


def test_a_tie_of_the_signs_goes_up() -> None:
    assert power_of_two(1).nearest(np.array([0.0, -0.0])).tolist() == [1, 1]


def test_uniform_ties_go_towards_zero() -> None:
    values = uniform(4)
    assert values.values(values.nearest(np.array([0.5, 1.5, -0.5, -2.5]))).tolist() == [0, 1, 0, -2]


def test_a_codebook_is_what_the_weights_gather_around() -> None:
    rng = np.random.default_rng(0)
    given = np.concatenate([rng.normal(centre, 0.01, 500) for centre in (-2.0, -0.5, 0.7, 1.1)])
    assert learned(given, 2).table == pytest.approx((-2, -0.5, 0.7, 1.1), abs=0.01)


def test_a_codebook_has_no_more_values_than_there_are_weights() -> None:
    assert learned(np.array([1.0, 2.0, 2.0, 5.0]), 8).table == (1, 2, 5)


def test_many_zeros_stay_zeros_in_a_codebook() -> None:
    rng = np.random.default_rng(1)
    given = np.where(rng.random(4000) < 0.5, 0.0, rng.normal(0.3, 1, 4000))
    values = learned(given, 3)
    assert 0.0 in values.table
    assert (values.values(values.nearest(given[given == 0])) == 0).all()


@pytest.mark.parametrize("bits", [0, 33])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(SettingsError, match="bits"):
        uniform(bits)


def test_wide_tables_are_refused() -> None:
    with pytest.raises(SettingsError, match="table"):
        power_of_two(17)
    with pytest.raises(SettingsError, match="rising"):
        TableSet(2, (1.0, 1.0))
