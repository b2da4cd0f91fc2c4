"""The coder of payloads touches nothing beside what it was given: the pages on either side may not be touched.

In a process of its own: a fault ends it, and is a failed test here.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
from core.guarded import Arena, outcome

from featlink_codec._core import nnc
from featlink_codec.model.tensor_arrays import core_coding
from featlink_codec.model.tensor_coding import TensorCoding
from featlink_codec.model.tensor_core import PayloadEncoder

SHAPES = [(1, 1), (1, 9), (7, 1), (3, 5), (8, 8), (9, 17), (33, 20)]
SPREADS = [0.3, 4.0, 3e5]
#: Largest of the shapes, in elements.
MOST = 33 * 20
#: What flags and parameter-ids take of the least room that must always be left.
SLACK = 4096
#: weights, importance, base, history, skip, indices, payload, memory, costs
ROOM = (4 * MOST, 4 * MOST, 4 * MOST, MOST, 64, 4 * MOST, nnc.ROOM + SLACK, 1 << 20, 8 * 64)


def codings() -> Iterator[TensorCoding]:
    """Shapes with all that leads through other code."""
    for (rows, columns), dq, scan, context in product(SHAPES, (False, True), (0, 1), (False, True)):
        yield TensorCoding(rows, columns, 11, dq, scan, parent=context, temporal=context)
    for rows, columns in SHAPES:
        yield TensorCoding(rows, columns, 2, codebook_size=9, zero_offset=4)


class Calls:
    """The core's functions on one tensor, each array in guarded memory of its own, at its end or its start."""

    def __init__(self, arenas: list[Arena], at_end: bool) -> None:
        self._arenas, self._at_end, self._core = arenas, at_end, nnc.library()

    def _put(self, number: int, array: np.ndarray) -> int:
        place = self._arenas[number].place(array.nbytes, self._at_end)
        ctypes.memmove(place, array.ctypes.data, array.nbytes)
        return place

    def _room(self, number: int, size: int) -> int:
        return self._arenas[number].place(size, self._at_end)

    def run(self, coding: TensorCoding, spread: float, missing: int = 0) -> None:
        """Quantize, price, write, read. `missing`: bytes that the levels' memory lacks, to see that it is noticed."""
        core, made = self._core, core_coding(coding)
        here, count = ctypes.addressof(made), coding.rows * coding.columns
        rng = np.random.default_rng(count)
        weights = rng.laplace(0, spread, count).astype(np.float32)
        base = history = skip = None
        if coding.parent:
            base = self._put(2, rng.integers(-3, 4, count).astype(np.int32))
            history = self._put(3, rng.integers(0, 2, count).astype(np.uint8))
        indices = self._room(5, 4 * count)
        if coding.codebook_size:
            self._put(5, rng.integers(-4, 5, count).astype(np.int32))
        else:
            skip = self._put(4, np.arange(coding.rows, dtype=np.uint8) % 3 // 2)
            importance = self._put(1, rng.random(count).astype(np.float32))
            for weight, lambda_ in product((None, importance), (0.0, 0.3)):
                size = core.fl_nnc_quantize_memory(here, lambda_)
                setup = (here, self._room(7, -(-size // 8) * 8), size)
                source = self._put(0, weights)
                assert not core.fl_nnc_quantize(*setup, source, 1.0, lambda_, weight, base, history, skip, indices)
        size = core.fl_nnc_memory(here)
        setup = (here, self._room(7, -(-size // 8) * 8), size)
        assert not core.fl_nnc_costs(*setup, indices, base, history, self._room(8, 8 * coding.rows))
        wanted = np.array((ctypes.c_int32 * count).from_address(indices))
        payload = self._written(coding, here, indices, base, history)
        reader = nnc.Reader()
        core.fl_nnc_read(ctypes.addressof(reader), self._put(6, payload), len(payload))
        assert not core.fl_nnc_read_setup(ctypes.addressof(reader), *setup)
        state = ctypes.c_uint32()
        found = self._room(5, 4 * count) + missing
        rows = core.fl_nnc_block_rows(here)
        code = core.fl_nnc_read_rows(
            ctypes.addressof(reader), *setup, 0, rows, ctypes.byref(state), base, history, found
        )
        assert not code
        consumed = ctypes.c_uint64()
        assert not core.fl_nnc_read_end(ctypes.addressof(reader), ctypes.byref(consumed))
        assert consumed.value == len(payload)
        levels = np.array((ctypes.c_int32 * count).from_address(found))
        if not coding.dq:
            assert (levels == wanted).all()
        core.fl_nnc_dequantize(found, 0.5, count, found)
        # Damaged and cut: whatever is read of it, nothing beside it is touched.
        for keep in (len(payload) // 2, 1, 0):
            core.fl_nnc_read(ctypes.addressof(reader), self._put(6, 255 - payload[:keep]), keep)
            if not core.fl_nnc_read_setup(ctypes.addressof(reader), *setup):
                state = ctypes.c_uint32()
                arrays = (ctypes.byref(state), base, history, found)
                core.fl_nnc_read_rows(ctypes.addressof(reader), *setup, 0, rows, *arrays)
                core.fl_nnc_read_end(ctypes.addressof(reader), ctypes.byref(consumed))

    def _written(
        self, coding: TensorCoding, here: int, indices: int, base: int | None, history: int | None
    ) -> np.ndarray:
        """The payload, written where there is no byte more than the least that must be."""
        core = self._core
        size = core.fl_nnc_write_memory(here)
        setup = (here, self._room(7, -(-size // 8) * 8), size)
        writer, capacity = nnc.Writer(), nnc.ROOM + SLACK
        core.fl_nnc_write(ctypes.addressof(writer), self._room(6, capacity), capacity)
        assert not core.fl_nnc_write_setup(*setup, indices, base, history, 1, 1)
        entries = np.zeros(core.fl_nnc_block_rows(here), nnc.Entry)
        place = self._put(8, np.frombuffer(entries.tobytes(), np.uint8)) if entries.nbytes <= ROOM[8] else None
        assert not core.fl_nnc_write_tensor(ctypes.addressof(writer), *setup, indices, base, history, place)
        core.fl_nnc_write_end(ctypes.addressof(writer))
        return np.array((ctypes.c_uint8 * writer.size).from_address(writer.out))


def run(told: Callable[[str], None]) -> None:
    """Every coding at either end of the memory."""
    arenas = [Arena(size) for size in ROOM]
    for at_end, coding, spread in product((True, False), codings(), SPREADS):
        told(f"{coding}, spread {spread}, {'end' if at_end else 'start'} of memory")
        Calls(arenas, at_end).run(coding, spread)


def overrun() -> None:
    """A call that must be noticed: the levels go on behind their memory."""
    import faulthandler

    faulthandler.disable()  # nobody needs to see where
    Calls([Arena(size) for size in ROOM], True).run(TensorCoding(33, 20, 11), 4.0, missing=4)


def test_nothing_beside_the_arrays_is_touched():
    note = mmap.mmap(-1, 4096)  # shared with the child

    def tell(what: str) -> None:
        note[:512] = what.encode()[:512].ljust(512)

    code = outcome(run, tell)
    assert code == 0, f"exit code {code} at {note[:512].decode().strip()}"


def test_a_byte_too_many_would_be_noticed():
    assert outcome(overrun) == -signal.SIGSEGV


@pytest.mark.parametrize("rows", [1, 40])
def test_an_output_that_is_full_goes_on_in_a_larger_one(rows):
    # Some megabytes of payload: the buffer is left several times, each time at a page that may not be touched.
    core = nnc.library()
    indices = np.random.default_rng(rows).integers(-(2**28), 2**28, (rows, 600_000 // rows)).astype(np.int32)
    coding = TensorCoding(*indices.shape, 11)
    encoder = PayloadEncoder()
    encoder.tensor(indices, coding, choose_sets=False)
    wanted = encoder.finish()
    made = core_coding(coding)
    memory = np.empty(core.fl_nnc_write_memory(ctypes.addressof(made)) // 8 + 1, np.uint64)
    setup = (ctypes.addressof(made), memory.ctypes.data, memory.nbytes)
    writer = nnc.Writer()
    here = ctypes.addressof(writer)
    arena = Arena(nnc.ROOM)
    core.fl_nnc_write(here, arena.place(nnc.ROOM, True), nnc.ROOM)
    assert not core.fl_nnc_write_setup(*setup, indices.ctypes.data, None, None, 0, 0)
    while (code := core.fl_nnc_write_tensor(here, *setup, indices.ctypes.data, None, None, None)) == nnc.FULL:
        size = writer.size + nnc.ROOM + len(wanted) // 4
        larger = Arena(size)
        ctypes.memmove(larger.place(size, True), writer.out, writer.size)
        core.fl_nnc_write_to(here, larger.place(size, True), size)
        arena = larger
    assert code == 0
    core.fl_nnc_write_end(here)
    assert ctypes.string_at(writer.out, writer.size) == wanted
