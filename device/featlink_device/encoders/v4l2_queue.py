"""One buffer queue of a V4L2 device: its buffers in the driver's own memory, which of them the driver has."""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Any

from linuxpy.video import raw

from featlink_codec.errors import EncoderError, EncoderLostError

from .v4l2 import FIELD_NONE, FLAG_TIMESTAMP_COPY, IOC, MMAP, Planes, Port

#: More than that a driver has no reason to give (VIDEO_MAX_FRAME).
_MOST_BUFFERS = 32
#: Of all buffers of a queue, mapped: a driver that wants more is not believed.
_MOST_BYTES = 1 << 30
_MICRO = 1_000_000


class Buffer:
    """One buffer: its structure for the driver, and its planes mapped."""

    def __init__(self, kind: int, index: int, planes: int, multi: bool) -> None:
        self.raw = raw.v4l2_buffer()
        self.raw.type, self.raw.index, self.raw.memory = kind, index, MMAP
        self.planes = Planes() if multi else None
        if self.planes is not None:
            self.raw.m.planes, self.raw.length = self.planes, planes
        self.memory: list[memoryview] = []
        #: of EXPBUF, where mapping goes by them
        self.exported: list[int] = []

    @property
    def index(self) -> int:
        """Its number in the queue."""
        return int(self.raw.index)


