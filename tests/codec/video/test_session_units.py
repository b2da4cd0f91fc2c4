"""However an encoder arranges its packets: the access units are those that the host decodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, StreamError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import has_slices, split_access_units, split_nal_units
from featlink_codec.video.session_units import SessionUnits
from featlink_codec.video.x265 import X265Encoder, X265Settings

Plane = NDArray[np.uint8]
WIDTH, HEIGHT = 70, 98
VPS, SPS, PPS, AUD, EOS, EOB, FILLER, PREFIX_SEI, SUFFIX_SEI = range(32, 41)
TRAIL, IDR = 1, 19
HEADS = (VPS, SPS, PPS)
#: Pictures 0 and 3 are intra.
COUNT, INTRA = 6, (0, 3)


@cache
def pictures() -> list[Plane]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 40 + k, (HEIGHT, WIDTH), np.uint8) for k in range(COUNT)]


@cache
def encoded() -> tuple[bytes, ...]:
    """x265's packets: parameter sets with every intra picture."""
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
    codec.options = {
        "preset": "ultrafast",
        "forced-idr": "1",
        "x265-params": "log-level=none:bframes=0:pools=none:rc-lookahead=0:frame-threads=1:keyint=-1:scenecut=0:"
        "lossless=1:info=0:repeat-headers=1:ctu=16:hash=1",
    }
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane in frame.planes[1:]:
        np.frombuffer(memoryview(plane), np.uint8)[:] = 128
    luma = frame.planes[0]
    rows = np.frombuffer(memoryview(luma), np.uint8).reshape(HEIGHT, luma.line_size)
    found = []
    for k, picture in enumerate(pictures()):
        rows[:, :WIDTH] = picture
        frame.pts = k
        frame.pict_type = PictureType.I if k in INTRA else PictureType.P
        (packet,) = codec.encode(frame)
        found.append(bytes(packet))
    return tuple(found)


def nal(kind: int, payload: bytes = b"\xaa\x80", code: bytes = b"\0\0\0\1") -> bytes:
    return code + bytes([kind << 1, 1]) + payload


def pieces(packet: bytes) -> list[tuple[int, bytes]]:
    """Type and bytes of each NAL unit."""
    return [(one.type, bytes(one.data)) for one in split_nal_units(packet)]


def joined(nals: list[tuple[int, bytes]], code: bytes = b"\0\0\0\1") -> bytes:
    return b"".join(code + data for _, data in nals)


def heads_of(packet: bytes) -> list[tuple[int, bytes]]:
    return [one for one in pieces(packet) if one[0] in HEADS]


def rest_of(packet: bytes) -> list[tuple[int, bytes]]:
    return [one for one in pieces(packet) if one[0] not in HEADS]


def units_of(packets: list[tuple[bytes, bool]], width: int = WIDTH, height: int = HEIGHT) -> list[bytes]:
    units = SessionUnits(width, height)
    taken = [units.take(memoryview(bytearray(data)), intra) for data, intra in packets]
    return [unit for unit in taken if unit is not None]


def as_they_came() -> list[tuple[bytes, bool]]:
    return [(packet, k in INTRA) for k, packet in enumerate(encoded())]


def is_what_the_host_decodes(units: list[bytes], sei: bool = False) -> None:
    decoder = HevcDecoder(WIDTH, HEIGHT, require_hash=True)
    assert len(units) == COUNT
    for k, data in enumerate(units):
        (unit,) = split_access_units(data, 0)
        assert unit.has_parameter_sets == unit.is_irap == (k in INTRA)
        np.testing.assert_array_equal(decoder.decode(unit), pictures()[k])
        assert sum(nal.type == PREFIX_SEI for nal in unit.nal_units) == sei
    # Each intra picture begins a session of its own.
    np.testing.assert_array_equal(HevcDecoder(WIDTH, HEIGHT).decode(units[3]), pictures()[3])
    assert [bytes(one.data) for one in split_access_units(b"".join(units), 0)] == units


