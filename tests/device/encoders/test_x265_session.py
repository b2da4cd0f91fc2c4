"""libx265 behind the protocol of all encoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featlink_codec.errors import EncoderError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import split_access_units
from featlink_codec.video.x265 import X265Encoder, X265Settings
from featlink_device.encoders.choose import trial_picture
from featlink_device.encoders.session import EncoderSession, EncoderSpec
from featlink_device.encoders.x265 import X265Session

SPEC = EncoderSpec(70, 46, lossless=True)
PICTURES = [trial_picture(70, 46, seed) for seed in range(4)]


def coded(session: EncoderSession) -> list[bytes]:
    units = []
    for number, picture in enumerate(PICTURES):
        np.copyto(session.frame_buffer().luma, picture)
        session.submit(number * 40_000, number in (0, 2))
        (packet,) = session.packets()
        assert packet.timestamp_us == number * 40_000
        units.append(packet.data)
    return units


@pytest.mark.parametrize("monochrome", [True, False])
@pytest.mark.parametrize("how", [{"lossless": True}, {"qp": 20}, {"crf": 18.5}, {"qp": 20, "all_intra": True}])
def test_the_bytes_are_those_of_the_encoder_itself(how: dict[str, float], monochrome: bool) -> None:
    spec = replace(SPEC, **{"lossless": False, **how}, monochrome=monochrome)
    chroma = "400" if monochrome else "420"
    encoder = X265Encoder(X265Settings(70, 46, chroma=chroma, **how))
    session = X265Session(spec)
    units = coded(session)
    assert units == [encoder.encode(picture, intra=k in (0, 2)) for k, picture in enumerate(PICTURES)]
    decoder = HevcDecoder(70, 46, require_hash=True)
    for unit, picture in zip(units, PICTURES, strict=True):
        decoded = decoder.decode(unit)
        if spec.lossless:
            np.testing.assert_array_equal(decoded, picture)
    assert session.facts["pixel_format"] == ("GREY" if monochrome else "YUV420")
    assert session.limits.takes(chroma)
    session.close()
    session.close()


def test_nothing_is_left_inside_and_coding_begins_anew_after_a_drain() -> None:
    session = X265Session(SPEC)
    session.submit(5, True)
    assert [packet.timestamp_us for packet in session.drain()] == [5]
    assert session.drain() == session.packets() == []
    session.submit(6, False)
    session.submit(7, False)
    first, second = (split_access_units(packet.data, 0)[0] for packet in session.packets())
    assert (first.has_parameter_sets, second.is_irap) == (True, False)


def test_the_picture_keeps_its_samples_from_one_to_the_next() -> None:
    session = X265Session(SPEC)
    luma = session.frame_buffer().luma
    assert not luma.any()
    luma[...] = PICTURES[0]
    session.submit(0, True)
    assert session.frame_buffer().luma is luma
    np.testing.assert_array_equal(luma, PICTURES[0])


def test_lossless_pictures_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    session = X265Session(SPEC)
    other = np.zeros((46, 70), np.uint8)
    monkeypatch.setattr(HevcDecoder, "decode", lambda self, unit: other)
    np.copyto(session.frame_buffer().luma, PICTURES[0])
    with pytest.raises(EncoderError, match="picture 0 is not lossless"):
        session.submit(0, True)
    with pytest.raises(EncoderError, match="closed"):
        session.submit(1, True)


def test_what_it_cannot_do_is_an_error_of_the_encoder() -> None:
    for change, says in (
        ({"width": 8}, "width is 8, libx265 takes 16 and more"),
        ({"width": 71, "monochrome": False}, "71x46 has an odd side"),
        ({"preset": "quick"}, "preset is 'quick'"),
    ):
        with pytest.raises(EncoderError, match=says):
            X265Session(replace(SPEC, **change))
    session = X265Session(SPEC)
    session.submit(9, True)
    with pytest.raises(EncoderError, match="timestamp 9 is not above"):
        session.submit(9, False)
