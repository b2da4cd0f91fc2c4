"""Arrays in an extractor's folder: .npy files, read only as the one type that is expected, nothing ever unpickled."""

from __future__ import annotations

import hashlib
import io
import math
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

#: More than the header of such a file takes (128 bytes as NumPy writes it).
_HEADER_LIMIT = 1024


def array_bytes(array: NDArray[np.generic]) -> bytes:
    """A .npy file, version 1.0."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_array(
    path: Path, what: str, sha256: str, kind: str, shape: tuple[int, ...] | None = None, *, most: int = 0
) -> NDArray[Any]:
    """The array of a .npy file.

    :param what: it holds, for messages
    :param sha256: of the file, 64 lower-case hexadecimal digits
    :param kind: its type as NumPy writes it: "<f4", "|u1"
    :param shape: None: any, of up to `most` elements
    :raises SettingsError: no such file, another one, or anything in it that does not fit
    """
    elements = most if shape is None else math.prod(shape)
    name = f"{np.dtype(kind).name} {'[...]' if shape is None else list(shape)}"
    limit = _HEADER_LIMIT + np.dtype(kind).itemsize * elements
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                refuse_array(path, f"{size} bytes", f"at most {limit} for {name}")
            data = file.read(limit)
    except OSError as error:
        refuse_array(path, error.strerror or str(error), f"a file with {what}, {name}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        refuse_array(path, f"SHA-256 {digest}", sha256)
    return _parse(path, data, kind, shape)


def _parse(path: Path, data: bytes, kind: str, shape: tuple[int, ...] | None) -> NDArray[Any]:
    expected = f"a .npy file, version 1.0, of {kind} {'[...]' if shape is None else list(shape)}"
    file, magic = io.BytesIO(data), np.lib.format.magic(1, 0)
    if file.read(len(magic)) != magic:
        refuse_array(path, f"a file that begins with {data[: len(magic)]!r}", expected)
    try:
        found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy's own, and what Python's parser makes of a header
        refuse_array(path, " ".join(str(error).split()), expected)
    if dtype.str != kind or (shape is not None and found != shape) or (fortran and len(found) > 1):
        refuse_array(path, f"{dtype.str} {list(found)}", expected)
    values, size = file.read(), dtype.itemsize * math.prod(found)
    if len(values) != size:
        refuse_array(path, f"{len(values)} bytes behind the header", f"{size}")
    return np.frombuffer(values, dtype).reshape(found)


def refuse_array(path: Path, found: str, expected: str) -> NoReturn:
    """:raises SettingsError: always."""
    raise SettingsError(f"{path}: found {found}, expected {expected}")
