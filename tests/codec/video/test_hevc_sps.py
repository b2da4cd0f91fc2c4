"""Sequence parameter sets: what they say, and which of them a feature-map stream does not take."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.bits import BitWriter
from featlink_codec.errors import StreamError
from featlink_codec.video.nal import NalUnit, escape, split_access_units
from featlink_codec.video.sps import Sps, check_sps, parse_sps
from featlink_codec.video.x265 import X265Encoder, X265Settings


def sps_nal(
    width: int = 64,
    height: int = 48,
    chroma: int = 0,
    window: tuple[int, int, int, int] | None = None,
    depth: tuple[int, int] = (8, 8),
    poc_bits: int = 8,
    reorder: tuple[int, ...] = (0,),
    dpb: int = 4,
    sps_id: int = 0,
    sub_layers: tuple[tuple[int, int], ...] = (),
    ordering_for_all: int = 1,
    sub_layers_minus1: int | None = None,
) -> NalUnit:
    """An SPS cut off behind the ordering information; `window` is left, right, top, bottom in chroma units."""
    io = BitWriter()
    io.u(4, 0)
    io.u(3, len(sub_layers) if sub_layers_minus1 is None else sub_layers_minus1)
    io.u(1, 1)
    io.u(88, 0x0408 << 72)
    io.u(8, 30)
    for profile, level in sub_layers:
        io.u(1, profile)
        io.u(1, level)
    if sub_layers:
        io.u(2 * (8 - len(sub_layers)), 0)
    for profile, level in sub_layers:
        io.u(88 * profile, (1 << 88 * profile) - 1)
        io.u(8 * level, (1 << 8 * level) - 1)
    io.ue(sps_id)
    io.ue(chroma)
    if chroma == 3:
        io.u(1, 0)
    io.ue(width)
    io.ue(height)
    io.u(1, window is not None)
    for edge in window or ():
        io.ue(edge)
    for bits in depth:
        io.ue(bits - 8)
    io.ue(poc_bits - 4)
    io.u(1, ordering_for_all)
    for pictures in reorder:
        io.ue(dpb)
        io.ue(pictures)
        io.ue(0)
    io.u(1, 1)
    io.align()
    return NalUnit(33, 0, 700, memoryview(b"\x42\1" + escape(bytes(io))))


def encoder_sps(width: int, height: int, pix_fmt: str = "gray", params: str = "") -> Sps:
    """The SPS that libx265 writes."""
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, pix_fmt, Fraction(1, 25)
    codec.options = {"preset": "ultrafast", "x265-params": f"log-level=none:pools=none:repeat-headers=1:{params}"}
    packets = codec.encode(av.VideoFrame(width, height, pix_fmt)) or codec.encode(None)
    (unit,) = split_access_units(bytes(packets[0]), 0)
    return parse_sps(unit.sps[0])


def outcome(nal: NalUnit) -> Sps | StreamError:
    try:
        return parse_sps(nal)
    except StreamError as error:
        return error


@pytest.mark.parametrize(
    ("width", "height"),
    [(16, 16), (17, 17), (19, 31), (24, 24), (33, 18), (65, 70), (304, 240), (361, 129), (1920, 1081)],
)
def test_what_libx265_writes_is_read_back(width: int, height: int) -> None:
    encoder = X265Encoder(X265Settings(width, height, lossless=True))
    (unit,) = split_access_units(encoder.encode_frame(intra=True), 0)
    sps = parse_sps(unit.sps[0])
    check_sps(sps, 0)
    assert (sps.width, sps.height) == (width, height)
    assert (sps.coded_width, sps.coded_height) == (-(-width // 8) * 8, -(-height // 8) * 8)
    assert sps.crop == (0, 0, sps.coded_width - width, sps.coded_height - height)
    assert (sps.chroma_format_idc, sps.bit_depth_luma, sps.bit_depth_chroma, sps.max_num_reorder_pics) == (0, 8, 8, 0)


@pytest.mark.parametrize(
    ("pix_fmt", "params", "name"),
    [
        ("yuv420p", "bframes=0", None),
        ("gray10le", "bframes=0", "video-bit-depth"),
        ("yuv420p10le", "bframes=0", "video-bit-depth"),
        ("yuv422p", "bframes=0", "video-chroma"),
        ("yuv444p", "bframes=0", "video-chroma"),
        ("gray", "bframes=2", "video-reordering"),
    ],
)
def test_video_of_other_kinds_as_libx265_writes_it_is_refused_by_name(
    pix_fmt: str, params: str, name: str | None
) -> None:
    sps = encoder_sps(66, 50, pix_fmt, params)
    assert (sps.width, sps.height) == (66, 50)
    if name is None:
        check_sps(sps, 5)
        return
    with pytest.raises(StreamError) as caught:
        check_sps(sps, 5)
    assert (caught.value.name, caught.value.offset) == (name, 5)


def test_every_field_is_where_the_standard_puts_it() -> None:
    nal = sps_nal(200, 104, chroma=1, window=(1, 2, 3, 4), depth=(9, 10), reorder=(2,), sps_id=7)
    assert parse_sps(nal) == Sps(194, 90, 200, 104, 1, 9, 10, 2, 7, (2, 6, 4, 8))


@pytest.mark.parametrize(("chroma", "unit"), [(0, (1, 1)), (1, (2, 2)), (2, (2, 1)), (3, (1, 1))])
def test_the_conformance_window_counts_in_chroma_samples(chroma: int, unit: tuple[int, int]) -> None:
    sps = parse_sps(sps_nal(64, 64, chroma, window=(3, 4, 5, 6)))
    assert sps.crop == (3 * unit[0], 5 * unit[1], 4 * unit[0], 6 * unit[1])
    assert (sps.width, sps.height) == (64 - 7 * unit[0], 64 - 11 * unit[1])


@pytest.mark.parametrize("sub_layers", [((0, 0),), ((1, 0), (0, 1)), ((1, 1),) * 6])
def test_sub_layers_are_passed_over_and_the_largest_reordering_counts(sub_layers: tuple[tuple[int, int], ...]) -> None:
    each = tuple(range(len(sub_layers) + 1))
    sps = parse_sps(sps_nal(96, 80, sub_layers=sub_layers, reorder=each, dpb=15))
    assert (sps.width, sps.height, sps.max_num_reorder_pics) == (96, 80, each[-1])
    sps = parse_sps(sps_nal(96, 80, sub_layers=sub_layers, reorder=(0,), ordering_for_all=0))
    assert (sps.width, sps.height, sps.max_num_reorder_pics) == (96, 80, 0)


BAD: list[dict[str, Any]] = [
    {"chroma": 4},
    {"sps_id": 16},
    {"depth": (17, 8)},
    {"depth": (8, 17)},
    {"poc_bits": 17},
    {"reorder": (5,)},
    {"dpb": 16},
    {"width": 0},
    {"height": 0},
    {"window": (0, 64, 0, 0)},
    {"window": (0, 0, 40, 8)},
    {"window": (1 << 30, 1 << 30, 0, 0)},
    {"sub_layers_minus1": 7},
]


@pytest.mark.parametrize("fields", BAD, ids=str)
def test_values_that_the_standard_does_not_allow_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StreamError) as caught:
        parse_sps(sps_nal(**fields))
    assert (caught.value.name, caught.value.offset) == ("bad-sps", 700)


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"chroma": 2}, "video-chroma"),
    ({"chroma": 3}, "video-chroma"),
    ({"depth": (10, 8)}, "video-bit-depth"),
    ({"depth": (10, 10), "chroma": 1}, "video-bit-depth"),
    ({"depth": (8, 10), "chroma": 1}, "video-bit-depth"),
    ({"reorder": (1,)}, "video-reordering"),
    ({"width": 8200}, "video-size"),
    ({"height": 8200}, "video-size"),
    ({"width": 1 << 31, "height": 1 << 31}, "video-size"),
    # Small for whoever looks at it, huge for the decoder.
    ({"width": 16384, "height": 16384, "window": (0, 16384 - 33, 0, 16384 - 18)}, "video-size"),
]


@pytest.mark.parametrize(("fields", "name"), OTHER, ids=str)
def test_video_that_a_feature_map_stream_does_not_carry_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(StreamError) as caught:
        check_sps(parse_sps(sps_nal(**fields)), 9)
    assert (caught.value.name, caught.value.offset) == (name, 9)


def test_the_limits_themselves_are_taken() -> None:
    check_sps(parse_sps(sps_nal(8192, 8192)), 0)
    check_sps(parse_sps(sps_nal(8, 8, window=(0, 7, 0, 7))), 0)
    # The chroma depth of a picture without chroma says nothing.
    check_sps(parse_sps(sps_nal(depth=(8, 10))), 0)


def test_cut_short_anywhere_it_is_a_bad_sps_at_the_nal_unit() -> None:
    whole = sps_nal(sub_layers=((1, 1), (1, 1)), reorder=(0, 0, 0), window=(0, 0, 0, 1))
    parse_sps(whole)
    for end in range(2, len(whole.data) - 1):
        with pytest.raises(StreamError) as caught:
            parse_sps(NalUnit(33, 0, 700, whole.data[:end]))
        assert (caught.value.name, caught.value.offset) == ("bad-sps", 700)


def test_a_code_that_never_ends_is_refused() -> None:
    with pytest.raises(StreamError, match="bad-sps") as caught:
        parse_sps(NalUnit(33, 0, 3, memoryview(b"\x42\1\1" + bytes(12) + b"\0\0\3" * 1_000_000)))
    assert caught.value.offset == 3


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_an_sps_or_a_bad_sps(payload: bytes, plausible_start: bool) -> None:
    start = b"\x42\1\1\4\x08" + bytes(10) if plausible_start else b"\x42\1"
    sps = outcome(NalUnit(33, 0, 12, memoryview(start + payload)))
    if isinstance(sps, StreamError):
        assert (sps.name, sps.offset) == ("bad-sps", 12)
        return
    assert 0 < sps.width <= sps.coded_width
    assert 0 < sps.height <= sps.coded_height
