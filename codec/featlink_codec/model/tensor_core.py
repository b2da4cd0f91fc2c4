"""The payload of a tensor by the C core: what `twin` defines, as fast as it goes."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .._core import nnc
from ..errors import SettingsError, StreamError, TruncatedError
from .tensor_arrays import History, Levels, address, beside, check_beside, check_written, core_coding, scratch
from .tensor_coding import EntryPoint, TensorCoding
from .tensor_quantizer import dequantize, levels, quantize

__all__ = ["PayloadDecoder", "PayloadEncoder", "dequantize", "levels", "quantize"]


class PayloadDecoder:
    """Reads the arithmetic codeword of one NDU.

    :param payload: the codeword, to the end of the unit
    :raises TruncatedError: the payload ends before the codeword; offsets count from the start of the payload
    """

    def __init__(self, payload: bytes | bytearray | memoryview) -> None:
        self._payload = np.frombuffer(payload, np.uint8)
        self._reader = nnc.Reader()
        nnc.library().fl_nnc_read(ctypes.addressof(self._reader), address(self._payload), len(self._payload))

    def bits(self, n: int) -> int:
        """An unsigned number of n equiprobable bits, up to 32 (qp_delta is one, in two's complement)."""
        if not 0 <= n <= 32:
            raise SettingsError(f"{n} bits, expected 0 to 32")
        return int(nnc.library().fl_nnc_read_bits(ctypes.addressof(self._reader), n))

    def tensor(
        self,
        coding: TensorCoding,
        base: Levels | None = None,
        history: History | None = None,
        out: Levels | None = None,
    ) -> Levels:
        """The next tensor's levels, int32 [rows, columns]: dependent quantization is undone, steps are not applied.

        :param base: levels of the previous update, int32 [rows, columns]; wanted where ``coding.temporal``
        :param history: where an earlier update had a level other than 0, bool or uint8 [rows, columns]
        :param out: where to put the levels, C-contiguous
        :raises StreamError: ``bad-level``: a level that int32 cannot hold, ``bad-index``: one beyond the codebook,
            ``bad-register``: a codeword that no encoder writes; ``truncated``
        :raises SettingsError: an array of another shape or type, or none where one is wanted
        """
        return self._tensor(coding, base, history, out, None, 1)

    def tensor_parallel(
        self,
        coding: TensorCoding,
        entry_points: list[EntryPoint],
        threads: int,
        base: Levels | None = None,
        history: History | None = None,
        out: Levels | None = None,
    ) -> Levels:
        """`tensor` by several threads, each from an entry point on.

        :param entry_points: cabac_entry_point_list: one for each block row but the first
        :param threads: at most so many at a time
        :raises StreamError: ``bad-entry-point``: one is not where its block row begins; else as `tensor`
        """
        return self._tensor(coding, base, history, out, entry_points, threads)

    def _tensor(
        self,
        coding: TensorCoding,
        base: Levels | None,
        history: History | None,
        out: Levels | None,
        entry_points: list[EntryPoint] | None,
        threads: int,
    ) -> Levels:
        core, made = nnc.library(), core_coding(coding)
        memory = scratch(coding, made)
        beside_it = check_beside(coding, base, history)
        shape = (coding.rows, coding.columns)
        if out is None:
            out = np.empty(shape, np.int32)
        elif out.size != coding.rows * coding.columns or out.dtype != np.int32 or not out.flags.c_contiguous:
            raise SettingsError(f"out is {out.dtype} {list(out.shape)}, expected int32 {list(shape)}")
        setup = (ctypes.addressof(made), memory.ctypes.data, memory.nbytes)
        self._check(core.fl_nnc_read_setup(ctypes.addressof(self._reader), *setup), self._reader)
        work = _Work(made, memory, *map(address, (*beside_it, out)))
        block_rows: int = core.fl_nnc_block_rows(ctypes.addressof(made))
        if entry_points is None or block_rows == 1:
            code, _ = work.read(self._reader, memory, 0, block_rows, 0)
            self._check(code, self._reader)
        else:
            self._parallel(work, entry_points, block_rows, threads)
        return out.reshape(shape)

    def _parallel(self, work: _Work, entry_points: list[EntryPoint], block_rows: int, threads: int) -> None:
        if len(entry_points) != block_rows - 1:
            raise SettingsError(f"{len(entry_points)} entry points for {block_rows} block rows")
        core, here = nnc.library(), ctypes.addressof(self._reader)
        position: int = core.fl_nnc_position(here)
        readers, starts, states = [_copy(self._reader)], [position], [0]
        for entry in entry_points:
            readers.append(_copy(self._reader))
            starts.append(starts[-1] + entry.bit_offset)
            states.append(entry.dq_state)
            if not 0 <= starts[-1] < 1 << 62 or not 0 <= entry.value < 256 or not 0 <= entry.dq_state < 8:
                raise StreamError("bad-entry-point", position >> 3, f"{entry} cannot be")
            if core.fl_nnc_seek(ctypes.addressof(readers[-1]), starts[-1], entry.value):
                raise StreamError("bad-entry-point", len(self._payload), f"{entry}: beyond the payload")
        share = -(-block_rows // max(1, threads))
        shares = [(first, min(share, block_rows - first)) for first in range(0, block_rows, share)]

        def read(span: tuple[int, int]) -> tuple[int, int]:
            first, count = span
            return work.read(readers[first], work.memory.copy(), first, count, states[first])

        with ThreadPoolExecutor(max(1, threads)) as pool:
            found = list(pool.map(read, shares))
        for (first, count), (code, state) in zip(shares, found, strict=True):
            self._check(code, readers[first])
            after = first + count
            if after < block_rows:
                place = ctypes.addressof(readers[first])
                entry = entry_points[after - 1]
                reached = (core.fl_nnc_register(place), state, core.fl_nnc_position(place))
                if reached != (entry.value, entry.dq_state, starts[after]):
                    text = f"{entry} is not where block row {after} begins"
                    raise StreamError("bad-entry-point", starts[after] >> 3, text)
        self._reader = readers[shares[-1][0]]

    def finish(self) -> int:
        """Check the end of the codeword; return its bytes.

        :raises StreamError: ``bad-payload``: no terminating bin, or no stop bit
        """
        consumed = ctypes.c_uint64()
        code = nnc.library().fl_nnc_read_end(ctypes.addressof(self._reader), ctypes.byref(consumed))
        self._check(code, self._reader)
        return consumed.value

    def _check(self, code: int, reader: nnc.Reader) -> None:
        if code:
            _refuse(code, reader.bit >> 3, len(self._payload))


class PayloadEncoder:
    """Writes the arithmetic codeword of one NDU."""

    def __init__(self) -> None:
        self._out = np.empty(2 * nnc.ROOM, np.uint8)
        self._writer = nnc.Writer()
        self._here = ctypes.addressof(self._writer)
        nnc.library().fl_nnc_write(self._here, address(self._out), len(self._out))
        self._open_entry_points: list[tuple[list[EntryPoint], NDArray[np.generic]]] = []

    def bits(self, value: int, n: int) -> None:
        """An unsigned number of n equiprobable bits, up to 32."""
        if not 0 <= n <= 32 or not 0 <= value < 1 << n:
            raise SettingsError(f"{value} in {n} bits, expected up to 32 bits that hold it")
        self._grow(nnc.ROOM)
        nnc.library().fl_nnc_write_bits(self._here, value, n)

    def tensor(
        self,
        indices: Levels,
        coding: TensorCoding,
        base: Levels | None = None,
        history: History | None = None,
        row_skip: bool = False,
        choose_sets: bool = True,
        entry_points: list[EntryPoint] | None = None,
    ) -> None:
        """Add a tensor.

        :param indices: quantization indices, int32 [rows, columns] (with dependent quantization not yet levels)
        :param base: levels of the previous update, wanted where ``coding.temporal``
        :param history: where an earlier update had a level other than 0; gives these positions contexts of their own
        :param row_skip: say for each row whether it is all zero
        :param choose_sets: begin each context with the set that costs least, rather than set 0; of tensors above
            8192 weights, that is found from the first ones and from an eighth of the rest
        :param entry_points: gets the entries of cabac_entry_point_list, once `finish` is called
        :raises SettingsError: arrays that do not fit, an index outside the codebook or a level outside int32; the
            codeword is not to be used then
        """
        core, made = nnc.library(), core_coding(coding)
        size: int = core.fl_nnc_write_memory(ctypes.addressof(made))
        if not size:
            raise SettingsError(f"{coding}: a tensor is not coded so")
        values = beside("indices", indices, coding, "i")
        assert values is not None
        if coding.codebook_size:
            low, high = -coding.zero_offset, coding.codebook_size - 1 - coding.zero_offset
            if int(values.min()) < low or int(values.max()) > high:
                raise SettingsError(f"indices outside the codebook, which has {low}..{high}")
        memory = np.empty(-(-size // 8), np.uint64)
        setup = (ctypes.addressof(made), memory.ctypes.data, memory.nbytes)
        beside_it = check_beside(coding, base, history)
        arrays = tuple(map(address, (values, *beside_it)))
        check_written(core.fl_nnc_write_setup(*setup, *arrays, row_skip, choose_sets))
        starts = np.zeros(core.fl_nnc_block_rows(ctypes.addressof(made)), nnc.Entry)
        while (code := core.fl_nnc_write_tensor(self._here, *setup, *arrays, address(starts))) == nnc.FULL:
            self._grow(coding.rows + 2 * nnc.ROOM)
        check_written(code)
        if entry_points is not None:
            self._open_entry_points.append((entry_points, starts))

    def finish(self) -> bytes:
        """End the codeword and return it."""
        self._grow(nnc.ROOM)
        nnc.library().fl_nnc_write_end(self._here)
        codeword = self._out[: self._writer.size]
        for entry_points, starts in self._open_entry_points:
            padded = np.append(codeword, np.zeros(2, np.uint8))
            before = int(starts[0]["position"])
            for position, low, state in starts[1:].tolist():
                # What a decoder's register holds there: the codeword's next 9 bits above the low end of the range.
                ahead = int.from_bytes(padded[position >> 3 : (position >> 3) + 3].tobytes(), "big")
                value = ((ahead >> (15 - (position & 7))) - low) & 511
                entry_points.append(EntryPoint(value, state, position - before))
                before = position
        return codeword.tobytes()

    def _grow(self, room: int) -> None:
        """See that there is room; the buffer doubles at least."""
        if self._writer.capacity - self._writer.size >= room:
            return
        larger = np.empty(max(2 * len(self._out), self._writer.size + room), np.uint8)
        larger[: self._writer.size] = self._out[: self._writer.size]
        self._out = larger
        nnc.library().fl_nnc_write_to(self._here, address(larger), len(larger))


class _Work:
    """Reading block rows of one tensor."""

    def __init__(
        self,
        coding: nnc.Coding,
        memory: NDArray[np.uint64],
        base: int | None,
        history: int | None,
        out: int | None,
    ) -> None:
        self._coding = coding
        self.memory = memory
        self._arrays = (base, history, out)

    def read(
        self, reader: nnc.Reader, memory: NDArray[np.uint64], first: int, count: int, state: int
    ) -> tuple[int, int]:
        """fl_nnc_read_rows: its code, and the state of dependent quantization behind it."""
        held = ctypes.c_uint32(state)
        setup = (ctypes.addressof(self._coding), memory.ctypes.data, memory.nbytes)
        code = nnc.library().fl_nnc_read_rows(
            ctypes.addressof(reader), *setup, first, count, ctypes.byref(held), *self._arrays
        )
        return code, held.value


def _copy(reader: nnc.Reader) -> nnc.Reader:
    return nnc.Reader.from_buffer_copy(reader)


def _refuse(code: int, offset: int, size: int) -> NoReturn:
    if code == nnc.TRUNCATED:
        raise TruncatedError(size, size + 1, f"the arithmetic codeword goes on after {size} bytes")
    name, text = {
        nnc.BAD_LEVEL: ("bad-level", "a level does not fit in 32 bits"),
        nnc.BAD_INDEX: ("bad-index", "an index lies outside the codebook"),
        nnc.BAD_REGISTER: ("bad-register", "a codeword beyond the arithmetic coder's range"),
        nnc.NO_END: ("bad-payload", "no terminating bin after the last tensor"),
        nnc.BAD_PADDING: ("bad-payload", "no stop bit, then zeros, at the end of the codeword"),
    }[code]
    raise StreamError(name, offset, text)
