"""The thresholds of a [[maps]] table: a file, derived once, that gives the same levels on every machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .arrays import array_bytes, read_array, refuse_array
from .maps import MapSettings


def write_thresholds(path: Path, thresholds: NDArray[np.float32], *, classes: bool = False) -> str:
    """Write a quantizer's thresholds as .npy 1.0, little-endian float32.

    :param thresholds: float32 [peak], not decreasing, finite but for the last one, which may be +inf
    :param classes: thresholds are [classes, peak of the deepest] instead, of which any number of last ones may be +inf
    :returns: the SHA-256 of the file, in hexadecimal
    :raises SettingsError: other thresholds, or the file cannot be written
    """
    if thresholds.dtype != np.float32 or thresholds.ndim != 1 + classes:
        expected = "float32 [classes, peak]" if classes else "float32 [peak]"
        refuse_array(path, f"thresholds of {thresholds.dtype} {list(thresholds.shape)}", expected)
    for row in thresholds.reshape(-1, thresholds.shape[-1]):
        _check_values(path, row, open_end=True, open_tail=classes)
    data = array_bytes(thresholds.astype("<f4"))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    return hashlib.sha256(data).hexdigest()


def read_thresholds(
    path: Path, sha256: str, peak: int, *, open_end: bool = False, classes: int | None = None
) -> NDArray[np.float32]:
    """The thresholds that `write_thresholds` wrote.

    :param sha256: of the file, 64 lower-case hexadecimal digits
    :param peak: how many there are, or, with classes, those of the deepest
    :param open_end: the last ones may be +inf, see `thresholds_of`
    :param classes: how many rows there are, one a class; None: one quantizer
    :returns: float32 [peak], or [classes, peak], read-only
    :raises SettingsError: no such file, another one, or anything in it that does not fit
    """
    shape = (peak,) if classes is None else (classes, peak)
    thresholds = read_array(path, "thresholds", sha256, "<f4", shape).astype(np.float32)
    for row in thresholds.reshape(-1, shape[-1]):
        _check_values(path, row, open_end, open_tail=classes is not None)
    thresholds.setflags(write=False)
    return thresholds


def thresholds_of(folder: Path | str, settings: MapSettings) -> NDArray[np.float32] | None:
    """The thresholds that an extractor's folder holds for a [[maps]] table: float32 [peak], read-only.

    Only a custom quantizer can end in +inf: its levels begin above their bounds, and above the largest binary32
    there is nothing else; and those of classes, of which some have fewer levels, or levels that no number reaches.

    :returns: None where none are stored: the quantizer derives its own
    :raises SettingsError: see `read_thresholds`
    """
    table = settings.quantizer
    if table.thresholds is None or table.thresholds_sha256 is None:
        return None
    path, sha256 = Path(folder) / table.thresholds, table.thresholds_sha256
    if table.classes is not None:
        peak = max(2**one.bit_depth - 1 for one in table.classes)
        return read_thresholds(path, sha256, peak, open_end=True, classes=len(table.classes))
    return read_thresholds(path, sha256, table.peak, open_end=table.mode == "custom")


def _check_values(path: Path, thresholds: NDArray[np.float32], open_end: bool, open_tail: bool = False) -> None:
    """Finite, but for +inf at an open end, or at an open tail of any length, and not decreasing."""
    finite = np.isfinite(thresholds)
    infinite = thresholds == np.inf
    finite[-1:] |= open_end & infinite[-1:]
    finite |= open_tail & infinite  # they do not decrease, so nothing else follows
    if not finite.all():
        at = int(np.argmin(finite))
        refuse_array(path, f"{thresholds[at]} as threshold of level {at + 1}", "a finite number")
    rising = thresholds[1:] >= thresholds[:-1]
    if not rising.all():
        at = int(np.argmin(rising)) + 1
        refuse_array(
            path, f"{thresholds[at]} as threshold of level {at + 1}", f"at least the one before, {thresholds[at - 1]}"
        )
