"""Pictures for the last page: what the whole network finds beside what the split one finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from featlink_codec.video.clip import Clip

from ..detector import Detection, match
from ..report.boxes import draw_boxes, small_jpeg
from .auto_answers import answer_pictures
from .build_maps import chosen_pictures
from .build_points import Bench, CodedPoint
from .page import Pair, Pictures
from .scoring import DetectorJudge, Judge

#: Pictures that are shown, and how wide.
SHOWN, WIDTH = 3, 640


def sample_pictures(judge: Judge, bench: Bench, chosen: CodedPoint, clip: Clip, frames: int) -> Pictures | None:
    """What both networks make of some pictures; None where their outputs cannot be told of a picture."""
    if isinstance(judge, DetectorJudge):
        pairs = _with_boxes(judge, bench, chosen, clip, frames)
        note = "Left the whole network on the picture, right the split network on the map that went over the link."
        return Pictures("What the two networks see", pairs, note)
    return answer_pictures(judge, bench, chosen, clip, frames)


def _with_boxes(judge: DetectorJudge, bench: Bench, chosen: CodedPoint, clip: Clip, frames: int) -> list[Pair]:
    """From each part of the pictures the one with most objects."""
    found: list[list[Detection]] = []
    run = bench.runner(chosen.way)

    def watched(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs: dict[str, NDArray[Any]] = run(inputs)
        found.extend(judge.detections(outputs))
        return outputs

    judge.score_of(watched)
    count = len(judge.reference)
    shown = []
    for part in range(min(SHOWN, count)):
        places = range(part * count // SHOWN, (part + 1) * count // SHOWN) or range(part, part + 1)
        shown.append(max(places, key=lambda place: len(judge.reference[place]) + len(found[place])))
    pairs = []
    for place, (_, picture) in enumerate(chosen_pictures(clip, frames)):
        if place in shown:
            whole, split = judge.reference[place], found[place]
            both, missed, extra = match(whole, split)
            jpeg = small_jpeg(picture.frame, WIDTH, 90)
            pairs.append(
                Pair(
                    f"Picture {picture.number}, {picture.time_s:.2f} s: {len(both)} found by both, "
                    f"{len(missed)} missed, {len(extra)} extra",
                    draw_boxes(jpeg, whole, [one for one, _ in both], "missed"),
                    "whole network, picture as it was",
                    draw_boxes(jpeg, split, [one for _, one in both], "extra"),
                    "split network, map as it came over the link",
                )
            )
    return pairs
