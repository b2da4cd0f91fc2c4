"""What the steps of `auto` share: inputs, a folder to work in, and what was found so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..model.notes import Notes
from .build import BuildOptions
from .build_bench import judge_for
from .build_search import Target
from .build_step import BuildArguments, BuildInputs
from .calibrate import Progress
from .record import StepRecord, digest_of, package_version, plain
from .score import score_of_figures
from .scoring import Judge


def told(score: Mapping[str, Any]) -> str:
    """A score's figures in words."""
    found = score_of_figures(score)
    name = {"accuracy": "accuracy", "detections": "F1", "outputs": "1 - distortion"}[found.kind]
    return f"{name} {found.merit:.4f}, distortion {found.distortion:.3g}"


@dataclass(frozen=True)
class StepRow:
    """A step for the table on the last page."""

    name: str
    what: str
    seconds: float
    model_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Course:
    """One run of `auto`.

    :param given: of the build, as it was asked for
    :param notes: what stands there is not done again
    :param records: of the steps so far
    :param rows: the same for people
    """

    given: BuildArguments
    inputs: BuildInputs
    work: Path
    notes: Notes
    progress: Progress | None = None
    records: list[StepRecord] = field(default_factory=list)
    rows: list[StepRow] = field(default_factory=list)

    @cached_property
    def judge(self) -> Judge:
        """By the network as it was given, on the build's pictures."""
        options = BuildOptions(tensor="", target=Target(kbps=1), prepare=self.inputs.prepare, frames=self.given.frames)
        return judge_for(self.inputs.model, self.inputs.clip, options, self.inputs.labels)

    def noted(self, name: str, make: Callable[[], dict[str, Any]], *files: Path) -> dict[str, Any]:
        """What is known already, else made and noted, with the seconds that it took.

        :param files: that `make` writes: where one is gone or another, it is made again
        """
        known: dict[str, Any] | None = self.notes.get(name)
        if known is not None and all(
            file.is_file() and digest_of(file) == known["files"].get(file.name) for file in files
        ):
            return known
        begun = time.perf_counter()
        made: dict[str, Any] = plain(make())
        made["seconds"] = time.perf_counter() - begun
        made["files"] = {file.name: digest_of(file) for file in files}
        self.notes.put(name, made)
        return made

    def record(
        self,
        step: str,
        inputs: dict[str, str],
        options: dict[str, Any],
        figures: dict[str, Any],
        outputs: dict[str, str] | None = None,
    ) -> None:
        """A step that was done."""
        self.records.append(StepRecord(step, package_version(), inputs, plain(options), plain(figures), outputs or {}))
