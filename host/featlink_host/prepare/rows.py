"""Files whose samples stand one behind the other (IDX, .npy, .npz), read some at a time, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

#: Element types of the third byte of an IDX file.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
#: Bytes read at once where samples are skipped.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Rows:
    """An array in a file whose first axis is the samples'.

    :param path: the file
    :param entry: its name inside an .npz, else empty
    :param shape: of the whole array
    :param dtype: of its elements
    :param begin: bytes before the first sample
    """

    path: Path
    entry: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begin: int

    @property
    def count(self) -> int:
        """Samples."""
        return self.shape[0]

    def read(self, places: Sequence[int], size: int) -> Iterator[NDArray[Any]]:
        """Those samples, `size` at a time, in native byte order.

        :param places: in ascending order
        :raises SettingsError: the file is shorter than it says, or cannot be read
        """
        sample_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        with _opened(self.path, self.entry) as file:
            _skip(file, self.begin, self.path)
            at = 0
            for first in range(0, len(places), size):
                raw = bytearray()
                for place in places[first : first + size]:
                    _skip(file, (place - at) * sample_bytes, self.path)
                    raw += _read(file, sample_bytes, self.path)
                    at = place + 1
                values = np.frombuffer(raw, self.dtype).reshape(-1, *self.shape[1:])
                yield values.astype(self.dtype.newbyteorder("="), copy=False)


def open_rows(path: Path) -> dict[str, Rows]:
    """The arrays of a file by name; an IDX or .npy file's only one has the empty name.

    :raises SettingsError: no such file, or not such a file
    """
    if not path.is_file():
        raise SettingsError(f"{path}: no such file")
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
        except (OSError, zipfile.BadZipFile) as error:
            raise SettingsError(f"{path}: not an .npz file: {error}") from None
        if not names:
            raise SettingsError(f"{path}: there is no array in it")
        return {name[:-4]: _npy(path, name) for name in names}
    if path.suffix == ".npy":
        return {"": _npy(path, "")}
    return {"": _idx(path)}


def _npy(path: Path, entry: str) -> Rows:
    with _opened(path, entry) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, column_first, dtype = read(file)
        except ValueError as error:
            raise SettingsError(f"{path}: {entry or 'the file'} is no array: {error}") from None
        if column_first and len(shape) > 1:
            raise SettingsError(f"{path}: {entry or 'the array'} lies column by column, expected sample by sample")
        if not shape or dtype.hasobject:
            raise SettingsError(f"{path}: {entry or 'the array'} is {dtype} {list(shape)}, expected samples of numbers")
        return Rows(path, entry, tuple(shape), dtype, file.tell())


def _idx(path: Path) -> Rows:
    with _opened(path, "") as file:
        head = _read(file, 4, path)
        if head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not head[3]:
            raise SettingsError(
                f"{path}: neither IDX (as MNIST's files are), .npy, .npz, image, folder of images nor video"
            )
        sides = np.frombuffer(_read(file, 4 * head[3], path), ">u4")
        return Rows(path, "", tuple(int(side) for side in sides), np.dtype(_IDX_TYPES[head[2]]), 4 + 4 * head[3])


@contextmanager
def _opened(path: Path, entry: str) -> Iterator[IO[bytes]]:
    try:
        if entry:
            with zipfile.ZipFile(path) as archive, archive.open(entry) as inner:
                yield inner
        elif path.suffix == ".gz":
            with gzip.open(path) as unpacked:
                yield unpacked  # type: ignore[misc]  # a GzipFile is one but in name
        else:
            with path.open("rb") as plain:
                yield plain
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None


def _read(file: IO[bytes], count: int, path: Path) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise SettingsError(f"{path}: ends too early")
    return found


def _skip(file: IO[bytes], count: int, path: Path) -> None:
    while count > 0:
        count -= len(_read(file, min(count, _CHUNK), path))
