"""The two ways into an encoder that are compared, each a session that packs and encodes one map at a turn."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from featlink_codec.features.packer import MapPacker
from featlink_codec.video.frame import Frame
from featlink_device.encoders.coder import SessionCoder
from featlink_device.encoders.session import EncoderSession, EncoderSpec, Packet
from featlink_device.encoders.stateful import StatefulEncoder
from featlink_device.encoders.v4l2 import Port

from .cases import SEED, TOP, Size, empty_map, packing_of, uniform

T = TypeVar("T")
FPS = 25
#: Maps that follow one another.
MAPS = 4


@dataclass(frozen=True)
class Times:
    """CPU time of the calling thread, in nanoseconds.

    :param session: in the encoder's session
    :param units: with what came out of it
    """

    pack: int
    session: int
    units: int = 0


class Maps:
    """Maps [H, W, C] float32, channels first in memory, that become one picture of tiles each.

    They are smooth within a channel and from map to map, and half zeros.
    """

    def __init__(self, size: Size) -> None:
        packing = packing_of("tile", size)
        self.shape = packing.picture_size(size.height, size.width)
        self.packer = MapPacker(packing, size.height, size.width, "float32", thresholds=uniform().thresholds)
        rng = np.random.default_rng(SEED)
        coarse = (size.channels, size.height // 4 + 2, size.width // 4 + 2)
        one, other = (rng.standard_normal(coarse, np.float32) for _ in range(2))
        noise = rng.standard_normal((size.channels, size.height, size.width), np.float32) * np.float32(0.05)
        self.values = [empty_map(size, "CHW", "float32") for _ in range(MAPS)]
        self.pictures = [np.empty(self.shape, np.uint8) for _ in range(MAPS)]
        for k, (values, picture) in enumerate(zip(self.values, self.pictures, strict=True)):
            field = _enlarged(np.float32(math.cos(0.1 * k)) * one + np.float32(math.sin(0.1 * k)) * other, 4)
            field = (field[:, : size.height, : size.width] + noise) * 2
            values[...] = np.clip(field, 0, TOP).transpose(1, 2, 0)
            self.packer.pack(values, 0, picture)


def _enlarged(values: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Linear between the values of the last two axes."""
    for axis in (1, 2):
        length = (values.shape[axis] - 1) * times
        place = np.arange(length) / times
        low = place.astype(int)
        part = (place - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        values = np.take(values, low, axis) * (1 - part) + np.take(values, low + 1, axis) * part
    return values


class Clocked:
    """An EncoderSession that counts the CPU time which the calling thread spends in it.

    :param session: the one that does the work
    """

    def __init__(self, session: EncoderSession) -> None:
        self._session = session
        self.facts = session.facts
        self.limits = session.limits
        #: nanoseconds, up to now
        self.spent = 0

    def frame_buffer(self) -> Frame:
        """See EncoderSession."""
        return self._clocked(self._session.frame_buffer)

    def submit(self, timestamp_us: int, intra: bool) -> None:
        """See EncoderSession."""
        self._clocked(self._session.submit, timestamp_us, intra)

    def packets(self, in_flight: int = 0) -> list[Packet]:
        """See EncoderSession."""
        return self._clocked(self._session.packets, in_flight)

    def drain(self) -> list[Packet]:
        """See EncoderSession."""
        return self._session.drain()

    def close(self) -> None:
        """See EncoderSession."""
        self._session.close()

    def _clocked(self, call: Callable[..., T], *arguments: object) -> T:
        begin = time.thread_time_ns()
        answer = call(*arguments)
        self.spent += time.thread_time_ns() - begin
        return answer


class Ours:
    """The pack kernel into the encoder's own buffers. The first turn is had when it is made.

    :param port: the device
    :param spec: fields of EncoderSpec
    """

    def __init__(self, port: Port, maps: Maps, **spec: Any) -> None:
        height, width = maps.shape
        asked = EncoderSpec(width, height, monochrome=False, fps=FPS, **spec)
        self.session = StatefulEncoder(port, asked)
        self._clocked = Clocked(self.session)
        self._coder = SessionCoder(self._clocked, asked, delay=0, hash_here=asked.picture_hash)
        self._maps = maps
        self.units: list[bytes] = []
        self.given: list[int] = []
        before = set(threading.enumerate())
        self.turn(0)  # the threads that wait in DQBUF start with it
        self._waiters = [_clock_of(thread) for thread in threading.enumerate() if thread not in before]
        self._waited = 0

    def turn(self, index: int) -> Times:
        """Pack and encode one map; `given` and `units` grow."""
        values, pack = self._maps.values[index], self._maps.packer.pack
        intra = not self.given
        self.given.append(index)
        before = self._clocked.spent
        plane = self._coder.frame_buffer()
        begin = time.thread_time_ns()
        pack(values, 0, plane)
        packed, inside = time.thread_time_ns(), self._clocked.spent
        self.units += self._coder.submit(intra)
        end = time.thread_time_ns()
        session = self._clocked.spent - before
        return Times(packed - begin, session, end - packed - (self._clocked.spent - inside))

    def waited(self) -> int:
        """CPU time of the threads that wait in DQBUF since the last time this was asked."""
        total = sum(time.clock_gettime_ns(clock) for clock in self._waiters)
        since, self._waited = total - self._waited, total
        return since

    def close(self) -> None:
        """Drain, and give the encoder back."""
        self._coder.flush()
        self._coder.close()


class FFmpegs:
    """The pack kernel into a picture of PyAV's, then `hevc_v4l2m2m`. One picture is used again and again."""

    def __init__(self, maps: Maps, bits_s: int) -> None:
        height, width = maps.shape
        codec = av.CodecContext.create("hevc_v4l2m2m", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height, codec.pix_fmt = width, height, "nv12"
        codec.framerate, codec.time_base = Fraction(FPS), Fraction(1, FPS)
        # It has no QP: a rate is all that it hands on.
        codec.bit_rate, codec.gop_size = bits_s, 1 << 14
        codec.open()
        self._codec = codec
        self._frame = av.VideoFrame(width, height, "nv12")
        luma, chroma = self._frame.planes
        self.line_size = luma.line_size
        self._luma = np.frombuffer(memoryview(luma), np.uint8).reshape(height, luma.line_size)[:, :width]
        np.frombuffer(memoryview(chroma), np.uint8)[:] = 128
        self._maps = maps
        self.units: list[bytes] = []
        self.given: list[int] = []

    def turn(self, index: int) -> Times:
        """Pack and encode one map; `given` and `units` grow."""
        values, pack = self._maps.values[index], self._maps.packer.pack
        self.given.append(index)
        begin = time.thread_time_ns()
        pack(values, 0, self._luma)
        packed = time.thread_time_ns()
        self._frame.pts = len(self.given)
        self.units += [bytes(packet) for packet in self._codec.encode(self._frame)]
        return Times(packed - begin, time.thread_time_ns() - packed)

    def close(self) -> None:
        """Drain, and give the encoder back."""
        self.units += [bytes(packet) for packet in self._codec.encode(None)]
        del self._codec


def _clock_of(thread: threading.Thread) -> int:
    """The kernel's number for the CPU clock of a thread (CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED)."""
    assert thread.native_id is not None
    return (~thread.native_id << 3) | 6
