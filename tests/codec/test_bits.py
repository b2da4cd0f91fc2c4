"""The bit coder: both directions agree, widths are kept, errors name the byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.bits import MAX_EXP_GOLOMB_PREFIX, BitReader, BitWriter, bits_float, float_bits
from featlink_codec.errors import SettingsError, StreamError, TruncatedError

fields = st.one_of(
    st.integers(1, 64).flatmap(lambda n: st.tuples(st.just("u"), st.just(n), st.integers(0, (1 << n) - 1))),
    st.integers(1, 64).flatmap(
        lambda n: st.tuples(st.just("i"), st.just(n), st.integers(-(1 << n - 1), (1 << n - 1) - 1))
    ),
    st.tuples(st.just("ue"), st.none(), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("ie"), st.none(), st.integers(-(2**31) + 1, 2**31 - 1)),
    st.tuples(st.just("float32"), st.none(), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("string"), st.none(), st.text().filter(lambda t: "\0" not in t)),
)


def code(io, kind, size, value):
    method = getattr(io, kind)
    return method(value) if size is None else method(size, value)


@given(st.lists(fields, max_size=40), st.integers(0, 3))
def test_what_is_written_is_read(values, skip):
    writer = BitWriter()
    for kind, size, value in values:
        assert code(writer, kind, size, value) == value
    writer.align()
    data = bytes(writer)
    reader = BitReader(b"\xff" * skip + data, start=skip, base=1000)
    for kind, size, value in values:
        assert code(reader, kind, size, value and type(value)()) == value
    assert reader.align() == 0
    assert reader.position == 1000 + skip + len(data)
    assert reader.bits_left == 0


@given(st.integers(0, 7), st.sampled_from([16, 32]), st.data())
def test_an_array_equals_its_elements_from_any_bit(lead, bits, data):
    values = np.array(data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=50)), np.uint32)
    one, many = BitWriter(), BitWriter()
    for io in (one, many):
        io.u(lead, 0)
    for value in values.tolist():
        one.u(bits, value)
    many.array(bits, len(values), values)
    for io in (one, many):
        io.align()
    assert bytes(one) == bytes(many)
    reader = BitReader(bytes(many))
    reader.u(lead)
    assert reader.array(bits, len(values)).tolist() == values.tolist()


def test_truncation_says_how_many_bytes_the_structure_needs():
    reader = BitReader(b"\0\0\0\0\x01", start=2, base=100)
    reader.u(4)
    with pytest.raises(TruncatedError) as caught:
        reader.array(16, 3)
    assert caught.value.needed == 7
    assert caught.value.offset == 102


def test_a_wrong_fixed_pattern_is_named():
    with pytest.raises(StreamError, match="byte 7: bad-fixed: found 0x000000e2, expected 0x000000e1"):
        BitReader(b"\0\0\0\xe2", base=7).f(32, 0xE1)


def test_a_golomb_prefix_without_end_is_refused():
    with pytest.raises(StreamError, match="bad-golomb"):
        BitReader(bytes(100)).ue()
    assert MAX_EXP_GOLOMB_PREFIX == 32


@pytest.mark.parametrize("raw", [b"abc", b"\xff\xfe\0", b"a" * 5000 + b"\0"])
def test_bad_strings_are_refused(raw):
    with pytest.raises(StreamError):
        BitReader(raw).string()


@pytest.mark.parametrize(
    ("kind", "size", "value"),
    [
        ("u", 3, 8),
        ("u", 3, -1),
        ("i", 3, 4),
        ("i", 3, -5),
        ("ue", None, -1),
        ("ue", None, 2**33),
        ("string", None, "a\0"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind, size, value):
    with pytest.raises(SettingsError):
        code(BitWriter(), kind, size, value)


def test_an_array_that_does_not_fit_is_refused():
    for bad in (None, np.array([1], np.uint32), np.array([1, 65536], np.uint32)):
        with pytest.raises(SettingsError):
            BitWriter().array(16, 2, bad)


def test_bytes_wait_for_alignment():
    writer = BitWriter()
    writer.u(3, 5)
    with pytest.raises(SettingsError, match="3 bits stand past"):
        bytes(writer)


@given(st.floats(width=32))
def test_float_patterns_keep_their_value(value):
    assert np.float32(bits_float(float_bits(value))).tobytes() == np.float32(value).tobytes()
