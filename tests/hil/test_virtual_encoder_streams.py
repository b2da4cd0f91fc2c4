"""The virtual encoder's packets: in which buffers they come, with which parameter sets, and how a stream ends."""

from __future__ import annotations

import errno

import pytest
from hevc_pictures import data_of, decode, pictures
from v4l2_client import (
    GOP_SIZE,
    HEADER_MODE,
    IDR_INTERVAL,
    INSERT_SPS_PPS,
    LOSSLESS,
    PREPEND_SPSPPS,
    REPEAT_SEQ_HEADER,
    START,
    STOP,
    Encoder,
)
from virtual_encoder import node, profile_node, refused

from featlink_codec.video.nal import split_nal_units

WHOLE = [(LOSSLESS, 1)]


def sets_in(packet):
    """Whether a packet has parameter sets; whether it has a picture."""
    units = [nal.type for nal in split_nal_units(memoryview(packet.data), 0)]
    return {32, 33, 34} <= set(units), any(kind < 32 for kind in units)


def test_timestamps_flags_and_order_are_those_of_the_pictures(tmp_path, connect):
    packets = connect(Encoder, node(tmp_path), controls=[(GOP_SIZE, 3)]).encode(pictures())
    *packets, last = packets
    assert [packet.number for packet in packets] == [0, 1, 2, 3, 4]
    assert [packet.key for packet in packets] == [True, False, False, True, False]
    assert last.last
    assert last.data == b""


def test_packets_may_be_held_back(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, delay=2), buffers=(5, 5))
    for k in range(2):
        encoder.put(k, pictures()[k])
    encoder._until(lambda: encoder._collect() and len(encoder.free) == 5)
    assert encoder.get() is None
    encoder.put(2, pictures()[2])
    assert encoder.wait().number == 0
    encoder.command(STOP)
    assert [encoder.wait().number for _ in range(2)] == [1, 2]
    assert encoder.wait().last


def test_payload_may_begin_at_an_offset(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, planes="multi", data_offset=96), controls=WHOLE, flags=0)
    encoder.put(0, pictures()[0])
    buffer, planes = encoder.dequeue(encoder.capture)
    assert planes[0].data_offset == 96
    payload = bytes(encoder.memory[encoder.capture][buffer.index][0][96 : planes[0].bytesused])
    assert (decode(payload)[0][:48] == pictures()[0]).all()


def test_the_last_buffer_may_carry_the_last_packet(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, last="data", delay=1))
    packets = encoder.encode(pictures())
    assert [packet.last for packet in packets] == [False] * 4 + [True]
    assert len(decode(data_of(packets))) == 5
    refused(errno.EPIPE, encoder.dequeue, encoder.capture)


def test_after_the_drain_the_stream_goes_on_or_starts_anew(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path))
    encoder.encode(pictures()[:2])
    refused(errno.EPIPE, encoder.dequeue, encoder.capture)
    encoder.queue(encoder.capture, 2)
    encoder.command(START)
    encoder.put(2, pictures()[2])
    assert not encoder.wait().key
    encoder.stream(False, encoder.capture)
    for k in range(3):
        encoder.queue(encoder.capture, k)
    encoder.stream(True, encoder.capture)
    encoder.put(3, pictures()[3])
    packet = encoder.wait()
    assert packet.key
    assert sets_in(packet) == (True, True)


def test_an_empty_buffer_ends_jetsons_stream(tmp_path, connect):
    encoder = connect(Encoder, profile_node(tmp_path, "jetson"), (160, 144), "NV12M", coded="H265")
    for number, luma in enumerate(pictures((160, 144), 2)):
        encoder.put(number, luma)
    encoder.queue(encoder.output, encoder.free.pop())
    packets = encoder.get_all(3)
    assert [bool(packet.data) for packet in packets] == [True, True, False]
    assert not any(packet.last for packet in packets)
    assert encoder.get() is None
    refused(errno.ENOTTY, encoder.command, STOP)


def test_an_empty_buffer_is_refused_elsewhere(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path))
    refused(errno.EINVAL, encoder.queue, encoder.output, 0)


@pytest.mark.parametrize(
    ("switches", "controls", "expected"),
    [
        ({"headers": "each_idr"}, [], [True, True, True]),
        ({"headers": "first"}, [], [True, False, False]),
        ({"headers": "first"}, [(PREPEND_SPSPPS, 1)], [True, True, True]),
        ({"headers": "first"}, [(REPEAT_SEQ_HEADER, 1)], [True, True, True]),
        ({"headers": "first"}, [(HEADER_MODE, 1)], [True, True, True]),
        ({"headers": "first", "ignore": "prepend_spspps"}, [(PREPEND_SPSPPS, 1)], [True, False, False]),
        ({"headers": "separate"}, [(PREPEND_SPSPPS, 1)], [True, True, True]),
    ],
)
def test_parameter_sets_come_where_the_headers_switch_says(tmp_path, connect, switches, controls, expected):
    encoder = connect(Encoder, node(tmp_path, **switches), controls=[(GOP_SIZE, 2), *controls])
    packets = encoder.encode(pictures(count=6))[:-1]
    assert [sets_in(packet)[0] for packet in packets if packet.key] == expected
    assert not any(sets_in(packet)[0] for packet in packets if not packet.key)
    assert len(decode(data_of(packets))) == 6


@pytest.mark.parametrize("switches", [{"headers": "separate"}, {"refuse": "repeat_seq_header prepend_spspps"}])
def test_parameter_sets_may_come_apart(tmp_path, connect, switches):
    encoder = connect(Encoder, node(tmp_path, **switches), controls=[(HEADER_MODE, 0), (GOP_SIZE, 2)])
    packets = encoder.encode(pictures())[:-1]
    assert [sets_in(packet) for packet in packets] == [(True, False)] + [(False, True)] * 5
    assert len(decode(data_of(packets))) == 5


def test_jetsons_parameter_sets_come_with_every_idr_on_demand(tmp_path, connect):
    for value, expected in ((0, [True, False]), (1, [True, True])):
        controls = [(IDR_INTERVAL, 2), (INSERT_SPS_PPS, value)]
        encoder = connect(
            Encoder, profile_node(tmp_path, "jetson"), (160, 144), "NV12M", coded="H265", controls=controls
        )
        for number, luma in enumerate(pictures((160, 144), 3)):
            encoder.put(number, luma)
        packets = encoder.get_all(3)
        assert [packet.key for packet in packets] == [True, False, True]
        assert [sets_in(packet)[0] for packet in packets if packet.key] == expected
