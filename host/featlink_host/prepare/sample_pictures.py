"""Samples in arrays written out as image files: what takes pictures takes them then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featlink_codec.errors import SettingsError

from .calibrate import spread
from .rows import open_rows
from .samples import LABELS

#: Samples read at a time.
_BATCH = 64


def write_pictures(
    source: Path, labels: NDArray[np.int64] | None, folder: Path, limit: int
) -> tuple[Path, NDArray[np.int64] | None]:
    """Write samples, evenly spread, as PNG files; labels of the same ones.

    :param source: IDX, .npy or .npz: uint8 [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W]
    :param folder: made anew
    :raises SettingsError: not an array of pictures
    """
    arrays = open_rows(source)
    held = arrays.pop(LABELS, None) if len(arrays) > 1 else None
    if len(arrays) != 1:
        raise SettingsError(f"{source}: found arrays {', '.join(arrays)}, expected one of pictures")
    (rows,) = arrays.values()
    if rows.dtype != np.uint8 or len(rows.shape) not in (3, 4):
        raise SettingsError(
            f"{source}: found {rows.dtype} {list(rows.shape)}, expected pictures: uint8 [N, H, W], [N, H, W, C], or "
            "give a folder of images or a video"
        )
    if labels is None and held is not None:
        labels = next(held.read(range(held.count), held.count)).reshape(-1).astype(np.int64)
    if labels is not None and len(labels) != rows.count:
        raise SettingsError(f"found {len(labels)} labels for {rows.count} pictures, expected one each")
    if not rows.count:
        raise SettingsError(f"{source}: no images: found 0 samples")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    places = spread(rows.count, limit)
    number = 0
    for batch in rows.read(places, _BATCH):
        for one in batch:
            Image.fromarray(_samples(one, source)).save(folder / f"{number:06}.png")
            number += 1
    return folder, None if labels is None else labels[places]


def _samples(one: NDArray[Any], source: Path) -> NDArray[np.uint8]:
    """[H, W] or [H, W, 3]."""
    if one.ndim == 3 and one.shape[0] in (1, 3) and one.shape[2] not in (1, 3):
        one = one.transpose(1, 2, 0)
    if one.ndim == 3 and one.shape[2] == 1:
        one = one[..., 0]
    if one.ndim == 3 and one.shape[2] != 3:
        raise SettingsError(f"{source}: found pictures {list(one.shape)}, expected 1 or 3 channels")
    return np.ascontiguousarray(one)
