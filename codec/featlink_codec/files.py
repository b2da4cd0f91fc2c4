"""A file is there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import FeatlinkError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing that gets its name when the block ends well: temporary name, fsync, rename.

    :raises FeatlinkError: it cannot be written, e.g. the disk is full; nothing is left behind
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FeatlinkError(f"{path}: {error.strerror or error}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `whole_file` does."""
    with whole_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
