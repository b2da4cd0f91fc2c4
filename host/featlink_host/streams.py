"""Bytes of a stream as they come: from a file, from a file that still grows, or from standard input."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from featlink_codec.errors import FeatlinkError

#: Bytes asked for at once.
CHUNK = 1 << 16
#: How often a growing file is looked at, in seconds.
POLL_S = 0.02


def read_chunks(name: str, *, follow: bool = False, patience_s: float = 10.0) -> Iterator[bytes]:
    """Chunks of the stream.

    :param name: a file, or ``-`` for standard input
    :param follow: wait for the file (or NAME.part, as a writer calls it until it is whole), and for more of it, until
        it is whole or nothing has come for `patience_s`
    :raises FeatlinkError: no such file, or it cannot be read on
    """
    try:
        if name == "-":
            while chunk := os.read(sys.stdin.fileno(), CHUNK):  # what is there, without waiting for a full chunk
                yield chunk
            return
        path = Path(name)
        yield from _follow(path, patience_s) if follow else _whole(path)
    except OSError as error:
        raise FeatlinkError(f"{name}: {error.strerror or error}") from None


def _whole(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _follow(path: Path, patience_s: float) -> Iterator[bytes]:
    part = path.with_name(path.name + ".part")
    waited_s = 0.0
    while not (found := next((p for p in (part, path) if p.exists()), None)):
        if waited_s >= patience_s:
            raise FeatlinkError(f"{path}: no such file, nor {part.name}, within {patience_s:g} s")
        time.sleep(POLL_S)
        waited_s += POLL_S
    with found.open("rb", buffering=0) as file:
        waited_s = 0.0
        while waited_s < patience_s:
            # Looked at before the read: a file that is whole by then has no more to come behind what is read.
            whole = not part.exists()
            if chunk := file.read(CHUNK):
                waited_s = 0.0
                yield chunk
            elif whole:
                return
            else:
                time.sleep(POLL_S)
                waited_s += POLL_S
