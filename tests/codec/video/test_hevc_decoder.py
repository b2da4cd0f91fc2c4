"""Decoding: the right picture at once, or an error; and nothing after an error."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.bits import BitWriter
from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import AccessUnit, NalUnit, escape, split_access_units, unescape
from featlink_codec.video.x265 import X265Encoder, X265Settings

Plane = NDArray[np.uint8]
WIDTH, HEIGHT = 67, 53
SPS, PPS = 33, 34
ONE_BY_ONE = "log-level=none:bframes=0:pools=none:rc-lookahead=0:frame-threads=1"


def pictures(width: int, height: int, count: int) -> list[Plane]:
    """Blobs that move a little from picture to picture, with noise: what feature maps look like."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(count)
    waves = [np.abs(np.sin((x + 2 * k) / 6) * np.cos(y / 9)) * 180 for k in range(count)]
    return [(wave * (rng.random(wave.shape) < 0.9)).astype(np.uint8) for wave in waves]


def encoded(luma: list[Plane], chroma: str = "400", picture_hash: bool = True) -> list[bytes]:
    height, width = luma[0].shape
    encoder = X265Encoder(X265Settings(width, height, lossless=True, chroma=chroma, picture_hash=picture_hash))
    return [encoder.encode(picture, intra=k == 0) for k, picture in enumerate(luma)]


def unit_of(data: bytes, offset: int = 0) -> AccessUnit:
    (unit,) = split_access_units(data, offset)
    return unit


def outcome(call: Callable[[], Plane]) -> Plane | StreamError:
    try:
        return call()
    except StreamError as error:
        return error


def error_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(StreamError) as caught:
        call()
    return caught.value.name, caught.value.offset


LUMA = pictures(WIDTH, HEIGHT, 5)


@pytest.fixture(scope="module")
def stream() -> list[bytes]:
    return encoded(LUMA)


def decoder_after(*units: bytes) -> HevcDecoder:
    decoder = HevcDecoder(WIDTH, HEIGHT)
    for unit in units:
        decoder.decode(unit)
    return decoder


# What is right comes out right


@pytest.mark.parametrize(("width", "height", "chroma"), [(67, 53, "400"), (68, 54, "420"), (17, 90, "400")])
def test_each_access_unit_gives_its_picture_at_once(width: int, height: int, chroma: str) -> None:
    luma = pictures(width, height, 4)
    decoder = HevcDecoder(width, height)
    for picture, data in zip(luma, encoded(luma, chroma), strict=True):
        decoded = decoder.decode(unit_of(data))
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, picture)
    decoder.close()
    decoder.close()


def test_pictures_are_read_only_and_stay_as_they_are_while_they_are_kept(stream: list[bytes]) -> None:
    decoder = HevcDecoder(WIDTH, HEIGHT)
    kept = [decoder.decode(unit) for unit in stream * 5]
    decoder.close()
    for k, picture in enumerate(kept):
        assert not picture.flags.writeable
        np.testing.assert_array_equal(picture, LUMA[k % len(stream)])


def test_a_new_intra_picture_with_parameter_sets_may_come_within_a_session(stream: list[bytes]) -> None:
    decoder = decoder_after(*stream)
    np.testing.assert_array_equal(decoder.decode(stream[0]), LUMA[0])
    np.testing.assert_array_equal(decoder.decode(stream[1]), LUMA[1])


def test_full_range_video_is_the_same_samples() -> None:
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
    codec.options = {"x265-params": f"{ONE_BY_ONE}:lossless=1:hash=1"}
    frame = av.VideoFrame(64, 48, "yuvj420p")
    luma = pictures(64, 48, 1)[0]
    frame.planes[0].update(luma.tobytes())
    (packet,) = codec.encode(frame)
    np.testing.assert_array_equal(HevcDecoder(64, 48).decode(bytes(packet)), luma)


def test_the_log_stays_silent(stream: list[bytes], capfd: pytest.CaptureFixture[str]) -> None:
    assert error_of(lambda: decoder_after(stream[0], stream[3]))[0] == "bad-picture"
    assert capfd.readouterr() == ("", "")


# Sessions: where they begin and where they end


