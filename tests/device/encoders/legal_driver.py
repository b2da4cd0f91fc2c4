"""An encoder driver in memory: random where dev-encoder.rst leaves a choice, strict where it sets a rule.

What an application does wrong is an AssertionError; what a driver may refuse is an OSError. Time is the driver's own:
it passes in `wait` alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from device.encoders.legal_behaviour import Behaviour
from device.encoders.legal_buffers import MOST_BUFFERS, LegalBuffer, LegalQueue
from device.encoders.legal_coding import Coding
from device.encoders.legal_controls import Controls
from device.encoders.legal_formats import Formats, law
from device.encoders.legal_hardware import LegalHardware
from linuxpy.video import raw

from featlink_device.encoders import v4l2
from featlink_device.encoders.v4l2 import IOC

#: A wait that ends with nothing takes so long at most: hardware works faster than any deadline.
IDLE_S = 0.02
#: So many waits in a row may end with nothing while there is work, and so many steps are made in one.
_MOST_IDLE, _MOST_STEPS = 2, 3
#: An application that asks so often while no time passes and nothing happens, spins.
_SPINS = 2000


class LegalDriver:
    """An open device; a `Port`. `clock` is the time that belongs to it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.name = "legal"
        self.behaviour = behaviour
        self.nvidia = behaviour.dialect == "nvidia"
        self.formats = Formats(behaviour)
        self.controls = Controls(behaviour)
        self.coding = Coding(behaviour, self.controls)
        self.hardware = LegalHardware(behaviour, self.formats, self.coding)
        self.capture, self.output = self.hardware.capture, self.hardware.output
        self._dead = False
        self._eagain: set[int] = set()
        self._now_s = 1000.0
        self._idle = self._spins = 0
        self.closed = False
        self._mapped: dict[int, memoryview] = {}
        #: exported and not closed: the buffer's plane of each file descriptor
        self._exported: dict[int, tuple[LegalBuffer, int]] = {}
        self._next_fd = 1000
        self._requests: dict[int, tuple[str, type, Callable[[Any], None]]] = {
            int(IOC.QUERYCAP): ("QUERYCAP", raw.v4l2_capability, self._query_capability),
            int(IOC.ENUM_FMT): ("ENUM_FMT", raw.v4l2_fmtdesc, self._enumerate),
            int(IOC.ENUM_FRAMESIZES): ("ENUM_FRAMESIZES", raw.v4l2_frmsizeenum, self.formats.frame_sizes),
            int(IOC.G_FMT): ("G_FMT", raw.v4l2_format, self._get_format),
            int(IOC.S_FMT): ("S_FMT", raw.v4l2_format, self._set_format),
            int(IOC.TRY_FMT): ("TRY_FMT", raw.v4l2_format, self._try_format),
            int(IOC.S_PARM): ("S_PARM", raw.v4l2_streamparm, self._set_interval),
            int(IOC.G_SELECTION): ("G_SELECTION", raw.v4l2_selection, lambda it: self._selection(it, False)),
            int(IOC.S_SELECTION): ("S_SELECTION", raw.v4l2_selection, lambda it: self._selection(it, True)),
            int(IOC.QUERY_EXT_CTRL): ("QUERY_EXT_CTRL", raw.v4l2_query_ext_ctrl, self.controls.query),
            int(IOC.QUERYCTRL): ("QUERYCTRL", raw.v4l2_queryctrl, self.controls.query),
            int(IOC.G_EXT_CTRLS): ("G_EXT_CTRLS", raw.v4l2_ext_controls, lambda it: self._control(it, False)),
            int(IOC.S_EXT_CTRLS): ("S_EXT_CTRLS", raw.v4l2_ext_controls, lambda it: self._control(it, True)),
            int(IOC.TRY_EXT_CTRLS): ("TRY_EXT_CTRLS", raw.v4l2_ext_controls, lambda it: self._control(it, True, True)),
            int(IOC.G_CTRL): ("G_CTRL", raw.v4l2_control, lambda it: self._one_control(it, False)),
            int(IOC.S_CTRL): ("S_CTRL", raw.v4l2_control, lambda it: self._one_control(it, True)),
            int(IOC.REQBUFS): ("REQBUFS", raw.v4l2_requestbuffers, self._request_buffers),
            int(IOC.QUERYBUF): ("QUERYBUF", raw.v4l2_buffer, self._query_buffer),
            int(IOC.EXPBUF): ("EXPBUF", raw.v4l2_exportbuffer, self._export),
            int(IOC.QBUF): ("QBUF", raw.v4l2_buffer, self._enqueue),
            int(IOC.ENCODER_CMD): ("ENCODER_CMD", raw.v4l2_encoder_cmd, self._command),
            int(IOC.TRY_ENCODER_CMD): ("TRY_ENCODER_CMD", raw.v4l2_encoder_cmd, self._try_command),
        }

    # The port.

    def clock(self) -> float:
        """Seconds, in the driver's own time."""
        return self._now_s

    def call(self, request: int, argument: Any) -> None:
        """See Port."""
        self._check_open()
        if int(request) not in self._requests:
            raise OSError(errno.ENOTTY, f"ioctl {int(request):#x}")
        name, kind, serve = self._requests[int(request)]
        law(isinstance(argument, kind), f"{name} of a {type(argument).__name__}")
        serve(argument)

    def stream(self, queue: int, on: bool) -> None:
        """See Port."""
        self._check_open()
        of = self._queue(queue)
        if on:
            self.hardware.stream_on(of)
        else:
            self.hardware.stream_off(of)

    def dequeue(self, buffer: Any) -> bool:
        """See Port."""
        self._check_open()
        queue = self._queue(buffer.type)
        law(isinstance(buffer, raw.v4l2_buffer) and buffer.memory == v4l2.MMAP, f"DQBUF: memory {buffer.memory}")
        law(queue.streaming, "DQBUF from a queue that does not stream")
        queue.check_planes(buffer, len(queue.buffers[0].planes))
        if queue.last_dequeued:
            raise OSError(errno.EPIPE, "DQBUF")
        if self.hardware.choose(3) == 1:
            self.hardware.step()
        if queue.done and self.behaviour.eagain and queue.kind not in self._eagain and self.hardware.choose(2):
            self._eagain.add(queue.kind)
            return False
        if not queue.done:
            self._spin()
            return False
        self._eagain.discard(queue.kind)
        self._spins = 0
        done = queue.done.popleft()
        queue.describe(buffer, done)
        self.hardware.dequeued(queue, done)
        return True

    def wait(self, timeout_s: float) -> None:
        """See Port. Nothing happens at first, at times, but never for long."""
        law(not self.closed, "wait after close")
        law(timeout_s >= 0, f"wait of {timeout_s} s")
        if self._dead or self.output.done or self.capture.done:
            if not self._dead:
                self.hardware.step()  # it works on while the application does not look
            self._spin()
            return
        if self.output.streaming and self.capture.streaming and not self.hardware.over:
            law(self.capture.in_app() == 0, f"waits and keeps {self.capture.in_app()} CAPTURE buffers")
        if not self.hardware.work():
            self._pass(timeout_s)
            return
        steps = self.hardware.choose(_MOST_STEPS + 1)
        if steps == 0 and self._idle < _MOST_IDLE:
            self._idle += 1
            self._pass(min(timeout_s, IDLE_S))
            return
        self._idle = 0
        self._pass(min(timeout_s, IDLE_S) * self.hardware.choose(2))
        for _ in range(max(1, steps)):
            self.hardware.step()

    def map(self, length: int, offset: int, exported_fd: int | None) -> memoryview:
        """See Port."""
        self._check_open()
        if exported_fd is not None:
            law(exported_fd in self._exported, f"map of {exported_fd}, which is no exported descriptor")
            buffer, plane = self._exported[exported_fd]
        else:
            buffers = [*self.output.buffers, *self.capture.buffers]
            found = [(one, k) for one in buffers for k, at in enumerate(one.offsets) if at == offset]
            if not found or self.nvidia:
                raise OSError(errno.EINVAL, "mmap")
            buffer, plane = found[0]
        law(length == len(buffer.planes[plane]), f"map of {length} bytes of {len(buffer.planes[plane])}")
        view = memoryview(buffer.planes[plane])
        self._mapped[id(view)] = view
        return view

    def unmap(self, memory: list[memoryview], exported_fds: list[int]) -> None:
        """See Port."""
        for view in memory:
            law(id(view) in self._mapped, "unmap of what is not mapped")
            try:
                view.release()
            except BufferError:
                continue  # somebody looks at it still
            del self._mapped[id(view)]
        memory.clear()
        for fd in exported_fds:
            law(fd in self._exported, f"{fd} is closed twice, or was never exported")
            del self._exported[fd]
        exported_fds.clear()

    def sync(self, exported_fd: int, plane: int) -> None:
        """See Port."""
        law(exported_fd in self._exported, f"sync of {exported_fd}")
        buffer, own = self._exported[exported_fd]
        law(plane == own, f"sync of plane {plane}, the descriptor is of {own}")
        buffer.synced[plane] = buffer.plane_digest(plane)

    def close(self) -> None:
        """See Port."""
        self.closed = True
        self.unmap(list(self._mapped.values()), list(self._exported))

    def left_open(self) -> tuple[int, int]:
        """Mappings and exported file descriptors that are not closed."""
        return len(self._mapped), len(self._exported)

    # Setting up.

    def _query_capability(self, argument: Any) -> None:
        argument.driver, argument.card = b"legal", b"a driver that keeps the law"
        own = v4l2.CAP_STREAMING | (v4l2.CAP_M2M_MPLANE if self.behaviour.multi_planar else v4l2.CAP_M2M)
        argument.capabilities = own
        if self.behaviour.device_caps:
            argument.capabilities, argument.device_caps = own | v4l2.CAP_DEVICE_CAPS, own

    def _enumerate(self, argument: Any) -> None:
        self.formats.enumerate(argument, self._queue(argument.type) is self.capture)

    def _get_format(self, argument: Any) -> None:
        self.formats.get(argument, self._queue(argument.type) is self.capture)

    def _set_format(self, argument: Any) -> None:
        queue = self._queue(argument.type)
        law(not self.output.buffers and not self.capture.buffers, "S_FMT with buffers allocated (EBUSY)")
        self.formats.set(argument, queue is self.capture, trial=False)

    def _try_format(self, argument: Any) -> None:
        self.formats.set(argument, self._queue(argument.type) is self.capture, trial=True)

    def _set_interval(self, argument: Any) -> None:
        if not self.behaviour.frame_interval:
            raise OSError(errno.ENOTTY, "S_PARM")
        law(argument.type in (v4l2.OUTPUT, self.output.kind), f"S_PARM of type {argument.type}")
        law(self.formats.output_set, "S_PARM before S_FMT OUTPUT")
        per_frame = argument.parm.output.timeperframe
        law(per_frame.numerator > 0 and per_frame.denominator > 0, "S_PARM without an interval")

    def _selection(self, argument: Any, change: bool) -> None:
        law(argument.type in (v4l2.OUTPUT, self.output.kind), f"selection of type {argument.type}")
        law(not (change and self.output.buffers), "S_SELECTION with buffers allocated")
        self.formats.selection(argument, change)

    def _control(self, argument: Any, change: bool, trial: bool = False) -> None:
        allocated = bool(self.output.buffers or self.capture.buffers)
        both = self.formats.capture_set and self.formats.output_set
        self.controls.access(argument, change, trial, allocated, both)

    def _one_control(self, argument: Any, change: bool) -> None:
        item = raw.v4l2_ext_control()
        item.id, item.value = argument.id, argument.value
        items = raw.v4l2_ext_controls()
        items.count, items.controls = 1, raw.POINTER(raw.v4l2_ext_control)(item)
        self._control(items, change)
        argument.value = item.value

    # Buffers.

    def _request_buffers(self, argument: Any) -> None:
        queue = self._queue(argument.type)
        law(argument.memory == v4l2.MMAP, f"REQBUFS: memory {argument.memory}")
        count = argument.count
        if not self.behaviour.orphans and self._maps_of(queue):
            raise OSError(errno.EBUSY, "REQBUFS: buffers are mapped")
        law(count == 0 or (self.formats.capture_set and self.formats.output_set), "REQBUFS before both S_FMT")
        if count:
            least = self.behaviour.min_output if queue is self.output else 1
            given = min(max(least, count + self.behaviour.extra_buffers), MOST_BUFFERS)
            queue.asked.append(count)
            queue.given.append(given)
            argument.count = given
        sizes = self.formats.output.sizes if queue is self.output else (self.formats.coded_size,)
        queue.allocate(argument.count, sizes)

    def _maps_of(self, queue: LegalQueue) -> bool:
        planes = [plane for buffer in queue.buffers for plane in buffer.planes]
        return any(view.obj is plane for view in self._mapped.values() for plane in planes)

    def _query_buffer(self, argument: Any) -> None:
        queue = self._queue(argument.type)
        queue.describe(argument, queue.check(argument))

    def _export(self, argument: Any) -> None:
        queue = self._queue(argument.type)
        if not self.nvidia and not self.behaviour.exports:
            raise OSError(errno.ENOTTY, "EXPBUF")
        law(0 <= argument.index < len(queue.buffers), f"EXPBUF of buffer {argument.index}")
        law(0 <= argument.plane < len(queue.buffers[argument.index].planes), f"EXPBUF of plane {argument.plane}")
        law(argument.flags & os.O_ACCMODE == os.O_RDWR, "EXPBUF without O_RDWR: it cannot be mapped writable")
        argument.fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._exported[argument.fd] = (queue.buffers[argument.index], argument.plane)

    def _enqueue(self, argument: Any) -> None:
        queue = self._queue(argument.type)
        faults = self.behaviour.faults
        if queue is self.capture:
            queue.enqueue(argument, None, False)
        else:
            if faults.eio_at is not None and self.hardware.pictures >= faults.eio_at:
                self._dead = True
                raise OSError(errno.EIO, "QBUF")
            buffer = queue.enqueue(argument, self.formats.output.payload, self.nvidia)
            if buffer.used[0]:
                self.hardware.queued(buffer, self.controls.force)
                self.controls.force = False
                self._check_synced(buffer, argument)
        for _ in range(self.hardware.choose(_MOST_STEPS)):
            self.hardware.step()

    def _check_synced(self, buffer: LegalBuffer, argument: Any) -> None:
        if self.nvidia:
            law(argument.flags & v4l2.FLAG_TIMESTAMP_COPY, "NVIDIA copies a timestamp where the buffer asks for it")
            for plane in range(len(buffer.planes)):
                current = buffer.synced.pop(plane, None) == buffer.plane_digest(plane)
                law(current, f"plane {plane} was not handed to the device as it is now")

    # The end, and a new start.

    def _try_command(self, argument: Any) -> None:
        if not self.behaviour.encoder_cmd:
            raise OSError(errno.ENOTTY, "ENCODER_CMD")
        if argument.cmd not in (v4l2.ENC_CMD_START, v4l2.ENC_CMD_STOP):
            raise OSError(errno.EINVAL, "ENCODER_CMD")

    def _command(self, argument: Any) -> None:
        self._try_command(argument)
        law(argument.flags == 0, "ENCODER_CMD: flags")
        if argument.cmd == v4l2.ENC_CMD_STOP:
            self.hardware.stop_command()
        else:
            self.hardware.start_command()

    # Everything else.

    def _queue(self, kind: int) -> LegalQueue:
        law(kind in (self.capture.kind, self.output.kind), f"type {kind}, which this device does not have")
        return self.capture if kind == self.capture.kind else self.output

    def _check_open(self) -> None:
        law(not self.closed, "the device is closed")
        if self._dead:
            self._spin()
            raise OSError(errno.EIO, "it failed before")

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds
        if seconds > 0:
            self._spins = 0
        else:
            self._spin()

    def _spin(self) -> None:
        self._spins += 1
        law(self._spins < _SPINS, f"asked {self._spins} times while no time passed and nothing came")
