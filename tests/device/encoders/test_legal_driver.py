"""The legal driver itself: a plain application gets its pictures out of it, and one that breaks a rule is told so."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
from typing import Any

import numpy as np
import pytest
from device.encoders.legal_behaviour import Behaviour, Faults, behaviours
from device.encoders.legal_coding import luma_name
from device.encoders.legal_driver import LegalDriver
from hypothesis import given
from linuxpy.video import raw

from featlink_device.encoders import v4l2
from featlink_device.encoders.v4l2 import IOC

WIDTH, HEIGHT = 64, 32
KERNEL, NVIDIA = Behaviour(), Behaviour(dialect="nvidia", multi_planar=True, coded=("H265",), formats=("NV12M",))


class Client:
    """The shortest application that keeps the rules: one picture at a time, no drain, no crop."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.driver = LegalDriver(behaviour)
        self.multi = behaviour.multi_planar
        self.kinds = (self.driver.capture.kind, self.driver.output.kind)
        self.memory: dict[int, list[list[memoryview]]] = {}
        self.fds: dict[int, list[int]] = {}

    def set_formats(self) -> None:
        behaviour = self.driver.behaviour
        for kind, name in zip(self.kinds, (behaviour.coded_format, behaviour.formats[0]), strict=True):
            self.set_format(kind, v4l2.RAW_FORMATS.get(name, name))

    def set_format(self, kind: int, name: str) -> None:
        form = raw.v4l2_format()
        form.type = kind
        fmt = form.fmt.pix_mp if self.multi else form.fmt.pix
        fmt.pixelformat, fmt.width, fmt.height = v4l2.fourcc(name), WIDTH, HEIGHT
        self.driver.call(IOC.S_FMT, form)

    def allocate(self, kind: int, count: int = 3) -> None:
        request = raw.v4l2_requestbuffers()
        request.count, request.type, request.memory = count, kind, v4l2.MMAP
        self.driver.call(IOC.REQBUFS, request)
        self.memory[kind], self.fds[kind] = [], []
        for index in range(request.count):
            buffer = self.buffer(kind, index)
            self.driver.call(IOC.QUERYBUF, buffer)
            planes = buffer.m.planes[: buffer.length] if self.multi else []
            places = [(one.length, one.m.mem_offset) for one in planes] or [(buffer.length, buffer.m.offset)]
            self.memory[kind].append([self.map(kind, index, k, *place) for k, place in enumerate(places)])

    def map(self, kind: int, index: int, plane: int, length: int, offset: int) -> memoryview:
        if not self.driver.nvidia:
            return self.driver.map(length, offset, None)
        export = raw.v4l2_exportbuffer()
        export.type, export.index, export.plane, export.flags = kind, index, plane, 2
        self.driver.call(IOC.EXPBUF, export)
        self.fds[kind].append(export.fd)
        return self.driver.map(length, offset, export.fd)

    def buffer(self, kind: int, index: int = 0) -> Any:
        buffer = raw.v4l2_buffer()
        buffer.type, buffer.index, buffer.memory = kind, index, v4l2.MMAP
        if self.multi:
            buffer.m.planes, buffer.length = v4l2.Planes(), v4l2.MAX_PLANES
        return buffer

    def queue(self, kind: int, index: int, time_us: int = 0, used: tuple[int, ...] | None = None) -> None:
        buffer = self.buffer(kind, index)
        buffer.timestamp.secs, buffer.timestamp.usecs = divmod(time_us, 1_000_000)
        buffer.flags = v4l2.FLAG_TIMESTAMP_COPY
        payload = self.driver.formats.output.payload if used is None else used
        if kind == self.kinds[1]:
            for plane, size in enumerate(payload):
                if self.multi:
                    buffer.m.planes[plane].bytesused = size
                else:
                    buffer.bytesused = size
            if self.driver.nvidia and any(payload):
                for plane, fd in enumerate(self.fds[kind][index * len(payload) : (index + 1) * len(payload)]):
                    self.driver.sync(fd, plane)
        self.driver.call(IOC.QBUF, buffer)

    def start(self) -> None:
        self.set_formats()
        for kind in self.kinds:
            self.allocate(kind)
        for index in range(len(self.memory[self.kinds[0]])):
            self.queue(self.kinds[0], index)
        for kind in self.kinds:
            self.driver.stream(kind, True)

    def wait_for(self, kind: int) -> Any:
        buffer = self.buffer(kind)
        while not self.driver.dequeue(buffer):
            self.driver.wait(1.0)
        return buffer

    def encode(self, picture: np.ndarray, time_us: int) -> tuple[bytes, int]:
        """One picture, and the bytes and the time that come back for it."""
        layout = self.driver.formats.output
        luma = np.frombuffer(self.memory[self.kinds[1]][0][0], np.uint8)[: layout.lines[0] * layout.height]
        luma.reshape(layout.height, layout.lines[0])[:HEIGHT, :WIDTH] = picture
        self.queue(self.kinds[1], 0, time_us)
        data = b""
        while b"x" not in data:  # a buffer of parameter sets alone comes first, at times
            done = self.wait_for(self.kinds[0])
            plane = done.m.planes[0] if self.multi else done
            begin, end = (plane.data_offset if self.multi else 0), plane.bytesused
            data += bytes(self.memory[self.kinds[0]][done.index][0][begin:end])
            self.queue(self.kinds[0], done.index)
        self.wait_for(self.kinds[1])
        return data, done.timestamp.secs * 1_000_000 + done.timestamp.usecs

    def command(self, number: int) -> None:
        command = raw.v4l2_encoder_cmd()
        command.cmd = number
        self.driver.call(IOC.ENCODER_CMD, command)

    def control(self, number: int, value: int) -> None:
        item = raw.v4l2_ext_control()
        item.id, item.value = number, value
        items = raw.v4l2_ext_controls()
        items.count, items.controls = 1, ctypes.pointer(item)
        self.driver.call(IOC.S_EXT_CTRLS, items)


