"""What works behind the legal driver's queues: pictures are taken, coded, held back, given; and the end of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from device.encoders.legal_behaviour import Behaviour
from device.encoders.legal_buffers import LegalBuffer, LegalQueue
from device.encoders.legal_coding import Coding
from device.encoders.legal_formats import Formats, law

from featlink_device.encoders import v4l2

FLAG_KEYFRAME, FLAG_PFRAME = 0x8, 0x10
_IDR = (19, 20)


@dataclass(frozen=True)
class _Held:
    """One CAPTURE buffer's data."""

    data: bytes
    time_ns: int
    picture: bool
    lost: bool
    #: to be given back after it
    source: LegalBuffer | None


class LegalHardware:
    """Both queues and what stands between them."""

    def __init__(self, behaviour: Behaviour, formats: Formats, coding: Coding) -> None:
        self._behaviour = behaviour
        self._formats = formats
        self._coding = coding
        multi = behaviour.multi_planar
        kinds = (v4l2.CAPTURE_MPLANE, v4l2.OUTPUT_MPLANE) if multi else (v4l2.CAPTURE, v4l2.OUTPUT)
        self.capture = LegalQueue(kinds[0], multi, 1 << 30)
        self.output = LegalQueue(kinds[1], multi, 0)
        #: nothing moves any more
        self.stalled = False
        #: pictures that were queued since the device was opened
        self.pictures = 0
        #: what waits for a CAPTURE buffer
        self._held: deque[_Held] = deque()
        #: OUTPUT buffers that may be given back
        self._spent: list[LegalBuffer] = []
        #: how many of the queued OUTPUT buffers came before STOP; None: nothing was stopped
        self._before_stop: int | None = None
        #: the end of the stream stands in a CAPTURE buffer
        self._last_given = False
        #: OUTPUT buffers queued before STOP that the application has not dequeued
        self._owed: set[int] = set()
        #: NVIDIA: the empty buffer was coded, and its CAPTURE buffer was dequeued; queues stopped since
        self._ended = self._end_dequeued = False
        self._stopped: set[int] = set()
        self._choices = 0

    def choose(self, options: int) -> int:
        """The next choice, 0 .. options - 1."""
        schedule = self._behaviour.schedule
        self._choices += 1
        return schedule[self._choices % len(schedule)] % options

    # What the application does.

    def queued(self, buffer: LegalBuffer, force: bool) -> None:
        """A picture was queued to OUTPUT.

        :param force: it shall be an IDR picture
        """
        buffer.number, self.pictures = self.pictures, self.pictures + 1
        buffer.force = force
        stall_at = self._behaviour.faults.stall_at
        self.stalled = self.stalled or (stall_at is not None and buffer.number >= stall_at)

    def dequeued(self, queue: LegalQueue, buffer: LegalBuffer) -> None:
        """The application has taken a buffer out."""
        buffer.state = "app"
        if queue is self.output:
            self._owed.discard(buffer.index)
        elif buffer.flags & v4l2.FLAG_LAST:
            queue.last_dequeued = True
        elif self._ended and not buffer.used[0] and not buffer.flags & v4l2.FLAG_ERROR:
            self._end_dequeued = True

    @property
    def over(self) -> bool:
        """Whether the end was dequeued: the application may keep CAPTURE buffers from here on."""
        return self.capture.last_dequeued or self._end_dequeued

    def stop_command(self) -> None:
        """ENCODER_CMD STOP."""
        law(self.output.streaming and self.capture.streaming, "STOP while a queue does not stream")
        law(self._before_stop is None, "STOP while drained already")
        self._before_stop = len(self.output.fifo)
        self._owed = {buffer.index for buffer in self.output.buffers if buffer.state != "app"}
        self._last_given = False

    def start_command(self) -> None:
        """ENCODER_CMD START."""
        if self._before_stop is not None:
            law(self.capture.last_dequeued, "START before LAST was dequeued")
            law(not self._owed, "START while OUTPUT buffers from before STOP are not dequeued")
        self._before_stop, self._last_given, self.capture.last_dequeued = None, False, False

    def stream_on(self, queue: LegalQueue) -> None:
        """STREAMON: OUTPUT's ends a drain, and both of them NVIDIA's end."""
        law(bool(queue.buffers), "STREAMON without buffers")
        queue.streaming = True
        if queue is self.output and self._last_given:
            self._before_stop, self._last_given, self.capture.last_dequeued = None, False, False
        if self._ended and {self.output.kind, self.capture.kind} <= self._stopped:
            self._ended = self._end_dequeued = False

    def stream_off(self, queue: LegalQueue) -> None:
        """STREAMOFF: what is inside is lost. CAPTURE's ends a drain and begins a new stream, OUTPUT's completes it."""
        self._held.clear()
        if queue is self.capture:
            self._spent += [one for one in self.output.buffers if one.state == "inside" and one not in self._spent]
            self._before_stop, self._last_given = None, False
            self._coding.reset()
        else:
            self._spent.clear()
            self._owed.clear()
            if self._before_stop is not None:
                self._before_stop = 0
        queue.stop()
        if self._ended:
            self._stopped.add(queue.kind)

    # What the hardware does.

    def work(self) -> list[Callable[[], None]]:
        """What could happen next."""
        if self.stalled or not (self.output.streaming and self.capture.streaming):
            return []
        found: list[Callable[[], None]] = []
        if self.output.fifo and self._before_stop != 0 and not self._ended:
            found.append(self._take)
        no_more = (self._ended or self._before_stop == 0) and not self._last_given
        pictures = sum(held.picture for held in self._held)
        if self._held and self.capture.fifo and (no_more or pictures > self._behaviour.delay):
            found.append(self._emit)
        if self._spent:
            found.append(self._give_back)
        if no_more and not self._held and self.capture.fifo:
            found.append(self._emit_end)
        return found

    def step(self) -> None:
        """Do one thing of what could be done."""
        work = self.work()
        if work:
            work[self.choose(len(work))]()

    def _take(self) -> None:
        buffer = self.output.take()
        self._check_unwritten(buffer)
        if self._before_stop is not None:
            self._before_stop -= 1
        if buffer.used[0] == 0:
            self._ended, self._last_given = True, False
            self._stopped.clear()
            self._spent.append(buffer)
            return
        faults = self._behaviour.faults
        lost = buffer.number == faults.error_at
        parts = self._coding.code(buffer, self._formats.output, self._formats.crop, lost)
        if lost and faults.error_on != "capture":
            buffer.flags |= v4l2.FLAG_ERROR
        if lost and faults.error_on == "output":
            self._spent.append(buffer)
            return
        for data, picture in parts:
            source = buffer if self._behaviour.output_after and picture else None
            self._held.append(_Held(data, buffer.time_ns, picture, lost and picture, source))
        if not self._behaviour.output_after:
            self._spent.append(buffer)

    def _emit(self) -> None:
        held = self._held.popleft()
        target = self._fill(held.data, held.time_ns if held.picture or self._behaviour.headers_timed else 0)
        if held.picture:
            idr = any(bytes([0, 0, 1, kind << 1]) in held.data for kind in _IDR)
            target.flags = FLAG_KEYFRAME if idr else FLAG_PFRAME
        if held.lost:
            target.flags |= v4l2.FLAG_ERROR
            if self.choose(2) == 0:
                target.used, target.data_offset = [0], 0
        if not self._held and self._before_stop == 0 and self._behaviour.last_with_data:
            target.flags |= v4l2.FLAG_LAST
            self._last_given = True
        self.capture.give(target)
        if held.source is not None:
            self._spent.append(held.source)

    def _emit_end(self) -> None:
        """An empty CAPTURE buffer, with LAST where STOP was said."""
        target = self._fill(b"", 0)
        target.flags = 0 if self._ended else v4l2.FLAG_LAST
        self._last_given = True
        self.capture.give(target)

    def _fill(self, data: bytes, time_ns: int) -> LegalBuffer:
        target = self.capture.take()
        offset = self._behaviour.data_offset if data else 0
        target.planes[0][offset : offset + len(data)] = data
        target.used, target.data_offset, target.time_ns, target.flags = [offset + len(data)], offset, time_ns, 0
        return target

    def _give_back(self) -> None:
        buffer = self._spent.pop(self.choose(len(self._spent)))
        self._check_unwritten(buffer)
        self.output.give(buffer)

    def _check_unwritten(self, buffer: LegalBuffer) -> None:
        law(buffer.digest == buffer.whole_digest(), f"OUTPUT buffer {buffer.index} was written to while it was queued")
