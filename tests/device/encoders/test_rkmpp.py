"""Rockchip's session over PyAV, without the hardware: libx265 stands in for it, and stubs for how it may fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.frame import PictureType

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import split_access_units
from featlink_codec.video.session_units import SessionUnits
from featlink_device.encoders.choose import trial_picture
from featlink_device.encoders.rkmpp import RkmppEncoder, open_codec, rkmpp_options
from featlink_device.encoders.session import EncoderSession, EncoderSpec, Packet

SPEC = EncoderSpec(100, 66, qp=4, stalled_s=5)
NV12 = replace(SPEC, monochrome=False)
PICTURES = [trial_picture(SPEC.width, SPEC.height, seed) for seed in range(6)]


def x265(more: str = "bframes=0:rc-lookahead=0:frame-threads=1") -> Callable[[EncoderSpec, str], Any]:
    """libx265 with as much of the options as it knows."""

    def open_x265(spec: EncoderSpec, pixel_format: str) -> Any:
        codec = av.CodecContext.create("libx265", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height = spec.width, spec.height
        # It takes no NV12: PyAV converts what it is given.
        codec.pix_fmt = {"GREY": "gray", "NV12": "yuv420p"}[pixel_format]
        codec.time_base = Fraction(1, 1_000_000)
        codec.framerate = Fraction(25)
        params = f"log-level=none:pools=none:info=0:scenecut=0:repeat-headers=1:ctu=16:qp={spec.qp}:{more}"
        codec.options = {"forced-idr": "1", "preset": "ultrafast", "g": rkmpp_options(spec)["g"], "x265-params": params}
        codec.open()
        return codec

    return open_x265


class Stub:
    """An encoder whose packets are the picture's number; `delay` pictures stay inside."""

    def __init__(self, delay: int = 0) -> None:
        self.options: dict[str, str] = {}
        self.delay = delay
        self.seen: list[tuple[int, PictureType, np.ndarray]] = []
        self.inside: list[int] = []

    def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        if frame is not None:
            luma = frame.planes[0]
            rows = np.frombuffer(memoryview(luma), np.uint8).reshape(frame.height, luma.line_size)
            self.seen.append((frame.pts, frame.pict_type, rows[:, : frame.width].copy()))
            self.inside.append(frame.pts)
        count = len(self.inside) - (0 if frame is None else self.delay)
        out, self.inside = self.inside[: max(count, 0)], self.inside[max(count, 0) :]
        return [packet_of(pts) for pts in out]


def packet_of(pts: int | None, data: bytes = b"\0\0\1\x02\1\xd0") -> av.Packet:
    packet = av.Packet(data)
    packet.pts = pts
    return packet


def session_of(*stubs: Any, spec: EncoderSpec = SPEC) -> RkmppEncoder:
    left = list(stubs)
    return RkmppEncoder(spec, open_codec=lambda spec, pixel_format: left.pop(0))


def submit(session: EncoderSession, number: int, intra: bool = False) -> None:
    np.copyto(session.frame_buffer().luma, PICTURES[number])
    session.submit(number * 40_000, intra)


def times(packets: list[Packet]) -> list[int | None]:
    return [packet.timestamp_us for packet in packets]


# With an encoder that really encodes


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, all_intra=True), replace(SPEC, intra_by="restart"), NV12])
def test_pictures_come_back_as_they_went_in_intra_where_it_was_asked_for(spec: EncoderSpec) -> None:
    session, units, decoder = RkmppEncoder(spec, open_codec=x265()), SessionUnits(100, 66), HevcDecoder(100, 66)
    for number, picture in enumerate(PICTURES):
        intra = number in (0, 3) or spec.all_intra
        submit(session, number, intra)
        (packet,) = session.packets()
        assert packet.timestamp_us == number * 40_000
        unit = units.take(packet.data, intra)
        assert unit is not None
        (one,) = split_access_units(unit, 0)
        assert one.is_irap == intra
        np.testing.assert_allclose(decoder.decode(unit).astype(int), picture, atol=6)
    session.close()
    session.close()


