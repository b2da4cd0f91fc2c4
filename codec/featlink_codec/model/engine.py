"""The binary arithmetic coder of ISO/IEC 15938-17, both ends, with its adaptive contexts. Readable, not fast."""

from __future__ import annotations

import math
from typing import Protocol

from ..errors import StreamError, TruncatedError
from .tables import CURVE, PARAMETER_SETS, RANGE_LPS


class Context:
    """Estimate of the probability of a 1: two states of different inertia, S = S1 + 16 * S0."""

    __slots__ = ("_parameter_set", "_s", "_s0", "_shift0", "_shift1")

    def __init__(self) -> None:
        self.initialise(0)

    def initialise(self, parameter_set: int) -> None:
        """Begin anew with one of the nine sets."""
        shift0, self._shift1, self._s, self._s0 = PARAMETER_SETS[parameter_set]
        self._shift0 = shift0 + 4
        self._parameter_set = parameter_set

    def reset(self) -> None:
        """Begin anew with the set of last time."""
        self.initialise(self._parameter_set)

    @property
    def more_probable(self) -> int:
        """The more probable symbol."""
        return int(self._s >= 0)

    def range_lps(self, coding_range: int) -> int:
        """The part of the range that the less probable symbol gets."""
        return RANGE_LPS[(coding_range >> 5) & 7][abs(self._s >> 7)]

    def cost(self, symbol: int) -> float:
        """Bits that the symbol takes now, about: the states are logarithms of the probability."""
        less_probable = 1.0 + abs(self._s) / 653
        if symbol != self.more_probable:
            return less_probable
        return -math.log2(1.0 - 2.0**-less_probable)

    def update(self, symbol: int) -> None:
        """Move towards the symbol that was coded."""
        sign = 1 if symbol else -1
        s1 = self._s - 16 * self._s0
        self._s0 += sign * (CURVE[16 + ((sign * self._s0) >> 3)] >> self._shift0)
        s1 += sign * (CURVE[16 + ((sign * s1) >> 7)] >> self._shift1)
        self._s = s1 + 16 * self._s0


class Bins(Protocol):
    """What the definition of a payload is written against: reads, or writes and returns what it wrote."""

    reading: bool

    def bin(self, context: Context, symbol: int = 0) -> int:
        """A symbol under a context."""

    def bypass(self, count: int, bits: int = 0) -> int:
        """Equiprobable bits, most significant first."""

    def entry_point(self) -> None:
        """The range becomes 256, so that decoding can begin here."""

    @property
    def position(self) -> int:
        """Bytes read or written so far."""


class ArithmeticDecoder:
    """Reads bins; never past the end of the payload, for a whole codeword does not ask for more than it has.

    :raises TruncatedError: the payload ends before the codeword, at the offset of its end
    """

    reading = True

    def __init__(self, payload: bytes | bytearray | memoryview) -> None:
        self._payload = payload
        self._next = 0
        self._range = 510
        self._value = 0  # 9 bits to compare, 7 of look-ahead
        self._value = (self._byte() << 8) | self._byte()
        self._bits_needed = -8

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._next

    def _byte(self) -> int:
        if self._next >= len(self._payload):
            raise TruncatedError(
                self._next, self._next + 1, f"the arithmetic codeword goes on after {self._next} bytes"
            )
        self._next += 1
        return self._payload[self._next - 1]

    def _shift(self) -> None:
        self._value <<= 1
        self._bits_needed += 1
        if self._bits_needed == 0:
            self._value += self._byte()
            self._bits_needed = -8

    def bin(self, context: Context, symbol: int = 0) -> int:
        """A symbol under a context."""
        lps = context.range_lps(self._range)
        symbol = context.more_probable
        mps = self._range - lps
        if self._value >> 7 < mps:
            self._range = mps
        else:
            symbol = 1 - symbol
            self._value -= mps << 7
            self._range = lps
        while self._range < 256:
            self._range <<= 1
            self._shift()
        context.update(symbol)
        return symbol

    def bypass(self, count: int, bits: int = 0) -> int:
        """Equiprobable bits, most significant first."""
        bits = 0
        for _ in range(count):
            self._shift()
            one = self._value >= self._range << 7
            if one:
                self._value -= self._range << 7
            bits = bits << 1 | one
        return bits

    def entry_point(self) -> None:
        """The range becomes 256, so that decoding can begin here."""
        self._range = 256

    def finish(self) -> int:
        """Read the terminating bin and the stop bit.

        :return: bytes of the codeword
        :raises StreamError: ``bad-payload``: one of them is not there
        """
        self._range -= 2
        if self._value < self._range << 7:
            raise StreamError("bad-payload", self._next, "no terminating bin after the last tensor")
        if (self._payload[self._next - 1] << (8 + self._bits_needed)) & 255 != 0x80:
            raise StreamError("bad-payload", self._next - 1, "no stop bit, then zeros, at the end of the codeword")
        return self._next


class ArithmeticEncoder:
    """Writes bins. `shifts` counts the bits that are settled but for a carry."""

    reading = False

    def __init__(self) -> None:
        self._out = bytearray()
        self._low = 0  # 9 bits, above them `_pending` settled ones
        self._pending = 0
        self._range = 510
        self.shifts = 0

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return len(self._out)

    @property
    def low(self) -> int:
        """The low end of the range, its 9 unsettled bits."""
        return self._low & 0x1FF

    def _carry(self) -> None:
        place = len(self._out) - 1
        while self._out[place] == 255:
            self._out[place] = 0
            place -= 1
        self._out[place] += 1

    def _shift(self, add: int = 0) -> None:
        self._low = (self._low << 1) + add
        self._pending += 1
        self.shifts += 1
        if self._pending == 8:
            settled = self._low >> 9
            if settled > 255:
                self._carry()
            self._out.append(settled & 255)
            self._low &= 0x1FF
            self._pending = 0

    def bin(self, context: Context, symbol: int = 0) -> int:
        """A symbol under a context."""
        lps = context.range_lps(self._range)
        self._range -= lps
        if symbol != context.more_probable:
            self._low += self._range
            self._range = lps
        while self._range < 256:
            self._range <<= 1
            self._shift()
        context.update(symbol)
        return symbol

    def bypass(self, count: int, bits: int = 0) -> int:
        """Equiprobable bits, most significant first."""
        for k in range(count - 1, -1, -1):
            self._shift(self._range if bits >> k & 1 else 0)
        return bits

    def entry_point(self) -> None:
        """The range becomes 256, so that decoding can begin here."""
        self._range = 256

    def finish(self) -> bytes:
        """The terminating bin, the stop bit and zeros to the byte boundary; returns the codeword."""
        self._low += self._range - 2
        for _ in range(7):
            self._shift()
        bits, count = (self._low >> 8) << 1 | 1, self._pending + 2
        if bits >> count:
            self._carry()
            bits &= (1 << count) - 1
        pad = -count % 8
        self._out += (bits << pad).to_bytes((count + pad) // 8, "big")
        return bytes(self._out)
