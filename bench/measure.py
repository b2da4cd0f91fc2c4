"""Two calls in turn, and the medians of their times: every figure is a ratio within one run."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Call = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """How long two calls are compared: `rounds` at least, then until `seconds` have passed or `most` is reached."""

    rounds: int
    seconds: float
    most: int = 3000


FULL = Budget(rounds=31, seconds=1.0)
#: For slow things: what people use.
PATIENT = Budget(rounds=11, seconds=2.0)
QUICK = Budget(rounds=3, seconds=0.01)


@dataclass(frozen=True)
class Pair:
    """Times of two calls that took turns, in nanoseconds: 25 %, median, 75 %."""

    one_ns: tuple[float, float, float]
    other_ns: tuple[float, float, float]
    rounds: int

    @property
    def ratio(self) -> float:
        """Median of the other by the median of the one: above 1 where the one is faster."""
        return self.other_ns[1] / self.one_ns[1]


def alternate(one: Call, other: Call, budget: Budget) -> Pair:
    """Call the two in turn: what disturbs one disturbs the other, and each finds the caches as the other left them."""
    times: tuple[list[int], list[int]] = ([], [])
    collecting = gc.isenabled()
    gc.disable()
    try:
        for call in (one, other, one, other):
            call()
        end = perf_counter_ns() + round(budget.seconds * 1e9)
        while len(times[0]) < budget.rounds or (perf_counter_ns() < end and len(times[0]) < budget.most):
            for call, into in ((one, times[0]), (other, times[1])):
                begin = perf_counter_ns()
                call()
                into.append(perf_counter_ns() - begin)
    finally:
        if collecting:
            gc.enable()
    return Pair(quartiles(times[0]), quartiles(times[1]), len(times[0]))


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """25 %, median, 75 %."""
    low, middle, high = np.percentile(times, (25, 50, 75))
    return float(low), float(middle), float(high)


def in_turn(calls: Sequence[Call]) -> Call:
    """One call that makes them all."""
    if len(calls) == 1:
        return calls[0]

    def call() -> None:
        for one in calls:
            one()

    return call


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros at a multiple of 64 bytes, as networks and encoders allocate them; its pages are there already."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    memory = np.empty(size + 64, np.uint8)
    memory.fill(0)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(kind).reshape(shape)


def copying(nbytes: int, pieces: int = 1) -> Call:
    """libc's memcpy with prepared arguments: in `pieces` calls it reads `nbytes` / 2 and writes as many."""
    piece = max(nbytes // 2 // pieces, 1)
    source, target = aligned((piece * pieces,), np.uint8), aligned((piece * pieces,), np.uint8)
    memcpy = _memcpy()
    size = ctypes.c_size_t(piece)
    calls: list[Call] = []
    for offset in range(0, piece * pieces, piece):
        to, where = (ctypes.c_void_p(array.ctypes.data + offset) for array in (target, source))
        call = partial(memcpy, to, where, size)
        call.memory = (source, target)  # type: ignore[attr-defined]  # kept as long as the call
        calls.append(call)
    return in_turn(calls)


def _memcpy() -> Callable[..., None]:
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    memcpy.restype = None
    return memcpy
