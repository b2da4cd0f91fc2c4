"""Where the stream goes: a file that takes its name only when it is whole, or standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

from featlink_codec.errors import FeatlinkError


class Sink(Protocol):
    """Takes the bytes of a stream."""

    def write(self, data: bytes) -> None:
        """Pass `data` on at once.

        :raises FeatlinkError: it cannot be taken
        """

    def commit(self) -> None:
        """The stream is whole."""

    def abort(self) -> None:
        """The stream will never be whole."""


class FileSink:
    """Writes to NAME.part, which a reader may follow, and renames it to NAME when the stream is whole.

    :param path: NAME; a file of that name is replaced
    :raises FeatlinkError: NAME.part cannot be made
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        try:
            self._file: BinaryIO = self._part.open("wb", buffering=0)
        except OSError as error:
            raise FeatlinkError(f"{self._part}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Write all of it, unbuffered, for those who follow the file."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise FeatlinkError(f"{self._part}: {error.strerror}") from None

    def commit(self) -> None:
        """Make it durable, then give it its name."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            self.abort()
            raise FeatlinkError(f"{self._path}: {error.strerror}") from None

    def abort(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class PipeSink:
    """Standard output."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer

    def write(self, data: bytes) -> None:
        """Write and flush."""
        try:
            self._out.write(data)
            self._out.flush()
        except OSError as error:  # a closed pipe, above all
            raise FeatlinkError(f"standard output: {error.strerror}; whoever read the stream has gone") from None

    def commit(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """What was sent cannot be called back; the reader sees that the end code is missing."""


def open_sink(name: str) -> Sink:
    """The sink that a user named: a file, or ``-`` for standard output."""
    return PipeSink() if name == "-" else FileSink(Path(name))