@dataclass(frozen=True)
class Habits:
    """How an encoder arranges what x265 gives."""

    headers: str
    code: bytes
    aud: bool
    sei: bool
    filler: str
    end: str
    zeros: int
    repeated: bool


HABITS = st.builds(
    Habits,
    headers=st.sampled_from(["each", "first", "separate", "separate-each", "behind"]),
    code=st.sampled_from([b"\0\0\1", b"\0\0\0\1", b"\0\0\0\0\0\1"]),
    aud=st.booleans(),
    sei=st.booleans(),
    filler=st.sampled_from(["none", "between", "behind"]),
    end=st.sampled_from(["none", "eos", "eob"]),
    zeros=st.integers(0, 9),
    repeated=st.booleans(),
)


def arranged(habits: Habits) -> list[tuple[bytes, bool]]:
    came = encoded()
    heads = heads_of(came[0])
    packets: list[tuple[bytes, bool]] = []
    for k, packet in enumerate(came):
        front = heads if k in INTRA and (habits.headers == "each" or k == 0) else []
        if habits.repeated and k not in INTRA:
            front = heads
        if front and (habits.headers == "separate-each" or (habits.headers == "separate" and k == 0)):
            packets.append((joined(front, habits.code) + bytes(habits.zeros), k in INTRA))
            front = []
        if habits.sei:
            front = [*front, (PREFIX_SEI, b"\x4e\1\x05\x10" + bytes(range(1, 17)) + b"\x80")]
        if habits.aud:
            front = [(AUD, b"\x46\1\x50"), *front]
        body = rest_of(packet)
        filler = (FILLER, b"\x4c\1\xff\xff\x80")
        if habits.filler == "between":
            body = [one for pair in body for one in (pair, filler)]
        if habits.filler == "behind":
            body = [*body, filler]
        if habits.end != "none" and k + 1 in (*INTRA, COUNT):
            body = [*body, (EOS, b"\x48\1")]
            body = [*body, (EOB, b"\x4a\1")] if habits.end == "eob" else body
        if habits.headers == "behind" and k + 1 in INTRA:
            body = [*body, *heads]
        packets.append((joined([*front, *body], habits.code) + bytes(habits.zeros), k in INTRA))
    return packets


@settings(max_examples=150, deadline=None)
@given(HABITS)
def test_whatever_the_encoder_s_habits_the_host_decodes_its_pictures(habits: Habits) -> None:
    units = units_of(arranged(habits))
    is_what_the_host_decodes(units, habits.sei)
    if not habits.sei:
        assert units == units_of(as_they_came())


def test_nothing_of_an_orderly_stream_is_changed_but_start_codes() -> None:
    units = units_of(as_they_came())
    is_what_the_host_decodes(units)
    assert [pieces(unit) for unit in units] == [pieces(packet) for packet in encoded()]


def test_all_slices_of_a_picture_stay_in_its_unit() -> None:
    # libx265 codes no picture in several slices without delay; hardware does.
    units = SessionUnits(WIDTH, HEIGHT)
    units.take(encoded()[0], True)
    slices = nal(TRAIL, b"\xd0\x17\x80") + nal(FILLER) + nal(TRAIL, b"\x50\x17\x80") + nal(TRAIL, b"\x50\x18\x80")
    data = units.take(slices + nal(SUFFIX_SEI) + bytes(4), False)
    assert data is not None
    assert [kind for kind, _ in pieces(data)] == [TRAIL, TRAIL, TRAIL, SUFFIX_SEI]
    assert len(split_access_units(data, 0)) == 1


def test_delimiters_that_ffmpeg_puts_in_are_dropped() -> None:
    delimiter = BitStreamFilterContext("hevc_metadata=aud=insert", "hevc")
    filtered = []
    for packet in encoded():
        filtered.append(b"".join(bytes(one) for one in delimiter.filter(av.Packet(packet))))
    assert pieces(filtered[1])[0][0] == AUD
    units = units_of([(packet, k in INTRA) for k, packet in enumerate(filtered)])
    assert units == units_of(as_they_came())


