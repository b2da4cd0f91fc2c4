"""A network that is split, its maps kept, and a bench to try ways of coding them on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, SourceModel, SsdDetectorTask, VideoSettings, sha256_of
from featlink_codec.video.clip import Clip

from .build_maps import KeptMaps, fit_maps, keep_maps
from .build_points import Bench
from .calibrate import Calibration, Progress
from .kept_judge import KeptJudge
from .pipeline import WHOLE_FILE, Prepared, input_settings, prepare_split
from .planner import refresh_every
from .quantizer_fits import AdaptiveChoice, Fitter
from .quantizer_sensitivity import channel_sensitivity
from .samples import ClipSamples
from .scoring import Judge, detector_judge, labelled_judge, output_judge
from .split import open_graph
from .structure import read_structure

if TYPE_CHECKING:
    from .build import BuildOptions

#: The QP that packings and orders of channels are compared at.
PLAN_QP = 22
#: Folder of the split network inside the working folder, and the file of the maps.
_SPLIT, _MAPS = "split", "maps.npy"


def judge_for(model: Path, clip: Clip, options: BuildOptions, labels: NDArray[Any] | None = None) -> Judge:
    """By detections, labels or outputs, on runs of consecutive pictures."""
    if isinstance(options.prepare.task, SsdDetectorTask):
        return detector_judge(model, options.prepare, clip, options.frames, runs=True)
    samples = ClipSamples(clip, input_settings(open_graph(model), options.prepare), labels, runs=True)
    make = output_judge if labels is None else labelled_judge
    return make(model, samples, options.frames)


def split_extractor(
    model: Path,
    clip: Clip,
    work: Path,
    options: BuildOptions,
    reference: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """An extractor in the working folder, before a way is chosen.

    :param reference: the network that it stands for, where it is not the model itself: that one is named and kept
    :raises SettingsError: the network cannot be split there, or the map is not one that is wanted
    """
    folder = work / _SPLIT
    shutil.rmtree(folder, ignore_errors=True)
    how = replace(options.prepare, video=_video(options), mode="adaptive", quantizer=AdaptiveChoice())
    prepared = prepare_split(model, options.tensor, clip, folder, how, progress=progress)
    check_sign(prepared.calibration, model, options)
    if reference is None:
        return prepared
    source = SourceModel(reference.name, sha256_of(reference), options.tensor)
    if prepared.settings.models.whole is not None:
        shutil.copyfile(reference, folder / WHOLE_FILE)
    return replace(prepared, settings=replace(prepared.settings, source_model=source))


def check_sign(calibration: Calibration, model: Path, options: BuildOptions) -> None:
    """SettingsError: values below 0 where only the standard's quantizers are wanted; says where there are none."""
    if not options.standard_only or calibration.minimum >= 0:
        return
    near = [cut.name for cut in open_graph(model).near(options.tensor, non_negative=True)]
    raise SettingsError(
        f"tensor {options.tensor!r}: found values down to {calibration.minimum:.6g}, which the standard's quantizers "
        f"do not take: leave --standard-only out, or split at {' or '.join(map(repr, near)) or 'a Relu'}"
    )


def open_bench(
    folder: Path,
    settings: ExtractorSettings,
    calibration: Calibration,
    model: Path,
    clip: Clip,
    options: BuildOptions,
    kept: KeptJudge,
    work: Path,
    progress: Progress | None = None,
) -> Bench:
    """Run the backbone on runs of pictures, and get ready to code their maps.

    :param folder: of the extractor
    :param model: the whole network
    :param kept: of the same pictures
    :param work: the maps and class maps go there
    """
    maps = keep_maps(work / _MAPS, folder, settings, clip, options.frames, progress)
    head, tensor = folder / settings.models.head, settings.maps[0].tensor
    structure = read_structure(open_graph(model), options.tensor)
    fitter = Fitter(work, fit_maps(maps), structure, lambda: channel_sensitivity(head, tensor, maps.values))
    return kept_bench(folder, settings, maps, clip, options.fps, kept, fitter, calibration.maximum)


def kept_bench(
    folder: Path,
    settings: ExtractorSettings,
    maps: KeptMaps,
    clip: Clip,
    fps: float | None,
    judge: KeptJudge | None,
    fitter: Fitter,
    largest: float,
) -> Bench:
    """A bench on maps that were kept of a clip; see `Bench`.

    :param folder: of the extractor
    :param fps: None: what the pictures' times say
    """
    interval_s = maps.interval_s
    rate = fps or (1 / interval_s if interval_s else clip.fps)
    head, every = folder / settings.models.head, refresh_every(settings.video, interval_s)
    return Bench(maps, head, judge, settings.maps[0], settings.video, largest, every, rate, fitter)


def _video(options: BuildOptions) -> VideoSettings:
    """The [video] table before a way is chosen: what the camera's encoder takes."""
    limits = options.limits
    chroma = "400" if limits is None or limits.takes("400") else "420"
    return replace(options.prepare.video, session="continuous", lossless=False, qp=PLAN_QP, crf=None, chroma=chroma)
