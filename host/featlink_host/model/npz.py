"""Tensors in NumPy's .npz files, written whole and one tensor at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.files import whole_file

Tensor = NDArray[Any]


def write_npz(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Tensors by name; returns how many.

    :raises FeatlinkError: it cannot be written; nothing is left behind
    """
    count = 0
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in tensors:
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(values), allow_pickle=False)
            count += 1
    return count


def read_npz(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Tensors by name.

    :param wanted: names that must be there
    :raises SettingsError: not such a file, or one of the names is missing
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise SettingsError(f"{path}: one array, expected an .npz of several")
            found = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{path}: not an .npz file: {error}") from None
    for name in wanted:
        if name not in found:
            raise SettingsError(f"{path}: no array {name!r}; there are {', '.join(found) or 'none'}")
    return found
