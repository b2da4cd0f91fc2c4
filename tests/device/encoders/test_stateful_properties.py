"""The stateful encoder on drivers that are random but legal: nothing is lost, nothing passes for what it is not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from device.encoders.legal_behaviour import Behaviour, Faults, behaviours
from device.encoders.legal_coding import PARAMETER_SETS, luma_name, slice_of
from device.encoders.legal_driver import IDLE_S, LegalDriver
from device.encoders.legal_formats import Formats
from hypothesis import event, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_device.encoders.session import EncoderSpec, Packet
from featlink_device.encoders.stateful import StatefulEncoder

STALLED_S = 2.0
IDR = (19, 20)


@st.composite
def specs(draw: st.DrawFn) -> EncoderSpec:
    side = st.sampled_from([18, 64, 100, 128, 144, 160, 17, 162])
    intra_by = draw(st.sampled_from(["force", "force", "restart", "gop"]))
    qp = draw(st.sampled_from([0, 22, 22, 51, None]))
    return EncoderSpec(
        width=draw(side),
        height=draw(side),
        qp=qp,
        lossless=qp is None,
        all_intra=intra_by == "gop",
        intra_by=intra_by,
        monochrome=draw(st.booleans()),
        stalled_s=STALLED_S,
    )


#: What an application does: a picture that is intra or not, packets with so many pictures left, or a drain.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("picture"), st.booleans()),
        st.tuples(st.just("picture"), st.booleans()),
        st.tuples(st.just("packets"), st.integers(0, 4)),
        st.tuples(st.just("drain"), st.none()),
    ),
    max_size=14,
)


def verdict(behaviour: Behaviour, spec: EncoderSpec) -> str:
    """Whether a session "works", must be "refused", or is "either"'s right."""
    if behaviour.coded_format not in behaviour.coded:
        return "refused"
    odd = spec.width % 2 or spec.height % 2
    names = [name for name in behaviour.formats if spec.takes(name) and not (odd and name != "GREY")]
    fitting = [_fits(behaviour, spec, name) for name in names]
    if not any(fitting):
        return "refused"
    if spec.lossless and behaviour.mode("lossless_cu") != "ok":
        return "refused"
    controls = (
        ("frame_rc_enable", "init_frame_qp")
        if behaviour.dialect == "nvidia"
        else ("frame_rc_enable", "i_qp", "p_qp", "min_qp", "max_qp")
    )
    if spec.qp is not None and any(behaviour.mode(name) != "ok" for name in controls):
        return "either"
    if spec.intra_by == "gop" and not _gop_can_be_one(behaviour):
        return "either"
    below = any(
        side < least
        for name in names
        for side, least in zip((spec.width, spec.height), _least(behaviour, name), strict=True)
    )
    return "works" if all(fitting) and not below else "either"


def _least(behaviour: Behaviour, name: str) -> tuple[int, int]:
    return (1, 1) if behaviour.sizes == "discrete" else Formats(behaviour).limits(name)[0]


def _fits(behaviour: Behaviour, spec: EncoderSpec, name: str) -> bool:
    """Whether the picture that is coded can be the one of the spec."""
    formats = Formats(dataclasses.replace(behaviour, coded=(behaviour.coded_format,)))
    formats.output = formats._layout(name, spec.width, spec.height)
    whole = (formats.output.width, formats.output.height)
    size = (spec.width, spec.height)
    if whole == size:
        return True
    return behaviour.crop and whole >= size and formats.cropped(0, 0, *size)[2:] == size


def _gop_can_be_one(behaviour: Behaviour) -> bool:
    if behaviour.dialect == "nvidia":
        return behaviour.mode("idr_interval") == "ok" and behaviour.mode("gop_size") == "ok"
    refresh = behaviour.mode("refresh_type")
    return behaviour.mode("gop_size") == "ok" and (refresh in ("ok", "missing") or behaviour.refresh == 2)


def nal_units(data: bytes) -> list[tuple[int, bytes]]:
    """Type and bytes of each NAL unit, start code included."""
    return [(one[0] >> 1, b"\0\0\0\1" + one) for one in data.split(b"\0\0\0\1")[1:]]


