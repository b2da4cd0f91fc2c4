"""Buffers and queues of the legal driver, with videobuf2's rules about who has which buffer."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from typing import Any

from device.encoders.legal_formats import law

from featlink_device.encoders import v4l2

MOST_BUFFERS = 32
FLAG_MAPPED, FLAG_QUEUED, FLAG_DONE = 1, 2, 4
_MICRO, _NANO = 1_000_000, 1_000_000_000


class LegalBuffer:
    """One buffer. Its memory begins as noise: nobody may rely on zeros."""

    def __init__(self, index: int, sizes: tuple[int, ...], offset: int) -> None:
        self.index = index
        noise = random.Random(index)
        self.planes = [bytearray(noise.randbytes(size)) for size in sizes]
        #: by which QUERYBUF's offset each plane is mapped
        self.offsets = [offset + (plane << 20) for plane in range(len(sizes))]
        #: "app", "queued", "inside" (taken from the queue, not given back) or "done"
        self.state = "app"
        self.time_ns = 0
        self.used = [0] * len(sizes)
        self.data_offset = 0
        self.flags = 0
        self.sequence = 0
        #: of the planes when they were queued, and when they were handed to the device's caches
        self.digest = b""
        self.synced: dict[int, bytes] = {}
        #: of an OUTPUT buffer: the number of its picture, and whether an IDR picture was asked for
        self.number = -1
        self.force = False

    def plane_digest(self, plane: int) -> bytes:
        """Of what stands in a plane now."""
        return hashlib.sha256(self.planes[plane]).digest()

    def whole_digest(self) -> bytes:
        """Of what stands in all planes now."""
        return b"".join(self.plane_digest(plane) for plane in range(len(self.planes)))


class LegalQueue:
    """One v4l2_buf_type."""

    def __init__(self, kind: int, multi: bool, base: int) -> None:
        self.kind = kind
        self.multi = multi
        self.base = base
        self.streaming = False
        self.buffers: list[LegalBuffer] = []
        #: queued by the application, oldest first
        self.fifo: deque[LegalBuffer] = deque()
        #: to be dequeued, oldest first
        self.done: deque[LegalBuffer] = deque()
        #: the buffer with LAST was dequeued: EPIPE from now on
        self.last_dequeued = False
        self.sequence = 0
        #: REQBUFS' counts, as asked and as given
        self.asked: list[int] = []
        self.given: list[int] = []

    def allocate(self, count: int, sizes: tuple[int, ...]) -> None:
        """New buffers in place of the old ones."""
        law(not self.streaming, "REQBUFS while streaming")
        self.fifo.clear()
        self.done.clear()
        self.last_dequeued = False
        self.buffers = [LegalBuffer(k, sizes, self.base + (k << 24)) for k in range(count)]

    def in_app(self) -> int:
        """How many buffers the application has."""
        return sum(buffer.state == "app" for buffer in self.buffers)

    def check(self, argument: Any) -> LegalBuffer:
        """The buffer that a v4l2_buffer names, its array of planes checked."""
        law(argument.type == self.kind, f"buffer type {argument.type}, not {self.kind}")
        law(0 <= argument.index < len(self.buffers), f"buffer {argument.index} of {len(self.buffers)}")
        buffer = self.buffers[argument.index]
        self.check_planes(argument, len(buffer.planes))
        return buffer

    def check_planes(self, argument: Any, planes: int) -> None:
        """With the multi-planar interface there is room for all planes."""
        if self.multi:
            law(planes <= argument.length <= v4l2.MAX_PLANES, f"length {argument.length} for {planes} planes")
            law(bool(argument.m.planes), "no array of planes")

    def describe(self, argument: Any, buffer: LegalBuffer) -> None:
        """Fill a v4l2_buffer, as QUERYBUF and DQBUF do."""
        state = {"queued": FLAG_QUEUED, "inside": FLAG_QUEUED, "done": FLAG_DONE}.get(buffer.state, 0)
        argument.index, argument.type, argument.memory = buffer.index, self.kind, v4l2.MMAP
        argument.flags = buffer.flags | state | v4l2.FLAG_TIMESTAMP_COPY
        argument.field, argument.sequence = v4l2.FIELD_NONE, buffer.sequence
        argument.timestamp.secs, nanos = divmod(buffer.time_ns, _NANO)
        argument.timestamp.usecs = nanos // 1000
        if not self.multi:
            argument.bytesused, argument.length, argument.m.offset = buffer.used[0], len(buffer.planes[0]), 0
            argument.m.offset = buffer.offsets[0]
            return
        argument.length, argument.bytesused = len(buffer.planes), 0
        for number, plane in enumerate(buffer.planes):
            said = argument.m.planes[number]
            said.bytesused, said.length, said.m.mem_offset = buffer.used[number], len(plane), buffer.offsets[number]
            said.data_offset = buffer.data_offset if number == 0 else 0

    def enqueue(self, argument: Any, payload: tuple[int, ...] | None, empty_ends: bool) -> LegalBuffer:
        """QBUF.

        :param payload: bytes of each plane that an OUTPUT buffer has to have at least; None: a CAPTURE buffer
        :param empty_ends: an OUTPUT buffer may be empty
        """
        buffer = self.check(argument)
        law(argument.memory == v4l2.MMAP, f"QBUF: memory {argument.memory}")
        law(buffer.state == "app", f"QBUF of buffer {buffer.index}, which the driver has ({buffer.state})")
        law(argument.field in (0, v4l2.FIELD_NONE), f"QBUF: field {argument.field}")
        if payload is None:
            for plane in buffer.planes:  # a packet that still lies in this memory is spoilt from here on
                plane[:64] = b"\xa5" * min(64, len(plane))
        else:
            planes = argument.m.planes
            used = [planes[k].bytesused for k in range(len(payload))] if self.multi else [argument.bytesused]
            law(not self.multi or not any(planes[k].data_offset for k in range(len(payload))), "QBUF: data_offset")
            law(all(k <= len(plane) for k, plane in zip(used, buffer.planes, strict=True)), f"QBUF: bytesused {used}")
            ends = empty_ends and used[0] == 0
            law(
                ends or all(k >= least for k, least in zip(used, payload, strict=True)),
                f"QBUF: bytesused {used}, a picture has {payload}",
            )
            buffer.used = used
            time = argument.timestamp
            law(time.secs >= 0 and 0 <= time.usecs < _MICRO, f"QBUF: timestamp {time.secs}, {time.usecs}")
            buffer.time_ns = time.secs * _NANO + time.usecs * 1000
            buffer.digest = buffer.whole_digest()
        buffer.flags = 0
        buffer.state = "queued"
        self.fifo.append(buffer)
        argument.flags |= FLAG_QUEUED
        return buffer

    def take(self) -> LegalBuffer:
        """The driver takes the oldest buffer."""
        buffer = self.fifo.popleft()
        buffer.state = "inside"
        return buffer

    def give(self, buffer: LegalBuffer) -> None:
        """The driver gives a buffer back."""
        assert buffer.state == "inside"
        buffer.state = "done"
        buffer.sequence, self.sequence = self.sequence, self.sequence + 1
        self.done.append(buffer)

    def stop(self) -> None:
        """STREAMOFF: the application has everything."""
        self.streaming = self.last_dequeued = False
        self.fifo.clear()
        self.done.clear()
        for buffer in self.buffers:
            buffer.state = "app"
