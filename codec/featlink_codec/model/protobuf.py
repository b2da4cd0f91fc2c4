"""Protobuf's framing, as far as taking parts out of a message and putting them back needs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import StreamError

#: Kinds of fields on the wire.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True)
class WireField:
    """A field of a message.

    :param begin: offset of its tag in the message
    :param end: offset of the first byte after it
    :param value: of a number
    :param data: of BYTES, what is behind the length; nothing is copied
    """

    number: int
    kind: int
    begin: int
    end: int
    value: int
    data: memoryview


def wire_fields(message: memoryview, offset: int = 0) -> Iterator[WireField]:
    """The fields of a message, one after the other.

    :param offset: of the message in its file, for errors
    :raises StreamError: ``bad-graph``: not a protobuf message
    """
    at, size = 0, len(message)
    while at < size:
        begin = at
        tag, at = _varint(message, at, offset)
        number, kind = tag >> 3, tag & 7
        value, data = 0, message[at:at]
        if kind == VARINT:
            value, at = _varint(message, at, offset)
        elif kind == BYTES:
            length, at = _varint(message, at, offset)
            if length > size - at:
                raise StreamError("bad-graph", offset + begin, f"a field of {length} bytes, {size - at} are there")
            data = message[at : at + length]
            at += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            if width > size - at:
                raise StreamError("bad-graph", offset + begin, f"a number of {width} bytes, {size - at} are there")
            value = int.from_bytes(message[at : at + width], "little")
            at += width
        else:
            raise StreamError("bad-graph", offset + begin, f"a field of kind {kind}, which protobuf does not have")
        if number == 0:
            raise StreamError("bad-graph", offset + begin, "a field of number 0")
        yield WireField(number, kind, begin, at, value, data)


def packed_varints(data: memoryview, offset: int = 0) -> list[int]:
    """The numbers of a packed field.

    :raises StreamError: ``bad-graph``
    """
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at, offset)
        found.append(value)
    return found


def varint(value: int) -> bytes:
    """A number of 0 or more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_head(number: int, length: int) -> bytes:
    """Tag and length of a field of BYTES."""
    return varint(number << 3 | BYTES) + varint(length)


def _varint(message: memoryview, at: int, offset: int) -> tuple[int, int]:
    value = 0
    for k in range(_MAX_VARINT_BYTES):
        if at + k >= len(message):
            break
        byte = message[at + k]
        value |= (byte & 0x7F) << 7 * k
        if byte < 0x80:
            return value, at + k + 1
    raise StreamError("bad-graph", offset + at, "a number that does not end")