def test_pictures_that_stay_inside_are_told_by_their_times_and_come_at_the_end() -> None:
    session = RkmppEncoder(SPEC, open_codec=x265("bframes=0:rc-lookahead=3:frame-threads=1"))
    come: list[Packet] = []
    for number in range(6):
        submit(session, number, number == 0)
        come += session.packets(in_flight=6)
    assert len(come) < 6
    come += session.drain()
    assert times(come) == [number * 40_000 for number in range(6)]
    decoder = HevcDecoder(100, 66)
    for packet, picture in zip(come, PICTURES, strict=True):
        np.testing.assert_allclose(decoder.decode(packet.data).astype(int), picture, atol=6)


def test_coding_begins_anew_after_a_drain() -> None:
    session = RkmppEncoder(SPEC, open_codec=x265())
    for number in range(2):
        submit(session, number)
    assert times(session.drain()) == [0, 40_000]
    assert session.drain() == []
    submit(session, 2)
    (packet,) = session.packets()
    assert split_access_units(packet.data, 0)[0].is_irap
    np.testing.assert_allclose(HevcDecoder(100, 66).decode(packet.data).astype(int), PICTURES[2], atol=6)


# What the codec is told


def test_the_options_are_those_of_ffmpeg_rockchip() -> None:
    same = {"qp_init": "31", "qp_min": "31", "qp_max": "31", "qp_min_i": "31", "qp_max_i": "31", "rc_mode": "CQP"}
    assert rkmpp_options(EncoderSpec(128, 64, qp=31, all_intra=True)) == {**same, "g": "1"}
    # 0 would count as 1: every picture intra.
    assert int(rkmpp_options(EncoderSpec(128, 64, qp=31))["g"]) > 50_000


def test_options_that_a_codec_does_not_know_are_told() -> None:
    spec = EncoderSpec(128, 64, qp=31)
    session = RkmppEncoder(
        spec, open_codec=lambda spec, pixel_format: open_codec(spec, "GREY", "libx265", {"g": "1", "qp_init": "31"})
    )
    assert session.facts["options_refused"] == ["qp_init"]
    session.close()


def test_ffmpeg_is_told_to_wait_for_each_packet_and_counts_in_microseconds() -> None:
    codec = open_codec(EncoderSpec(128, 64, qp=31, fps=12.5), "GREY", "libx265", {})
    assert codec.flags & Flags.low_delay
    assert (codec.time_base, codec.framerate) == (Fraction(1, 1_000_000), Fraction(25, 2))
    assert (codec.width, codec.height, codec.pix_fmt) == (128, 64, "gray")


def test_pictures_are_gray_only_where_the_host_takes_that() -> None:
    asked: list[str] = []

    def opened(spec: EncoderSpec, pixel_format: str) -> Stub:
        asked.append(pixel_format)
        return Stub()

    gray, colour = RkmppEncoder(SPEC, open_codec=opened), RkmppEncoder(NV12, open_codec=opened)
    assert asked == ["GREY", "NV12"]
    assert (gray.facts["pixel_format"], colour.facts["pixel_format"]) == ("GREY", "NV12")
    for session in (gray, colour):
        luma = session.frame_buffer().luma
        assert luma.shape == (66, 100)
        assert session.facts["stride"] == luma.strides[0]
    assert (colour._frame._chroma[0] == 128).all()


def test_intra_pictures_are_asked_for_by_their_type() -> None:
    stub = Stub()
    session = session_of(stub)
    for number in range(4):
        submit(session, number, number in (0, 2))
        session.packets()
    kinds = [kind for _, kind, _ in stub.seen]
    assert kinds == [PictureType.I, PictureType.P, PictureType.I, PictureType.P]
    for number, (pts, _, luma) in enumerate(stub.seen):
        assert pts == number * 40_000
        np.testing.assert_array_equal(luma, PICTURES[number])
    stub = Stub()
    session = session_of(stub, spec=replace(SPEC, all_intra=True, intra_by="gop"))
    submit(session, 0)
    submit(session, 1)
    session.packets()
    assert [kind for _, kind, _ in stub.seen] == [PictureType.I] * 2


def test_where_intra_pictures_cannot_be_asked_for_coding_begins_anew() -> None:
    stubs = [Stub(delay=1), Stub(delay=1)]
    session = session_of(*stubs, spec=replace(SPEC, intra_by="restart"))
    for number in range(5):
        submit(session, number, number in (0, 3))
    assert times(session.packets(1)) == [0, 40_000, 80_000, 120_000]
    assert times(session.drain()) == [160_000]
    assert [len(stub.seen) for stub in stubs] == [3, 2]


