"""The thresholds of a [[maps]] table: a file, derived once, that gives the same levels on every machine."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .maps import MapSettings

#: More than the header of such a file takes (128 bytes as NumPy writes it).
_HEADER_LIMIT = 1024


def write_thresholds(path: Path, thresholds: NDArray[np.float32]) -> str:
    """Write a quantizer's thresholds as .npy 1.0, little-endian float32.

    :param thresholds: float32 [peak], not decreasing, finite but for the last one, which may be +inf
    :returns: the SHA-256 of the file, in hexadecimal
    :raises SettingsError: other thresholds, or the file cannot be written
    """
    if thresholds.dtype != np.float32 or thresholds.ndim != 1:
        _refuse(path, f"thresholds of {thresholds.dtype} {list(thresholds.shape)}", "float32 [peak]")
    _check_values(path, thresholds, open_end=True)
    file = io.BytesIO()
    np.lib.format.write_array(file, thresholds.astype("<f4"), version=(1, 0), allow_pickle=False)
    try:
        path.write_bytes(file.getvalue())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    return hashlib.sha256(file.getvalue()).hexdigest()


def read_thresholds(path: Path, sha256: str, peak: int, *, open_end: bool = False) -> NDArray[np.float32]:
    """The thresholds that `write_thresholds` wrote.

    :param sha256: of the file, 64 lower-case hexadecimal digits
    :param peak: how many there are
    :param open_end: the last one may be +inf, see `thresholds_of`
    :returns: float32 [peak], read-only
    :raises SettingsError: no such file, another one, or anything in it that does not fit
    """
    limit = _HEADER_LIMIT + 4 * peak
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                _refuse(path, f"{size} bytes", f"at most {limit} for float32 [{peak}]")
            data = file.read(limit)
    except OSError as error:
        _refuse(path, error.strerror or str(error), f"a file with thresholds, float32 [{peak}]")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        _refuse(path, f"SHA-256 {digest}", sha256)
    thresholds = _parse(path, data, peak)
    _check_values(path, thresholds, open_end)
    thresholds.setflags(write=False)
    return thresholds


def thresholds_of(folder: Path | str, settings: MapSettings) -> NDArray[np.float32] | None:
    """The thresholds that an extractor's folder holds for a [[maps]] table: float32 [peak], read-only.

    Only a custom quantizer can end in +inf: its levels begin above their bounds, and above the largest binary32
    there is nothing else.

    :returns: None where none are stored: the quantizer derives its own
    :raises SettingsError: see `read_thresholds`
    """
    table = settings.quantizer
    if table.thresholds is None or table.thresholds_sha256 is None:
        return None
    path = Path(folder) / table.thresholds
    return read_thresholds(path, table.thresholds_sha256, table.peak, open_end=table.mode == "custom")


def _parse(path: Path, data: bytes, peak: int) -> NDArray[np.float32]:
    """The values of a .npy file; nothing is ever unpickled, as only this one type is taken."""
    expected = f"a .npy file, version 1.0, of <f4 [{peak}]"
    file, magic = io.BytesIO(data), np.lib.format.magic(1, 0)
    if file.read(len(magic)) != magic:
        _refuse(path, f"a file that begins with {data[: len(magic)]!r}", expected)
    try:
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy's own, and what Python's parser makes of a header
        _refuse(path, " ".join(str(error).split()), expected)
    if dtype.str != "<f4" or shape != (peak,):
        _refuse(path, f"{dtype.str} {list(shape)}", expected)
    values = file.read()
    if len(values) != 4 * peak:
        _refuse(path, f"{len(values)} bytes behind the header", f"{4 * peak}")
    return np.frombuffer(values, dtype).astype(np.float32)


def _check_values(path: Path, thresholds: NDArray[np.float32], open_end: bool) -> None:
    """Finite, but for +inf at an open end, and not decreasing."""
    finite = np.isfinite(thresholds)
    finite[-1:] |= open_end & (thresholds[-1:] == np.inf)
    if not finite.all():
        at = int(np.argmin(finite))
        _refuse(path, f"{thresholds[at]} as threshold of level {at + 1}", "a finite number")
    rising = thresholds[1:] >= thresholds[:-1]
    if not rising.all():
        at = int(np.argmin(rising)) + 1
        _refuse(
            path, f"{thresholds[at]} as threshold of level {at + 1}", f"at least the one before, {thresholds[at - 1]}"
        )


def _refuse(path: Path, found: str, expected: str) -> NoReturn:
    raise SettingsError(f"{path}: found {found}, expected {expected}")
