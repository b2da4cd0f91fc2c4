"""Calls in a thread: answers in order, errors with the one who waits, and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from featlink_device.encoders.worker import Worker


def test_answers_come_in_the_order_of_the_calls() -> None:
    worker: Worker[int] = Worker("w")
    for k in range(20):
        worker.call(lambda k=k: k * k)
    assert worker.waiting == 20
    assert [worker.answer(5) for _ in range(20)] == [k * k for k in range(20)]
    assert worker.waiting == 0
    worker.close()
    worker.close()


def test_what_a_call_raises_comes_to_the_one_who_waits_and_the_next_call_is_made() -> None:
    worker: Worker[float] = Worker("w")
    worker.call(lambda: 1 / 0)
    worker.call(lambda: 2.0)
    with pytest.raises(ZeroDivisionError):
        worker.answer(5)
    assert worker.answer(5) == 2.0
    worker.close()


def test_a_call_that_does_not_return_is_left_behind() -> None:
    stuck, worker = threading.Event(), Worker[bool]("w")
    worker.call(stuck.wait)
    begin_s = time.monotonic()
    with pytest.raises(TimeoutError):
        worker.answer(0.05)
    worker.close()
    assert time.monotonic() - begin_s < 2
    stuck.set()


def test_the_thread_ends_with_the_worker_and_frees_what_it_called() -> None:
    worker: Worker[None] = Worker("featlink-test-worker")
    worker.call(lambda: None)
    worker.answer(5)
    worker.close()
    for thread in [one for one in threading.enumerate() if one.name == "featlink-test-worker"]:
        thread.join(5)
        assert not thread.is_alive()


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    script = (
        "import threading; from featlink_device.encoders.worker import Worker; Worker('w').call(threading.Event().wait)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
