"""Pictures for the last page where no objects are looked for: what both networks answer, and the map between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featlink_codec.video.clip import Clip

from ..report.boxes import small_jpeg
from .build_maps import chosen_pictures
from .build_points import Bench, CodedPoint
from .page import Pair, Pictures
from .scoring import Judge

#: Pictures that are shown, how wide, and how well.
SHOWN, WIDTH, QUALITY = 4, 320, 88
#: Values are shown between these percentiles of a map.
_ENDS = (0.5, 99.5)


@dataclass(frozen=True)
class Answer:
    """What the networks make of a picture.

    :param whole: the class of the whole network's greatest number; None: its output is no list of classes
    :param split: of the split one
    :param label: the right one, where it is known
    :param distortion: squared error of the first output over that of the whole network's own variance
    """

    whole: int | None
    split: int | None
    label: int | None
    distortion: float

    @property
    def same(self) -> bool:
        """Whether both have the same class, or there are none."""
        return self.whole == self.split

    def said(self, answer: int | None, ours: bool) -> str:
        """In a line below the picture."""
        if answer is None:
            return f"distortion {self.distortion:.3g}" if ours else "the whole network's output"
        right = "" if self.label is None else ", right" if answer == self.label else ", wrong"
        changed = ", changed" if ours and not self.same and self.label is None else ""
        return f"class {answer}{right}{changed}"


def answer_pictures(judge: Judge, bench: Bench, chosen: CodedPoint, clip: Clip, frames: int) -> Pictures | None:
    """From each part of the pictures one, where the networks differ if there is such a one."""
    answers = _answers(judge, bench, chosen)
    count = len(answers)
    shown = []
    for part in range(min(SHOWN, count)):
        places = range(part * count // SHOWN, (part + 1) * count // SHOWN) or range(part, part + 1)
        shown.append(next((place for place in places if not answers[place].same), places[len(places) // 2]))
    if not shown:
        return None
    maps: dict[int, NDArray[Any]] = {}
    for place, one in enumerate(bench.decoded(chosen.way)):
        if place in shown:
            maps[place] = one[0]
        if place == max(shown):
            break
    pairs = []
    for place, (_, picture) in enumerate(chosen_pictures(clip, frames)):
        if place in maps:
            answer = answers[place]
            label = "" if answer.label is None else f": class {answer.label}"
            pairs.append(
                Pair(
                    f"Picture {picture.number}{label}",
                    small_jpeg(picture.frame, WIDTH, QUALITY, squares=True),
                    f"whole network, picture as it was: {answer.said(answer.whole, False)}",
                    map_jpeg(maps[place]),
                    f"split network, map as it came over the link: {answer.said(answer.split, True)}",
                )
            )
    return Pictures("What the two networks answer", pairs, _note(answers), boxes=False)


def _note(answers: list[Answer]) -> str:
    side = "Left the picture, right the map that went over the link, channel by channel."
    if any(one.whole is None for one in answers):
        worst = max(one.distortion for one in answers)
        return f"{side} Over {len(answers)} pictures the largest distortion of one is {worst:.3g}."
    same = sum(one.same for one in answers)
    said = f"{side} Both networks have the same top class on {same} of {len(answers)} pictures"
    if all(one.label is not None for one in answers):
        whole, split = (sum(getattr(one, name) == one.label for one in answers) for name in ("whole", "split"))
        said += f"; {whole} are right with the whole network, {split} with the split one"
    return f"{said}. Of each part of the pictures one is shown, one on which they differ where there is one."


def _answers(judge: Judge, bench: Bench, chosen: CodedPoint) -> list[Answer]:
    """Of all pictures in order."""
    run = bench.runner(chosen.way)
    found: list[Answer] = []
    for batch, outputs in judge.references():
        name = next(iter(outputs))
        ours = run(batch.inputs)[name]
        for at, (wanted, given) in enumerate(zip(outputs[name], ours, strict=True)):
            wanted, given = wanted.astype(np.float64), given.astype(np.float64)
            # A list of classes has one axis with more than one number.
            listed = wanted.size > 1 and sum(side > 1 for side in wanted.shape) == 1
            spread = float(wanted.var()) or 1.0
            found.append(
                Answer(
                    int(wanted.argmax()) if listed else None,
                    int(given.argmax()) if listed else None,
                    None if batch.labels is None else int(batch.labels[at]),
                    float(np.mean((given - wanted) ** 2)) / spread,
                )
            )
    return found


def map_jpeg(values: NDArray[Any]) -> bytes:
    """A JPEG of a map [C, H, W], its channels beside and below each other, dark to light by value."""
    channels, height, width = values.shape
    columns = max(1, math.ceil(math.sqrt(channels * height / width)))
    rows = math.ceil(channels / columns)
    low, high = (float(end) for end in np.percentile(values, _ENDS))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / (high - low if high > low else 1.0), 0, 1) * 255
    # A line between channels, as dark as the least value.
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    for at, channel in enumerate(scaled):
        row, column = divmod(at, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = channel
    return small_jpeg(Image.fromarray(sheet), WIDTH, QUALITY, squares=True)
