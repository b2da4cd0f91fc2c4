"""Which quantizer, at which cut: everything that can be chosen, measured at several cuts, and the best one written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, SsdDetectorTask
from featlink_codec.video.clip import Clip

from ..model.notes import Notes
from .build_points import Way
from .build_search import Target, explore, missed
from .calibrate import Progress
from .kept_judge import KeptJudge
from .pipeline import PrepareOptions, input_settings, write_variant
from .quantizer_cut import CutBench, QuantizerPoint, open_cut
from .quantizer_ways import BITS, compared_ways
from .samples import ClipSamples
from .score import Score
from .scoring import detector_judge, output_judge
from .split import open_graph

#: Pictures, half of them to choose on.
DEFAULT_FRAMES = 96
#: Quantizers of each cut whose QPs are looked at more closely.
CLOSER = 1


@dataclass(frozen=True)
class QuantizerOptions:
    """What is wanted.

    :param tensors: cuts
    :param target: a rate or an agreement
    :param prepare: what the model does not say itself
    :param frames: pictures, in runs of consecutive ones
    :param fps: pictures a second of the stream; None: the source's own
    :param bits: that quantizers are compared at
    """

    tensors: tuple[str, ...]
    target: Target
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    frames: int = DEFAULT_FRAMES
    fps: float | None = None
    bits: tuple[int, ...] = BITS

    def __post_init__(self) -> None:
        if not self.tensors or len(set(self.tensors)) != len(self.tensors):
            raise SettingsError("--tensors: expected the names of one or more cuts, each once, with commas between")
        for bits in self.bits:
            if not 2 <= bits <= 8:
                raise SettingsError(f"--bits: found {bits}, expected 2 to 8")


@dataclass(frozen=True)
class CutPoints:
    """What was measured at a cut.

    :param shape: channels, height, width
    :param minimum: of the map, on the pictures that were calibrated with
    :param uncoded: what the head gives on maps that were not coded: where things are chosen, and where reported
    :param points: all, by quantizer and QP
    """

    tensor: str
    shape: tuple[int, int, int]
    minimum: float
    maximum: float
    zeros: float
    uncoded: tuple[Score, ...]
    points: tuple[QuantizerPoint, ...]

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "uncoded": [one.figures() for one in self.uncoded],
            "points": [{"name": str(one.way), **one.figures()} for one in self.points],
        }


@dataclass(frozen=True)
class Quantized:
    """What came of it.

    :param chosen: the best point
    :param cut: its cut
    :param reason: in words
    :param settings: of the extractor that was written, None: none was asked for
    """

    cuts: tuple[CutPoints, ...]
    cut: CutPoints
    chosen: QuantizerPoint
    reason: str
    settings: ExtractorSettings | None
    fps: float
    options: QuantizerOptions

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tensor": self.cut.tensor,
            "chosen": self.chosen.figures(),
            "reason": self.reason,
            "fps": self.fps,
            "cuts": [cut.figures() for cut in self.cuts],
        }


def compare_quantizers(
    model: Path,
    clip: Clip,
    options: QuantizerOptions,
    work: Path,
    *,
    out: Path | None = None,
    notes: Notes | None = None,
    force: bool = False,
    progress: Progress | None = None,
    watch: Callable[[CutBench], None] | None = None,
) -> Quantized:
    """Measure quantizers at every cut, choose on half of the runs of pictures, report on the other half.

    :param work: folder for what lies around meanwhile; a stopped run finds its notes there
    :param out: folder of the extractor; None: none is written
    :param watch: given each cut once it is measured
    :param progress: called with (stage, steps done, steps in all)
    :raises SettingsError: anything that does not fit, or a target that nothing meets: says what comes nearest
    """
    notes = notes or Notes(None, "")
    tell = progress or (lambda stage, done, total: None)
    work.mkdir(parents=True, exist_ok=True)
    judge = _kept_judge(model, clip, options, work)
    benches: dict[str, CutBench] = {}
    cuts: list[CutPoints] = []
    for number, tensor in enumerate(options.tensors):
        bench = open_cut(
            model, tensor, clip, options.prepare, options.frames, options.fps, judge, work / f"cut-{number}", notes,
            progress,
        )  # fmt: skip
        cuts.append(_measure(bench, options, lambda done, total, at=number: tell(f"cut {at + 1}", done, total)))  # type: ignore[misc]
        benches[tensor] = bench
        if watch is not None:
            watch(bench)
    cut, chosen = _best(options.target, cuts)
    bench = benches[cut.tensor]
    reason = explain(options.target, cuts, cut, chosen)
    settings = None
    if out is not None:
        feature, video = chosen.way.settings(
            bench.settings.maps[0], bench.settings.video, bench.bench.largest, None, bench.fitter
        )
        settings = write_variant(out, bench.folder, bench.settings, feature, video, force, bench.fitter.folder)
    return Quantized(tuple(cuts), cut, chosen, reason, settings, bench.bench.fps, options)


def explain(target: Target, cuts: list[CutPoints], cut: CutPoints, chosen: QuantizerPoint) -> str:
    """Why this one, in words, with the figures of the pictures that nothing was chosen on."""
    mine, other = chosen.chosen_on, chosen.reported_on
    wanted = f"at most {target.kbps:g} kbit/s" if target.kbps is not None else f"at least {target.agreement:g}"
    said = [
        f"{chosen.way} at {cut.tensor}: of {sum(len(one.points) for one in cuts)} settings at {len(cuts)} cuts the "
        f"best for {wanted}: {mine.map_bytes:.0f} bytes a map, {mine.score}; on the other pictures "
        f"{other.map_bytes:.0f} bytes a map, {other.score}."
    ]
    rivals = [point for one in cuts for point in one.points if point.way.adaptive is None]
    best = target.best([point.chosen_on for point in rivals])
    if not rivals:
        said.append("No cut takes the standard's quantizers.")
    elif best is None:
        said.append("No standard quantizer that was measured meets it.")
    else:
        beside = next(point for point in rivals if point.chosen_on is best).reported_on
        said.append(
            f"The best standard quantizer, {best.way}: {best.map_bytes:.0f} bytes a map, {best.score}; on the other "
            f"pictures {beside.map_bytes:.0f}, {beside.score}."
        )
    return " ".join(said)


def _kept_judge(model: Path, clip: Clip, options: QuantizerOptions, work: Path) -> KeptJudge:
    if isinstance(options.prepare.task, SsdDetectorTask):
        return KeptJudge(detector_judge(model, options.prepare, clip, options.frames, runs=True), work)
    samples = ClipSamples(clip, input_settings(open_graph(model), options.prepare), runs=True)
    return KeptJudge(output_judge(model, samples, options.frames), work)


def _measure(bench: CutBench, options: QuantizerOptions, tell: Callable[[int, int], None]) -> CutPoints:
    feature, found = bench.bench.feature, bench.calibration
    known: dict[Way, QuantizerPoint] = {}

    def measure(way: Way) -> Any:
        known[way] = bench.measure(way)
        return known[way].chosen_on

    ways = compared_ways(feature.channels, bench.signed, options.bits)
    points = explore(options.target, measure, ways, CLOSER, tell)
    shape = (feature.channels, feature.height, feature.width)
    uncoded = bench.notes.get(f"uncoded {bench.tensor}")
    scores = tuple(bench.uncoded()) if uncoded is None else tuple(Score(**one) for one in uncoded)
    bench.notes.put(f"uncoded {bench.tensor}", [asdict(one) for one in scores])
    measured = tuple(known[point.way] for point in points)
    return CutPoints(bench.tensor, shape, found.minimum, found.maximum, found.zeros, scores, measured)


def _best(target: Target, cuts: list[CutPoints]) -> tuple[CutPoints, QuantizerPoint]:
    every = [(cut, point) for cut in cuts for point in cut.points]
    best = target.best([point.chosen_on for _, point in every])
    if best is None:
        raise SettingsError(missed(target, [point.chosen_on for _, point in every]))
    return next((cut, point) for cut, point in every if point.chosen_on is best)
