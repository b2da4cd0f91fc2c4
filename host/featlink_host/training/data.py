"""What a student is trained on: pictures in a file, read a batch at a time in any order; labels, teacher's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..prepare.rows import open_rows
from ..prepare.samples import read_labels
from ..prepare.scoring_runs import ModelRunner

#: Pictures looked at together where their order does not matter.
BATCH = 500

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Square pictures with labels.

    :param values: uint8 [N, C, H, W], in a file, not in memory
    :param labels: int64 [N]
    :param scale: a sample x becomes x * scale + offset
    """

    values: NDArray[np.uint8]
    labels: NDArray[np.int64]
    scale: float
    offset: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """One more than the greatest label."""
        return int(self.labels.max()) + 1

    def numbers(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """What a network takes: float32 [len(places), C, H, W]."""
        return self.values[places].astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


def open_pictures(
    images: Path, labels: Path, folder: Path, scale: float, offset: float, progress: Progress | None = None
) -> Pictures:
    """Pictures and labels of IDX, .npy or .npz files.

    A gzipped file can only be read from its beginning: the pictures are copied to folder/pictures.npy as they are.

    :param folder: for that file; one that is there already is taken as it is
    :raises SettingsError: files that are not such, or do not fit together
    """
    rows = next(iter(open_rows(images).values()))
    sides = rows.shape[1:]
    if rows.dtype != np.uint8 or len(sides) not in (2, 3) or sides[-1] != sides[-2] or not rows.count:
        raise SettingsError(
            f"{images}: found {rows.dtype} {list(rows.shape)}, expected uint8 [N, H, W] or [N, C, H, W], square"
        )
    known = read_labels(labels)
    if len(known) != rows.count:
        raise SettingsError(f"{labels}: found {len(known)} labels for {rows.count} pictures, expected one each")
    if known.min() < 0:
        raise SettingsError(f"{labels}: found label {known.min()}, expected 0 and up")
    shape = (rows.count, *((1, *sides) if len(sides) == 2 else sides))
    file = folder / "pictures.npy"
    if not file.exists():
        part = folder / "pictures.part.npy"
        values = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        at = 0
        for some in rows.read(range(rows.count), BATCH):
            values[at : at + len(some)] = some.reshape(-1, *shape[1:])
            at += len(some)
            if progress:
                progress("pictures", at, rows.count)
        values.flush()
        part.replace(file)
    held: Any = np.load(file, mmap_mode="r")
    if held.shape != shape or held.dtype != np.uint8:
        raise SettingsError(f"{file}: found {held.dtype} {list(held.shape)}, expected uint8 {list(shape)}: delete it")
    return Pictures(held, known, scale, offset)


def teacher_logits(
    teacher: Path, pictures: Pictures, folder: Path, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Logits of all pictures, float32 [N, classes]: the teacher is run once, folder/teacher.npy keeps them.

    :raises SettingsError: the teacher cannot be run on these pictures, or gives something else
    """
    file = folder / "teacher.npy"
    if not file.exists():
        run = ModelRunner(teacher)
        if len(run.inputs) != 1:
            raise SettingsError(f"{teacher}: takes {len(run.inputs)} inputs, expected one")
        parts = []
        for first in range(0, len(pictures), BATCH):
            places = np.arange(first, min(first + BATCH, len(pictures)))
            parts.append(run({run.inputs[0]: pictures.numbers(places)})[run.outputs[0]])
            if progress:
                progress("teacher", first + len(places), len(pictures))
        found = np.concatenate(parts)
        if found.shape[1:] != (found.size // len(pictures),) or found.shape[1] < pictures.classes:
            raise SettingsError(
                f"{teacher}: gives {list(found.shape)}, expected [{len(pictures)}, {pictures.classes} or more classes]"
            )
        part = folder / "teacher.part.npy"
        np.save(part, found.astype(np.float32))
        part.replace(file)
    held: NDArray[np.float32] = np.load(file)
    return held