class Application:
    """Submits pictures of noise, and keeps what comes."""

    def __init__(self, behaviour: Behaviour, spec: EncoderSpec) -> None:
        self.behaviour = behaviour
        self.spec = spec
        self.driver = LegalDriver(behaviour)
        self.session = StatefulEncoder(self.driver, spec, coded=None, clock=self.driver.clock)
        self.pictures: dict[int, NDArray[np.uint8]] = {}
        #: timestamps of pictures that have to be IDR pictures
        self.intra: set[int] = set()
        self.come: list[Packet] = []
        self._fresh = True
        self._count = 0
        self._noise = np.random.default_rng(len(behaviour.schedule))

    def picture(self, intra: bool) -> None:
        frame = self.session.frame_buffer()
        assert frame.luma.shape == (self.spec.height, self.spec.width)
        frame.luma[...] = picture = self._noise.integers(0, 256, frame.luma.shape, np.uint8)
        del frame
        # Whole seconds are passed, and what no 32-bit number of microseconds holds.
        timestamp_us = 999_990 + 3 * self._count + (self._count // 5 << 33)
        self._count += 1
        self.pictures[timestamp_us] = picture
        self.session.submit(timestamp_us, intra)
        # Where the GOP says which pictures are intra, nothing else does.
        if self._fresh or (intra and self.spec.intra_by != "gop"):
            self.intra.add(timestamp_us)
        self._fresh = False

    def packets(self, in_flight: int) -> None:
        # Fewer than the encoder holds back it cannot give.
        in_flight = max(in_flight, self.behaviour.delay)
        self.come += self.session.packets(in_flight)
        assert len(self.pictures) - len(self._timed()) <= in_flight

    def drain(self) -> None:
        self.come += self.session.drain()
        assert len(self._timed()) == len(self.pictures)
        self._fresh = True

    def run(self, steps: Sequence[tuple[str, bool | int | None]]) -> None:
        for name, argument in steps:
            if name == "drain":
                self.drain()
            else:
                getattr(self, name)(argument)
        self.drain()

    def _timed(self) -> list[Packet]:
        return [packet for packet in self.come if packet.timestamp_us is not None]

    def close(self) -> None:
        before_s = self.driver.clock()
        self.session.close()
        self.session.close()
        assert self.driver.closed
        assert self.driver.left_open() == (0, 0)
        assert self.driver.clock() == before_s, "close waits"

    def check(self) -> None:
        """Everything that went in came out, in order, each as itself."""
        packets = self._timed()
        assert [packet.timestamp_us for packet in packets] == list(self.pictures)
        seen: set[int] = set()
        for packet in self.come:
            units = nal_units(packet.data)
            assert b"".join(unit for _, unit in units) == packet.data
            seen.update(kind for kind, _ in units)
            slices = [(kind, unit) for kind, unit in units if kind < 32]
            assert not packet.lost
            if packet.timestamp_us is None:
                assert not slices
                continue
            assert len(slices) == 1
            kind, unit = slices[0]
            assert unit == slice_of(kind, luma_name(self.pictures[packet.timestamp_us]))
            if packet.timestamp_us in self.intra or self._all_intra():
                assert kind in IDR
            assert set(PARAMETER_SETS) <= seen, "a picture before any parameter sets"
        assert len({one.around for one in self.driver.coding.log}) <= 1, "what lies around the pictures changes"
        assert all(one.neutral for one in self.driver.coding.log), "chroma is not 128"

    def check_what_is_good(self) -> None:
        """What is not said to be lost is what it says, and in order."""
        times = [packet.timestamp_us for packet in self._timed()]
        assert times == sorted(times)
        for packet in self._timed():
            slices = [unit for kind, unit in nal_units(packet.data) if kind < 32]
            name = luma_name(self.pictures[packet.timestamp_us])
            assert packet.lost or [unit[6:] for unit in slices] == [b"\x80" + name]

    def renew(self, spec: EncoderSpec) -> None:
        """The session was reconfigured."""
        self.spec = spec
        self.pictures.clear()
        self.intra.clear()
        self.come.clear()
        self.driver.coding.log.clear()
        self._fresh = True

    def _all_intra(self) -> bool:
        return self.spec.intra_by == "gop" and _gop_can_be_one(self.behaviour)

    def check_bounds(self) -> None:
        """Buffers are asked for once, and few."""
        output, capture = self.driver.output.asked, self.driver.capture.asked
        assert len(output) == len(capture) == 1
        assert output[0] <= self.behaviour.min_output + 4
        assert capture[0] <= 8


def opened(behaviour: Behaviour, spec: EncoderSpec) -> Application | None:
    """An open session; None: it was refused, and rightly so."""
    expected = verdict(behaviour, spec)
    refused = None
    try:
        application = Application(behaviour, spec)
    except EncoderError as error:
        refused = error
    if refused is not None:
        assert not isinstance(refused, EncoderLostError)
        assert expected != "works", f"refused: {refused}"
        return None
    assert expected != "refused", "a session that cannot code the picture that was asked for"
    return application


@given(behaviours(), specs(), STEPS)
def test_whatever_a_legal_driver_does_every_picture_comes_out_once_and_as_itself(behaviour, spec, steps):
    application = opened(behaviour, spec)
    event("refused" if application is None else "opened")
    if application is None:
        return
    application.run(steps)
    application.check()
    application.check_bounds()
    if behaviour.mode("num_bframes" if behaviour.dialect == "nvidia" else "b_frames") == "ok":
        name = "num_bframes" if behaviour.dialect == "nvidia" else "b_frames"
        assert application.driver.controls.value(name) == 0, "pictures may be reordered"
    application.close()


@given(behaviours(), specs(), specs(), STEPS, STEPS)
def test_a_session_goes_on_with_pictures_of_another_size(behaviour, spec, other, steps, more):
    application = opened(behaviour, spec)
    if application is None:
        return
    application.run(steps)
    expected = verdict(behaviour, other)
    refused = None
    try:
        application.come += application.session.reconfigure(other)
    except EncoderError as error:
        refused = error
    if refused is not None:
        assert expected != "works", f"refused: {refused}"
        with pytest.raises(EncoderLostError):
            application.session.frame_buffer()
        application.close()
        return
    assert expected != "refused"
    application.check()
    application.renew(other)
    application.run(more)
    application.check()
    application.close()


FAULTS = st.one_of(
    st.builds(Faults, error_at=st.integers(0, 6), error_on=st.sampled_from(["capture", "output", "both"])),
    st.builds(Faults, eio_at=st.integers(0, 6)),
    st.builds(Faults, stall_at=st.integers(0, 6)),
)
#: Beyond `stalled_s`: what hardware that works needs for all buffers.
SLACK_S = 32 * 3 * IDLE_S


@given(behaviours(), specs(), STEPS, FAULTS)
def test_a_device_that_fails_is_given_up_in_time_and_what_it_spoilt_is_not_passed_on(behaviour, spec, steps, faults):
    application = opened(dataclasses.replace(behaviour, faults=faults), spec)
    if application is None:
        return
    driver, session = application.driver, application.session
    lost = None
    for name, argument in [*steps, ("drain", None)]:
        before_s = driver.clock()
        try:
            getattr(application, name)(*([] if argument is None else [argument]))
        except EncoderLostError as error:
            lost = error
        assert driver.clock() - before_s <= STALLED_S + SLACK_S, f"{name} waits too long"
        if lost is not None:
            break
    reached = len(application.pictures)
    if faults.eio_at is not None:
        # NVIDIA's end is a buffer, too.
        assert lost is not None if reached > faults.eio_at else lost is None or reached == faults.eio_at
    elif faults.stall_at is not None:
        assert reached <= faults.stall_at or lost is not None or any(one.lost for one in application.come)
    else:
        spoilt = [one.time_us for one in driver.coding.log if one.lost]
        told = [one.timestamp_us for one in application.come if one.lost]
        assert lost is not None or told == spoilt
    application.check_what_is_good()
    if lost is not None and not lost.usable:
        for call in (session.packets, session.drain):
            with pytest.raises(EncoderLostError):
                call()
    application.close()


@given(behaviours(), specs(), STEPS)
def test_an_encoder_may_be_closed_at_any_time(behaviour, spec, steps):
    application = opened(behaviour, spec)
    if application is None:
        return
    for name, argument in steps:
        getattr(application, name)(*([] if argument is None else [argument]))
    application.close()


@given(behaviours(), specs())
def test_pictures_that_are_held_back_are_given_or_the_wait_for_them_ends(behaviour, spec):
    """Fewer in flight than the encoder holds back: it cannot be had without a drain."""
    application = opened(dataclasses.replace(behaviour, delay=2), spec)
    if application is None:
        return
    application.picture(False)
    before_s = application.driver.clock()
    with contextlib.suppress(EncoderLostError):
        application.come += application.session.packets(0)
        application.drain()
        application.check()
    assert application.driver.clock() - before_s <= STALLED_S + SLACK_S
    application.close()


@pytest.mark.parametrize(
    ("behaviour", "spec", "reason"),
    [
        ({"coded": ("H264",), "dialect": "kernel"}, {}, "HEVC"),
        ({"formats": ("GREY",)}, {"monochrome": False}, "GREY"),
        ({"formats": ("NV12",)}, {"width": 33}, "odd"),
        ({"max_size": (64, 64)}, {"width": 100}, "64"),
        ({"sizes": "discrete", "discrete": ((64, 64),)}, {"width": 100}, "64 x 64"),
        ({"align_rows": 32, "crop": False}, {"height": 40}, "64 x 64"),
        ({"align_rows": 32, "crop_step": 16}, {"height": 40}, "64 x 48"),
        ({"step": (16, 16), "crop_min": 48}, {"height": 40}, "64 x 48"),
        ({"controls": (("i_qp", "missing"), ("max_qp", "missing"))}, {}, "QP"),
        ({"controls": (("lossless_cu", "missing"),)}, {"qp": None, "lossless": True}, "lossless"),
        ({}, {"qp": None, "crf": 20.0}, "constant rate factor"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(behaviour, spec, reason):
    driver = LegalDriver(Behaviour(**behaviour))
    with pytest.raises(EncoderError, match=reason) as caught:
        StatefulEncoder(driver, EncoderSpec(**{"width": 64, "height": 64, "qp": 22, **spec}), clock=driver.clock)
    assert not isinstance(caught.value, EncoderLostError)
    assert driver.closed
    assert driver.left_open() == (0, 0)
