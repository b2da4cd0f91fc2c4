"""The [task] table of extractor.toml: what the head's outputs mean and the files that this needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from .fields import FILE_NAME, Choice, FieldError, Many, Number, Text, check_fields, read_table


@dataclass(frozen=True)
class NoTask:
    """[task] kind = "none": the head's outputs are given as they are."""

    TABLE: ClassVar[str] = "task"

    kind: Annotated[str, Choice("none")] = "none"

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(key, name) of the task's own files."""
        return ()


@dataclass(frozen=True, kw_only=True)
class SsdDetectorTask:
    """[task] kind = "ssd-detector": boxes over anchors, one logit a class, column 0 being background."""

    TABLE: ClassVar[str] = "task"

    kind: Annotated[str, Choice("ssd-detector")] = "ssd-detector"
    #: .npy, float32 [N, 4]: ymin, xmin, ymax, xmax, relative
    anchors: Annotated[str, FILE_NAME]
    #: one "id name" a line
    labels: Annotated[str, FILE_NAME]
    #: detections below it are dropped
    score_threshold: Annotated[float, Number(above=0, high=1)] = 0.4
    #: of two boxes of a class that overlap by more, the weaker goes
    iou_threshold: Annotated[float, Number(low=0, high=1)] = 0.5
    #: the encoded y, x, height and width are divided by these (the inverse of SSD's "variances")
    box_scales: Annotated[tuple[float, ...], Many(Number(above=0), 4, 4)] = (10.0, 10.0, 5.0, 5.0)
    #: the head's outputs: [1, N, 4] and [1, N, classes]
    boxes_output: Annotated[str, Text()] = "boxes"
    logits_output: Annotated[str, Text()] = "logits"

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(key, name) of the task's own files."""
        return ("anchors", self.anchors), ("labels", self.labels)


Task = NoTask | SsdDetectorTask
#: Every kind of task; a new one is a class here.
TASKS: dict[str, type[NoTask] | type[SsdDetectorTask]] = {"none": NoTask, "ssd-detector": SsdDetectorTask}


def read_task(data: object) -> Task:
    """The [task] table by its kind (FieldError)."""
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if isinstance(kind, str) and kind in TASKS:
        return read_table(TASKS[kind], data, "task")
    raise FieldError("task", "kind", "nothing" if kind is None else repr(kind), Choice(*TASKS).expected)
