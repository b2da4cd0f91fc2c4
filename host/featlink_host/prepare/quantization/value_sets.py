"""The numbers that a weight can become, before its group's scale: uniform, powers of two, logarithmic, learned.

A set's values lie in order, and the nearest one is taken. Ties go to the value nearer to zero, between -1 and 1 (a
set without zero) to 1. Values beyond the ends become the ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

Values = NDArray[np.float64]
Indices = NDArray[np.int64]
Integers = NDArray[np.int64]

MAX_BITS = 32
#: Widest table that is kept; finer sets than that are uniform.
MAX_TABLE_BITS = 16
#: Greatest magnitudes of an int8 container. Products of two int8 (or uint8 and int8) pairs must fit in 16 bits on x86
#: without VNNI, hence the portable one; -128 is computed wrongly by kernels for ARM.
FULL, PORTABLE = (-127, 127), (-64, 63)
#: Powers of two that an int8 container holds: 1 .. 64 below zero, and above it unless it is to be portable.
OCTAVES = 7


class ValueSet(Protocol):
    """A sorted set of values.

    :param bits: of an index, as asked for; fewer values than 2 ** bits may be there
    :param size: how many values there are
    :param zero: place of zero, or of the value that is nearest to it
    """

    @property
    def bits(self) -> int:
        """See above."""

    @property
    def size(self) -> int:
        """See above."""

    @property
    def zero(self) -> int:
        """See above."""

    @property
    def low(self) -> float:
        """The least value."""

    @property
    def high(self) -> float:
        """The greatest value."""

    def nearest(self, values: NDArray[Any]) -> Indices:
        """Place of the nearest value, int64 of the same shape."""

    def values(self, indices: NDArray[Any]) -> Values:
        """The values at those places, float64."""

    def integers(self, indices: NDArray[Any]) -> Integers | None:
        """The values as integers: what is multiplied by the scale. None where they are no integers."""


@dataclass(frozen=True)
class UniformSet:
    """All integers from `first` to `last`: two's complement, a step apart.

    :param bits: of an index
    """

    bits: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS or self.first >= self.last:
            raise SettingsError(f"uniform values {self.first}..{self.last} of {self.bits} bits, expected 1..32 bits")

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.last - self.first + 1

    @property
    def zero(self) -> int:
        """Place of zero."""
        return -self.first

    @property
    def low(self) -> float:
        """The least value."""
        return float(self.first)

    @property
    def high(self) -> float:
        """The greatest value."""
        return float(self.last)

    def nearest(self, values: NDArray[Any]) -> Indices:
        """See ValueSet."""
        inside = np.clip(np.asarray(values, np.float64), self.first, self.last)
        # Halves towards zero.
        whole = np.sign(inside) * np.ceil(np.abs(inside) - 0.5)
        return whole.astype(np.int64) - self.first

    def values(self, indices: NDArray[Any]) -> Values:
        """See ValueSet."""
        return (np.asarray(indices, np.int64) + self.first).astype(np.float64)

    def integers(self, indices: NDArray[Any]) -> Integers | None:
        """See ValueSet."""
        return np.asarray(indices, np.int64) + self.first


@dataclass(frozen=True)
class TableSet:
    """Any values.

    :param bits: of an index
    :param table: in order, each greater than the one before
    :param whole: they are integers, to be multiplied by the scale in an integer network
    """

    bits: int
    table: tuple[float, ...]
    whole: bool = False
    _values: Values = field(init=False, repr=False, compare=False)
    _middles: Values = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = np.array(self.table, np.float64)
        if not 1 <= self.bits <= MAX_TABLE_BITS:
            raise SettingsError(f"a table of values of {self.bits} bits, expected 1 to {MAX_TABLE_BITS}")
        if not 1 <= len(table) <= 1 << self.bits or not np.isfinite(table).all() or (np.diff(table) <= 0).any():
            raise SettingsError(f"a table of {len(table)} values for {self.bits} bits: expected rising, finite numbers")
        if self.whole and (table != np.rint(table)).any():
            raise SettingsError("a table of integers holds other numbers")
        middles = (table[1:] + table[:-1]) / 2
        # searchsorted's side decides ties: towards zero from either side, and upwards where both are equally near.
        down = middles > 0
        middles[down] = np.nextafter(middles[down], np.inf)
        object.__setattr__(self, "_values", table)
        object.__setattr__(self, "_middles", middles)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.table)

    @property
    def zero(self) -> int:
        """Place of the value nearest to zero."""
        return int(np.abs(self._values).argmin())

    @property
    def low(self) -> float:
        """The least value."""
        return self.table[0]

    @property
    def high(self) -> float:
        """The greatest value."""
        return self.table[-1]

    def nearest(self, values: NDArray[Any]) -> Indices:
        """See ValueSet."""
        return np.searchsorted(self._middles, np.asarray(values, np.float64), side="right").astype(np.int64)

    def values(self, indices: NDArray[Any]) -> Values:
        """See ValueSet."""
        found: Values = self._values[indices]
        return found

    def integers(self, indices: NDArray[Any]) -> Integers | None:
        """See ValueSet."""
        return np.rint(self._values[indices]).astype(np.int64) if self.whole else None


def uniform(bits: int, portable: bool = False) -> UniformSet | TableSet:
    """Two's complement of 1 to 32 bits; 1 bit is -1 and 1.

    8 bits are -127..127, and where they are to be `portable` -64..63: see `FULL`, `PORTABLE`.

    :raises SettingsError: another width
    """
    if not 1 <= bits <= MAX_BITS:
        raise SettingsError(f"weights of {bits} bits, expected 1 to {MAX_BITS}")
    if bits == 8:
        return UniformSet(bits, *(PORTABLE if portable else FULL))
    if bits == 1:
        return signs()
    return UniformSet(bits, -(1 << bits - 1), (1 << bits - 1) - 1)


def signs() -> TableSet:
    """-1 and 1: one bit, whatever the kind of set."""
    return TableSet(1, (-1.0, 1.0), whole=True)


def power_of_two(bits: int, portable: bool = False) -> TableSet:
    """Powers of two, as two's complement has them: -1, -0.5, 0, 0.5 at two bits; -1 and 1 at one.

    2 ** (bits - 1) values below zero, zero, and one value fewer above it. They are held as integers (-2, -1, 0, 1 at
    two bits), the scale does the rest; products with them are shifts. An int8 container holds no more than `OCTAVES`
    powers, so from 4 bits on there are these on either side and no more (one fewer above zero where `portable`).

    :raises SettingsError: a width that tables do not have
    """
    _check_table(bits)
    if bits == 1:
        return signs()
    below = min(1 << (bits - 1), OCTAVES)
    above = below - 1 if bits < 4 or portable else OCTAVES
    return TableSet(bits, (*(-(2.0**k) for k in reversed(range(below))), 0.0, *(2.0**k for k in range(above))), True)


def logarithmic(bits: int, portable: bool = False, whole: bool = False) -> TableSet:
    """Values that are evenly spaced in the logarithm, the same on either side of zero; -1 and 1 at one bit.

    Up to 4 bits they are powers of two. More bits fill the octaves in between rather than go nearer to zero: 2 ** (bits
    - 4) values an octave, 7 octaves and more.

    :param whole: rounded to integers of an int8 container, for an integer network
    :raises SettingsError: a width that tables do not have
    """
    _check_table(bits)
    if bits == 1:
        return signs()
    count, an_octave = (1 << (bits - 1)) - 1, 1 << max(0, bits - 4)
    if an_octave == 1:
        powers = [2.0**k for k in range(min(count, OCTAVES - portable))]
        return TableSet(bits, (*(-one for one in reversed(powers)), 0.0, *powers), True)
    # As binary32 holds them: that is how they are written down.
    magnitudes = (2.0 ** (-np.arange(count)[::-1] / an_octave)).astype(np.float32).astype(np.float64)
    table = np.concatenate([-magnitudes[::-1], [0.0], magnitudes])
    return whole_numbers(bits, table, portable) if whole else TableSet(bits, tuple(table.tolist()))


def whole_numbers(bits: int, table: NDArray[Any], portable: bool = False) -> TableSet:
    """A table's values rounded to integers of an int8 container, as large as they can be; what coincides is one."""
    least, greatest = PORTABLE if portable else FULL
    scale = max(float(table.max()) / greatest, float(table.min()) / least) or 1.0
    return TableSet(bits, tuple(np.unique(np.rint(np.asarray(table, np.float64) / scale)).tolist()), True)


def _check_table(bits: int) -> None:
    if not 1 <= bits <= MAX_TABLE_BITS:
        raise SettingsError(f"weights of {bits} bits in a table of values, expected 1 to {MAX_TABLE_BITS}")
