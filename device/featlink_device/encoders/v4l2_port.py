"""The kernel's V4L2: ioctl, mmap and poll on a device node."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from featlink_codec.errors import EncoderError

from .v4l2 import IOC

#: poll() says at once that something is wrong, over and over, where DQBUF says EAGAIN: ask no faster than this.
_PAUSE_S = 0.001
#: A device that does not close within this time is left to its thread.
CLOSING_S = 2.0
_EVENTS = select.POLLIN | select.POLLOUT


class KernelPort:
    """A device node, opened without blocking; a `Port`.

    :raises EncoderError: it cannot be opened
    """

    def __init__(self, node: str) -> None:
        self.name = node
        try:
            self._fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise EncoderError(f"{node}: {error.strerror}") from None
        self._poll = select.poll()
        self._poll.register(self._fd, _EVENTS)
        self._mappings: dict[int, mmap.mmap] = {}

    def call(self, request: int, argument: Any) -> None:
        """See Port."""
        while True:
            try:
                fcntl.ioctl(self._fd, request, argument)
            except InterruptedError:
                continue
            return

    def stream(self, queue: int, on: bool) -> None:
        """See Port."""
        number = bytearray(queue.to_bytes(4, "little"))
        self.call(IOC.STREAMON if on else IOC.STREAMOFF, number)

    def dequeue(self, buffer: Any) -> bool:
        """See Port."""
        try:
            self.call(IOC.DQBUF, buffer)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout_s: float) -> None:
        """See Port."""
        found = self._poll.poll(timeout_s * 1e3)
        if found and not found[0][1] & _EVENTS:
            time.sleep(min(_PAUSE_S, timeout_s))

    def map(self, length: int, offset: int, exported_fd: int | None) -> memoryview:
        """See Port."""
        fd = self._fd if exported_fd is None else exported_fd
        mapping = mmap.mmap(fd, length, mmap.MAP_SHARED, offset=0 if exported_fd is not None else offset)
        view = memoryview(mapping)
        self._mappings[id(view)] = mapping
        return view

    def unmap(self, memory: list[memoryview], exported_fds: list[int]) -> None:
        """See Port. A mapping that somebody still looks at ends with the last who does."""
        for view in memory:
            mapping = self._mappings.pop(id(view), None)
            with contextlib.suppress(BufferError):
                view.release()
                if mapping is not None:
                    mapping.close()
        memory.clear()
        for fd in exported_fds:
            os.close(fd)
        exported_fds.clear()

    def sync(self, exported_fd: int, plane: int) -> None:
        """See Port. The kernel's drivers do it in QBUF."""

    def close(self) -> None:
        """See Port."""
        fd, self._fd = self._fd, -1
        self._mappings.clear()
        if fd >= 0:
            close_in_time(lambda: os.close(fd))


def close_in_time(close: Callable[[], object]) -> bool:
    """Close a device that may never answer, in a thread that is left behind after `CLOSING_S` seconds."""
    thread = threading.Thread(target=close, name="close encoder", daemon=True)
    thread.start()
    thread.join(CLOSING_S)
    return not thread.is_alive()
