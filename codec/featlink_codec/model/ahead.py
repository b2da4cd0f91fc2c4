"""Doing the next things already while this one is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def ahead(do: Callable[[Given], Made], things: Iterable[Given], threads: int) -> Iterator[Made]:
    """What `do` makes of each thing, in their order; errors come in their place.

    :param threads: 1: each when it is asked for; else so many work, on at most twice as many things
    """
    if threads == 1:
        yield from map(do, things)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    under_way: deque[Future[Made]] = deque()
    try:
        for thing in things:
            under_way.append(pool.submit(do, thing))
            if len(under_way) > 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
