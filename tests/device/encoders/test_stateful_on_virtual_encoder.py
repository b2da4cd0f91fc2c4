"""The state machine over libv4l2 on the virtual encoder: what sessions go through besides coding pictures."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from virtual_encoder import library, node, profile_node

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.session_units import SessionUnits
from featlink_device.encoders.choose import trial_picture
from featlink_device.encoders.libv4l2_port import LIBRARY_VARIABLE, Libv4l2Port
from featlink_device.encoders.session import EncoderSpec
from featlink_device.encoders.stateful import StatefulEncoder
from featlink_device.encoders.v4l2 import IOC

SPEC = EncoderSpec(288, 160, lossless=True, stalled_s=2.0)


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library()))


def coded(encoder, first_us, count=3):
    """Pictures in, packets out: they decode to what went in."""
    spec = encoder.spec
    units, decoder = SessionUnits(spec.width, spec.height), HevcDecoder(spec.width, spec.height)
    for k in range(count):
        picture = trial_picture(spec.width, spec.height, first_us + k)
        encoder.frame_buffer().luma[...] = picture
        encoder.submit(first_us + k, intra=k == 0)
        (packet,) = [one for one in encoder.packets() if one.timestamp_us is not None]
        assert packet.timestamp_us == first_us + k
        found = decoder.decode(units.take(packet.data, intra=k == 0))
        assert np.array_equal(found, picture)


@pytest.mark.parametrize("profile", ["plain", "venus"])
def test_the_size_changes_in_one_session(profile, tmp_path):
    encoder = StatefulEncoder(Libv4l2Port(str(profile_node(tmp_path, profile))), SPEC)
    coded(encoder, 100)
    assert encoder.reconfigure(replace(SPEC, width=320, height=224)) == []
    coded(encoder, 200)
    encoder.close()
    encoder.close()


@pytest.mark.parametrize("intra_by", ["force", "restart"])
@pytest.mark.parametrize("switches", [{}, {"delay": 1}, {"encoder_cmd": "no"}, {"last": "data"}])
def test_coding_goes_on_behind_a_drain(switches, intra_by, tmp_path):
    encoder = StatefulEncoder(Libv4l2Port(str(node(tmp_path, **switches))), replace(SPEC, intra_by=intra_by))
    sent = []
    for k in range(6):
        encoder.frame_buffer().luma[...] = k
        encoder.submit(k, intra=k == 2)
        if k in (3, 5):
            sent += encoder.drain()
    assert [packet.timestamp_us for packet in sent if packet.timestamp_us is not None] == list(range(6))
    assert not any(packet.lost for packet in sent)
    assert encoder.drain() == []
    encoder.close()


def test_times_have_to_rise(tmp_path):
    encoder = StatefulEncoder(Libv4l2Port(str(node(tmp_path))), SPEC)
    encoder.submit(7, intra=True)
    with pytest.raises(EncoderError, match="7 is not above the one before, 7"):
        encoder.submit(7, intra=True)
    encoder.close()


def test_a_stalled_session_is_over_and_closes_in_time(tmp_path):
    encoder = StatefulEncoder(Libv4l2Port(str(node(tmp_path, stall_at=1))), replace(SPEC, stalled_s=0.3))
    coded(encoder, 0, 1)
    encoder.submit(5, intra=False)
    with pytest.raises(EncoderLostError, match=r"nothing came for 0.3 s, 1 pictures are inside"):
        encoder.packets()
    with pytest.raises(EncoderLostError, match="the session is over"):
        encoder.submit(6, intra=False)
    encoder.close()


def test_no_descriptor_is_left_behind(tmp_path):
    path = profile_node(tmp_path, "jetson")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):  # libv4l2 opens 16 at most
        encoder = StatefulEncoder(Libv4l2Port(str(path)), replace(SPEC, lossless=False, qp=30))
        encoder.submit(0, intra=True)
        assert len(encoder.packets()) == 1
        encoder.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


class Refusing(Libv4l2Port):
    """Answers one request with an error of its own."""

    refused = (IOC.S_FMT, errno.EBUSY)

    def call(self, request, argument):
        if request == self.refused[0]:
            raise OSError(self.refused[1], os.strerror(self.refused[1]))
        super().call(request, argument)


@pytest.mark.parametrize(
    ("request_", "number", "says"),
    [
        (IOC.QUERYCAP, errno.ENOTTY, "not a V4L2 device"),
        (IOC.G_FMT, errno.EIO, "HEVC cannot be set"),
        (IOC.REQBUFS, errno.ENOMEM, "3 buffers: Cannot allocate memory"),
        (IOC.QUERYBUF, errno.EINVAL, "buffers cannot be mapped"),
    ],
)
def test_what_a_driver_refuses_is_said(request_, number, says, tmp_path, monkeypatch):
    monkeypatch.setattr(Refusing, "refused", (request_, number))
    with pytest.raises(EncoderError, match=says):
        StatefulEncoder(Refusing(str(node(tmp_path))), SPEC)


def test_a_device_that_others_use_is_busy(tmp_path, monkeypatch):
    class Busy(Libv4l2Port):
        asked = 0

        def call(self, request, argument):
            self.asked += request == IOC.S_FMT
            if request == IOC.S_FMT and self.asked == 2:  # the first was only to look
                raise OSError(errno.EBUSY, "busy")
            super().call(request, argument)

    with pytest.raises(EncoderError, match="busy: another program encodes with it"):
        StatefulEncoder(Busy(str(node(tmp_path))), SPEC)


def test_what_is_no_device_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="none: No such file"):
        Libv4l2Port(str(tmp_path / "none"))
    os.environ[LIBRARY_VARIABLE] = str(tmp_path / "no.so")
    with pytest.raises(EncoderError, match=r"no\.so"):
        Libv4l2Port(str(tmp_path / "none"))
