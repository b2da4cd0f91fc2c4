"""The bins of a tensor's payload, in order: one definition for both directions (ISO/IEC 15938-17, NDU payload)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from .engine import Bins, Context
from .tables import NEXT_STATE
from .tensor_coding import TensorCoding

#: First context of each kind; N is the unary length.
SIG, SIG_TEMPORAL, SIG_HISTORY, SIGN, GREATER = 0, 24, 40, 48, 53
#: Exp-Golomb prefix bins have a context each, as many as this.
PREFIX_BINS = 31
#: Blocks of scan_order s are (4 << s) samples wide and high; above this none is known.
MAX_SCAN_ORDER = 4


def _nothing(_dq_state: int) -> None:
    pass


class TensorSyntax:
    """Codes one tensor.

    :param io: arithmetic decoder or encoder
    :param sets: the parameter set of a context that does not begin with set 0; the decoder fills it
    :param on_reset: called with the DQ state wherever a decoder could begin: before the first weight and at each
        block row after the first
    """

    def __init__(
        self,
        io: Bins,
        coding: TensorCoding,
        sets: dict[int, int] | None = None,
        on_reset: Callable[[int], None] = _nothing,
    ) -> None:
        n = coding.unary_length
        self._io = io
        self._coding = coding
        self.sets = {} if sets is None else sets
        self._on_reset = on_reset
        # Profile 0 knows codebooks as tables only: they do not shorten the binarisation.
        self._size = coding.codebook_size if coding.profile_idc == 1 else 0
        self._zero = coding.zero_offset
        self._one_sided = self._size > 0 and self._zero in (0, self._size - 1)
        self._greater_temporal = GREATER + 2 * n
        self._prefix = GREATER + 4 * n
        self._parameter_flag = self._prefix + 34
        self._row_skip = self._prefix + 36
        #: Flags of the tensor, as read or written.
        self.history_enabled = self.row_skip_flag = 0
        self.contexts = [Context() for _ in range(self._prefix + 37)]

    def code(
        self,
        levels: NDArray[np.int32],
        indices: NDArray[np.int32] | None,
        base: NDArray[np.int32] | None,
        history: NDArray[np.bool_] | None,
        row_skip: bool = False,
    ) -> None:
        """Read or write the whole tensor; fills `levels`, which holds zeros before."""
        coding, io = self._coding, self._io
        skipped: list[int] | None = None
        if coding.profile_idc == 1 and coding.columns > 1 and coding.rows > 1 and self._size != 1:
            if coding.parent:
                self.history_enabled = io.bypass(1, int(history is not None))
            self.row_skip_flag = io.bypass(1, int(row_skip))
            if self.row_skip_flag:
                context = self.contexts[self._row_skip]
                zero = [0] * coding.rows if indices is None else [int(not row.any()) for row in indices]
                skipped = [io.bin(context, row) for row in zero]
        self._parameter_ids()
        scan_order = coding.scan_order if coding.rows > 1 and coding.columns > 1 else 0
        side = 4 << scan_order
        if scan_order and coding.rows > side:
            io.entry_point()
        state = previous = 0
        self._on_reset(state)
        for y, x0, x1, row_ends in _segments(coding.rows, coding.columns, side if scan_order else 0):
            if skipped and skipped[y]:
                if coding.dq:
                    # The whole row's width, also within a block: so the reference software codes it.
                    for _ in range(coding.columns % 4 if state in (1, 2, 4, 7) else coding.columns % 2):
                        state = NEXT_STATE[state][0]
            else:
                for x in range(x0, x1):
                    b = int(base[y, x]) if base is not None and coding.temporal else 0
                    seen = bool(self.history_enabled and history is not None and history[y, x])
                    previous = self._index(state, previous, b, seen, 0 if indices is None else int(indices[y, x]))
                    level = previous
                    if coding.dq:
                        level = 2 * previous - (state & 1) * ((previous > 0) - (previous < 0))
                        state = NEXT_STATE[state][previous & 1]
                    if not -(1 << 31) <= level < 1 << 31:
                        self._refuse_level(level)
                    levels[y, x] = level
            if row_ends:
                for context in self.contexts:
                    context.reset()
                previous = 0
                io.entry_point()
                self._on_reset(state)

    def _refuse_level(self, level: int) -> None:
        text = f"level {level} does not fit in 32 bits"
        raise StreamError("bad-level", self._io.position, text) if self._io.reading else SettingsError(text)

    def _parameter_ids(self) -> None:
        """Which set each context begins with."""
        n, temporal, dq = self._coding.unary_length, self._coding.temporal, self._coding.dq
        largest = max(self._zero, self._size - 1 - self._zero) if self._size else None
        many = self._size != 1
        self._set(range(SIG, 24 if dq else 3), lambda _: many)
        if temporal:
            self._set(range(SIG_TEMPORAL, 40 if dq else 26), lambda _: many)
        if self.history_enabled:
            self._set(range(SIG_HISTORY, 48 if dq else 41), lambda _: many)
        self._set(range(SIGN, 53 if temporal else 51), lambda _: many and not self._one_sided)
        self._set(range(GREATER, GREATER + 2 * n), lambda a: largest is None or a < 2 * largest)
        if temporal:
            start = self._greater_temporal
            self._set(range(start, start + 2 * n), lambda a: largest is None or a < 2 * (largest - 1))
        prefix = range(self._prefix, self._prefix + PREFIX_BINS)
        self._set(prefix, lambda a: largest is None or n - 1 + (1 << (a + 1)) - 1 < largest)

    def _set(self, numbers: range, coded: Callable[[int], bool]) -> None:
        """parameter-ids of a run of contexts; `coded` says of the first, second ... whether there is one."""
        flag = self.contexts[self._parameter_flag]
        for a, number in enumerate(numbers):
            chosen = 0
            if coded(a):
                wanted = self.sets.get(number, 0)
                if self._io.bin(flag, int(wanted > 0)):
                    chosen = self.sets[number] = 1 + self._io.bypass(3, wanted - 1)
            self.contexts[number].initialise(chosen)

    def _index(self, state: int, previous: int, base: int, seen: bool, index: int) -> int:
        """One quantization index."""
        if self._size == 1:
            return 0
        io, contexts, n = self._io, self.contexts, self._coding.unary_length
        sign_of_previous = 0 if previous == 0 else 1 if previous < 0 else 2
        if seen:
            number = SIG_HISTORY + state
        elif base:
            number = SIG_TEMPORAL + 2 * state + (abs(base) > 1)
        else:
            number = SIG + 3 * state + sign_of_previous
        if not io.bin(contexts[number], int(index != 0)):
            return 0
        if self._one_sided:
            negative = int(self._zero != 0)
        else:
            number = SIGN + 3 + (base > 0) if base else SIGN + sign_of_previous
            negative = io.bin(contexts[number], int(index < 0))
        largest = None
        if self._size:
            largest = self._zero if negative else self._size - 1 - self._zero
        wanted = abs(index)
        found, more, j = 1, 1, 0
        while more and j < n and (largest is None or found < largest):
            number = self._greater_temporal + 2 * j + (abs(base) < j) if base else GREATER + 2 * j + negative
            more = io.bin(contexts[number], int(wanted > found))
            found += more
            j += 1
        if more and j == n and (largest is None or found < largest):
            bits = 0
            while bits < PREFIX_BINS and (largest is None or largest >= found + (1 << bits)):
                if not io.bin(contexts[self._prefix + bits], int(wanted >= found + (1 << bits))):
                    break
                found += 1 << bits
                bits += 1
            found += io.bypass(bits, wanted - found if not io.reading else 0)
            if largest is not None and found > largest:
                raise StreamError("bad-index", io.position, f"index {found} outside a codebook that ends at {largest}")
        return -found if negative else found


def _segments(rows: int, columns: int, side: int) -> Iterator[tuple[int, int, int, bool]]:
    """The rows of each block in scan order: (row, first column, past the last one, ends a block row but the last)."""
    height, width = side or rows, side or columns
    for top in range(0, rows, height):
        bottom = min(top + height, rows)
        for left in range(0, columns, width):
            right = min(left + width, columns)
            for y in range(top, bottom):
                yield y, left, right, right == columns and y == bottom - 1 and bottom < rows


def coding_order(coding: TensorCoding) -> Iterator[int]:
    """Places in the row-major view [rows, columns], in the order in which they are coded."""
    side = 4 << coding.scan_order if coding.scan_order and coding.rows > 1 and coding.columns > 1 else 0
    for y, x0, x1, _ in _segments(coding.rows, coding.columns, side):
        yield from range(y * coding.columns + x0, y * coding.columns + x1)
