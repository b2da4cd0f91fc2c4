"""The virtual encoder's faults, and calls that block: what real hardware does to an application."""

from __future__ import annotations

import errno
import os
import threading
import time

import av
import pytest
from hevc_pictures import data_of, decode, pictures
from v4l2_client import FORCE_KEY_FRAME, LOSSLESS, STOP, Encoder
from virtual_encoder import node, refused

BLOCKING = 0


def start(call, *arguments):
    """Run a call in a thread; a list that gets its result or its error, and the thread."""
    results = []

    def run():
        try:
            results.append(call(*arguments))
        except OSError as error:
            results.append(errno.errorcode[error.errno])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return results, thread


def test_a_lost_picture_is_flagged_and_what_refers_to_it_does_not_decode(tmp_path, connect):
    packets = connect(Encoder, node(tmp_path, error_at="1,3")).encode(pictures())[:-1]
    assert [packet.error for packet in packets] == [False, True, False, True, False]
    assert [packet.number for packet in packets] == [0, 1, 2, 3, 4]
    assert [packet.data for packet in packets if packet.error] == [b"", b""]
    with pytest.raises(av.error.InvalidDataError):
        decode(packets[0].data + packets[2].data)


def test_a_forced_key_frame_heals_a_lost_picture(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, error_at=0))
    encoder.put(0, pictures()[0])
    assert encoder.wait().error
    encoder.control(FORCE_KEY_FRAME, 0)
    for number in (1, 2):
        encoder.put(number, pictures()[number])
    packets = encoder.get_all(2)
    assert [packet.key for packet in packets] == [True, False]
    assert len(decode(data_of(packets))) == 2


def test_a_picture_that_does_not_fit_is_lost(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, capture_size=3000), controls=[(LOSSLESS, 1)])
    assert encoder.get_format(encoder.capture).sizeimage == 3000
    still = pictures()[0]
    packets = encoder.encode([still, still, still])[:-1]
    assert [packet.error for packet in packets] == [True, False, False]
    assert packets[0].data == b""


def test_a_broken_device_says_so_until_it_is_closed(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, eio_at=2))
    encoder.put(0, pictures()[0])
    encoder.put(1, pictures()[1])
    encoder.get_all(2)
    refused(errno.EIO, encoder.put, 2, pictures()[2])
    for kind in (encoder.output, encoder.capture):
        refused(errno.EIO, encoder.dequeue, kind)
    encoder.stream(False)
    refused(errno.EIO, encoder.queue, encoder.capture, 0)
    again = connect(Encoder, node(tmp_path, eio_at=2))
    again.put(0, pictures()[0])
    assert again.wait().key


def test_a_broken_device_wakes_who_waits(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, eio_at=0), flags=BLOCKING)
    results, thread = start(encoder.dequeue, encoder.capture)
    time.sleep(0.05)
    assert results == []
    refused(errno.EIO, encoder.put, 0, pictures()[0])
    thread.join(10)
    assert results == ["EIO"]


def test_a_stalled_device_gives_nothing_until_streamoff(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, stall_at=1))
    for number in range(2):
        encoder.put(number, pictures()[number])
    assert encoder.wait().number == 0
    time.sleep(0.2)
    assert encoder.get() is None
    encoder._collect()
    assert len(encoder.free) == 2  # of three: the second picture's buffer stays
    encoder.stream(False)
    for k in range(3):
        encoder.queue(encoder.capture, k)
    encoder.free = [0, 1, 2]
    encoder.stream(True)
    encoder.put(5, pictures()[0])
    packet = encoder.wait()
    assert (packet.number, packet.key) == (5, True)


@pytest.mark.parametrize("fault", ["error_at", "eio_at", "stall_at"])
def test_faults_of_the_first_session_are_not_those_of_the_next(tmp_path, connect, fault):
    path = node(tmp_path, faults="first_session", **{fault: 1})

    def whole():
        encoder = connect(Encoder, path)
        try:
            encoder.put(0, pictures()[0])
            encoder.put(1, pictures()[1])
        except OSError:
            return False
        end = time.monotonic() + 1
        packets = []
        while len(packets) < 2 and time.monotonic() < end:
            if packet := encoder.get():
                packets.append(packet)
        return len(packets) == 2 and not any(packet.error for packet in packets)

    assert not (tmp_path / "encoder.faulted").exists()
    assert [whole(), whole(), whole()] == [False, True, True]
    assert (tmp_path / "encoder.faulted").exists()


def test_faults_come_again_in_every_session(tmp_path, connect):
    path = node(tmp_path, error_at=0)
    for _ in range(2):
        encoder = connect(Encoder, path)
        encoder.put(0, pictures()[0])
        assert encoder.wait().error


def test_a_blocking_call_waits_while_others_queue(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path), flags=BLOCKING)
    results, thread = start(encoder.get)
    time.sleep(0.1)
    assert thread.is_alive()
    encoder.put(0, pictures()[0])
    thread.join(10)
    assert results[0].key


def test_streamoff_wakes_who_waits(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path), flags=BLOCKING)
    waiting = [start(encoder.dequeue, kind) for kind in (encoder.output, encoder.capture)]
    time.sleep(0.05)
    encoder.stream(False)
    encoder.stream(True)  # at once: who waited is not to wait on
    for results, thread in waiting:
        thread.join(10)
        assert results == ["EINVAL"]


def test_the_end_of_a_drain_wakes_who_waits(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path), flags=BLOCKING)
    results, thread = start(encoder.get)
    encoder.command(STOP)
    thread.join(10)
    assert results[0].last
    refused(errno.EPIPE, encoder.dequeue, encoder.capture)


def test_a_device_blocks_as_its_fd_says_now(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path), flags=BLOCKING)
    os.set_blocking(encoder.fd, False)
    refused(errno.EAGAIN, encoder.dequeue, encoder.capture)