@given(behaviours())
def test_a_plain_application_gets_every_picture_of_every_driver(behaviour):
    # One picture at a time gets through where none is held back; the sizes are what the driver makes of them.
    client = Client(dataclasses.replace(behaviour, delay=0, max_size=(8192, 8192), discrete=((512, 512),)))
    client.start()
    noise = np.random.default_rng(0)
    for time_us in (0, 999_999, 5 << 33):
        picture = noise.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
        data, came_us = client.encode(picture, time_us)
        assert came_us == time_us
        layout = client.driver.formats.output
        luma = np.frombuffer(client.memory[client.kinds[1]][0][0], np.uint8)
        whole = luma[: layout.lines[0] * layout.height].reshape(layout.height, layout.lines[0])[:, : layout.width]
        assert data.endswith(luma_name(whole))
    del luma, whole
    client.driver.close()
    assert client.driver.left_open() == (0, 0)


def write_while_queued(client: Client) -> None:
    client.queue(client.kinds[1], 0)
    client.memory[client.kinds[1]][0][0][5] ^= 1
    client.wait_for(client.kinds[0])


def wait_with_capture_kept(client: Client) -> None:
    client.queue(client.kinds[1], 0)
    client.wait_for(client.kinds[0])
    client.wait_for(client.kinds[1])
    client.driver.wait(1.0)


def spin(client: Client) -> None:
    buffer = client.buffer(client.kinds[0])
    while not client.driver.dequeue(buffer):
        client.driver.wait(0.0)


def start_in_drain(client: Client) -> None:
    client.command(v4l2.ENC_CMD_STOP)
    client.command(v4l2.ENC_CMD_START)


def stop_twice(client: Client) -> None:
    client.command(v4l2.ENC_CMD_STOP)
    client.command(v4l2.ENC_CMD_STOP)


def stop_without_streaming(client: Client) -> None:
    client.driver.stream(client.kinds[0], False)
    client.command(v4l2.ENC_CMD_STOP)


def dequeue_without_streaming(client: Client) -> None:
    client.driver.stream(client.kinds[0], False)
    client.driver.dequeue(client.buffer(client.kinds[0]))


def call_after_close(client: Client) -> None:
    client.driver.close()
    client.queue(client.kinds[1], 0)


def dequeue_without_memory(client: Client) -> None:
    buffer = client.buffer(client.kinds[0])
    buffer.memory = 0
    client.driver.dequeue(buffer)


