"""Picture hashes that we write ourselves: FFmpeg believes the right ones and refuses the others."""

from __future__ import annotations

import contextlib
import hashlib

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import AccessUnit, escape, split_access_units
from featlink_codec.video.picture_hash import has_md5, md5_sei_nal
from featlink_codec.video.x265 import X265Encoder, X265Settings

Plane = NDArray[np.uint8]


def picture(width: int, height: int, seed: int) -> Plane:
    return np.random.default_rng(seed).integers(0, 50, (height, width), np.uint8)


def planes_of(luma: Plane, chroma: str) -> list[Plane]:
    """The coded picture: x265 repeats the last row and column up to a multiple of 8."""
    height, width = luma.shape
    coded = np.pad(luma, ((0, -height % 8), (0, -width % 8)), mode="edge")
    neutral = np.full((coded.shape[0] // 2, coded.shape[1] // 2), 128, np.uint8)
    return [coded] if chroma == "400" else [coded, neutral, neutral]


def unit_of(data: bytes) -> AccessUnit:
    (unit,) = split_access_units(data, 0)
    return unit


@pytest.mark.parametrize(
    ("width", "height", "chroma"),
    [(64, 48, "400"), (40, 24, "400"), (19, 33, "400"), (64, 48, "420"), (38, 26, "420")],
)
def test_ffmpeg_accepts_our_hash_and_refuses_it_with_any_byte_changed(width: int, height: int, chroma: str) -> None:
    encoder = X265Encoder(X265Settings(width, height, lossless=True, picture_hash=False, chroma=chroma))
    luma = [picture(width, height, k) for k in range(2)]
    plain = [encoder.encode(luma[k], intra=k == 0) for k in range(2)]
    hashed = [plain[k] + md5_sei_nal(planes_of(luma[k], chroma)) for k in range(2)]
    assert [has_md5(unit_of(data)) for data in plain + hashed] == [False, False, True, True]
    decoder = HevcDecoder(width, height)
    for k in range(2):
        np.testing.assert_array_equal(decoder.decode(hashed[k]), luma[k])
    count = 1 if chroma == "400" else 3
    for k in range(2):
        sei = bytearray(md5_sei_nal(planes_of(luma[k], chroma)))
        # Bytes 0..2 start code, 3..4 header, 5..7 payload type, size, hash type: the digests are what is left.
        for at in range(8, len(sei) - 1, 5 if count == 1 else 13):
            wrong = sei.copy()
            wrong[at] ^= 16
            decoder = HevcDecoder(width, height)
            for before in hashed[:k]:
                decoder.decode(before)
            with pytest.raises(StreamError) as caught:
                decoder.decode(plain[k] + bytes(wrong))
            assert caught.value.name == "bad-picture"


def test_a_picture_other_than_its_hash_says_is_refused() -> None:
    encoder = X265Encoder(X265Settings(64, 48, lossless=True, picture_hash=False))
    data = encoder.encode(picture(64, 48, 0), intra=True)
    other = picture(64, 48, 0)
    other[47, 63] ^= 1
    with pytest.raises(StreamError, match="bad-picture"):
        HevcDecoder(64, 48).decode(data + md5_sei_nal([other]))


@pytest.mark.parametrize("chroma", ["400", "420"])
def test_our_hash_is_the_one_that_libx265_writes(chroma: str) -> None:
    luma = picture(40, 24, 9)
    data = X265Encoder(X265Settings(40, 24, lossless=True, chroma=chroma)).encode(luma, intra=True)
    assert data.endswith(md5_sei_nal(planes_of(luma, chroma)))


def test_the_bytes_are_those_of_the_standard() -> None:
    plane = picture(16, 16, 1)
    digest = hashlib.md5(plane.tobytes()).digest()
    # suffix SEI, payloadType 132, payloadSize 17, hash_type 0
    assert md5_sei_nal([plane]) == bytes.fromhex("000001 5001 84 11") + escape(b"\0" + digest + b"\x80")
    assert md5_sei_nal([plane[:, ::-1][:, ::-1]]) == md5_sei_nal([plane])


def test_emulation_prevention_stands_in_a_hash_that_needs_it() -> None:
    # 7.4.2: a digest that begins with 00 and 00..03 behind hash_type 0 would be a start code.
    seed = next(k for k in range(300_000) if hashlib.md5(k.to_bytes(64, "big")).digest()[:2] < b"\0\4")
    plane = np.frombuffer(seed.to_bytes(64, "big"), np.uint8).reshape(8, 8)
    sei = md5_sei_nal([plane])
    assert sei[7:10] == b"\0\0\3"
    assert has_md5(unit_of(slice_nal + sei))


@pytest.mark.parametrize(
    "planes",
    [[], [np.zeros((8, 8), np.uint8)] * 2, [np.zeros((8, 8), np.int32)], [np.zeros(64, np.uint8)]],
    ids=["none", "two", "int32", "flat"],
)
def test_planes_that_are_none_are_refused(planes: list[Plane]) -> None:
    with pytest.raises(SettingsError):
        md5_sei_nal(planes)


slice_nal = b"\0\0\0\1\2\1\xd0\x80"
DIGEST = bytes(range(16, 32))


def sei(payload: bytes, header: bytes = b"\x50\1") -> AccessUnit:
    return unit_of(slice_nal + b"\0\0\0\1" + header + escape(payload))


@pytest.mark.parametrize(
    ("payload", "there"),
    [
        (b"\x84\x11\0" + DIGEST + b"\x80", True),
        (b"\x84\x31\0" + DIGEST * 3 + b"\x80", True),
        # another message first, with a type and a size above 255
        (b"\xff\1\xff\2" + bytes([7] * 257) + b"\x84\x11\0" + DIGEST + b"\x80", True),
        (b"\x84\3\1\2\3\x80", False),  # CRC
        (b"\x84\5\2\2\3\4\5\x80", False),  # checksum
        (b"\x85\x11\0" + DIGEST + b"\x80", False),
        (b"\x84\x10\0" + DIGEST[1:] + b"\x80", False),
        (b"\x80", False),
    ],
)
def test_a_hash_is_found_only_where_a_whole_md5_message_stands(payload: bytes, there: bool) -> None:
    assert has_md5(sei(payload)) is there


@pytest.mark.parametrize(
    "payload",
    [
        b"\x84\x11\0" + DIGEST[:-1] + b"\x80",
        b"\x84\xff\xff\xff\x11\0" + DIGEST + b"\x80",
        b"\xff\xff\xff\x80",
        b"\x84\x80",
        b"\x84\x11\0" + DIGEST + b"\x80" + b"\0\4\0\xe3" + DIGEST,  # a map's start code, bent, and what was behind it
        b"\x84\x11\0" + DIGEST,
    ],
)
def test_a_message_that_does_not_end_where_it_says_is_refused(payload: bytes) -> None:
    with pytest.raises(StreamError, match="bad-video"):
        has_md5(sei(payload))


def test_only_suffix_sei_counts() -> None:
    payload = b"\x84\x11\0" + DIGEST + b"\x80"
    assert not has_md5(sei(payload, header=b"\x5a\1"))
    assert not has_md5(unit_of(b"\0\0\0\1\x4e\1" + payload + slice_nal))


@given(st.binary(min_size=1, max_size=80))
def test_any_sei_bytes_are_looked_through_or_refused(payload: bytes) -> None:
    with contextlib.suppress(StreamError):
        has_md5(sei(payload + b"\x80"))


def test_pyav_sees_the_hash_as_part_of_the_same_packet() -> None:
    # The SEI goes into the packet of its picture: behind it, in a packet of its own, it would check the next one.
    encoder = X265Encoder(X265Settings(64, 48, lossless=True, picture_hash=False))
    data = encoder.encode(picture(64, 48, 0), intra=True) + md5_sei_nal([picture(64, 48, 0)])
    codec = av.CodecContext.create("hevc", "r")
    assert len(codec.decode(av.Packet(data))) == 1