def test_a_session_begins_with_an_intra_picture_and_its_parameter_sets(stream: list[bytes]) -> None:
    decoder = HevcDecoder(WIDTH, HEIGHT)
    assert error_of(lambda: decoder.decode(unit_of(stream[1], 900))) == ("no-reference", 900)
    unit = unit_of(stream[0])
    for missing in (32, SPS, PPS):
        rest = b"".join(b"\0\0\1" + bytes(nal.data) for nal in unit.nal_units if nal.type != missing)
        assert error_of(lambda rest=rest: HevcDecoder(WIDTH, HEIGHT).decode(rest)) == ("no-reference", 0)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_picture_that_is_missing_within_a_session_is_noticed(stream: list[bytes], missing: int) -> None:
    decoder = decoder_after(*stream[:missing])
    assert error_of(lambda: decoder.decode(unit_of(stream[missing + 1], 33))) == ("bad-picture", 33)


def test_a_picture_that_comes_twice_is_noticed(stream: list[bytes]) -> None:
    decoder = decoder_after(*stream[:2])
    assert error_of(lambda: decoder.decode(stream[1]))[0] == "bad-picture"


def test_after_an_error_nothing_comes_out_any_more(stream: list[bytes]) -> None:
    damaged = bytearray(stream[1])
    damaged[len(damaged) // 2] ^= 4
    decoder = decoder_after(stream[0])
    assert error_of(lambda: decoder.decode(bytes(damaged)))[0] == "bad-picture"
    # FFmpeg itself would now give the damaged picture as if it were the next one.
    for data in (stream[1], stream[2], stream[0]):
        assert error_of(lambda data=data: decoder.decode(unit_of(data, 44))) == ("no-reference", 44)


def test_a_closed_decoder_gives_nothing(stream: list[bytes]) -> None:
    decoder = decoder_after(stream[0])
    decoder.close()
    assert error_of(lambda: decoder.decode(stream[1]))[0] == "no-reference"


def test_one_access_unit_at_a_time(stream: list[bytes]) -> None:
    with pytest.raises(SettingsError, match="2 access units"):
        HevcDecoder(WIDTH, HEIGHT).decode(stream[0] + stream[1])
    decoder = decoder_after(stream[0])
    assert error_of(lambda: decoder.decode(b"\0\0\0\1"))[0] == "bad-video"
    assert error_of(lambda: decoder.decode(stream[1]))[0] == "no-reference"


def test_a_leading_picture_of_the_intra_picture_that_begins_the_session_is_no_picture() -> None:
    # A RASL picture (type 9) behind the CRA picture (21) that opens the session must not be decoded: H.265 8.1.3.
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "gray", Fraction(1, 25)
    codec.options = {"forced-idr": "1", "x265-params": f"{ONE_BY_ONE}:lossless=1:hash=1:keyint=-1:ctu=16"}
    frame = av.VideoFrame(64, 48, "gray")
    luma = pictures(64, 48, 3)
    units = []
    for k, picture in enumerate(luma):
        frame.planes[0].update(picture.tobytes())
        frame.pict_type = PictureType.P if k == 2 else PictureType.I
        frame.pts = k
        units += [bytes(packet) for packet in codec.encode(frame)]
    cra, trail = units[1:]
    assert [nal.type for nal in unit_of(cra).nal_units if nal.is_vcl] == [21]
    rasl = unit_of(trail.replace(b"\0\0\1\2\1", b"\0\0\1\x12\1"), 60)
    for data, hidden in ((unit_of(trail), False), (rasl, True)):
        decoder = HevcDecoder(64, 48)
        np.testing.assert_array_equal(decoder.decode(cra), luma[1])
        if hidden:
            assert [nal.type for nal in data.nal_units if nal.is_vcl] == [9]
            assert error_of(lambda decoder=decoder: decoder.decode(rasl)) == ("no-reference", 60)
        else:
            np.testing.assert_array_equal(decoder.decode(data), luma[2])


# Damage: what decodes is right


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 128 >> bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("chroma", ["400", "420"])
def test_a_flipped_bit_is_noticed_or_does_not_matter(chroma: str) -> None:
    width, height = WIDTH // 2 * 2, HEIGHT // 2 * 2
    luma = pictures(width, height, 2)
    units = encoded(luma, chroma)
    rng = np.random.default_rng(20)
    right = noticed = 0
    for which in range(2):
        bits = len(units[which]) * 8
        # The whole picture, and once more its headers, where a flip does the most.
        for bit in [*rng.integers(0, bits, 100), *rng.integers(0, min(bits, 8 * 100), 100)]:
            decoder = HevcDecoder(width, height)
            for before in units[:which]:
                decoder.decode(before)
            result = outcome(
                lambda bit=bit, decoder=decoder, which=which: decoder.decode(flipped(units[which], int(bit)))
            )
            if isinstance(result, StreamError):
                noticed += 1
            else:
                right += (result == luma[which]).all()
    assert noticed > 200
    assert right >= 0.95 * (400 - noticed)


def test_every_single_bit_of_the_first_slice_bytes_may_be_wrong(stream: list[bytes]) -> None:
    start = stream[0].index(b"\0\0\1\x28") + 3
    for which, first in ((0, start), (1, 4)):
        for bit in range(first * 8, (first + 12) * 8):
            decoder = decoder_after(*stream[:which])
            result = outcome(lambda bit=bit, decoder=decoder, which=which: decoder.decode(flipped(stream[which], bit)))
            assert isinstance(result, StreamError) or (result == LUMA[which]).all(), (which, bit)


@pytest.mark.parametrize("which", [0, 1])
def test_cut_short_anywhere_the_picture_is_refused(which: int) -> None:
    luma = pictures(24, 24, 2)
    units = encoded(luma)
    for end in range(len(units[which])):
        decoder = HevcDecoder(24, 24, require_hash=True)
        for before in units[:which]:
            decoder.decode(before)
        result = outcome(lambda end=end, decoder=decoder: decoder.decode(units[which][:end]))
        # The last byte of the hash's NAL unit holds nothing but its end.
        assert isinstance(result, StreamError) or end == len(units[which]) - 1, end


def test_without_hashes_a_picture_cut_short_can_pass_as_whole() -> None:
    # Why hashes are required once there was one. If this fails FFmpeg has become stricter: so much the better.
    luma = pictures(64, 48, 1)[0]
    data = encoded([luma], picture_hash=False)[0]
    decoder = HevcDecoder(64, 48)
    decoded = decoder.decode(data[: len(data) * 3 // 4])
    assert (decoded != luma).any()
    assert not decoder.hashed


def test_once_a_picture_had_a_hash_all_must(stream: list[bytes]) -> None:
    bare = encoded(LUMA, picture_hash=False)
    decoder = decoder_after(stream[0])
    assert decoder.hashed
    assert error_of(lambda: decoder.decode(unit_of(bare[1], 8))) == ("hash-missing", 8)
    assert error_of(lambda: decoder.decode(stream[1]))[0] == "no-reference"
    decoder = decoder_after(bare[0])
    assert not decoder.hashed
    for k in (1, 2):
        np.testing.assert_array_equal(decoder.decode((bare, stream)[k - 1][k]), LUMA[k])
    assert decoder.hashed
    assert error_of(lambda: decoder.decode(bare[3]))[0] == "hash-missing"
    first = HevcDecoder(WIDTH, HEIGHT, require_hash=True)
    assert error_of(lambda: first.decode(bare[0]))[0] == "hash-missing"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), min_size=1, max_size=20), st.booleans())
