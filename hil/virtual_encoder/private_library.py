"""A copy of libv4l2 that looks for its plugins, and for the libraries it needs, where this project keeps them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from ..virtual_board.commands import BoardError

#: What libv4l2 gives to glob(3), compiled in.
PATTERN = re.compile(rb"/[\w/.-]+/libv4l/plugins/\*\.so\0")
#: Libraries are looked for beside this one. RPATH, not RUNPATH: those that they need, too.
SEARCH = b"$ORIGIN\0"
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_STRTAB, DT_RPATH, DT_RUNPATH = 0, 5, 15, 29
HEADERS = "<IIQQQQQQ"
ENTRY = "<QQ"


def private_copy(library: bytes, plugins: Path) -> bytes:
    """libv4l2, changed in two strings and one entry of its dynamic section.

    :param library: an ELF file of 64 bits
    :param plugins: folder of the plugins; its path has to be short
    :raises BoardError: the path is too long, or the library is not as it is expected to be
    """
    found = PATTERN.findall(library)
    if len(found) != 1:
        raise BoardError(f"libv4l2: found {len(found)} patterns of plugins, expected one")
    new = f"{plugins}/*.so".encode() + b"\0" + SEARCH
    if len(new) > (room := len(found[0])):
        raise BoardError(f"libv4l2: found the plugins' folder {plugins}, expected a path {len(new) - room} shorter")
    start = library.index(found[0])
    copy = bytearray(library)
    copy[start : start + len(found[0])] = new.ljust(len(found[0]), b"\0")
    entries = list(_dynamic(library))
    values = {tag: value for _, tag, value in entries}
    free = [at for at, tag, _ in entries if tag == DT_NULL]
    if len(free) < 2 or DT_RPATH in values or DT_RUNPATH in values or DT_STRTAB not in values:
        raise BoardError("libv4l2: found no room for a search path in its dynamic section")
    # The string lies outside of the table of strings; nothing looks for that table's end.
    distance = _address(library, start + new.index(SEARCH)) - values[DT_STRTAB]
    if distance < 0:
        raise BoardError("libv4l2: found its table of strings behind its constants, expected it before them")
    struct.pack_into(ENTRY, copy, free[0], DT_RPATH, distance)
    return bytes(copy)


def _segments(library: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, offset in the file, address and length in the file of each segment."""
    if library[:6] != b"\x7fELF\x02\x01":
        raise BoardError("libv4l2: found no little-endian ELF file of 64 bits")
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    for k in range(count):
        kind, _, offset, address, _, length, _, _ = struct.unpack_from(HEADERS, library, table + k * size)
        yield kind, offset, address, length


def _dynamic(library: bytes) -> Iterator[tuple[int, int, int]]:
    """Offset in the file, tag and value of each entry of the dynamic section, the unused ones too."""
    for kind, offset, _, length in _segments(library):
        if kind == PT_DYNAMIC:
            for at in range(offset, offset + length, struct.calcsize(ENTRY)):
                yield at, *struct.unpack_from(ENTRY, library, at)


def _address(library: bytes, offset: int) -> int:
    for kind, start, address, length in _segments(library):
        if kind == PT_LOAD and start <= offset < start + length:
            return address + offset - start
    raise BoardError("libv4l2: found its pattern of plugins in no segment that is loaded")
