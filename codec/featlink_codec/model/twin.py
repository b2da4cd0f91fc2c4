"""The readable definition of a tensor's payload: the C core's twin, with the same interface and the same bytes.

Bins are coded by `tensor_syntax.TensorSyntax`, one definition for both directions.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .engine import ArithmeticDecoder, ArithmeticEncoder, Context
from .reconstruction import levels_of
from .tables import NEXT_STATE, PARAMETER_SETS
from .tensor_coding import EntryPoint, TensorCoding
from .tensor_syntax import TensorSyntax, coding_order

#: What it costs to say that a context begins with another set than 0, in bits: the flag and the set's number.
_SET_COST = 4.0

Levels = NDArray[np.int32]


class PayloadDecoder:
    """Reads the arithmetic codeword of one NDU.

    :param payload: the codeword, to the end of the unit
    :raises TruncatedError: the payload ends before the codeword; offsets count from the start of the payload
    """

    def __init__(self, payload: bytes | bytearray | memoryview) -> None:
        self._io = ArithmeticDecoder(payload)

    def bits(self, n: int) -> int:
        """An unsigned number of n equiprobable bits (qp_delta is one, in two's complement)."""
        return self._io.bypass(n)

    def tensor(
        self,
        coding: TensorCoding,
        base: Levels | None = None,
        history: NDArray[np.bool_] | None = None,
        out: Levels | None = None,
    ) -> Levels:
        """The next tensor's levels, int32 [rows, columns]: dependent quantization is undone, steps are not applied.

        :param base: levels of the previous update, int32 [rows, columns]; wanted where ``coding.temporal``
        :param history: where an earlier update had a level other than 0, bool [rows, columns]
        :param out: where to put the levels, C-contiguous
        :raises StreamError: ``bad-level``: a level that int32 cannot hold; ``truncated``
        :raises SettingsError: an array of another shape or type, or none where one is wanted
        """
        check_arrays(coding, base, history)
        if out is None:
            out = np.zeros((coding.rows, coding.columns), np.int32)
        elif out.shape != (coding.rows, coding.columns) or out.dtype != np.int32 or not out.flags.c_contiguous:
            raise SettingsError(f"out is {out.dtype} {out.shape}, expected int32 {(coding.rows, coding.columns)}")
        else:
            out.fill(0)
        TensorSyntax(self._io, coding).code(out, None, base, history)
        return out

    def finish(self) -> int:
        """Check the end of the codeword; return its bytes.

        :raises StreamError: ``bad-payload``: no terminating bin, or no stop bit
        """
        return self._io.finish()


class PayloadEncoder:
    """Writes the arithmetic codeword of one NDU."""

    def __init__(self) -> None:
        self._io = ArithmeticEncoder()
        self._open_entry_points: list[tuple[list[EntryPoint], list[tuple[int, int, int]]]] = []

    def bits(self, value: int, n: int) -> None:
        """An unsigned number of n equiprobable bits."""
        self._io.bypass(n, value)

    def tensor(
        self,
        indices: Levels,
        coding: TensorCoding,
        base: Levels | None = None,
        history: NDArray[np.bool_] | None = None,
        row_skip: bool = False,
        choose_sets: bool = True,
        entry_points: list[EntryPoint] | None = None,
    ) -> None:
        """Add a tensor.

        :param indices: quantization indices, int32 [rows, columns] (with dependent quantization not yet levels)
        :param base: levels of the previous update, wanted where ``coding.temporal``
        :param history: where an earlier update had a level other than 0; gives these positions contexts of their own
        :param row_skip: say for each row whether it is all zero
        :param choose_sets: begin each context with the set that costs least, rather than set 0
        :param entry_points: gets the entries of cabac_entry_point_list, once `finish` is called
        :raises SettingsError: arrays that do not fit, an index outside the codebook or a level outside int32
        """
        check_arrays(coding, base, history)
        if indices.shape != (coding.rows, coding.columns) or indices.dtype != np.int32:
            raise SettingsError(
                f"indices are {indices.dtype} {indices.shape}, not int32 {(coding.rows, coding.columns)}"
            )
        if coding.codebook_size:
            low, high = -coding.zero_offset, coding.codebook_size - 1 - coding.zero_offset
            if int(indices.min()) < low or int(indices.max()) > high:
                raise SettingsError(f"indices outside the codebook, which has {low}..{high}")
        out = np.zeros((coding.rows, coding.columns), np.int32)
        sets: dict[int, int] = {}
        if choose_sets:
            recorder = _Recorder()
            syntax = TensorSyntax(recorder, coding, on_reset=recorder.reset)
            syntax.code(out, indices, base, history, row_skip)
            sets = recorder.cheapest(syntax.contexts)
        starts: list[tuple[int, int, int]] = []

        def mark(dq_state: int) -> None:
            starts.append((self._io.shifts, self._io.low, dq_state))

        TensorSyntax(self._io, coding, sets, mark).code(out, indices, base, history, row_skip)
        if entry_points is not None:
            self._open_entry_points.append((entry_points, starts))

    def finish(self) -> bytes:
        """End the codeword and return it."""
        codeword = self._io.finish()
        bits = int.from_bytes(codeword, "big") << 16
        length = len(codeword) * 8 + 16
        for entry_points, starts in self._open_entry_points:
            for (before, _, _), (shifts, low, dq_state) in pairwise(starts):
                # What a decoder's register holds there: the codeword's next 9 bits above the low end of the range.
                value = ((bits >> (length - shifts - 9)) - low) & 0x1FF
                entry_points.append(EntryPoint(value, dq_state, shifts - before))
        return codeword


def levels(indices: Levels, coding: TensorCoding, out: Levels | None = None) -> Levels:
    """Levels of dependent quantization for its indices; see `reconstruction.levels_of`.

    :param out: where to put them
    """
    found = levels_of(indices, coding)
    if out is None:
        return found
    out[:] = found
    return out


def quantize(weights: NDArray[np.float32], step: float, coding: TensorCoding, lambda_: float) -> Levels:
    """Quantization indices, each the nearest that it can be; dependent quantization without looking ahead.

    :param weights: float32 [rows, columns], finite
    :return: int32 [rows, columns]
    :raises SettingsError: an index beyond 32 bits
    """
    scaled = weights.astype(np.float64) / step
    if not coding.dq:
        indices = np.rint(scaled)
    else:
        indices = np.zeros(scaled.shape)
        state = 0
        flat = indices.reshape(-1)
        for place in coding_order(coding):
            w = float(scaled.reshape(-1)[place])
            # An even state has the even multiples of the step, an odd one the odd multiples, and zero.
            k = round(abs(w) / 2 + (state & 1) / 2)
            if state & 1 and abs(w) < abs(2 * k - 1 - abs(w)):
                k = 0
            flat[place] = k if w > 0 else -k
            state = NEXT_STATE[state][k & 1]
    if np.abs(indices).max() >= 1 << 31:
        raise SettingsError("an index does not fit in 32 bits: the step is too small for the tensor")
    return indices.astype(np.int32)


class _Recorder:
    """Stands in for the encoder: keeps each context's symbols, to see which set suits them."""

    reading = False
    position = 0

    def __init__(self) -> None:
        self._symbols: dict[int, list[int | None]] = {}

    def bin(self, context: Context, symbol: int = 0) -> int:
        self._symbols.setdefault(id(context), []).append(symbol)
        return symbol

    def bypass(self, count: int, bits: int = 0) -> int:
        return bits

    def entry_point(self) -> None:
        pass

    def reset(self, _dq_state: int) -> None:
        """All contexts begin anew here."""
        for symbols in self._symbols.values():
            symbols.append(None)

    def cheapest(self, contexts: list[Context]) -> dict[int, int]:
        """The set with the least cost for each context that was used, where it is not 0."""
        chosen = {}
        for number, context in enumerate(contexts):
            if symbols := self._symbols.get(id(context)):
                costs = [_cost(symbols, e) + (_SET_COST if e else 0.0) for e in range(len(PARAMETER_SETS))]
                if best := costs.index(min(costs)):
                    chosen[number] = best
        return chosen


def _cost(symbols: list[int | None], parameter_set: int) -> float:
    """Bits that the symbols take under a context that begins with the set."""
    context = Context()
    context.initialise(parameter_set)
    bits = 0.0
    for symbol in symbols:
        if symbol is None:
            context.reset()
            continue
        bits += context.cost(symbol)
        context.update(symbol)
    return bits


def check_arrays(coding: TensorCoding, base: Levels | None, history: NDArray[np.bool_] | None) -> None:
    """A tensor has elements, and what stands beside it has its shape.

    :raises SettingsError: otherwise
    """
    shape = (coding.rows, coding.columns)
    if coding.rows < 1 or coding.columns < 1:
        raise SettingsError(f"a tensor of {coding.rows} x {coding.columns} has no elements")
    if coding.temporal and base is None:
        raise SettingsError("temporal context modelling needs the levels of the previous update")
    for name, array in (("base", base), ("history", history)):
        if array is not None and array.shape != shape:
            raise SettingsError(f"{name} has shape {array.shape}, expected {shape}")
