"""The last step: an extractor with the packing, quantizer and video settings that suit a rate or an agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, sha256_of
from featlink_codec.files import write_whole
from featlink_codec.model.onnx_file import write_onnx
from featlink_codec.model.stream_files import opened
from featlink_codec.video.clip import Clip
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits

from ..model.job import Job, run_job
from ..model.notes import Notes
from .build_bench import check_sign, judge_for, open_bench, split_extractor
from .build_points import Bench, CodedPoint, Way, point_of
from .build_rivals import CRFS, RivalPoint, measure_rivals
from .build_search import Target, build_kinds, search, with_qps
from .calibrate import Calibration, Progress, calibrate
from .folder import check_free
from .graph import load_model
from .kept_judge import KeptJudge
from .orders import MAX_SIMILARITY_CHANNELS, ORDERS
from .pipeline import PrepareOptions, write_variant
from .planner import Plan, plan, planned_grids
from .scoring import Judge, Score

#: Pictures that everything is tried on.
DEFAULT_FRAMES = 48
STREAM_FILE = "backbone.nnc"


@dataclass(frozen=True)
class BuildOptions:
    """What is wanted.

    :param tensor: where to split
    :param target: a rate or an agreement
    :param prepare: what the model does not say itself
    :param limits: of the camera's encoder; None: libx265's
    :param frames: pictures, in runs of consecutive ones
    :param fps: pictures a second of the stream; None: the source's own
    :param model_qp: of the backbone's model stream; None: lossless
    :param modes: quantizers to try; a map with values below 0 has adaptive ones only
    :param depths: bits of a level to try
    :param crfs: of the rival, x265 of the pictures; empty: no rival
    :param orders: of channels, to try
    :param standard_only: a map with values below 0 is refused
    """

    tensor: str
    target: Target
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    limits: EncoderLimits | None = None
    frames: int = DEFAULT_FRAMES
    fps: float | None = None
    model_qp: int | None = None
    modes: tuple[str, ...] = ("uniform", "logarithmic")
    depths: tuple[int, ...] = (2, 4, 8)
    crfs: tuple[float, ...] = CRFS
    orders: tuple[str, ...] = tuple(ORDERS)
    standard_only: bool = False

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in ("uniform", "logarithmic", "adaptive"):
                raise SettingsError(f"quantizer: found {mode!r}, expected uniform, logarithmic or adaptive")
        for depth in self.depths:
            if depth not in (2, 4, 8):
                raise SettingsError(f"depth: found {depth}, expected 2, 4 or 8")
        if self.standard_only and "adaptive" in self.modes:
            raise SettingsError("quantizer: found adaptive, expected those of the standard only")
        if self.fps is not None and not self.fps > 0:
            raise SettingsError(f"--fps: found {self.fps:g}, expected a number above 0")


@dataclass(frozen=True)
class Built:
    """What was built.

    :param folder: the extractor
    :param calibration: what its map looks like
    :param plan: packings that were measured
    :param points: ways that were measured, `chosen` among them
    :param uncoded: what the head gives on maps that were not coded
    :param rivals: x265 of the pictures
    :param stream_bytes: of the backbone's model stream
    :param backbone_bytes: of the backbone as an ONNX file
    """

    folder: Path
    settings: ExtractorSettings
    calibration: Calibration
    plan: Plan
    points: tuple[CodedPoint, ...]
    chosen: CodedPoint
    uncoded: Score
    rivals: tuple[RivalPoint, ...]
    stream_bytes: int
    backbone_bytes: int
    fps: float
    options: BuildOptions

    @property
    def model(self) -> onnx.ModelProto:
        """The backbone as it is in the extractor."""
        return load_model(self.folder / self.settings.models.backbone)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        packing = self.settings.maps[0].packing
        return {
            "folder": str(self.folder),
            "tensor": self.options.tensor,
            "fps": self.fps,
            "chosen": self.chosen.figures(),
            "uncoded": self.uncoded.figures(),
            "packing": {"mode": packing.mode, "tile_h": packing.tile_h, "tile_w": packing.tile_w,
                        "order": self.plan.best.order},
            "points": [point.figures() for point in self.points],
            "rivals": [rival.figures() for rival in self.rivals],
            "stream_bytes": self.stream_bytes,
            "backbone_bytes": self.backbone_bytes,
        }  # fmt: skip


def build(
    model: Path,
    clip: Clip,
    out: Path,
    options: BuildOptions,
    work: Path,
    *,
    labels: NDArray[Any] | None = None,
    reference: Path | None = None,
    notes: Notes | None = None,
    force: bool = False,
    watch: Callable[[Judge, Bench, CodedPoint], None] | None = None,
    progress: Progress | None = None,
) -> Built:
    """Split a network, find out how its map is coded best, and write the extractor.

    Everything is chosen on the clip's pictures, and the figures are of the same pictures.

    :param model: the whole network, an ONNX file
    :param work: an empty folder for what lies around meanwhile; a stopped build finds its notes there
    :param labels: right answers, int64 [N], where there are some
    :param reference: the network that agreement is measured against, where it is not the model itself
    :param notes: what was measured so far
    :param watch: called once a way is chosen, to look at what it does
    :param progress: called with (stage, steps done, steps in all)
    :raises SettingsError: anything that does not fit, or a target that nothing meets: says what comes nearest
    """
    check_free(out, force)
    notes = notes or Notes(None, "")
    tell = progress or (lambda stage, done, total: None)
    prepared = split_extractor(model, clip, work, options, reference, progress)
    folder = prepared.folder
    settings, stream_bytes, calibration = _carry_backbone(folder, prepared.settings, clip, options, progress)
    check_sign(calibration, model, options)
    kinds = build_kinds(options.modes, options.depths, calibration.minimum < 0)
    judge = judge_for(reference or model, clip, options, labels)
    kept = KeptJudge(judge, work)
    bench = open_bench(folder, settings, calibration, model, clip, options, kept, work, progress)
    planned = _planned(folder, settings, bench.maps.levels(bench.feature, folder), options, progress)
    bench.feature = replace(bench.feature, packing=planned.best.packing)
    fps = bench.fps

    def measure(way: Way) -> CodedPoint:
        known = notes.get(f"point {way}")
        if known is None:
            known = bench.measure(way).figures()
            notes.put(f"point {way}", known)
        return point_of(known)

    uncoded = kept.score_of(bench.uncoded())
    try:
        chosen, points = search(
            options.target, measure, with_qps(kinds), lambda done, total: tell("settings", done, total)
        )
    except SettingsError as error:
        if uncoded.merit >= (options.target.agreement or 0.0):
            raise
        hint = (
            "another --agreement; are labels, --scale and --offset the network's own?"
            if labels is not None
            else ("another --agreement, or cut")
        )
        raise SettingsError(f"{error}; maps that are not coded at all give {uncoded}: {hint}") from None
    rivals = measure_rivals(
        options.crfs,
        reference or model,
        kept,
        clip,
        options.frames,
        settings,
        bench.maps,
        bench.every,
        fps,
        notes,
        progress,
    )
    if watch is not None:
        watch(judge, bench, chosen)
    feature, video = chosen.way.settings(
        settings.maps[0], settings.video, bench.largest, planned.best.packing, bench.fitter
    )
    final = write_variant(out, folder, settings, feature, video, force, work)
    backbone_bytes = (out / final.models.backbone).stat().st_size
    return Built(
        out, final, calibration, planned, tuple(points), chosen, uncoded, tuple(rivals), stream_bytes, backbone_bytes,
        fps, options,
    )  # fmt: skip


def _carry_backbone(
    folder: Path, settings: ExtractorSettings, clip: Clip, options: BuildOptions, progress: Progress | None
) -> tuple[ExtractorSettings, int, Calibration]:
    """The backbone as a model stream; the extractor's own is what a camera decodes from it, and is measured anew."""
    backbone, stream = folder / settings.models.backbone, folder / STREAM_FILE
    lossless = options.model_qp is None
    job = Job(backbone, stream, qp=-32 if options.model_qp is None else options.model_qp, lossless=lossless)
    made = run_job(job).made
    write_whole(stream, made.data)
    with opened(stream) as (base,):
        write_onnx(backbone, base, labels=[STREAM_FILE])
    models = replace(settings.models, backbone_sha256=sha256_of(backbone))
    calibration = calibrate(backbone, clip, settings.input, options.prepare.frames, (), progress, signed=True)
    return replace(settings, models=models), len(made.data), calibration


def _planned(
    folder: Path, settings: ExtractorSettings, levels: Any, options: BuildOptions, progress: Progress | None
) -> Plan:
    feature, video = settings.maps[0], settings.video
    limits = options.limits or X265_LIMITS[video.chroma]
    grids = planned_grids(feature, video, limits)
    fits = feature.channels <= MAX_SIMILARITY_CHANNELS
    orders = [name for name in options.orders if name != "identity" and (fits or name != "similarity")]
    return plan(feature, video, levels, grids, limits, orders, progress=progress, folder=folder)