def test_any_bytes_written_over_give_a_picture_or_a_stream_error(writes: list[tuple[int, int]], intra: bool) -> None:
    which = 0 if intra else 1
    damaged = bytearray(FUZZ[which])
    for at, value in writes:
        damaged[at % len(damaged)] = value
    decoder = HevcDecoder(24, 24)
    if not intra:
        decoder.decode(FUZZ[0])
    units = outcome_units(bytes(damaged))
    for unit in units:
        result = outcome(lambda unit=unit: decoder.decode(unit))
        assert isinstance(result, StreamError) or result.shape == (24, 24)


FUZZ = encoded(pictures(24, 24, 2))


def outcome_units(data: bytes) -> list[AccessUnit]:
    try:
        return split_access_units(data, 0)
    except StreamError:
        return []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([nal.data for data in FUZZ for nal in unit_of(data).nal_units]), max_size=12), st.data()
)
def test_nal_units_in_any_order_give_pictures_or_stream_errors(nals: list[memoryview], data: st.DataObject) -> None:
    decoder = HevcDecoder(24, 24)
    for unit in outcome_units(b"".join(b"\0\0\1" + bytes(nal) for nal in nals)):
        result = outcome(lambda unit=unit: decoder.decode(unit))
        assert isinstance(result, StreamError) or result.shape == (24, 24)


