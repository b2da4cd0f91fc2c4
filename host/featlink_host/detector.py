"""Boxes out of an SSD head's outputs, and how far two lists of boxes agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, SsdDetectorTask


@dataclass(frozen=True, slots=True)
class Detection:
    """One object; the box is relative to the picture, 0..1, x to the right and y down."""

    label_id: int
    label: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float


class SsdDetector:
    """Decodes the head's outputs: anchors, sigmoid scores, non-maximum suppression class by class.

    :param anchors: float32 [N, 4]: ymin, xmin, ymax, xmax, relative
    :param labels: name of each label id, which is its column in the logits; column 0 is background
    :param task: thresholds and box scales
    :param max_detections: the best so many are kept
    :raises SettingsError: anchors of another shape
    """

    def __init__(
        self,
        anchors: NDArray[np.float32],
        labels: Mapping[int, str],
        task: SsdDetectorTask,
        max_detections: int = 100,
    ) -> None:
        if anchors.ndim != 2 or anchors.shape[1] != 4 or not len(anchors) or anchors.dtype.kind != "f":
            raise SettingsError(f"anchors: found {anchors.dtype} {list(anchors.shape)}, expected float32 [N, 4]")
        corners = anchors.astype(np.float32)
        self.labels = dict(labels)
        self.task = task
        self.max_detections = max_detections
        self._size = corners[:, 2:] - corners[:, :2]
        self._centre = (corners[:, 2:] + corners[:, :2]) / 2
        self._scales = np.array(task.box_scales, np.float32)
        # A little below the threshold's logit: rounding must not drop what the exact comparison would keep.
        score = task.score_threshold
        self._least_logit = math.inf if score >= 1 else math.log(score / (1 - score)) - 1e-3

    @classmethod
    def from_extractor(cls, folder: Path | str, settings: ExtractorSettings) -> SsdDetector:
        """The detector of an extractor whose task is "ssd-detector".

        :raises SettingsError: another task, or files that cannot be read
        """
        task = settings.task
        if not isinstance(task, SsdDetectorTask):
            raise SettingsError(f"{folder}: [task] kind: found {task.kind!r}, expected 'ssd-detector'")
        path = Path(folder) / task.anchors
        try:
            anchors = np.load(path, allow_pickle=False)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror or error}") from None
        except ValueError as error:
            raise SettingsError(f"{path}: not an array of numbers: {' '.join(str(error).split())}") from None
        return cls(anchors, read_labels(Path(folder) / task.labels), task)

    def __call__(self, boxes: NDArray[np.float32], logits: NDArray[np.float32]) -> list[Detection]:
        """The objects in one picture, best first.

        :param boxes: float32 [1, N, 4] or [N, 4]: encoded y, x, height, width
        :param logits: float32 [1, N, classes] or [N, classes]
        :raises SettingsError: arrays that do not fit the anchors
        """
        count = len(self._size)
        boxes = boxes.reshape(-1, boxes.shape[-1])
        logits = logits.reshape(-1, logits.shape[-1])
        if boxes.shape != (count, 4) or len(logits) != count or logits.shape[1] < 2:
            raise SettingsError(
                f"found boxes {list(boxes.shape)} and logits {list(logits.shape)}, "
                f"expected [{count}, 4] and [{count}, classes] for {count} anchors"
            )
        anchor, label = np.nonzero(logits[:, 1:] >= self._least_logit)
        label += 1
        with np.errstate(over="ignore"):  # exp(-logit) of a hopeless candidate is infinity and its score 0
            score = 1 / (1 + np.exp(-logits[anchor, label]))
        good = score >= np.float32(self.task.score_threshold)
        anchor, label, score = anchor[good], label[good], score[good]
        # Best first; equals by label and anchor, so that the order is the same everywhere.
        order = np.lexsort((anchor, label, -score))
        anchor, label, score = anchor[order], label[order], score[order]
        corners = self._decode(boxes[anchor], anchor)
        kept: list[int] = []
        for one in np.unique(label).tolist():
            kept += _suppress(corners, np.flatnonzero(label == one), self.task.iou_threshold)
        kept.sort()
        shown = corners.clip(0, 1).tolist()
        return [self._detection(int(label[k]), float(score[k]), shown[k]) for k in kept[: self.max_detections]]

    def _detection(self, label: int, score: float, corners: Sequence[float]) -> Detection:
        y0, x0, y1, x1 = corners
        return Detection(label, self.labels.get(label, f"id {label}"), score, x0, y0, x1, y1)

    def _decode(self, encoded: NDArray[np.float32], anchor: NDArray[np.intp]) -> NDArray[np.float32]:
        """Corners ymin, xmin, ymax, xmax, float32 [K, 4], of some anchors' encoded boxes."""
        scaled = encoded / self._scales
        size, centre = self._size[anchor], self._centre[anchor]
        centre = scaled[:, :2] * size + centre
        half = np.exp(scaled[:, 2:].clip(max=50)) * size / 2
        return np.concatenate([centre - half, centre + half], axis=1)