def test_parameter_sets_alone_are_kept_for_the_next_picture() -> None:
    units, (first, second, *_) = SessionUnits(WIDTH, HEIGHT), encoded()
    for one in heads_of(first):
        assert units.take(joined([one]), True) is None
    data = units.take(joined(rest_of(first)), True)
    assert data is not None
    assert pieces(data) == pieces(first)
    # Said again, they are not sent again; what is new goes with the next picture, intra or not.
    assert units.take(joined(heads_of(first)), False) is None
    other = (PPS, heads_of(first)[2][1][:2] + b"\x51\x80")  # pps_pic_parameter_set_id 1
    assert units.take(joined([other]), False) is None
    data = units.take(second, False)
    assert data is not None
    assert pieces(data) == [other, *pieces(second)]
    data = units.take(joined(rest_of(encoded()[3])), True)
    assert data is not None
    assert pieces(data)[:4] == [*heads_of(first), other]


def test_a_parameter_set_that_changes_replaces_the_one_of_its_number() -> None:
    units, first = SessionUnits(WIDTH, HEIGHT), encoded()[0]
    units.take(first, True)
    vps, sps, pps = heads_of(first)
    changed = (PPS, pps[1] + b"\x01")
    data = units.take(joined([vps, sps, changed, *rest_of(encoded()[3])]), True)
    assert data is not None
    assert pieces(data)[:3] == [vps, sps, changed]
    data = units.take(joined(rest_of(first)), True)
    assert data is not None
    assert pieces(data)[:3] == [vps, sps, changed]


@pytest.mark.parametrize(
    ("packets", "says"),
    [
        ([(1, True)], "picture 0: NAL units of type 1, and an intra picture was asked for"),
        ([(1, False)], "picture 0: NAL units of type 1, and the session begins with it"),
        ([(0, True), (1, False), (2, True)], "picture 2: NAL units of type 1, and an intra picture was asked for"),
    ],
)
def test_an_intra_picture_that_is_none_is_refused(packets: list[tuple[int, bool]], says: str) -> None:
    with pytest.raises(EncoderError, match=says):
        units_of([(encoded()[k], intra) for k, intra in packets])


def test_an_intra_picture_that_nobody_asked_for_is_one_all_the_same() -> None:
    came = encoded()
    assert units_of([(came[0], False), (joined(rest_of(came[3])), False)])[1] == units_of([(came[3], True)])[0]


