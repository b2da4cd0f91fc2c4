"""A few cuts coded for a trial: what is sent is known only when an encoder has sent it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.video.clip import Clip

from ..model.notes import Notes
from .build import BuildOptions
from .build_bench import judge_for, open_bench, split_extractor
from .build_points import CodedPoint, Way, point_of
from .build_search import Target, explore
from .calibrate import Progress
from .kept_judge import KeptJudge
from .quantizer_fits import AdaptiveChoice

#: Pictures of a trial, in runs of consecutive ones; with labels more, since a picture counts only once then.
FRAMES, LABELLED_FRAMES = 24, 96
#: QPs that 8-bit levels are tried at, before the search closes in on the target.
QPS = (16, 26, 36)


@dataclass(frozen=True)
class Trial:
    """What came of a cut.

    :param signed: its map has values below 0
    :param points: ways that were measured; none: it could not be tried
    :param refusal: why
    """

    tensor: str
    signed: bool
    points: tuple[CodedPoint, ...]
    refusal: str = ""

    def figures(self) -> dict[str, Any]:
        """For JSON, and for `trial_of`."""
        points = [point.figures() for point in self.points]
        return {"tensor": self.tensor, "signed": self.signed, "points": points, "refusal": self.refusal}

    def best(self, target: Target) -> CodedPoint | None:
        """By the target, whether it is met or not: then what comes nearest."""
        return target.best(self.points) or nearest(target, self.points)


def trial_of(figures: Mapping[str, Any]) -> Trial:
    """The trial of its figures."""
    points = tuple(point_of(one) for one in figures["points"])
    return Trial(figures["tensor"], figures["signed"], points, figures["refusal"])


def trial_ways(signed: bool) -> list[Way]:
    """A reduced list of what a build tries: 8 bits at a few QPs, and fewer bits without loss."""
    if signed:
        kind, few = Way.adapted(AdaptiveChoice(), None), Way.adapted(AdaptiveChoice(depth=6), None)
    else:
        kind, few = Way("uniform", 8, None), Way("uniform", 4, None)
    return [*(replace(kind, qp=qp) for qp in QPS), few]


def run_trials(
    model: Path,
    tensors: Sequence[str],
    clip: Clip,
    options: BuildOptions,
    work: Path,
    *,
    labels: NDArray[Any] | None = None,
    reference: Path | None = None,
    notes: Notes,
    progress: Progress | None = None,
) -> list[Trial]:
    """Code the maps of each cut a few ways, on the same pictures.

    :param options: of the build that is to follow; its tensor and pictures are replaced
    :param work: what lies around meanwhile; notes are kept of every point
    :param reference: the network that agreement is measured against, where it is not the model itself
    :param progress: called with ("trials", points measured, points in all about)
    """
    found: list[Trial] = []
    kept: list[KeptJudge] = []
    each = len(trial_ways(False)) + 4
    tell = progress or (lambda stage, done, total: None)
    most = FRAMES if labels is None else LABELLED_FRAMES
    options = replace(options, frames=min(most, options.frames))

    def judge() -> KeptJudge:
        if not kept:
            kept.append(KeptJudge(judge_for(reference or model, clip, options, labels), work))
        return kept[0]

    for number, tensor in enumerate(tensors):
        known = notes.get(f"trial {tensor}")
        if known is None:

            def told(done: int, total: int, number: int = number) -> None:
                tell("trials", number * each + min(done, each), each * len(tensors))

            known = _trial(model, replace(options, tensor=tensor), clip, work, judge, notes, told).figures()
            notes.put(f"trial {tensor}", known)
        found.append(trial_of(known))
        tell("trials", (number + 1) * each, each * len(tensors))
    return found


def _trial(
    model: Path,
    options: BuildOptions,
    clip: Clip,
    work: Path,
    judge: Callable[[], KeptJudge],
    notes: Notes,
    told: Callable[[int, int], None],
) -> Trial:
    folder = work / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    signed = False
    try:
        # No copy of the network for a trial, nor a search for the packing.
        small = replace(options, prepare=replace(options.prepare, keep_whole=False))
        prepared = split_extractor(model, clip, folder, small)
        signed = prepared.calibration.minimum < 0
        bench = open_bench(
            prepared.folder, prepared.settings, prepared.calibration, model, clip, small, judge(), folder
        )

        def measure(way: Way) -> CodedPoint:
            name = f"trial {options.tensor} {way}"
            known = notes.get(name)
            if known is None:
                known = bench.measure(way).figures()
                notes.put(name, known)
            return point_of(known)

        points = explore(options.target, measure, trial_ways(signed), closer=2, progress=told)
    except FeatlinkError as error:
        return Trial(options.tensor, signed, (), str(error).splitlines()[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Trial(options.tensor, signed, tuple(points))


def choose_trial(target: Target, trials: Sequence[Trial]) -> Trial:
    """The cut that the target likes best; where it is met by none, the one that comes nearest.

    Within a rate, cuts whose best merits differ by less than a standard error (few objects, few labels) count as
    equal, and the least distortion at the very rate is taken, between two QPs as the curve goes: a QP more or less
    would else decide.

    :raises SettingsError: none could be tried; says why
    """
    points = [point for trial in trials for point in trial.points]
    if not points:
        why = "; ".join(f"{trial.tensor}: {trial.refusal}" for trial in trials)
        raise SettingsError(f"none of the cuts could be tried: {why}")
    if target.kbps is not None and any(target.met_by(point) for point in points):
        scores = [[one.score for one in trial.points if target.met_by(one)] for trial in trials]
        top = max((one for some in scores for one in some), key=lambda score: score.merit)
        # Where nothing is counted, merit is the distortion by another name.
        least = top.merit - top.uncertainty if top.counted else -1.0
        equal = [trial for trial, some in zip(trials, scores, strict=True) if any(one.merit >= least for one in some)]
        return min(equal, key=lambda trial: distortion_at(trial, target.kbps or 0.0))
    best = target.best(points) or nearest(target, points)
    return next(trial for trial in trials if any(point is best for point in trial.points))


def distortion_at(trial: Trial, kbps: float) -> float:
    """The least distortion of a cut within a rate: between QPs by the logarithms of both; infinite where none is."""
    within = [one.score.distortion for one in trial.points if one.kbps <= kbps]
    least = min(within, default=math.inf)
    lossy = sorted((one for one in trial.points if one.way.qp is not None), key=lambda one: one.kbps)
    for low, high in pairwise(lossy):
        ends = low.score.distortion, high.score.distortion
        if low.kbps <= kbps < high.kbps and 0 < ends[1] < ends[0] < math.inf:
            share = math.log(kbps / low.kbps) / math.log(high.kbps / low.kbps)
            least = min(least, ends[0] * (ends[1] / ends[0]) ** share)
    return least


def nearest(target: Target, points: Sequence[CodedPoint]) -> CodedPoint | None:
    """What misses the target least; of merits within a standard error of the best the cheapest."""
    if target.kbps is not None:
        return min(points, key=lambda one: one.kbps, default=None)
    top = max((one.score for one in points), key=lambda score: score.merit, default=None)
    equal = [one for one in points if top is not None and one.score.merit >= top.merit - top.uncertainty]
    return min(equal, key=lambda one: (one.kbps, -one.score.merit), default=None)
