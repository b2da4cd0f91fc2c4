"""Train a student after a teacher, or without one: seeded, and a run that was stopped goes on where it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from featlink_codec.errors import SettingsError
from featlink_codec.files import whole_file

from .architecture import Architecture
from .data import BATCH, Pictures
from .options import DistillOptions, Epoch
from .student import Student

#: Fewer cannot rise and fall.
LEAST_STEPS = 4

#: Told after each step: what is being done, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A student.

    :param student: in evaluation mode
    :param history: of its epochs, from the first
    """

    student: Student
    history: tuple[Epoch, ...]


def distillation_loss(
    student: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor | None,
    options: DistillOptions,
) -> torch.Tensor:
    """Mean L = alpha L_soft + beta L_hard of logits [N, classes], see `losses`; without a teacher L_hard alone."""
    hard = functional.cross_entropy(student, labels)
    if teacher is None:
        return hard
    t = options.temperature
    soft = functional.cross_entropy(student / t, functional.softmax(teacher / t, dim=1)) * t * t
    return options.alpha * soft + options.beta * hard


def split_held_out(count: int, hold_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places to train on, and places that are held out: the same ones for every seed."""
    if not 0 <= hold_out < count:
        raise SettingsError(f"hold-out: found {hold_out} of {count} pictures, expected fewer than there are")
    order = np.random.default_rng(0).permutation(count)
    return order[hold_out:], order[:hold_out]


def train_student(
    architecture: Architecture,
    pictures: Pictures,
    logits: NDArray[np.float32] | None,
    options: DistillOptions,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
) -> Trained:
    """Train a student with one thread; the same seed gives the same student on the same machine.

    :param logits: the teacher's, float32 [N, classes]; None: trained on the labels alone
    :param checkpoint: written after each epoch; where it is there already, training goes on behind it
    :param key: of everything that the student follows from, kept in the checkpoint
    :param progress: called with ("train", batches done, batches in all)
    :raises SettingsError: a checkpoint of another run, or options that do not fit the pictures
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(architecture, pictures, logits, options, checkpoint, key, progress)
    finally:
        torch.set_num_threads(threads)


def _train(
    architecture: Architecture,
    pictures: Pictures,
    logits: NDArray[np.float32] | None,
    options: DistillOptions,
    checkpoint: Path | None,
    key: str,
    progress: Progress | None,
) -> Trained:
    places, held_out = split_held_out(len(pictures), options.hold_out)
    if options.pictures is not None:
        if options.pictures > len(places):
            raise SettingsError(
                f"pictures: found {options.pictures}, expected at most {len(places)}, which are not held out"
            )
        places = places[: options.pictures]
    steps = len(places) // options.batch
    if not steps:
        raise SettingsError(f"batch: found {options.batch}, expected at most {len(places)}, the pictures to train on")
    torch.manual_seed(options.seed)
    # Channels last: depthwise convolutions and batch normalisation are much faster so.
    student = Student(architecture).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    total = steps * options.epochs
    if total < LEAST_STEPS:
        raise SettingsError(f"epochs: found {total} steps in all, expected at least {LEAST_STEPS}")
    # The rise takes two steps at least, or the schedule divides by nothing.
    rise = max(options.warm_up, 2 / total)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=total, pct_start=rise)
    parts = {"student": student, "optimizer": optimizer, "schedule": schedule}
    history = _resume(checkpoint, key, parts) if checkpoint is not None and checkpoint.exists() else []
    for epoch in range(len(history), options.epochs):
        student.train()
        order = np.random.default_rng([options.seed, epoch]).permutation(places)
        lost = 0.0
        for step in range(steps):
            some = order[step * options.batch : (step + 1) * options.batch]
            teacher = None if logits is None else torch.from_numpy(logits[some])
            found = student(torch.from_numpy(pictures.numbers(some)))
            loss = distillation_loss(found, torch.from_numpy(pictures.labels[some]), teacher, options)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            lost += float(loss.detach())
            if progress:
                progress("train", epoch * steps + step + 1, total)
        history.append(Epoch(lost / steps, _accuracy(student, pictures, held_out)))
        if checkpoint is not None:
            _keep(checkpoint, key, history, parts)
    student.eval()
    return Trained(student, tuple(history))


def _accuracy(student: Student, pictures: Pictures, places: NDArray[np.intp]) -> float | None:
    """Share of right labels; None where there is nothing to look at."""
    if not len(places):
        return None
    student.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(places), BATCH):
            some = places[first : first + BATCH]
            best = student(torch.from_numpy(pictures.numbers(some))).argmax(dim=1).numpy()
            right += int((best == pictures.labels[some]).sum())
    return right / len(places)


def _keep(checkpoint: Path, key: str, history: list[Epoch], parts: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    state = {name: part.state_dict() for name, part in parts.items()}
    buffer = io.BytesIO()
    torch.save({**state, "key": key, "history": [asdict(epoch) for epoch in history]}, buffer)
    with whole_file(checkpoint) as file:
        file.write(buffer.getbuffer())


def _resume(checkpoint: Path, key: str, parts: dict[str, Any]) -> list[Epoch]:
    """Put all parts back to where they were; the epochs that are behind them."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found = state["key"]
    except Exception as error:  # pickle's, zipfile's and PyTorch's own errors share no base
        raise SettingsError(f"{checkpoint}: not a checkpoint of this training: {error}") from None
    if found != key:
        raise SettingsError(f"{checkpoint}: of a run with other inputs or options: delete it, or name another folder")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return [Epoch(**epoch) for epoch in state["history"]]