@pytest.mark.parametrize(("kind", "name"), zip(HEADS, ("VPS", "SPS", "PPS"), strict=True))
def test_parameter_sets_that_never_came_are_missed(kind: int, name: str) -> None:
    packet = joined([one for one in pieces(encoded()[0]) if one[0] != kind])
    with pytest.raises(EncoderError, match=f"picture 0: an intra picture, and no {name} came before it"):
        units_of([(packet, True)])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no start code in 0 bytes"),
        (b"\1\2\3", "no start code in 3 bytes"),
        (b"\7\0\0\1\2\1\xd0", "does not begin with a start code"),
        (b"\0\0\0\x13\2\1\xd0\x17", "0x13 after three zero bytes"),  # a length in place of a start code
        (nal(AUD) + nal(FILLER), "no slices, only NAL units of types 35, 38"),
        (nal(PREFIX_SEI), "no slices, only NAL units of types 39"),
        (nal(SUFFIX_SEI) + nal(TRAIL, b"\xd0\x17\x80"), "a suffix SEI without its picture"),
        (nal(TRAIL, b"\x50\x17\x80"), "a picture without its first slice"),
        (nal(TRAIL, b""), "a slice of 2 bytes"),
        (nal(TRAIL, b"\xd0\x17\x80") + nal(TRAIL, b"\xd0\x17\x80"), "two pictures in one packet"),
        (nal(TRAIL, b"\xd0\x17\x80") + nal(PPS) + nal(TRAIL, b"\x50\x17\x80"), "without its first slice"),
        (b"\0\0\0\1\2", "a NAL unit of 1 bytes"),
        (nal(SPS, b"\xaa\x80"), "bad-sps"),
        (nal(PPS, b"\1"), "picture 1"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_number(data: bytes, says: str) -> None:
    units = SessionUnits(WIDTH, HEIGHT)
    units.take(encoded()[0], True)
    with pytest.raises(EncoderError, match=says) as caught:
        units.take(data, False)
    assert str(caught.value).startswith("picture 1: ")


def test_two_pictures_in_one_packet_are_refused() -> None:
    with pytest.raises(EncoderError, match="picture 0: two pictures in one packet"):
        units_of([(encoded()[0] + encoded()[1], True)])


def test_a_size_that_the_encoder_made_up_is_said_in_full() -> None:
    says = "picture 0: the encoder codes 80x112 and shows 70x98, wanted 64x98: plan the packing anew"
    with pytest.raises(EncoderError, match=says):
        units_of([(encoded()[0], True)], width=64)


def test_padding_that_hosts_refuse_is_refused_here() -> None:
    for right, says in ((256, None), (258, "picture 0: the encoder codes 320x48 for 62x48, which hosts refuse")):
        (data,) = X265Encoder(X265Settings(320, 48, lossless=True, chroma="420")).submit(intra=True)
        window = BitStreamFilterContext(f"hevc_metadata=crop_right={right}", "hevc")
        cut = b"".join(bytes(packet) for packet in window.filter(av.Packet(data)))
        if says is None:
            HevcDecoder(64, 48).decode(units_of([(cut, True)], 64, 48)[0])
            continue
        with pytest.raises(StreamError, match="video-size"):
            HevcDecoder(62, 48).decode(cut)
        with pytest.raises(EncoderError, match=says):
            units_of([(cut, True)], 62, 48)


@pytest.mark.parametrize(
    ("pix_fmt", "says"),
    [
        ("yuv444p", "picture 0: byte .*: video-chroma: 4:4:4 video, expected 4:0:0 or 4:2:0"),
        ("yuv420p10le", "picture 0: byte .*: video-bit-depth: 10-bit luma"),
    ],
)
def test_pictures_of_another_kind_are_refused(pix_fmt: str, says: str) -> None:
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, pix_fmt, Fraction(1, 25)
    codec.options = {"x265-params": "log-level=none:bframes=0:rc-lookahead=0:frame-threads=1:pools=none"}
    packets = [*codec.encode(av.VideoFrame(WIDTH, HEIGHT, pix_fmt)), *codec.encode(None)]
    with pytest.raises(EncoderError, match=says):
        units_of([(bytes(packets[0]), True)])


def test_an_encoder_that_reorders_is_refused() -> None:
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
    codec.options = {"x265-params": "log-level=none:bframes=3:frame-threads=1:pools=none"}
    packets = [*codec.encode(av.VideoFrame(WIDTH, HEIGHT, "yuv420p")), *codec.encode(None)]
    with pytest.raises(EncoderError, match=r"picture 0: byte .*: video-reordering"):
        units_of([(bytes(packets[0]), True)])


def test_slices_are_found_wherever_they_stand() -> None:
    for packet in encoded():
        assert has_slices(packet)
        assert has_slices(memoryview(joined(rest_of(packet), b"\0\0\1")))
        assert not has_slices(joined(heads_of(packet)))
    assert not has_slices(b"")
    assert not has_slices(b"\0\0\1")
    assert has_slices(b"\0\0\1\x3e")
    assert not has_slices(b"\0\0\1\x40")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_taken_or_refused(data: bytes, intra: bool) -> None:
    units = SessionUnits(WIDTH, HEIGHT)
    units.take(encoded()[0], True)
    for code in (b"", b"\0\0\0\1\2\1\xd0"):
        try:
            unit = units.take(code + data, intra)
        except EncoderError:
            return
        assert unit is None or len(split_access_units(unit, 0)) == 1