RULES = {
    "written to while": write_while_queued,
    "keeps 1 CAPTURE": wait_with_capture_kept,
    "while no time passed": spin,
    "START before LAST": start_in_drain,
    "STOP while drained": stop_twice,
    "STOP while a queue": stop_without_streaming,
    "does not stream": dequeue_without_streaming,
    "is closed": call_after_close,
    "DQBUF: memory": dequeue_without_memory,
    "which the driver has": lambda client: client.queue(client.kinds[0], 0),
    "buffer 7 of": lambda client: client.queue(client.kinds[1], 7),
    "a picture has": lambda client: client.queue(client.kinds[1], 0, used=(WIDTH,)),
    "bytesused": lambda client: client.queue(client.kinds[1], 0, used=(1 << 30,)),
    "does not have": lambda client: client.queue(v4l2.OUTPUT_MPLANE, 0),
    "EBUSY": lambda client: client.set_format(client.kinds[1], "NV12"),
    "REQBUFS while streaming": lambda client: client.allocate(client.kinds[1]),
    "while buffers are allocated": lambda client: client.control(0x9909CB, 1),
    "map of 1 bytes": lambda client: client.driver.map(1, client.driver.output.buffers[0].offsets[0], None),
    "S_FMT of a": lambda client: client.driver.call(IOC.S_FMT, raw.v4l2_buffer()),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_an_assertion_error(rule):
    client = Client(KERNEL)
    client.start()
    with pytest.raises(AssertionError, match=rule):
        RULES[rule](client)


def test_formats_come_in_the_kernels_order():
    with pytest.raises(AssertionError, match="before S_FMT CAPTURE"):
        Client(KERNEL).set_format(v4l2.OUTPUT, "NV12")
    with pytest.raises(AssertionError, match="before both S_FMT"):
        Client(KERNEL).allocate(v4l2.CAPTURE)
    client = Client(KERNEL)
    client.set_formats()
    with pytest.raises(AssertionError, match="STREAMON without buffers"):
        client.driver.stream(v4l2.CAPTURE, True)


def test_nvidias_buffers_are_mapped_by_their_descriptors_and_handed_over():
    client = Client(NVIDIA)
    client.start()
    buffer = client.driver.output.buffers[0]
    with pytest.raises(OSError, match="mmap"):
        client.driver.map(len(buffer.planes[0]), buffer.offsets[0], None)
    client.fds[client.kinds[1]].clear()  # so nothing is synced
    with pytest.raises(AssertionError, match="was not handed to the device"):
        client.queue(client.kinds[1], 0)


def test_behind_last_comes_epipe_until_start():
    client = Client(KERNEL)
    client.start()
    client.command(v4l2.ENC_CMD_STOP)
    last = client.wait_for(v4l2.CAPTURE)
    assert last.flags & v4l2.FLAG_LAST
    assert last.bytesused == 0
    with pytest.raises(BrokenPipeError):
        client.driver.dequeue(client.buffer(v4l2.CAPTURE))
    client.command(v4l2.ENC_CMD_START)
    assert not client.driver.dequeue(client.buffer(v4l2.CAPTURE))


def test_mapped_buffers_are_not_freed_by_a_driver_without_orphans():
    client = Client(dataclasses.replace(KERNEL, orphans=False))
    client.set_formats()
    client.allocate(v4l2.OUTPUT)
    with pytest.raises(OSError, match="mapped") as caught:
        client.allocate(v4l2.OUTPUT, 0)
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("faults", [Faults(stall_at=0), Faults(eio_at=0)])
def test_a_fault_is_there_from_its_picture_on(faults):
    client = Client(dataclasses.replace(KERNEL, faults=faults))
    client.start()
    if faults.eio_at is not None:
        with pytest.raises(OSError, match="QBUF") as caught:
            client.queue(v4l2.OUTPUT, 0)
        assert caught.value.errno == errno.EIO
        return
    client.queue(v4l2.OUTPUT, 0)
    before_s = client.driver.clock()
    client.driver.wait(3.0)
    assert client.driver.clock() == before_s + 3.0
    assert not client.driver.dequeue(client.buffer(v4l2.CAPTURE))


@pytest.mark.parametrize("error_on", ["capture", "output", "both"])
def test_an_error_stands_on_the_buffers_that_it_is_said_for(error_on):
    client = Client(dataclasses.replace(KERNEL, faults=Faults(error_at=0, error_on=error_on)))
    client.start()
    client.queue(v4l2.OUTPUT, 0)
    if error_on != "output":
        spoilt = client.wait_for(v4l2.CAPTURE)
        assert spoilt.flags & v4l2.FLAG_ERROR
        client.queue(v4l2.CAPTURE, spoilt.index)
    assert bool(client.wait_for(v4l2.OUTPUT).flags & v4l2.FLAG_ERROR) == (error_on != "capture")
    assert not client.driver.dequeue(client.buffer(v4l2.CAPTURE))
