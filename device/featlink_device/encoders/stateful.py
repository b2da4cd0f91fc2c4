"""The stateful V4L2 encoder (dev-encoder.rst) as a state machine. It touches the device through a `Port` alone.

configured -> streaming -> (drained -> streaming)* -> closed; from anywhere to dead, when the device fails or stalls.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

from linuxpy.video import raw

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.frame import Frame
from featlink_codec.video.nal import has_slices

from .in_flight import InFlight
from .session import EncoderSpec, Packet
from .v4l2 import ENC_CMD_STOP, FLAG_ERROR, FLAG_LAST, IOC, Port
from .v4l2_controls import KERNEL, NVIDIA, Controls
from .v4l2_device import CODED, examine
from .v4l2_formats import agree
from .v4l2_queue import Buffer, BufferQueue

#: One is filled while one is encoded, and one is on its way back.
_OUTPUT_BUFFERS = 3
_CAPTURE_BUFFERS = 4
#: The longest single wait; deadlines are looked at between two.
_LONGEST_WAIT_S = 0.5


class StatefulEncoder:
    """One open encoder; an `EncoderSession`.

    :param port: to the device; closed with the session, and when this constructor fails
    :param coded: fourcc of the coded format; None: HEVC, or H265 with NVIDIA's ways of doing things
    :param clock: seconds, monotonic
    :param has_picture: whether what a CAPTURE buffer holds has a picture in it, or only what goes in front of one
    :raises EncoderError: the device is no such encoder, or cannot do what the spec says
    """

    def __init__(
        self,
        port: Port,
        spec: EncoderSpec,
        *,
        coded: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        has_picture: Callable[[memoryview], bool] = has_slices,
    ) -> None:
        self._port = port
        self._clock = clock
        self._has_picture = has_picture
        self._dead = False
        try:
            self._device = examine(port, CODED if coded is None else (coded,))
            self.limits = self._device.limits
            self._nvidia = self._device.coded == "H265"
            self._configure(spec)
        except BaseException:
            port.close()
            raise

    def _configure(self, spec: EncoderSpec) -> None:
        """Everything up to streaming, in the kernel's order."""
        port, device = self._port, self._device
        self.spec = spec
        pixel_format = self._choose_format(spec)
        self.agreed = agree(port, device, spec, pixel_format)
        self._controls = Controls(port, NVIDIA if self._nvidia else KERNEL, blind=self._nvidia)
        self._controls.set_up(spec)
        planes = self.agreed
        self._output = BufferQueue(port, device.output, len(planes.payload), device.multi, self._nvidia)
        self._capture = BufferQueue(port, device.capture, planes.capture_planes, device.multi, self._nvidia)
        least = self._controls.min_output_buffers()
        self._output.allocate(max(_OUTPUT_BUFFERS, least + 1))
        self._capture.allocate(_CAPTURE_BUFFERS)
        self._frames = [self._frame(buffer) for buffer in self._output.buffers]
        #: what is being filled
        self._filling: Buffer | None = None
        self._inside = InFlight()
        #: of pictures that OUTPUT gave back as lost: what CAPTURE says of them comes too late
        self._given_up: set[int] = set()
        self._last_us = -1
        self._first = True
        self._draining = self._ended = False
        #: whether the last drain was by ENCODER_CMD
        self._commanded = True
        self.facts: dict[str, Any] = {
            "driver": device.driver,
            "card": device.card,
            "node": port.name,
            "coded": device.coded,
            "pixel_format": pixel_format,
            "planes": "multi" if device.multi else "single",
            "stride": planes.stride,
            "rows": planes.rows,
            "crop": planes.crop,
            "buffers": {"output": len(self._output.buffers), "capture": len(self._capture.buffers)},
            "controls": self._controls.facts,
        }
        self._start()

    def frame_buffer(self) -> Frame:
        """See EncoderSession."""
        if self._filling is None:
            self._check_alive()
            self._until(lambda: bool(self._output.free))
            self._filling = self._output.free.popleft()
        return self._frames[self._filling.index]

    def submit(self, timestamp_us: int, intra: bool) -> None:
        """See EncoderSession.

        :raises EncoderError: the timestamp is not above the one before
        :raises EncoderLostError: the device failed
        """
        self._check_alive()
        if timestamp_us <= self._last_us:
            raise EncoderError(f"timestamp {timestamp_us} is not above the one before, {self._last_us}")
        self.frame_buffer()
        buffer = self._filling
        assert buffer is not None
        if self._ended:
            self._restart()
        elif intra and not self._first and self.spec.intra_by != "gop":
            forced = self.spec.intra_by == "force" and self._controls.force_intra()
            if not forced:
                self._drain_once()
                self._restart()
        self._inside.enter(timestamp_us)
        self._last_us = timestamp_us
        self._first = False
        self._filling = None
        self._guarded(lambda: self._output.queue(buffer, self.agreed.payload, timestamp_us))

    def packets(self, in_flight: int = 0) -> list[Packet]:
        """See EncoderSession."""
        self._check_alive()
        self._until(lambda: len(self._inside) <= in_flight)
        return self._inside.give()

    def drain(self) -> list[Packet]:
        """See EncoderSession. Pictures that the device then has not given are marked as lost."""
        self._check_alive()
        self._drain_once()
        return self._inside.give()

    def reconfigure(self, spec: EncoderSpec) -> list[Packet]:
        """Go on with pictures of another size or other settings: drain, stop, free the buffers, begin at the formats.

        :returns: the packets of the pictures that were inside
        :raises EncoderError: as the constructor; the session is over then
        """
        come = self.drain()
        self._frames.clear()
        self._filling = None
        try:
            for queue in (self._output, self._capture):
                queue.stream(False)
                queue.release()
            self._configure(spec)
        except EncoderError:
            self._dead = True
            raise
        return come

    def close(self) -> None:
        """See EncoderSession."""
        self._frames.clear()
        self._filling = None
        if not self._dead:
            self._dead = True
            try:
                for queue in (self._output, self._capture):
                    queue.stream(False)
                for queue in (self._output, self._capture):
                    queue.release()
            except EncoderLostError:
                pass  # closing the device frees all the same
        self._port.close()

    def _choose_format(self, spec: EncoderSpec) -> str:
        odd = spec.width % 2 or spec.height % 2
        for name in self._device.pixel_formats:
            if spec.takes(name) and not (odd and name != "GREY"):
                return name
        why = (
            f"{spec.width} x {spec.height} has an odd side, which 4:2:0 cannot code: add a row or column of padding"
            if odd
            else "the extractor sends 4:2:0 alone ([video] chroma)"
        )
        raise EncoderError(f"{self._port.name}: it takes {', '.join(self._device.pixel_formats)}; {why}")

    def _frame(self, buffer: Buffer) -> Frame:
        spec, agreed = self.spec, self.agreed
        return Frame(agreed.pixel_format, spec.width, spec.height, buffer.memory, agreed.stride, agreed.rows)

    def _start(self) -> None:
        """Give all CAPTURE buffers to the device, and let whatever does not stream stream."""
        for queue in (self._output, self._capture):
            if queue is self._capture:
                while queue.free:
                    queue.queue(queue.free.popleft())
            if not queue.streaming:
                queue.stream(True)

    def _restart(self) -> None:
        """Begin a new coded video sequence: its first picture is an IDR picture (dev-encoder.rst, "Reset")."""

        def restart() -> None:
            if self._output_stops:
                self._output.stream(False)
                if self._filling is not None:
                    self._output.free.remove(self._filling)
            self._capture.stream(False)
            self._draining = self._ended = False
            self._start()

        self._guarded(restart)
        self._first = True

    @property
    def _output_stops(self) -> bool:
        """Whether a restart stops OUTPUT too: where the end was not told by a command that CAPTURE's stop undoes."""
        return self._nvidia or not self._commanded

    def _drain_once(self) -> None:
        """Let everything out, unless nothing went in since the last time."""
        if not self._first and not self._ended:
            self._drain()
            self._inside.lose_all()

    def _drain(self) -> None:
        self._draining = True
        self._commanded = False
        if self._nvidia:
            self._until(lambda: bool(self._output.free))
            empty = self._output.free.popleft()
            self._guarded(lambda: self._output.queue(empty, (0,) * len(self.agreed.payload)))
            self._until(lambda: self._ended)
            return
        command = raw.v4l2_encoder_cmd()
        command.cmd = ENC_CMD_STOP
        try:
            self._port.call(IOC.ENCODER_CMD, command)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise self._died(f"ENCODER_CMD: {error.strerror}") from None
            self.facts["encoder_cmd"] = "not there: the end is STREAMOFF"
            try:
                self._until(lambda: not self._inside)
            except EncoderLostError:
                self._dead = False  # it may hold pictures back until more come; STREAMOFF loses them
            self._ended = True
            return
        self._commanded = True
        self._until(lambda: self._ended)

    def _until(self, done: Callable[[], bool]) -> None:
        """Take what the device gives until `done`.

        :raises EncoderLostError: it gives nothing for `stalled_s`
        """
        deadline_s = self._clock() + self.spec.stalled_s
        while True:
            progress = self._guarded(self._take)
            if done():
                return
            now_s = self._clock()
            if progress:
                deadline_s = now_s + self.spec.stalled_s
                continue
            if now_s >= deadline_s:
                raise self._died(f"nothing came for {self.spec.stalled_s:g} s, {len(self._inside)} pictures are inside")
            self._port.wait(min(deadline_s - now_s, _LONGEST_WAIT_S))

    def _take(self) -> bool:
        """Dequeue all that is there. Whether anything was."""
        progress = False
        while not self._ended:
            try:
                found = self._capture.dequeue()
            except BrokenPipeError:
                if not self._draining:
                    raise EncoderLostError(f"{self._port.name}: DQBUF: EPIPE while nothing was drained") from None
                self._ended = progress = True
                break
            if found is None:
                break
            progress = True
            self._take_capture(*found)
        while found := self._output.dequeue():
            progress = True
            buffer, answer, time_us = found
            self._output.free.append(buffer)
            if answer.flags & FLAG_ERROR and time_us in self._inside:
                self._inside.lose(time_us)
                self._given_up.add(time_us)
        return progress

    def _take_capture(self, buffer: Buffer, answer: Any, time_us: int) -> None:
        data = self._capture.payload(buffer)
        if answer.flags & FLAG_ERROR:
            if time_us in self._inside:
                self._inside.lose(time_us)
            elif time_us not in self._given_up:
                raise EncoderLostError(f"{self._port.name}: an error with time {time_us}, of no picture that is inside")
        elif len(data) and not self._has_picture(data):
            self._inside.announce(Packet(bytes(data), None))
        elif len(data) and time_us not in self._given_up:
            if time_us not in self._inside:
                raise EncoderLostError(f"{self._port.name}: a picture of time {time_us}, which is not inside")
            self._inside.settle(Packet(bytes(data), time_us))
        error = answer.flags & FLAG_ERROR
        last = answer.flags & FLAG_LAST or (self._nvidia and self._draining and not len(data) and not error)
        data.release()
        if last and self._draining:
            self._ended = True
            self._capture.free.append(buffer)
        else:
            self._capture.queue(buffer)

    def _guarded(self, step: Callable[[], Any]) -> Any:
        """A step after whose failure the device is not asked for anything more."""
        try:
            return step()
        except EncoderLostError:
            self._dead = True
            raise

    def _died(self, text: str) -> EncoderLostError:
        self._dead = True
        return EncoderLostError(f"{self._port.name}: {text}")

    def _check_alive(self) -> None:
        if self._dead:
            raise EncoderLostError(f"{self._port.name}: the session is over")
