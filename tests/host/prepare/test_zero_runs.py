"""Zero run-length coding: whatever goes in comes out, and what `encode` would not write is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError, StreamError
from featlink_host.prepare.zero_runs import ZeroRuns, entropy_coded_size, zeroth_order_bytes

codes = st.builds(ZeroRuns, st.sampled_from([1, 2, 4, 8, 11, 16]), st.integers(1, 16))


@st.composite
def maps(draw: st.DrawFn) -> tuple[ZeroRuns, np.ndarray]:
    """A code, and levels that are zeros in runs of all lengths."""
    code = draw(codes)
    longest = min(code.longest, 300)
    gaps = st.one_of(st.integers(0, 3), st.sampled_from([longest - 1, longest, longest + 1, 2 * longest + 2]))
    parts: list[int] = []
    for gap in draw(st.lists(gaps, max_size=12)):
        parts += [0] * gap + [draw(st.integers(0, (1 << code.bit_depth) - 1))]
    return code, np.array(parts, np.uint8 if code.bit_depth <= 8 else np.uint16)


def by_hand(code: ZeroRuns, levels: np.ndarray) -> str:
    """The bits behind the number of pairs, as the definition says."""
    bits, run, last = "", 0, max(np.flatnonzero(levels), default=-1)
    for level in levels[: last + 1].tolist():
        if level == 0 and run < code.longest:
            run += 1
            continue
        bits += f"{run:0{code.run_bits}b}{level:0{code.bit_depth}b}"
        run = 0
    return bits


@given(maps())
def test_a_map_comes_back(case: tuple[ZeroRuns, np.ndarray]) -> None:
    code, levels = case
    data = code.encode(levels)
    found = code.decode(data, levels.size)
    assert found.dtype == levels.dtype
    assert np.array_equal(found, levels)
    assert len(data) == code.size(len(code.pairs(levels)[0]))


@given(maps())
def test_the_code_is_the_definition(case: tuple[ZeroRuns, np.ndarray]) -> None:
    code, levels = case
    bits = by_hand(code, levels)
    pairs = len(bits) // code.pair_bits
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    body = int(padded, 2).to_bytes(len(padded) // 8, "big") if padded else b""
    assert code.encode(levels) == pairs.to_bytes(4, "big") + body


def test_small_maps_by_hand() -> None:
    code = ZeroRuns(bit_depth=4, run_bits=4)
    assert code.encode(np.uint8([[0, 0, 5], [9, 0, 0]])) == bytes([0, 0, 0, 2, 0x25, 0x09])
    assert code.encode(np.zeros((3, 4, 5), np.uint8)) == bytes(4)
    # 16 zeros are more than a pair says: fifteen, and one as level 0.
    assert code.encode(np.uint8([0] * 16 + [7])) == bytes([0, 0, 0, 2, 0xF0, 0x07])


@given(codes, st.binary(max_size=40), st.integers(0, 200))
def test_anything_is_read_or_refused(code: ZeroRuns, data: bytes, count: int) -> None:
    try:
        levels = code.decode(data, count)
    except StreamError:
        return
    assert levels.shape == (count,)
    assert code.encode(levels) == data


@pytest.mark.parametrize(
    ("data", "count", "says"),
    [
        (b"\0\0\0", 4, "ends after 3 bytes"),
        (bytes([0, 0, 0, 2, 0x25]), 9, "2 pairs take 6 bytes, found 5"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x25]), 9, "4294967295 pairs"),
        (bytes([0, 0, 0, 1, 0x25, 0x00]), 9, "found 6"),
        (bytes([0, 0, 0, 1, 0x25]), 2, "make 3 levels, the map has 2"),
        (bytes([0, 0, 0, 1, 0x20]), 9, "continues no run"),
        (bytes([0, 0, 0, 1, 0xF0]), 99, "continues no run"),
        (bytes([0, 0, 0, 2, 0x20, 0x25]), 99, "continues no run"),
    ],
)
def test_damage_is_named(data: bytes, count: int, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        ZeroRuns(4, 4).decode(data, count)


def test_bits_behind_the_last_pair_are_zero() -> None:
    code = ZeroRuns(bit_depth=2, run_bits=3)
    data = code.encode(np.uint8([0, 3]))
    assert data[4:] == bytes([0b00111000])
    with pytest.raises(StreamError, match="behind the last pair"):
        code.decode(data[:4] + bytes([0b00111001]), 2)


def test_settings_and_levels_are_checked() -> None:
    for wrong in ((0, 5), (17, 5), (8, 0), (8, 17)):
        with pytest.raises(SettingsError):
            ZeroRuns(*wrong)
    with pytest.raises(SettingsError, match="level 16 does not fit 4 bits"):
        ZeroRuns(4).encode(np.uint8([0, 16]))


def test_entropy_by_hand() -> None:
    levels = np.uint8([0, 0, 0, 0, 1, 1, 2, 3])
    assert zeroth_order_bytes(levels) == pytest.approx(8 * 1.75 / 8)
    assert zeroth_order_bytes(np.zeros(9, np.uint8)) == 0
    assert zeroth_order_bytes(np.empty(0, np.uint8)) == 0


def test_huffman_coding_takes_less_where_pairs_are_uneven() -> None:
    rng = np.random.default_rng(0)
    levels = np.where(rng.random(20000) < 0.8, 0, rng.geometric(0.3, 20000)).clip(max=255).astype(np.uint8)
    code = ZeroRuns(8)
    coded = entropy_coded_size(code, levels)
    runs, values = code.pairs(levels)
    least = zeroth_order_bytes(runs) + zeroth_order_bytes(values)
    assert least < coded < len(code.encode(levels))
    assert coded < 1.1 * least
