"""Units of an NNC bitstream: finding them by their lengths, writing them with theirs. Nothing else is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..bits import BitReader, BitWriter
from ..errors import SettingsError, StreamError, TruncatedError
from .budget import Budget
from .data_unit import DataUnitHeader
from .syntax import ModelParameterSet, StartHeader, TopologyUnit, UnitHeader, UnitType

#: Bytes of nnr_unit_size_flag and nnr_unit_size, and of the rest of the common header.
SHORT_SIZE, LONG_SIZE, COMMON = 2, 4, 1
#: Units of this size and above take the long form.
LONG_FROM = 1 << 15


@dataclass(frozen=True, slots=True)
class Unit:
    """Where a unit lies in its stream.

    :param offset: of its first byte
    :param size: bytes, its header among them
    :param body: offset of the first byte after the part of the header that all units share
    """

    unit_type: UnitType
    offset: int
    size: int
    body: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the unit."""
        return self.offset + self.size

    def reader(self, data: memoryview) -> BitReader:
        """Reads the unit's own header, and never past the unit's end."""
        return BitReader(data[self.body : self.end], base=self.body)


def read_unit(data: memoryview, offset: int) -> Unit:
    """The unit that begins at an offset.

    :raises StreamError: truncated, of a length that cannot be, or of a kind that is not read
    """
    io = BitReader(data[offset : offset + LONG_SIZE + COMMON], base=offset)
    header = UnitHeader()
    try:
        header.code(io)
    except TruncatedError as error:
        raise TruncatedError(offset, error.needed, "the stream ends in the header of a unit") from None
    body, size = io.position, header.nnr_unit_size
    if size < body - offset:
        raise StreamError("bad-size", offset, f"nnr_unit_size is {size}, the header alone has {body - offset} bytes")
    if offset + size > len(data):
        raise TruncatedError(offset, size, f"a unit of {size} bytes, of which {len(data) - offset} are there")
    return Unit(UnitType(header.nnr_unit_type), offset, size, body)


def read_units(data: memoryview, offset: int, budget: Budget) -> Iterator[Unit]:
    """All units from an offset to the end, one after the other; only their common headers are touched.

    :raises StreamError: see `read_unit`; ``over-budget``: too many
    """
    count = 0
    while offset < len(data):
        count += 1
        if count > budget.max_units:
            raise StreamError("over-budget", offset, f"more than {budget.max_units} units, the budget's max_units")
        unit = read_unit(data, offset)
        yield unit
        offset = unit.end


def unit_bytes(unit_type: UnitType, body: bytes, *, independently_decodable: int = 1) -> bytes:
    """A whole unit.

    :param body: its own header and payload
    :raises SettingsError: it is longer than a unit can be
    """
    size = SHORT_SIZE + COMMON + len(body)
    long_form = size >= LONG_FROM
    if long_form:
        size += LONG_SIZE - SHORT_SIZE
    if size >= 1 << 31:
        raise SettingsError(f"a unit of {size} bytes; the format has 31 bits for its length")
    io = BitWriter()
    UnitHeader(int(long_form), size, unit_type, independently_decodable).code(io)
    return bytes(io) + body


class StreamWriter:
    """Gives the bytes of each unit, in the order in which they stand: STR, MPS, TPL where there is one, NDUs.

    :param parameters: of the model; the profile is 1
    """

    def __init__(self, parameters: ModelParameterSet, budget: Budget | None = None) -> None:
        self._parameters = parameters
        self._budget = budget or Budget()

    def start(self, base_model_id: str | None = None) -> bytes:
        """STR and MPS.

        :param base_model_id: which model the stream holds, or is an update of
        """
        self._parameters.base_model_id = base_model_id
        io = BitWriter()
        StartHeader().code(io)
        start = unit_bytes(UnitType.STR, bytes(io))
        io = BitWriter()
        self._parameters.code(io, 1)
        return start + unit_bytes(UnitType.MPS, bytes(io) + self._parameters.performance_maps)

    def text(self, text: str) -> bytes:
        """A TPL of format UNREC.

        :raises SettingsError: a zero in it, or more than the budget has for it
        """
        io = BitWriter()
        TopologyUnit(topology_data=text).code(io, self._budget)
        return unit_bytes(UnitType.TPL, bytes(io))

    def data_unit(self, header: DataUnitHeader, payload: bytes) -> bytes:
        """An NDU."""
        io = BitWriter()
        header.code(io, 1, self._parameters.mps_parent_signalling_enabled_flag, self._budget)
        return unit_bytes(UnitType.NDU, bytes(io) + payload)
