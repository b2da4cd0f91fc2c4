"""What is sent instead of features: the picture as the network takes it, as x265 video, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.extractor import ExtractorSettings, InputSettings
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import Clip

from ..model.notes import Notes
from ..report.rivals import X265Rival
from .build_maps import KeptMaps, chosen_pictures
from .build_points import RunJudge
from .calibrate import Progress
from .planner import running_mean
from .score import Score, score_of_figures
from .scoring_runs import ModelRunner

Tensor = NDArray[Any]
#: Constant rate factors that are tried.
CRFS = (14.0, 20.0, 26.0, 32.0, 38.0, 44.0)


@dataclass(frozen=True)
class RivalPoint:
    """What the pictures cost at one CRF, and what the whole network makes of them."""

    crf: float
    picture_bytes: float
    kbps: float
    score: Score

    def figures(self) -> dict[str, Any]:
        """For JSON, and for `rival_of`."""
        return {**asdict(self), "score": self.score.figures()}


def rival_of(figures: Mapping[str, Any]) -> RivalPoint:
    """The point of its figures."""
    return RivalPoint(figures["crf"], figures["picture_bytes"], figures["kbps"], score_of_figures(figures["score"]))


def measure_rivals(
    crfs: Sequence[float],
    model: Path,
    judge: RunJudge,
    clip: Clip,
    frames: int,
    settings: ExtractorSettings,
    maps: KeptMaps,
    every: int,
    fps: float,
    notes: Notes,
    progress: Progress | None = None,
) -> list[RivalPoint]:
    """Every CRF, and what is known of them already; none where x265 does not take pictures of that size."""
    found: list[RivalPoint] = []
    whole = ModelRunner(model)
    size, refresh_s = settings.input, settings.video.refresh_s
    for done, crf in enumerate(crfs, 1):
        known = notes.get(f"rival {crf:g}")
        if known is None:
            try:
                point = measure_rival(crf, whole, judge, clip, frames, size, maps, every, fps, refresh_s)
            except (SettingsError, EncoderError):
                return []
            known = point.figures()
            notes.put(f"rival {crf:g}", known)
        found.append(rival_of(known))
        if progress:
            progress("video", done, len(crfs))
    return found


def measure_rival(
    crf: float,
    whole: ModelRunner,
    judge: RunJudge,
    clip: Clip,
    frames: int,
    size: InputSettings,
    maps: KeptMaps,
    every: int,
    fps: float,
    refresh_s: float,
) -> RivalPoint:
    """Code the same pictures with x265, as they are in the network's size, and run the whole network on them.

    :raises SettingsError: x265 does not take pictures of that size
    """
    sizes: list[tuple[int, bool]] = []
    score = judge.score_of(_runner(crf, whole, clip, frames, size, maps, fps, refresh_s, sizes))
    refreshes = [one for one, refresh in sizes if refresh]
    following = [one for one, refresh in sizes if not refresh]
    nbytes = running_mean(refreshes, following, every)
    return RivalPoint(crf, nbytes, nbytes * 8 * fps / 1e3, score)


def _runner(
    crf: float,
    whole: ModelRunner,
    clip: Clip,
    frames: int,
    size: InputSettings,
    maps: KeptMaps,
    fps: float,
    refresh_s: float,
    sizes: list[tuple[int, bool]],
) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    def seen() -> Iterator[Tensor]:
        rival = X265Rival(crf, size, refresh_s, 1 / fps)
        preprocess = Preprocessor(size)
        times = maps.stream_times(refresh_s)
        intra_s = -math.inf
        for (_, picture), time_s in zip(chosen_pictures(clip, frames), times, strict=False):
            # As the rival does itself: a run begins with an intra picture, as the maps do.
            intra = time_s - intra_s >= refresh_s - 1e-6
            intra_s = time_s if intra else intra_s
            nbytes, frame = rival.code(picture.frame, time_s)
            sizes.append((nbytes, intra))
            yield preprocess(frame)

    pictures = seen()

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        count = len(next(iter(inputs.values())))
        return whole({size.tensor: np.concatenate([next(pictures) for _ in range(count)])})

    return run


def merit_at(points: Sequence[RivalPoint], kbps: float) -> float | None:
    """The rival's merit at a rate, between two measured points by the rate's logarithm.

    Above the highest measured rate: what it reaches there, since it could stay at it; None below the lowest.
    """
    ordered = sorted(points, key=lambda one: one.kbps)
    if ordered and kbps >= ordered[-1].kbps:
        return max(one.score.merit for one in ordered)
    for low, high in pairwise(ordered):
        if low.kbps <= kbps <= high.kbps:
            share = math.log(kbps / low.kbps) / math.log(high.kbps / low.kbps) if high.kbps > low.kbps else 0.0
            return low.score.merit + share * (high.score.merit - low.score.merit)
    return None


def kbps_at(points: Sequence[RivalPoint], merit: float) -> float | None:
    """The least rate at which the rival reaches a merit, of the measured points; None: none does."""
    return min((one.kbps for one in points if one.score.merit >= merit), default=None)
