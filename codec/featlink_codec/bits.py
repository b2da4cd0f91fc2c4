"""One bit coder for both directions: a syntax structure is written once and read and written by the same lines.

``value = io.u(8, value)`` returns what the wire holds: the reader ignores the argument, the writer writes and returns
it. Descriptors are those of T/AI part 4 table 7 and of ISO/IEC 15938-17: u, i, f, r, ue, ie, float32, string.
"""

from __future__ import annotations

import struct
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import SettingsError, StreamError, TruncatedError

#: An Exp-Golomb prefix longer than this cannot come from a sane writer: values stay within 32 bits.
MAX_EXP_GOLOMB_PREFIX = 32
#: With an order above 0, which NNC gives to identifiers too, they stay within 64 bits.
MAX_EXP_GOLOMB_SUFFIX = 63
#: Longest null-terminated string that is read, in bytes.
MAX_STRING = 4096


class BitCoder(Protocol):
    """What the syntax structures are written against. All bits go most significant first."""

    reading: bool

    def u(self, bits: int, value: int = 0) -> int:
        """Unsigned integer of `bits` bits."""

    def i(self, bits: int, value: int = 0) -> int:
        """Two's complement integer of `bits` bits."""

    def f(self, bits: int, value: int) -> int:
        """Fixed pattern: the reader raises ``bad-fixed`` where the wire holds another one."""

    def r(self, bits: int, value: int = 0) -> int:
        """Reserved bits: whatever is there is read; writers give 0."""

    def ue(self, value: int = 0, k: int = 0) -> int:
        """Unsigned Exp-Golomb code of order k (order 0: H.265 9.2)."""

    def ie(self, value: int = 0, k: int = 0) -> int:
        """Signed Exp-Golomb code of order k: 0, 1, -1, 2, -2 ... (order 0: se(v) of H.265 9.2.2)."""

    def float32(self, value: int = 0) -> int:
        """IEEE-754 binary32 as its 32-bit pattern, so that NaN payloads and -0.0 survive the way."""

    def string(self, value: str = "", limit: int = MAX_STRING) -> str:
        """Null-terminated UTF-8 of at most `limit` bytes."""

    def array(self, bits: int, count: int, values: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """`count` unsigned integers of `bits` (16 or 32) bits each, from any bit position, in one go."""

    def align(self, value: int = 0) -> int:
        """Bits up to the next byte boundary: written 0 (or `value`), ignored on reading, returned."""

    def refuse(self, name: str, text: str, at: int | None = None) -> NoReturn:
        """Stop at a value that the format forbids: StreamError when reading, SettingsError when writing.

        :param at: byte offset to blame, the present position where left out
        """

    @property
    def position(self) -> int:
        """Absolute byte offset of the byte that holds the next bit."""


class BitReader:
    """Reads from bytes in memory.

    :param data: the bytes; nothing is copied
    :param start: index in `data` where the structure begins
    :param base: absolute stream offset of ``data[0]``, for the offsets in errors
    """

    reading = True

    def __init__(self, data: bytes | bytearray | memoryview, start: int = 0, base: int = 0) -> None:
        self._data = data
        self._start = start
        self._base = base
        self._bit = start * 8
        self._end = len(data) * 8

    @property
    def position(self) -> int:
        """Absolute byte offset of the byte that holds the next bit."""
        return self._base + self._bit // 8

    @property
    def index(self) -> int:
        """Index in the data of the byte that holds the next bit."""
        return self._bit // 8

    @property
    def bits_left(self) -> int:
        """How many bits are left in the data."""
        return self._end - self._bit

    def _take(self, bits: int) -> tuple[int, int]:
        """Move over `bits` bits; return (first byte index, one past the last byte index)."""
        begin, end = self._bit, self._bit + bits
        if end > self._end:
            needed = (end + 7) // 8 - self._start
            text = f"{bits} bits wanted, {self._end - begin} left: the structure needs {needed} bytes"
            raise TruncatedError(self.position, needed, text)
        self._bit = end
        return begin // 8, (end + 7) // 8

    def u(self, bits: int, value: int = 0) -> int:
        """Unsigned integer of `bits` bits."""
        first, last = self._take(bits)
        whole = int.from_bytes(self._data[first:last], "big")
        return (whole >> (last * 8 - self._bit)) & ((1 << bits) - 1)

    def i(self, bits: int, value: int = 0) -> int:
        """Two's complement integer of `bits` bits."""
        raw = self.u(bits)
        return raw - (1 << bits) if raw >> (bits - 1) else raw

    def f(self, bits: int, value: int) -> int:
        """Fixed pattern; another one raises ``bad-fixed``."""
        at = self.position
        found = self.u(bits)
        if found != value:
            digits = (bits + 3) // 4
            raise StreamError("bad-fixed", at, f"found 0x{found:0{digits}x}, expected 0x{value:0{digits}x}")
        return found

    def r(self, bits: int, value: int = 0) -> int:
        """Reserved bits, whatever they are."""
        return self.u(bits)

    def ue(self, value: int = 0, k: int = 0) -> int:
        """Unsigned Exp-Golomb code of order k."""
        at = self.position
        longest = _longest_prefix(k)
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > longest:
                raise StreamError("bad-golomb", at, f"prefix of more than {longest} zeros")
        return (1 << zeros + k) - (1 << k) + (self.u(zeros + k) if zeros + k else 0)

    def ie(self, value: int = 0, k: int = 0) -> int:
        """Signed Exp-Golomb code of order k."""
        code = self.ue(0, k)
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def float32(self, value: int = 0) -> int:
        """The 32-bit pattern of a binary32."""
        return self.u(32)

    def string(self, value: str = "", limit: int = MAX_STRING) -> str:
        """Null-terminated UTF-8 of at most `limit` bytes."""
        at = self.position
        if self._bit % 8 == 0:
            raw = bytes(self._data[self.index : self.index + limit + 1]).partition(b"\0")[0]
            if len(raw) > limit:
                raise StreamError("bad-string", at, f"no terminating zero within {limit} bytes")
            self._take(8 * (len(raw) + 1))
        else:
            gathered = bytearray()
            while byte := self.u(8):
                gathered.append(byte)
                if len(gathered) > limit:
                    raise StreamError("bad-string", at, f"no terminating zero within {limit} bytes")
            raw = bytes(gathered)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise StreamError("bad-string", at, f"not UTF-8: {error.reason}") from None

    def array(self, bits: int, count: int, values: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """`count` unsigned integers of 16 or 32 bits: the whole run is shifted to a byte boundary once."""
        first, last = self._take(bits * count)
        whole = int.from_bytes(self._data[first:last], "big") >> (last * 8 - self._bit)
        run = (whole & ((1 << bits * count) - 1)).to_bytes(bits * count // 8, "big")
        return np.frombuffer(run, dtype=f">u{bits // 8}").astype(np.uint32)

    def align(self, value: int = 0) -> int:
        """Bits up to the next byte boundary, whatever they are."""
        return self.u(-self._bit % 8)

    def refuse(self, name: str, text: str, at: int | None = None) -> NoReturn:
        """Raise the StreamError that blames the wire."""
        raise StreamError(name, self.position if at is None else at, text)


class BitWriter:
    """Gathers bits and gives them back as bytes; refuses values that their field cannot hold."""

    reading = False

    def __init__(self) -> None:
        self._done = bytearray()
        self._tail = 0  # bits that do not fill a byte yet
        self._tail_bits = 0

    @property
    def position(self) -> int:
        """Bytes written so far, the unfinished one left out."""
        return len(self._done)

    def u(self, bits: int, value: int = 0) -> int:
        """Unsigned integer of `bits` bits."""
        if not 0 <= value < 1 << bits:
            raise SettingsError(f"{value} does not fit in {bits} bits")
        total = self._tail_bits + bits
        whole = self._tail << bits | value
        self._tail_bits = total % 8
        self._done += (whole >> self._tail_bits).to_bytes(total // 8, "big")
        self._tail = whole & ((1 << self._tail_bits) - 1)
        return value

    def i(self, bits: int, value: int = 0) -> int:
        """Two's complement integer of `bits` bits."""
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise SettingsError(f"{value} does not fit in {bits} bits, signed")
        self.u(bits, value & ((1 << bits) - 1))
        return value

    def f(self, bits: int, value: int) -> int:
        """Fixed pattern."""
        return self.u(bits, value)

    def r(self, bits: int, value: int = 0) -> int:
        """Reserved bits."""
        return self.u(bits, value)

    def ue(self, value: int = 0, k: int = 0) -> int:
        """Unsigned Exp-Golomb code of order k."""
        length = (value + (1 << k)).bit_length()
        if value < 0 or length - 1 - k > _longest_prefix(k):
            raise SettingsError(f"{value} has no Exp-Golomb code of order {k} here")
        self.u(2 * length - 1 - k, value + (1 << k))
        return value

    def ie(self, value: int = 0, k: int = 0) -> int:
        """Signed Exp-Golomb code of order k."""
        self.ue(2 * value - 1 if value > 0 else -2 * value, k)
        return value

    def float32(self, value: int = 0) -> int:
        """The 32-bit pattern of a binary32."""
        return self.u(32, value)

    def string(self, value: str = "", limit: int = MAX_STRING) -> str:
        """Null-terminated UTF-8 of at most `limit` bytes."""
        try:
            raw = value.encode()
        except UnicodeEncodeError as error:
            raise SettingsError(f"{value!r} is not text: {error.reason}") from None
        if 0 in raw or len(raw) > limit:
            raise SettingsError(f"a string on the wire has no zero byte and at most {limit} bytes")
        self.u(8 * len(raw) + 8, int.from_bytes(raw + b"\0", "big"))
        return value

    def array(self, bits: int, count: int, values: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """`count` unsigned integers of 16 or 32 bits each."""
        if values is None or len(values) != count or (count and int(values.max()) >> bits):
            raise SettingsError(f"{count} values of {bits} bits wanted")
        self.u(bits * count, int.from_bytes(values.astype(f">u{bits // 8}").tobytes(), "big"))
        return values

    def align(self, value: int = 0) -> int:
        """Bits up to the next byte boundary, holding `value`."""
        return self.u(-self._tail_bits % 8, value)

    def refuse(self, name: str, text: str, at: int | None = None) -> NoReturn:
        """Raise the SettingsError that blames the caller."""
        raise SettingsError(f"{name}: {text}")

    def __bytes__(self) -> bytes:
        if self._tail_bits:
            raise SettingsError(f"{self._tail_bits} bits stand past the last byte: align first")
        return bytes(self._done)


def _longest_prefix(k: int) -> int:
    """Zeros that a code of order k begins with at most."""
    return MAX_EXP_GOLOMB_SUFFIX - k if k else MAX_EXP_GOLOMB_PREFIX


def float_bits(value: float) -> int:
    """The binary32 pattern of `value`, rounded to nearest."""
    return int.from_bytes(struct.pack(">f", value), "big")


def bits_float(bits: int) -> float:
    """The value of a binary32 pattern."""
    value: float = struct.unpack(">f", bits.to_bytes(4, "big"))[0]
    return value
