"""A model stream in units, however broken, and units put together again."""

from __future__ import annotations

#: What sits on the edges of checks.
EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\0\3", b"\x80\0\0\5", b"\x7f\xff", b"\xff" * 8)
NUMBERS = (0, 1, 2, 3, 7, 8, 31, 63, 127, 128, 255, 256, 4095, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def split(data: bytes) -> list[bytes]:
    """Units by their lengths, as far as these make sense; the rest is one piece."""
    pieces, at = [], 0
    while at + 3 <= len(data):
        wide = data[at] >> 7
        size = int.from_bytes(data[at : at + 2 + 2 * wide], "big") & ((1 << 31) - 1 if wide else (1 << 15) - 1)
        if size < 3 + 2 * wide or at + size > len(data):
            break
        pieces.append(data[at : at + size])
        at += size
    return pieces + ([data[at:]] if at < len(data) else [])


def body(piece: bytes) -> bytes:
    """A unit without its length: what is behind, beginning with the byte that has the type."""
    return piece[4 if piece[0] >> 7 else 2 :]


def framed(inside: bytes, wide: bool = False) -> bytes:
    """A unit of such a body, its length right."""
    wide = wide or len(inside) + 2 >= 1 << 15
    size = len(inside) + (4 if wide else 2)
    return (size | wide << 31).to_bytes(4, "big") + inside if wide else size.to_bytes(2, "big") + inside


def kind_of(piece: bytes) -> int:
    """Its nnr_unit_type; -1 for what is no unit."""
    inside = body(piece) if piece else b""
    return inside[0] >> 2 if inside else -1
