"""Calls into a driver that may never come back, made in a thread that can be left behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Makes one call after the other; what they return, or raise, comes in the same order.

    :param name: of the thread
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], T] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        #: calls whose answers were not taken yet
        self.waiting = 0
        self._closed = False
        # A daemon: a driver that does not come back must not keep the process.
        threading.Thread(target=_serve, args=(self._calls, self._answers), name=name, daemon=True).start()

    def call(self, function: Callable[[], T]) -> None:
        """Make a call after the ones before it."""
        self.waiting += 1
        self._calls.put(function)

    def answer(self, timeout_s: float) -> T:
        """What the oldest call returned.

        :raises TimeoutError: it has not returned
        :raises Exception: what it raised
        """
        try:
            value, error = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        self.waiting -= 1
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # one of the two is there

    def close(self) -> None:
        """End after the calls that were made; never waits. May be called twice."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)


def _serve(
    calls: queue.SimpleQueue[Callable[[], T] | None],
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]],
) -> None:
    while (function := calls.get()) is not None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # it belongs to the one who waits
            answers.put((None, error))
        del function  # and with it what it holds of the driver