def read_labels(path: Path | str) -> dict[int, str]:
    """Names by label id from a text file: "id name" a line, # for comments.

    :raises SettingsError: the file cannot be read, or a line is not like that
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    labels: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, name = line.strip().partition(" ")
        if not (label.isascii() and label.isdigit() and name.strip()) or int(label) in labels:
            raise SettingsError(f"{path}: line {number}: found {line!r}, expected an id of its own, a space and a name")
        labels[int(label)] = name.strip()
    return labels


@dataclass(frozen=True)
class Agreement:
    """How far two lists of detections agree; sums over pictures with +.

    :param matched: in both, one to one
    :param missed: in the reference only
    :param extra: in the candidate only
    """

    matched: int = 0
    missed: int = 0
    extra: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.matched + other.matched, self.missed + other.missed, self.extra + other.extra)

    @property
    def recall(self) -> float:
        """Share of the reference's objects that the candidate has; 1 where there are none."""
        return self.matched / (self.matched + self.missed) if self.matched + self.missed else 1.0

    @property
    def precision(self) -> float:
        """Share of the candidate's objects that the reference has; 1 where there are none."""
        return self.matched / (self.matched + self.extra) if self.matched + self.extra else 1.0


def match(
    reference: Iterable[Detection], candidate: Iterable[Detection], score: float = 0.4, iou: float = 0.5
) -> tuple[list[tuple[Detection, Detection]], list[Detection], list[Detection]]:
    """Match detections of the same class one to one, greedily, the largest overlap first.

    :param score: detections below it do not count, on either side
    :param iou: only pairs that overlap by more match
    :returns: (pairs, reference without a match, candidate without a match)
    """
    ours = [one for one in reference if one.score >= score]
    theirs = [one for one in candidate if one.score >= score]
    overlap = _iou(_corners(ours)[:, None], _corners(theirs)[None, :])
    overlap[np.array([one.label_id for one in ours])[:, None] != np.array([one.label_id for one in theirs])] = -1
    pairs, lone_ours, lone_theirs = [], set(range(len(ours))), set(range(len(theirs)))
    while overlap.size and overlap.max() > iou:
        row, column = map(int, np.unravel_index(int(overlap.argmax()), overlap.shape))
        overlap[row, :] = -1
        overlap[:, column] = -1
        lone_ours.remove(row)
        lone_theirs.remove(column)
        pairs.append((ours[row], theirs[column]))
    return pairs, [ours[row] for row in sorted(lone_ours)], [theirs[column] for column in sorted(lone_theirs)]


def agreement(
    reference: Iterable[Detection], candidate: Iterable[Detection], score: float = 0.4, iou: float = 0.5
) -> Agreement:
    """How many `match`, and how many on either side do not."""
    pairs, missed, extra = match(reference, candidate, score, iou)
    return Agreement(len(pairs), len(missed), len(extra))


def _corners(detections: Sequence[Detection]) -> NDArray[np.float64]:
    return np.array([(one.y0, one.x0, one.y1, one.x1) for one in detections], np.float64).reshape(-1, 4)


def _suppress(corners: NDArray[np.float32], places: NDArray[np.intp], iou: float) -> list[int]:
    """Those places, best first, that no better one overlaps by more than `iou`."""
    kept: list[int] = []
    while len(places):
        kept.append(int(places[0]))
        places = places[1:][_iou(corners[places[0]], corners[places[1:]]) <= iou]
    return kept


def _iou(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of boxes ymin, xmin, ymax, xmax in the last axis; 0 where both are empty."""
    overlap = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(min=0)
    both = overlap[..., 0] * overlap[..., 1]
    union = _area(one) + _area(other) - both
    share: NDArray[np.floating] = np.divide(both, union, out=np.zeros_like(union), where=union > 0)
    return share


def _area(corners: NDArray[np.floating]) -> NDArray[np.floating]:
    size = (corners[..., 2:] - corners[..., :2]).clip(min=0)
    area: NDArray[np.floating] = size[..., 0] * size[..., 1]
    return area
