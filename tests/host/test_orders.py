"""Orders of channels: always permutations, by the definitions in their docstrings, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_host.prepare.orders import (
    MAX_SIMILARITY_CHANNELS,
    ORDERS,
    Order,
    descending_difference,
    identity,
    similarity,
)

SHAPES = arrays.array_shapes(min_dims=4, max_dims=4, max_side=6)
MAPS = st.one_of(
    arrays.arrays(np.uint8, SHAPES),
    arrays.arrays(np.uint16, SHAPES),
    arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 2)),  # many equals, many constant channels
)


@given(MAPS)
def test_every_order_is_a_permutation(maps: NDArray[np.uint8]) -> None:
    for order in ORDERS.values():
        assert sorted(order(maps)) == list(range(maps.shape[3]))


@given(MAPS)
def test_orders_see_channels_and_not_how_maps_lie_in_memory(maps: NDArray[np.uint8]) -> None:
    turned = np.asfortranarray(maps)
    for order in ORDERS.values():
        assert order(turned) == order(maps)


def test_the_identity() -> None:
    assert identity(np.zeros((1, 2, 2, 4), np.uint8)) == (0, 1, 2, 3)


@given(MAPS)
def test_differences_from_the_mean_channel_descend(maps: NDArray[np.uint8]) -> None:
    order = list(descending_difference(maps))
    whole = maps.astype(object)  # exact
    channels = maps.shape[3]
    differences = np.abs(whole * channels - whole.sum(axis=3, keepdims=True)).sum(axis=(0, 1, 2))
    assert order == sorted(range(channels), key=lambda channel: (-differences[channel], channel))


def test_differences_of_a_large_depth_do_not_overflow() -> None:
    maps = np.zeros((1, 64, 64, 300), np.uint16)
    maps[..., 7] = 65535
    assert descending_difference(maps)[:3] == (7, 0, 1)


def walked(maps: NDArray[np.uint8]) -> Order:
    """The definition of `similarity`, in whole numbers and fractions where they decide."""
    rows = [[int(x) for x in row] for row in maps.reshape(-1, maps.shape[3]).T]
    count = len(rows[0])
    centred = [[count * x - sum(row) for x in row] for row in rows]

    def dot(a: int, b: int) -> int:
        return sum(x * y for x, y in zip(centred[a], centred[b], strict=True))

    power = [dot(k, k) for k in range(len(rows))]
    free = [k for k in range(len(rows)) if power[k]]
    order: list[int] = []
    while free:
        if not order:
            best = max(free, key=lambda k: (power[k], -k))
        else:
            # sign(c) c^2 / power orders as c / sqrt(power) does
            last = order[-1]
            best = max(free, key=lambda k: (dot(last, k) * abs(dot(last, k)) / power[k], -k))
        free.remove(best)
        order.append(best)
    return (*order, *(k for k in range(len(rows)) if not power[k]))


@pytest.mark.parametrize("seed", range(20))
def test_similarity_walks_to_the_most_correlated_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 256, (2, 4, 5, 12), np.uint8)
    maps[..., 3] = maps[..., 9]
    maps[..., 5] = 17
    assert similarity(maps) == walked(maps)


def test_similarity_puts_channels_that_look_alike_together_and_constant_ones_last() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.integers(0, 120, (2, 3, 6, 6), np.uint8)
    maps = np.stack([one, np.full_like(one, 9), other, one + 40, np.zeros_like(one), 2 * other, 240 - one], axis=3)
    order = similarity(maps)
    assert order[0] == 5  # the largest variance
    assert order[1] == 2  # the same but for its scale
    assert abs(order.index(0) - order.index(3)) == 1
    assert order[-2:] == (1, 4)


def test_more_channels_than_similarity_can_hold_are_refused() -> None:
    with pytest.raises(SettingsError, match="order similarity: found 4097 channels, expected at most 4096"):
        similarity(np.zeros((1, 1, 1, MAX_SIMILARITY_CHANNELS + 1), np.uint8))


@pytest.mark.parametrize(
    "maps", [np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3)), np.zeros((0, 2, 2, 3), np.uint8)]
)
def test_what_are_no_maps_is_refused(maps: NDArray[np.generic]) -> None:
    for order in ORDERS.values():
        with pytest.raises(SettingsError, match=r"expected levels \[N, H, W, C\]"):
            order(maps)  # type: ignore[arg-type]
