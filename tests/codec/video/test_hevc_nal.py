"""Cutting HEVC byte streams: what is a whole access unit, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featlink_codec.errors import StreamError
from featlink_codec.video.nal import MAX_NAL_UNITS, AccessUnit, escape, split_access_units, unescape
from featlink_codec.video.x265 import X265Encoder, X265Settings

VPS, SPS, PPS, AUD, EOS, EOB, FILLER, PREFIX_SEI, SUFFIX_SEI = range(32, 41)
TRAIL, IDR = 1, 20
SHORT, LONG = b"\0\0\1", b"\0\0\0\1"


def nal(kind: int, payload: bytes = b"\xaa\x80", code: bytes = LONG) -> bytes:
    return code + bytes([kind << 1, 1]) + payload


def first_slice(kind: int = TRAIL, code: bytes = LONG) -> bytes:
    return nal(kind, b"\xd0\x17\x80", code)


def next_slice(kind: int = TRAIL) -> bytes:
    return nal(kind, b"\x50\x17\x80")


HEADERS = nal(VPS) + nal(SPS) + nal(PPS)


def types(units: list[AccessUnit]) -> list[list[int]]:
    return [[unit.type for unit in access_unit.nal_units] for access_unit in units]


def refused(data: bytes, offset: int = 0) -> StreamError:
    with pytest.raises(StreamError) as caught:
        split_access_units(data, offset)
    assert caught.value.name == "bad-video"
    return caught.value


def outcome(data: bytes, offset: int = 0) -> list[AccessUnit] | StreamError:
    try:
        return split_access_units(data, offset)
    except StreamError as error:
        return error


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True))
    rng = np.random.default_rng(5)
    return [encoder.encode(rng.integers(0, 6, (24, 40), np.uint8), intra=k in (0, 3)) for k in range(5)]


def test_an_encoded_stream_is_cut_where_the_encoder_gave_its_packets(encoded: list[bytes]) -> None:
    units = split_access_units(b"".join(encoded), 1000)
    assert [bytes(unit.data) for unit in units] == encoded
    assert [unit.offset for unit in units] == [1000 + len(b"".join(encoded[:k])) for k in range(5)]
    assert [unit.is_irap for unit in units] == [True, False, False, True, False]
    assert [unit.has_parameter_sets for unit in units] == [True, False, False, True, False]
    assert types(units)[:2] == [[VPS, SPS, PPS, IDR, SUFFIX_SEI], [TRAIL, SUFFIX_SEI]]
    assert [len(unit.sps) for unit in units] == [1, 0, 0, 1, 0]


def test_nal_units_carry_their_bytes_and_absolute_offsets() -> None:
    data = nal(AUD, b"\x50") + nal(SPS, b"\1\2\3", SHORT) + first_slice(IDR)
    (unit,) = split_access_units(data, 77)
    assert [(n.type, n.layer_id, n.offset, bytes(n.data)) for n in unit.nal_units] == [
        (AUD, 0, 77 + 4, b"\x46\1\x50"),
        (SPS, 0, 77 + 7 + 3, b"\x42\1\1\2\3"),
        (IDR, 0, 77 + 15 + 4, b"\x28\1\xd0\x17\x80"),
    ]
    for n in unit.nal_units:
        assert data[n.offset - 77 :].startswith(bytes(n.data))


def test_nothing_is_copied() -> None:
    data = bytearray(HEADERS + first_slice(IDR))
    (unit,) = split_access_units(memoryview(data), 0)
    data[-1] = 0x40
    assert unit.data[-1] == 0x40
    assert unit.nal_units[-1].data[-1] == 0x40


@pytest.mark.parametrize("code", [SHORT, LONG, b"\0\0" + LONG, bytes(1000) + SHORT])
def test_start_codes_of_any_length_are_cut_so_that_the_pieces_join_to_the_data(code: bytes) -> None:
    data = first_slice(IDR, code) + first_slice(TRAIL, code) + first_slice(TRAIL, code) + bytes(5)
    units = split_access_units(data, 0)
    assert b"".join(unit.data for unit in units) == data
    assert types(units) == [[IDR], [TRAIL], [TRAIL]]
    assert [bytes(unit.nal_units[0].data[2:]) for unit in units] == [b"\xd0\x17\x80"] * 3
    for unit in units[1:]:
        assert bytes(unit.data).startswith(LONG if len(code) > 3 else SHORT)


def test_slices_without_the_first_slice_flag_stay_with_their_picture() -> None:
    units = split_access_units(first_slice() + next_slice() + next_slice() + first_slice() + next_slice(), 0)
    assert types(units) == [[TRAIL] * 3, [TRAIL] * 2]


@pytest.mark.parametrize("kind", [VPS, SPS, PPS, AUD, PREFIX_SEI, *range(41, 45), *range(48, 56)])
def test_these_types_begin_an_access_unit_after_a_picture(kind: int) -> None:
    assert types(split_access_units(first_slice() + nal(kind) + first_slice(), 0)) == [[TRAIL], [kind, TRAIL]]


@pytest.mark.parametrize("kind", [EOS, EOB, FILLER, SUFFIX_SEI, *range(45, 48), *range(56, 64)])
def test_these_types_end_an_access_unit(kind: int) -> None:
    assert types(split_access_units(first_slice() + nal(kind) + first_slice(), 0)) == [[TRAIL, kind], [TRAIL]]
    assert types(split_access_units(first_slice() + nal(kind), 0)) == [[TRAIL, kind]]
    # In front of a picture, one of them can only be what is left of a picture that is gone.
    assert refused(nal(kind) + first_slice()).offset == 4
    assert refused(first_slice() + nal(SPS) + nal(kind) + first_slice()).offset == 9 + 8 + 4


def test_end_of_sequence_may_be_a_bare_header() -> None:
    assert types(split_access_units(first_slice() + nal(EOS, b"") + nal(EOB, b""), 0)) == [[TRAIL, EOS, EOB]]


@pytest.mark.parametrize("kind", [*range(0, 10), *range(16, 22), 10, 15, 22, 31])
def test_types_up_to_31_are_pictures(kind: int) -> None:
    (unit,) = split_access_units(first_slice(kind), 0)
    assert unit.nal_units[0].is_vcl
    assert unit.is_irap == (16 <= kind <= 23)


@pytest.mark.parametrize("missing", [VPS, SPS, PPS])
def test_parameter_sets_are_there_only_when_all_three_are(missing: int) -> None:
    data = b"".join(nal(kind) for kind in (VPS, SPS, PPS) if kind != missing) + first_slice(IDR)
    assert not split_access_units(data, 0)[0].has_parameter_sets
    assert split_access_units(HEADERS + first_slice(IDR), 0)[0].has_parameter_sets


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"", 0),
        (bytes(9), 0),
        (b"\1\2\3", 0),
        (b"\x80" + first_slice(), 0),
        (b"\0\0\0\0\2" + first_slice(), 4),
        (first_slice() + b"\0\0\0\xe2", 9 + 3),
        (first_slice() + b"\0\0\0\2" + first_slice(), 9 + 3),
        (first_slice() + b"\0\0\0\3", 9 + 3),
    ],
)
def test_anything_but_zeros_and_start_codes_between_nal_units_is_refused(data: bytes, at: int) -> None:
    assert refused(data, 500).offset == 500 + at


def test_a_feature_map_swallowed_into_the_video_shows_itself() -> None:
    swallowed = first_slice() + bytes.fromhex("000000e3 05 00 3f800000") + first_slice()
    assert "0xe3" in refused(swallowed).text


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"\x82\1", "forbidden_zero_bit 1"),
        (b"\2\x09", "nuh_layer_id 1"),
        (b"\3\1", "nuh_layer_id 32"),
        (b"\2\0", "nuh_temporal_id_plus1 0"),
    ],
)
def test_a_nal_unit_header_that_must_not_be_is_refused(header: bytes, what: str) -> None:
    error = refused(first_slice() + LONG + header + b"\xd0\x17\x80")
    assert what in error.text
    assert error.offset == 13


@pytest.mark.parametrize("bare", [LONG + b"\2", SHORT, LONG + b"\2\1", LONG + b"\2\0\0\0"])
def test_a_nal_unit_too_short_for_what_it_claims_is_refused(bare: bytes) -> None:
    refused(first_slice() + bare)
    refused(bare + first_slice())


@pytest.mark.parametrize("data", [next_slice(), HEADERS + next_slice(), first_slice() + HEADERS + next_slice(IDR)])
def test_a_picture_without_its_first_slice_is_refused(data: bytes) -> None:
    assert "first slice" in refused(data).text


@pytest.mark.parametrize("kind", [VPS, SPS, PPS, AUD, PREFIX_SEI])
def test_nal_units_that_announce_a_picture_need_one(kind: int) -> None:
    assert refused(nal(kind)).offset == 4
    assert refused(first_slice() + nal(kind) + nal(kind)).offset == 13


def test_cut_short_anywhere_there_are_whole_pieces_or_an_error(encoded: list[bytes]) -> None:
    data = b"".join(encoded[:2])
    headers = data.index(b"\0\0\1\x28")  # up to the first slice there is no picture
    for end in range(len(data)):
        units = outcome(data[:end])
        if isinstance(units, StreamError):
            assert units.name == "bad-video"
            continue
        assert end > headers
        assert b"".join(unit.data for unit in units) == data[:end]
        assert len(units) <= 2


def test_the_number_of_nal_units_is_bounded() -> None:
    one = SHORT + b"\2\1\xd0"
    assert len(split_access_units(one * 1000, 0)) == 1000
    assert refused(one * (MAX_NAL_UNITS + 1)).offset == MAX_NAL_UNITS * len(one)


def test_no_more_pictures_are_cut_than_were_asked_for() -> None:
    data = HEADERS + first_slice(IDR) + next_slice() + first_slice() + nal(SUFFIX_SEI) + first_slice()
    assert len(split_access_units(data, 0, max_pictures=3)) == 3
    with pytest.raises(StreamError, match="more than 2 pictures") as caught:
        split_access_units(data, 100, max_pictures=2)
    assert (caught.value.name, caught.value.offset) == ("picture-count", 100 + len(data) - 5)


pieces = st.sampled_from([b"\0", b"\1", b"\2", b"\3", SHORT, LONG, b"\x26\1\xaf", b"\2\1\xd0", HEADERS, b"\x50\1\x84"])


@given(st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=30).map(b"".join)), st.integers(0, 1 << 40))
@example(first_slice() + bytes(3) + first_slice(), 0)
def test_any_bytes_give_whole_access_units_or_a_stream_error(data: bytes, offset: int) -> None:
    units = outcome(data, offset)
    if isinstance(units, StreamError):
        assert units.name == "bad-video"
        assert offset <= units.offset <= offset + len(data)
        return
    assert b"".join(unit.data for unit in units) == data
    at = offset
    for unit in units:
        assert unit.offset == at
        at += len(unit.data)
        assert sum(n.is_vcl and n.data[2] >> 7 for n in unit.nal_units) == 1
        for n in unit.nal_units:
            assert data[n.offset - offset :].startswith(bytes(n.data))
            assert n.data[-1]


@pytest.mark.parametrize("filling", [b"\0", b"\0\0\3", b"\x55"])
def test_the_time_is_linear_in_the_length(filling: bytes) -> None:
    # Anything quadratic would not come back.
    data = first_slice() + b"\x55" + filling * 8_000_000 + first_slice()
    assert len(split_access_units(data, 0)) == 2


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("000000", "00000300"),
        ("000001", "00000301"),
        ("000002", "00000302"),
        ("000003", "00000303"),
        ("000004", "000004"),
        ("0000000001", "000003000003 01"),
        ("00000000000080", "000003000003000080"),
        ("0000030000030080", "00000303000003030080"),
        ("80", "80"),
    ],
)
def test_emulation_prevention_is_as_the_standard_writes_it(plain: str, escaped: str) -> None:
    assert escape(bytes.fromhex(plain)) == bytes.fromhex(escaped)
    assert unescape(bytes.fromhex(escaped)) == bytes.fromhex(plain)


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255])).map(lambda values: bytes([*values, 128])))
def test_emulation_prevention_hides_every_start_code_and_goes_away_again(payload: bytes) -> None:
    escaped = escape(payload)
    assert not any(bytes([0, 0, k]) in escaped for k in range(3))
    assert unescape(escaped) == payload
