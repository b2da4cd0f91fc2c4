"""V4L2 through libv4l2, whose plugins stand for devices that the kernel does not drive: NVIDIA's encoder on Jetson.

NVIDIA's plugin answers no poll(), so one thread a queue waits in DQBUF, as NVIDIA's own samples do.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections import deque
from typing import Any

from linuxpy.video import raw

from featlink_codec.errors import EncoderError

from .v4l2 import IOC, MMAP, Planes
from .v4l2_port import CLOSING_S, KernelPort, close_in_time

#: Path of the library to load instead of the system's.
LIBRARY_VARIABLE = "FEATLINK_LIBV4L2"
_LIBRARY = "libv4l2.so.0"
#: JetPack's, whose NvBufSurfaceSyncForDevice hands written planes to the encoder.
_SURFACE_LIBRARY = "libnvbufsurface.so.1.0.0"
#: NVIDIA's library does not bear two threads that open at a time.
_OPENING = threading.Lock()
#: A plugin that answers at once, and says again and again that nothing is there, is asked no faster.
_PAUSE_S = 0.002

_MULTI = (int(raw.BufType.VIDEO_CAPTURE_MPLANE), int(raw.BufType.VIDEO_OUTPUT_MPLANE))


def load_library() -> ctypes.CDLL:
    """libv4l2.

    :raises EncoderError: it is not on this machine
    """
    path = os.environ.get(LIBRARY_VARIABLE, _LIBRARY)
    try:
        library = ctypes.CDLL(path, use_errno=True)
    except OSError as error:
        raise EncoderError(f"{path}: {error}") from None
    library.v4l2_open.argtypes = (ctypes.c_char_p, ctypes.c_int)
    library.v4l2_close.argtypes = (ctypes.c_int,)
    library.v4l2_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
    return library


class Libv4l2Port(KernelPort):
    """A device through libv4l2, opened so that DQBUF waits; a `Port`.

    :raises EncoderError: no libv4l2, or it cannot open the node
    """

    def __init__(self, node: str) -> None:
        self.name = node
        self._mappings = {}
        self._library = load_library()
        with _OPENING:
            self._fd = self._library.v4l2_open(os.fsencode(node), os.O_RDWR | os.O_CLOEXEC)
        if self._fd < 0:
            raise EncoderError(f"{node}: {os.strerror(ctypes.get_errno())}")
        self._surfaces = _Surfaces()
        self._changed = threading.Condition()
        self._waiters: dict[int, _Waiter] = {}

    def call(self, request: int, argument: Any) -> None:
        """See Port."""
        number = request & 0xFFFFFFFF
        while self._library.v4l2_ioctl(self._fd, number, ctypes.addressof(argument)):
            error = ctypes.get_errno()
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))

    def stream(self, queue: int, on: bool) -> None:
        """See Port."""
        self.call(IOC.STREAMON if on else IOC.STREAMOFF, ctypes.c_int(queue))
        if (waiter := self._waiters.pop(queue, None)) is not None and not waiter.ended_in_time():
            raise OSError(errno.EIO, "DQBUF does not return behind STREAMOFF")

    def dequeue(self, buffer: Any) -> bool:
        """See Port."""
        waiter = self._waiters.get(buffer.type)
        if waiter is None:
            waiter = self._waiters[buffer.type] = _Waiter(self, buffer.type, buffer.length, self._changed)
        return waiter.give(buffer)

    def wait(self, timeout_s: float) -> None:
        """See Port."""
        with self._changed:
            self._changed.wait_for(lambda: any(waiter.news for waiter in self._waiters.values()), timeout_s)

    def sync(self, exported_fd: int, plane: int) -> None:
        """See Port."""
        self._surfaces.sync(exported_fd, plane)

    def close(self) -> None:
        """See Port."""
        fd, self._fd = self._fd, -1
        self._mappings.clear()
        waiters, self._waiters = self._waiters, {}

        def close() -> None:
            for queue in waiters:  # wakes the threads that wait in DQBUF
                number = ctypes.c_int(queue)
                self._library.v4l2_ioctl(fd, IOC.STREAMOFF & 0xFFFFFFFF, ctypes.addressof(number))
            # What a thread is still inside of must not be freed under it: rather leave it open for ever.
            ended = [waiter.ended_in_time() for waiter in waiters.values()]
            if all(ended):
                self._library.v4l2_close(fd)

        if fd >= 0:
            close_in_time(close)


class _Waiter:
    """The thread that waits in DQBUF of one queue, from the first question until STREAMOFF or an error."""

    def __init__(self, port: Libv4l2Port, queue: int, planes: int, changed: threading.Condition) -> None:
        self._port = port
        self._queue = queue
        self._planes = planes
        self._changed = changed
        self._come: deque[tuple[bytes, bytes]] = deque()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="v4l2 DQBUF", daemon=True)
        self._thread.start()

    @property
    def news(self) -> bool:
        """Whether `give` has something to say."""
        return bool(self._come) or self._error is not None

    def give(self, buffer: Any) -> bool:
        """Fill in what the driver said of the oldest buffer that has come. An error comes behind all of them."""
        with self._changed:
            if not self._come:
                if self._error is not None:
                    raise self._error
                return False
            said, planes = self._come.popleft()
        # What was said has the address of our own planes, where the caller wants its own.
        own = ctypes.addressof(buffer.m.planes.contents) if planes else 0
        ctypes.memmove(ctypes.addressof(buffer), said, len(said))
        if planes:
            ctypes.memmove(own, planes, min(len(planes), self._planes * ctypes.sizeof(raw.v4l2_plane)))
            buffer.m.userptr = own
        return True

    def ended_in_time(self) -> bool:
        """Behind STREAMOFF: whether the thread is over."""
        self._thread.join(CLOSING_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        buffer, planes = raw.v4l2_buffer(), Planes()
        multi = self._queue in _MULTI
        while True:
            ctypes.memset(ctypes.addressof(buffer), 0, ctypes.sizeof(buffer))
            buffer.type, buffer.memory = self._queue, MMAP
            if multi:
                buffer.m.planes, buffer.length = planes, self._planes
            try:
                self._port.call(IOC.DQBUF, buffer)
            except BlockingIOError:
                time.sleep(_PAUSE_S)
                continue
            except OSError as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._come.append((bytes(buffer), bytes(planes) if multi else b""))
                self._changed.notify_all()


class _Surfaces:
    """NvBufSurfaceSyncForDevice, where the library is there: what the CPU wrote must leave its caches."""

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        with contextlib.suppress(OSError):
            self._library = ctypes.CDLL(_SURFACE_LIBRARY)

    def sync(self, fd: int, plane: int) -> None:
        if self._library is None:
            return
        surface = ctypes.c_void_p()
        if self._library.NvBufSurfaceFromFd(ctypes.c_int(fd), ctypes.byref(surface)):
            raise OSError(errno.EIO, "NvBufSurfaceFromFd")
        if self._library.NvBufSurfaceSyncForDevice(surface, ctypes.c_int(0), ctypes.c_int(plane)):
            raise OSError(errno.EIO, "NvBufSurfaceSyncForDevice")