class BufferQueue:
    """The buffers of one v4l2_buf_type.

    :param planes: memory planes of each
    :param export: planes are mapped through EXPBUF, as NVIDIA's have to be
    """

    def __init__(self, port: Port, kind: int, planes: int, multi: bool, export: bool) -> None:
        self._port = port
        self._kind = kind
        self._planes = planes
        self._multi = multi
        self._export = export
        self.buffers: list[Buffer] = []
        self.free: deque[Buffer] = deque()
        self.streaming = False
        # The driver's answers; one structure for the whole session.
        self._answer = Buffer(kind, 0, planes, multi)

    def allocate(self, count: int) -> None:
        """REQBUFS, and map every plane of what comes.

        :raises EncoderError: the driver gives none, or they cannot be mapped
        """
        granted = self._request(count)
        if not 1 <= granted <= _MOST_BUFFERS:
            raise EncoderError(f"{self._port.name}: asked for {count} buffers, got {granted}")
        total = 0
        for index in range(granted):
            buffer = Buffer(self._kind, index, self._planes, self._multi)
            try:
                self._port.call(IOC.QUERYBUF, buffer.raw)
                for plane in range(self._planes):
                    length, offset = self._place(buffer, plane)
                    total += length
                    if length <= 0 or total > _MOST_BYTES:
                        raise EncoderError(f"{self._port.name}: a buffer of {length} bytes, {total} in all")
                    fd = self._exported(index, plane) if self._export else None
                    if fd is not None:
                        buffer.exported.append(fd)
                    buffer.memory.append(self._port.map(length, offset, fd))
            except OSError as error:
                raise EncoderError(f"{self._port.name}: buffers cannot be mapped: {error.strerror}") from None
            self.buffers.append(buffer)
        self.free.extend(self.buffers)

    def queue(self, buffer: Buffer, payload: tuple[int, ...] = (), timestamp_us: int = 0) -> None:
        """QBUF. The buffer is the driver's until `dequeue` gives it back.

        :param payload: bytes used of each plane; nothing for buffers that the driver fills
        :raises EncoderLostError: the device failed
        """
        try:
            for plane, fd in enumerate(buffer.exported if payload else ()):
                self._port.sync(fd, plane)
        except OSError as error:
            raise _died(self._port, f"cache: {error.strerror}", error) from None
        used = buffer.raw
        used.flags, used.field = FLAG_TIMESTAMP_COPY if payload else 0, FIELD_NONE
        used.timestamp.secs, used.timestamp.usecs = divmod(timestamp_us, _MICRO)
        if buffer.planes is None:
            used.bytesused = payload[0] if payload else 0
        else:
            used.length = self._planes
            for plane in range(self._planes):
                buffer.planes[plane].bytesused = payload[plane] if payload else 0
                buffer.planes[plane].data_offset = 0
        self._call("QBUF", IOC.QBUF, used)

    def dequeue(self) -> tuple[Buffer, Any, int] | None:
        """DQBUF without waiting: the buffer, its v4l2_buffer as the driver filled it, and its time in microseconds.

        The buffer is not free yet: `free.append` or `queue` it again. None: nothing is there.

        :raises BrokenPipeError: behind the last buffer of a drain
        :raises EncoderLostError: the device failed
        """
        answer = self._answer.raw
        answer.index, answer.flags, answer.bytesused = 0, 0, 0
        if self._multi:
            answer.m.planes, answer.length = self._answer.planes, self._planes
        try:
            if not self._port.dequeue(answer):
                return None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _died(self._port, "DQBUF", error) from None
        if answer.index >= len(self.buffers):
            raise EncoderLostError(f"{self._port.name}: the driver gave back buffer {answer.index}, which is none")
        time_us = int(answer.timestamp.secs) * _MICRO + int(answer.timestamp.usecs)
        return self.buffers[answer.index], answer, time_us

    def payload(self, buffer: Buffer) -> memoryview:
        """What the driver wrote into the buffer that `dequeue` has just given: from data_offset to bytesused.

        :raises EncoderLostError: it lies outside of the buffer
        """
        first, answer = buffer.memory[0], self._answer
        begin, end = 0, int(answer.raw.bytesused)
        if answer.planes is not None:
            begin, end = int(answer.planes[0].data_offset), int(answer.planes[0].bytesused)
        if end > len(first) or (end and begin > end):
            raise EncoderLostError(f"{self._port.name}: bytes {begin} to {end} of a buffer of {len(first)}")
        return first[begin:end] if end else first[:0]

    def stream(self, on: bool) -> None:
        """STREAMON or STREAMOFF; the latter gives all buffers back, whatever they hold.

        :raises EncoderLostError: the device failed
        """
        try:
            self._port.stream(self._kind, on)
        except OSError as error:
            raise _died(self._port, "STREAMON" if on else "STREAMOFF", error) from None
        self.streaming = on
        if not on:
            self.free.clear()
            self.free.extend(self.buffers)

    def release(self) -> None:
        """REQBUFS(0), with the mappings gone before it: the driver refuses while one stands.

        :raises EncoderLostError: the device failed
        """
        self.free.clear()
        for buffer in self.buffers:
            self._port.unmap(buffer.memory, buffer.exported)
        self.buffers.clear()
        try:
            self._request(0)
        except EncoderError as error:
            raise EncoderLostError(str(error)) from None

    def _request(self, count: int) -> int:
        request = raw.v4l2_requestbuffers()
        request.count, request.type, request.memory = count, self._kind, MMAP
        try:
            self._port.call(IOC.REQBUFS, request)
        except OSError as error:
            raise EncoderError(f"{self._port.name}: {count} buffers: {error.strerror}") from None
        return int(request.count)

    def _place(self, buffer: Buffer, plane: int) -> tuple[int, int]:
        """Length and offset of a plane, as QUERYBUF gave them."""
        if buffer.planes is None:
            return int(buffer.raw.length), int(buffer.raw.m.offset)
        return int(buffer.planes[plane].length), int(buffer.planes[plane].m.mem_offset)

    def _exported(self, index: int, plane: int) -> int:
        export = raw.v4l2_exportbuffer()
        export.type, export.index, export.plane = self._kind, index, plane
        export.flags = os.O_CLOEXEC | os.O_RDWR
        self._port.call(IOC.EXPBUF, export)
        return int(export.fd)

    def _call(self, what: str, request: int, argument: Any) -> None:
        try:
            self._port.call(request, argument)
        except OSError as error:
            raise _died(self._port, what, error) from None


def _died(port: Port, what: str, error: OSError) -> EncoderLostError:
    return EncoderLostError(f"{port.name}: {what}: {errno.errorcode.get(error.errno or 0, str(error))}")
