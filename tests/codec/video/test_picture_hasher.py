"""Hashes for pictures of encoders that write none: the host believes them, and they are those that libx265 writes."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, StreamError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import SUFFIX_SEI, split_access_units
from featlink_codec.video.picture_hasher import PictureHasher
from featlink_codec.video.x265 import X265Encoder, X265Settings

Plane = NDArray[np.uint8]
#: Coded sizes are multiples of 8: all but the last have a conformance window.
SIZES = [(67, 53, "400"), (19, 33, "400"), (38, 26, "420"), (70, 54, "420"), (64, 48, "400"), (64, 48, "420")]


def pictures(width: int, height: int, count: int = 4) -> list[Plane]:
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(width)
    waves = [np.abs(np.sin((x + 2 * k) / 6) * np.cos(y / 9)) * 180 for k in range(count)]
    return [(wave * (rng.random(wave.shape) < 0.9)).astype(np.uint8) for wave in waves]


def encoded(width: int, height: int, chroma: str, picture_hash: bool, qp: int | None = 22) -> list[bytes]:
    how = {"lossless": True} if qp is None else {"qp": qp}
    encoder = X265Encoder(X265Settings(width, height, chroma=chroma, picture_hash=picture_hash, **how))
    return [encoder.encode(luma, intra=k in (0, 2)) for k, luma in enumerate(pictures(width, height))]


def hashed(width: int, height: int, units: list[bytes]) -> list[bytes]:
    hasher = PictureHasher(width, height)
    return [hasher.append(unit) for unit in units]


def sei_of(data: bytes) -> list[bytes]:
    (unit,) = split_access_units(data, 0)
    return [bytes(nal.data) for nal in unit.nal_units if nal.type == SUFFIX_SEI]


@pytest.mark.parametrize("qp", [None, 30], ids=["lossless", "lossy"])
@pytest.mark.parametrize(("width", "height", "chroma"), SIZES)
def test_hosts_that_want_hashes_take_ours_and_they_are_those_of_libx265(
    width: int, height: int, chroma: str, qp: int | None
) -> None:
    plain = encoded(width, height, chroma, False, qp)
    ours, theirs = hashed(width, height, plain), encoded(width, height, chroma, True, qp)
    for one, other in zip(ours, theirs, strict=True):
        assert len(sei_of(one)) == 1
        assert sei_of(one) == sei_of(other)
    decoder = HevcDecoder(width, height, require_hash=True)
    decoded = [decoder.decode(unit) for unit in ours]
    if qp is None:
        for luma, picture in zip(decoded, pictures(width, height), strict=True):
            np.testing.assert_array_equal(luma, picture)


@pytest.mark.parametrize(("width", "height", "chroma"), SIZES)
def test_luma_is_the_picture_that_the_host_will_see(width: int, height: int, chroma: str) -> None:
    hasher, decoder = PictureHasher(width, height), HevcDecoder(width, height)
    for unit in encoded(width, height, chroma, False):
        decoded = decoder.decode(hasher.append(unit))
        np.testing.assert_array_equal(hasher.luma, decoded)
        assert not hasher.luma.flags.writeable


@pytest.mark.parametrize("chroma", ["400", "420"])
def test_a_window_that_cuts_at_left_and_top_changes_luma_and_no_hash(chroma: str) -> None:
    (plain, *_) = encoded(64, 48, chroma, False)
    window = BitStreamFilterContext("hevc_metadata=crop_left=6:crop_top=4:crop_right=8:crop_bottom=2", "hevc")
    cut = b"".join(bytes(packet) for packet in window.filter(av.Packet(plain)))
    hasher, whole = PictureHasher(50, 42), PictureHasher(64, 48)
    assert sei_of(hasher.append(cut)) == sei_of(whole.append(plain))
    np.testing.assert_array_equal(hasher.luma, whole.luma[4:46, 6:56])
    np.testing.assert_array_equal(hasher.luma, HevcDecoder(50, 42).decode(cut))


@pytest.mark.parametrize("chroma", ["400", "420"])
def test_a_hash_that_is_there_is_verified_and_kept(chroma: str) -> None:
    units = encoded(38, 26, chroma, True)
    assert hashed(38, 26, units) == units
    assert hashed(38, 26, hashed(38, 26, encoded(38, 26, chroma, False))) == hashed(
        38, 26, encoded(38, 26, chroma, False)
    )
    wrong = bytearray(units[1])
    wrong[-5] ^= 1
    hasher = PictureHasher(38, 26)
    hasher.append(units[0])
    with pytest.raises(EncoderError, match="picture 1 does not decode, or is other than its hash says"):
        hasher.append(bytes(wrong))
    with pytest.raises(EncoderError, match="ended at picture 1"):
        hasher.append(units[1])


PLAIN = {chroma: encoded(38, 26, chroma, False) for chroma in ("400", "420")}
OURS = {chroma: hashed(38, 26, units) for chroma, units in PLAIN.items()}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["400", "420"]), st.integers(0, 3), st.data())
def test_no_flipped_bit_passes_with_another_picture(chroma: str, at: int, data: st.DataObject) -> None:
    units, whole = OURS[chroma], HevcDecoder(38, 26, require_hash=True)
    right = [whole.decode(unit).copy() for unit in units]
    bit = data.draw(st.integers(0, len(units[at]) * 8 - 1))
    wrong = bytearray(units[at])
    wrong[bit // 8] ^= 1 << bit % 8
    decoder = HevcDecoder(38, 26, require_hash=True)
    for unit in units[:at]:
        decoder.decode(unit)
    try:
        found = decoder.decode(bytes(wrong))
    except StreamError:
        return
    np.testing.assert_array_equal(found, right[at])


@pytest.mark.parametrize("chroma", ["400", "420"])
def test_every_flipped_bit_of_a_hash_is_refused(chroma: str) -> None:
    unit = OURS[chroma][0]
    for at in range(len(PLAIN[chroma][0]) + 8, len(unit) - 1):
        wrong = bytearray(unit)
        wrong[at] ^= 16
        with pytest.raises(StreamError):
            HevcDecoder(38, 26, require_hash=True).decode(bytes(wrong))


def test_what_is_not_one_picture_of_the_session_is_refused_with_its_number() -> None:
    first, second = PLAIN["400"][:2]
    for units, says in (
        ([second], "picture 0 does not decode"),
        ([first, b"nothing"], "picture 1 does not decode: byte 0: bad-video"),
        ([first + second], "picture 0: 2 access units"),
        ([encoded(64, 48, "400", False)[0]], "picture 0 is 64x48, expected 38x26"),
        ([first, b""], "picture 1 does not decode"),
    ):
        *before, last = units
        hasher = PictureHasher(38, 26)
        for unit in before:
            hasher.append(unit)
        with pytest.raises(EncoderError, match=says):
            hasher.append(last)
    with pytest.raises(EncoderError, match="no picture was decoded yet"):
        _ = PictureHasher(38, 26).luma


def test_the_hasher_holds_what_a_map_after_it_does_not_change() -> None:
    hasher = PictureHasher(38, 26)
    hasher.append(PLAIN["400"][0])
    kept = hasher.luma
    before = kept.copy()
    for unit in PLAIN["400"][1:]:
        hasher.append(unit)
    hasher.close()
    hasher.close()
    np.testing.assert_array_equal(kept, before)