# Order, delay and loss


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_as_many_pictures_stay_inside_as_are_allowed(delay: int) -> None:
    session = session_of(Stub(delay))
    come: list[Packet] = []
    for number in range(6):
        submit(session, number)
        come += session.packets(delay)
        assert len(come) >= number + 1 - delay
    come += session.drain()
    assert times(come) == [number * 40_000 for number in range(6)]


def test_an_encoder_that_keeps_more_inside_than_allowed_is_given_up() -> None:
    session = session_of(Stub(delay=2))
    submit(session, 0)
    with pytest.raises(EncoderLostError, match="1 pictures stay inside until more come, 0 expected"):
        session.packets()
    with pytest.raises(EncoderLostError, match="is over"):
        session.frame_buffer()


def test_parameter_sets_of_their_own_belong_to_no_picture() -> None:
    class Apart(Stub):
        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            heads = [packet_of(None, b"\0\0\1\x40\1\2")] if frame is not None and frame.pts == 0 else []
            return heads + super().encode(frame)

    session = session_of(Apart())
    submit(session, 0)
    assert [(packet.data[3], packet.timestamp_us) for packet in session.packets()] == [(0x40, None), (2, 0)]


@pytest.mark.parametrize(("pts", "says"), [(7, "a packet of 7 us"), (None, "a packet of None us")])
def test_a_packet_of_no_picture_that_is_inside_ends_the_session(pts: int | None, says: str) -> None:
    class Wrong(Stub):
        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            return [packet_of(pts)]

    session = session_of(Wrong())
    submit(session, 0)
    with pytest.raises(EncoderLostError, match=says):
        session.packets()


def test_pictures_that_never_come_are_lost_at_the_end() -> None:
    class Dropping(Stub):
        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            return [one for one in super().encode(frame) if one.pts != 40_000]

    session = session_of(Dropping())
    for number in range(3):
        submit(session, number)
    come = session.drain()
    assert [(packet.timestamp_us, packet.lost) for packet in come] == [(0, False), (80_000, False), (40_000, True)]


def test_times_must_rise() -> None:
    session = session_of(Stub())
    submit(session, 1)
    with pytest.raises(EncoderError, match="timestamp 0 is not above the one before, 40000"):
        submit(session, 0)


# Encoders that refuse, fail, or say nothing any more


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"qp": None, "lossless": True}, "only a constant qp"),
        ({"qp": None, "crf": 20.0}, "only a constant qp"),
        ({"width": 94}, "rkmpp: width 94 is below min_width 96"),
        ({"height": 62}, "rkmpp: height 62 is below min_height 64"),
        ({"width": 101}, "rkmpp: width 101 is not even"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_opened(change: dict[str, Any], says: str) -> None:
    with pytest.raises(EncoderError, match=says):
        session_of(spec=replace(SPEC, **change))


def test_a_pyav_without_the_codec_says_its_name() -> None:
    with pytest.raises(EncoderError, match="hevc_rkmpp"):
        RkmppEncoder(SPEC)


def test_a_codec_that_fails_ends_the_session_and_says_what_ffmpeg_said() -> None:
    class Failing(Stub):
        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            raise av.error.ExternalError(542398533, "Generic error in an external library")

    session = session_of(Failing())
    submit(session, 0)
    with pytest.raises(EncoderLostError, match=r"rkmpp: .*Generic error in an external library"):
        session.packets()
    for call in (session.frame_buffer, session.packets, session.drain):
        with pytest.raises(EncoderLostError, match="is over"):
            call()
    session.close()


@pytest.mark.parametrize("call", ["frame_buffer", "packets", "drain"])
def test_an_encoder_that_stalls_is_given_up_in_time_and_closing_does_not_wait(call: str) -> None:
    stuck = threading.Event()

    class Stalling(Stub):
        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            stuck.wait()
            return []

    session = session_of(Stalling(), spec=replace(SPEC, stalled_s=0.1))
    submit(session, 0)
    begin_s = time.monotonic()
    with pytest.raises(EncoderLostError, match=r"rkmpp: nothing came for 0\.1 s"):
        getattr(session, call)()
    session.close()
    assert time.monotonic() - begin_s < 2
    stuck.set()