# Parameter sets that lie


def bits_of(payload: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in payload)


def bytes_of(bits: str) -> bytes:
    """Bits and rbsp_trailing_bits (or a slice header's byte_alignment: the same pattern)."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def ue(value: int) -> str:
    return "0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}"


def with_sps(unit: AccessUnit, change: Callable[[str], str]) -> bytes:
    """The access unit with the bits of its SPS changed."""

    def bytes_for(nal: NalUnit) -> bytes:
        if nal.type != SPS:
            return bytes(nal.data)
        bits = bits_of(unescape(nal.data[2:])).rstrip("0")[:-1]
        return bytes(nal.data[:2]) + escape(bytes_of(change(bits)))

    return b"".join(b"\0\0\0\1" + bytes_for(nal) for nal in unit.nal_units)


#: where sps_seq_parameter_set_id of libx265's SPS stands: behind 8 bits and a profile_tier_level of 96
SPS_ID = 104


def size_bits(width: int, height: int, window: tuple[int, int, int, int] | None) -> str:
    """sps_seq_parameter_set_id .. the conformance window (left, right, top, bottom) of a 4:0:0 SPS."""
    crop = "0" if window is None else "1" + "".join(ue(edge) for edge in window)
    return ue(0) + ue(0) + ue(width) + ue(height) + crop


def resized(data: bytes, was: str, becomes: str) -> bytes:
    def change(bits: str) -> str:
        assert bits[SPS_ID:].startswith(was)
        return bits[:SPS_ID] + becomes + bits[SPS_ID + len(was) :]

    return with_sps(unit_of(data), change)


@pytest.mark.parametrize("window", [(3, 0, 0, 0), (0, 0, 5, 0), (1, 2, 3, 4), (13, 1, 0, 7), (40, 0, 30, 0)])
def test_a_conformance_window_cuts_on_all_four_sides(window: tuple[int, int, int, int]) -> None:
    luma = pictures(64, 48, 1)[0]
    data = resized(encoded([luma])[0], size_bits(64, 48, None), size_bits(64, 48, window))
    left, right, top, bottom = window
    inside = luma[top : 48 - bottom, left : 64 - right]
    np.testing.assert_array_equal(HevcDecoder(inside.shape[1], inside.shape[0]).decode(data), inside)


def test_another_size_than_agreed_is_refused(stream: list[bytes]) -> None:
    unit = unit_of(stream[0], 10)
    name, offset = error_of(lambda: HevcDecoder(WIDTH + 1, HEIGHT).decode(unit))
    assert (name, offset) == ("video-size", unit.sps[0].offset)
    assert error_of(lambda: HevcDecoder(HEIGHT, WIDTH).decode(unit))[0] == "video-size"


def test_another_size_within_the_session_is_refused(stream: list[bytes]) -> None:
    decoder = decoder_after(*stream[:2])
    other = encoded(pictures(WIDTH - 1, HEIGHT, 1))[0]
    assert error_of(lambda: decoder.decode(other))[0] == "video-size"


class NotToBeAsked:
    def decode(self, packet: object) -> None:
        raise AssertionError("FFmpeg got the lying SPS")


LIES = [
    (8192, 8192, None),
    (8192, 8192, (0, 8192 - 64, 0, 8192 - 48)),
    (64, 8192, (0, 0, 8192 - 48, 0)),
    (65536, 65536, (0, 65536 - 64, 0, 65536 - 48)),
]


@pytest.mark.parametrize(("width", "height", "window"), LIES)
def test_an_sps_that_lies_is_refused_before_ffmpeg_sees_it(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int, window: tuple[int, int, int, int] | None
) -> None:
    data = encoded(pictures(64, 48, 1))[0]
    lying = resized(data, size_bits(64, 48, None), size_bits(width, height, window))
    decoder = HevcDecoder(64, 48)
    monkeypatch.setattr(decoder, "_codec", NotToBeAsked())
    assert error_of(lambda: decoder.decode(lying))[0] == "video-size"


def test_what_our_own_reading_of_the_sps_lets_through_ffmpeg_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pictures(64, 48, 1))[0]
    lying = resized(data, size_bits(64, 48, None), size_bits(8192, 8192, None))
    monkeypatch.setattr(HevcDecoder, "_check_size", lambda self, unit: None)
    assert error_of(lambda: HevcDecoder(64, 48).decode(lying))[0] == "bad-picture"


def test_a_second_sps_in_the_access_unit_is_looked_at_too() -> None:
    data = encoded(pictures(64, 48, 1))[0]
    lying = unit_of(resized(data, size_bits(64, 48, None), size_bits(8192, 8192, None))).sps[0]
    both = data.replace(b"\0\0\1\x44", b"\0\0\1" + bytes(lying.data) + b"\0\0\1\x44")
    assert len(unit_of(both).sps) == 2
    assert error_of(lambda: HevcDecoder(64, 48).decode(both))[0] == "video-size"


@pytest.mark.parametrize(
    ("pix_fmt", "name"), [("gray10le", "video-bit-depth"), ("yuv422p", "video-chroma"), ("yuv444p", "video-chroma")]
)
def test_other_kinds_of_video_are_refused_by_name(pix_fmt: str, name: str) -> None:
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, pix_fmt, Fraction(1, 25)
    codec.options = {"x265-params": ONE_BY_ONE}
    (packet,) = codec.encode(av.VideoFrame(64, 48, pix_fmt))
    assert error_of(lambda: HevcDecoder(64, 48).decode(bytes(packet)))[0] == name


def with_output_flag(unit: AccessUnit, header_bits: int, flag: int) -> bytes:
    """Turn on output_flag_present_flag in the PPS and put pic_output_flag into the IDR slice's header.

    :param header_bits: length of the slice header up to its byte_alignment
    """
    parts = []
    for nal in unit.nal_units:
        payload = bits_of(unescape(nal.data[2:]))
        if nal.type == PPS:
            assert payload.startswith("110")  # pps_id 0, sps_id 0, dependent_slice_segments_enabled_flag 0
            payload = payload[:3] + "1" + payload[4:]
            data = bytes(int(payload[k : k + 8], 2) for k in range(0, len(payload), 8))
        elif nal.is_vcl:
            assert payload.startswith("101011")  # first slice, no_output_of_prior_pics 0, pps_id 0, slice_type I
            body = payload[(header_bits // 8 + 1) * 8 :]
            data = bytes_of(payload[:6] + str(flag) + payload[6:header_bits])
            data += int("1" + body, 2).to_bytes(len(body) // 8 + 1, "big")[1:]
        else:
            data = unescape(nal.data[2:])
        parts.append(b"\0\0\0\1" + bytes(nal.data[:2]) + escape(data))
    return b"".join(parts)


def test_a_picture_that_is_not_for_output_is_no_picture(stream: list[bytes]) -> None:
    unit = unit_of(stream[0])
    # The true length is the one with which a flag of 1 changes nothing.
    for header_bits in range(7, 60):
        shown = outcome(lambda n=header_bits: HevcDecoder(WIDTH, HEIGHT).decode(with_output_flag(unit, n, 1)))
        if not isinstance(shown, StreamError):
            break
    assert isinstance(shown, np.ndarray)
    np.testing.assert_array_equal(shown, LUMA[0])
    hidden = with_output_flag(unit, header_bits, 0)
    assert error_of(lambda: HevcDecoder(WIDTH, HEIGHT).decode(hidden)) == ("no-reference", 0)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (8193, 8), (8, 8193), (-1, 4)])
def test_sizes_that_no_stream_has_are_refused(width: int, height: int) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        HevcDecoder(width, height)


def test_golomb_codes_here_are_those_of_the_bit_writer() -> None:
    for value in (0, 1, 2, 6, 7, 8191, 8192):
        io = BitWriter()
        io.ue(value)
        io.align()
        assert bits_of(bytes(io)).startswith(ue(value))
