"""Levels of real pictures, in short runs of consecutive ones: what a video encoder would be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.features.quantizers import Levels, as_levels, level_dtype
from featlink_codec.video.clip import Clip

from ..inference import one_line, open_session
from .calibrate import Progress

#: Consecutive pictures in a run.
RUN = 8
#: Samples of all maps together, which are held in memory.
MAX_SAMPLES = 1 << 30


@dataclass(frozen=True, eq=False)
class CalibrationMaps:
    """Maps of runs of consecutive pictures, in the order of their times.

    :param levels: uint8 (uint16 at depth 16) [N, H, W, C]
    :param times_s: of each map, since the source's first picture
    :param runs: maps of each run
    """

    levels: Levels
    times_s: tuple[float, ...]
    runs: tuple[int, ...]

    @property
    def interval_s(self) -> float | None:
        """Seconds from picture to picture, the median within the runs; None where no run has two."""
        return interval_of(self.times_s, self.runs)


def interval_of(times_s: Sequence[float], runs: Sequence[int]) -> float | None:
    """Seconds from picture to picture, the median within the runs; None where no run has two."""
    steps = np.delete(np.diff(times_s), np.cumsum(runs)[:-1] - 1)
    return float(np.median(steps)) if steps.size else None


def runs_of(count: int, frames: int) -> list[range]:
    """Which of `count` pictures to look at: runs of RUN consecutive ones (the only run of fewer, or a little more).

    The first run begins with the first picture and the last one ends with the last; one run alone stands in the middle.
    """
    frames = min(frames, count)
    number = max(1, frames // RUN)
    length = frames // number
    free = count - length
    starts = [place * free // (number - 1) for place in range(number)] if number > 1 else [free // 2]
    return [range(start, start + length) for start in starts]


def calibration_maps(
    folder: Path, settings: ExtractorSettings, source: Clip, frames: int, progress: Progress | None = None
) -> CalibrationMaps:
    """Run an extractor's backbone on runs of pictures spread evenly over a source, and quantize as it says.

    :param folder: the extractor
    :param settings: its extractor.toml, of one map
    :param frames: how many pictures, see `runs_of`
    :param progress: called with ("maps", maps done, maps in all)
    :raises SettingsError: the backbone cannot be run, its map is not what extractor.toml says, or too many samples
    :raises FeatlinkError: the source cannot be read
    """
    if frames < 1:
        raise SettingsError(f"frames: found {frames}, expected at least 1")
    (feature,) = settings.maps
    chosen = runs_of(source.count(), frames)
    total = sum(len(run) for run in chosen)
    shape = (total, feature.height, feature.width, feature.channels)
    if np.prod(shape, dtype=object) > MAX_SAMPLES:
        raise SettingsError(f"frames: {total} maps hold more than {MAX_SAMPLES} samples: look at fewer")
    wanted = {number: run for run, numbers in enumerate(chosen) for number in numbers}
    quantizer = quantizer_of(feature, folder)
    session = open_session(folder / settings.models.backbone)
    preprocess = Preprocessor(settings.input)
    tensor = preprocess.new_tensor()
    levels = np.empty(shape, level_dtype(feature.quantizer.bit_depth))
    times_s: list[float] = []
    runs = [0] * len(chosen)
    for picture in source.picked(wanted):
        preprocess(picture.frame, tensor)
        try:
            (found,) = session.run([feature.tensor], {settings.input.tensor: tensor})
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"{folder / settings.models.backbone}: cannot be run: {one_line(error)}") from None
        size = shape[1:] if feature.layout == "NHWC" else (shape[3], *shape[1:3])
        if found.shape != (1, *size):
            raise SettingsError(f"tensor {feature.tensor!r}: found shape {found.shape}, expected {(1, *size)}")
        one = found[0] if feature.layout == "NHWC" else found[0].transpose(1, 2, 0)
        if quantizer is not None:
            levels[len(times_s)] = quantizer.quantize(one)
        else:
            peak = feature.quantizer.peak
            if found.dtype.kind not in "ui" or found.min() < 0 or found.max() > peak:
                raise SettingsError(f"tensor {feature.tensor!r}: found {found.dtype}, expected integers 0..{peak}")
            levels[len(times_s)] = as_levels(one, feature.quantizer.bit_depth)
        times_s.append(picture.time_s)
        runs[wanted[picture.number]] += 1
        if progress:
            progress("maps", len(times_s), total)
    if not times_s:
        raise FeatlinkError(f"{source.path}: none of its pictures could be looked at")
    kept = as_levels(levels[: len(times_s)], feature.quantizer.bit_depth)
    return CalibrationMaps(kept, tuple(times_s), tuple(run for run in runs if run))
