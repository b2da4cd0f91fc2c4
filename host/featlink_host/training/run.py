"""The whole recipe: pictures, the teacher's logits, training, ONNX, and how good the student is. Needs PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import sha256_of
from featlink_codec.files import write_whole

from ..prepare.samples import Preprocessing, open_samples
from ..prepare.scoring import Score, labelled_judge
from ..prepare.scoring_runs import ModelRunner
from .architecture import Architecture, student
from .data import Pictures, Progress, open_pictures, teacher_logits
from .distill import Trained, train_student
from .export import INPUT, OUTPUT, student_model
from .options import DistillOptions, Epoch

#: Most that onnxruntime's logits may differ from PyTorch's, as a share of the largest one.
TOLERANCE = 1e-4
#: Pictures on which they are compared.
COMPARED = 256


@dataclass(frozen=True)
class DistillFiles:
    """What the recipe reads.

    :param teacher: ONNX, from pictures to logits; None: trained on the labels alone
    :param test_images: looked at once, when all is done
    """

    images: Path
    labels: Path
    teacher: Path | None
    test_images: Path | None = None
    test_labels: Path | None = None

    def __post_init__(self) -> None:
        if (self.test_images is None) != (self.test_labels is None):
            raise SettingsError("test images need test labels, and the other way round")

    def digests(self) -> dict[str, str]:
        """SHA-256 by name."""
        return {name: sha256_of(path) for name, path in vars(self).items() if path is not None}


@dataclass(frozen=True, eq=False)
class Distilled:
    """A student as ONNX.

    :param history: of its epochs
    :param test: of the test pictures, by onnxruntime; None: none were given
    :param difference: of onnxruntime's logits from PyTorch's, the most, as a share of the largest logit
    """

    model: onnx.ModelProto
    architecture: Architecture
    options: DistillOptions
    with_teacher: bool
    history: tuple[Epoch, ...]
    test: Score | None
    difference: float

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "with_teacher": self.with_teacher,
            "parameters": self.architecture.parameters,
            "macs": self.architecture.macs,
            "bytes": self.model.ByteSize(),
            "options": asdict(self.options),
            "epochs": [asdict(epoch) for epoch in self.history],
            "held_out": self.history[-1].held_out,
            "test": None if self.test is None else self.test.value,
            "test_samples": None if self.test is None else self.test.samples,
            "onnxruntime_difference": self.difference,
        }


def distill(
    files: DistillFiles,
    options: DistillOptions,
    how: Preprocessing,
    folder: Path,
    progress: Progress | None = None,
) -> Distilled:
    """Train a student and export it.

    Of the pictures, a batch at a time is in memory.

    :param how: pictures to numbers, the teacher's and the student's
    :param folder: for what a stopped run goes on with; made where it is not there
    :param progress: called with ("pictures" | "teacher" | "train", steps done, steps in all)
    :raises SettingsError: files or options that do not fit
    :raises FeatlinkError: something cannot be written, or the exported student is not the trained one
    """
    inputs = files.digests()
    data = {name: inputs[name] for name in ("images", "labels")}
    with _state(folder, {**data, "teacher": inputs.get("teacher"), "scale": how.scale, "offset": how.offset}):
        pictures = open_pictures(files.images, files.labels, folder, how.scale, how.offset, progress)
        logits = None if files.teacher is None else teacher_logits(files.teacher, pictures, folder, progress)
        classes = pictures.classes if logits is None else logits.shape[1]
        _, channels, size, _ = pictures.values.shape
        architecture = student(options.width, channels, size, classes)
        given = {name: value for name, value in asdict(options).items() if value is not None}
        key = _key([inputs.get("teacher"), data, given, asdict(how), asdict(architecture)])
        checkpoint = folder / f"student-{key[:16]}.pt"
        trained = train_student(architecture, pictures, logits, options, checkpoint, key, progress)
        model = student_model(architecture, trained.student.arrays())
        difference = compare(model, trained, pictures)
    test = None
    if files.test_images is not None:
        test = labelled_judge(model, open_samples(files.test_images, files.test_labels, model, how)).score(model)
    return Distilled(model, architecture, options, logits is not None, trained.history, test, difference)


def compare(model: onnx.ModelProto, trained: Trained, pictures: Pictures) -> float:
    """How far onnxruntime's logits are from PyTorch's at most, as a share of the largest one.

    :raises FeatlinkError: by more than TOLERANCE
    """
    values = pictures.numbers(np.arange(min(COMPARED, len(pictures))))
    with torch.no_grad():
        wanted = trained.student(torch.from_numpy(values)).numpy()
    found = ModelRunner(model)({INPUT: values})[OUTPUT]
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference <= TOLERANCE:
        raise FeatlinkError(
            f"the exported student differs from the trained one: by {difference:.3g} of the largest logit, "
            f"expected at most {TOLERANCE:g}"
        )
    return difference


@contextmanager
def _state(folder: Path, what: dict[str, Any]) -> Iterator[None]:
    """The folder of what is kept; pictures and logits of other inputs are not taken for these."""
    key = _key(what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "inputs.txt"
        if not mark.exists():
            if any(folder.iterdir()):
                raise SettingsError(f"{folder}: found a folder with other files, expected a new or empty one")
            write_whole(mark, key)
        elif mark.read_text() != key:
            raise SettingsError(f"{folder}: of a run with other inputs: delete it, or name another folder")
        yield
    except OSError as error:
        raise FeatlinkError(f"{error.filename or folder}: {error.strerror or error}") from None


def _key(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
