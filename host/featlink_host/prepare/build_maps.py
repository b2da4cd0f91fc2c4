"""Feature maps of pictures, kept in a file: each setting of the coding is tried on the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import ExtractorSettings, MapSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.features.quantizers import as_levels, level_dtype
from featlink_codec.video.clip import Clip, Picture

from .calibrate import Progress, spread
from .calibration_maps import MAX_SAMPLES, CalibrationMaps, interval_of, runs_of
from .samples import Batch
from .scoring_runs import ModelRunner

#: Maps that adaptive quantizers are fitted to at most.
FIT_MAPS = 32


@dataclass(frozen=True, eq=False)
class KeptMaps:
    """Maps of runs of consecutive pictures.

    :param values: float32 [N, C, H, W], in a file of its own, not in memory
    :param times_s: of each, since the source's first picture
    :param runs: maps of each run
    """

    values: NDArray[np.float32]
    times_s: tuple[float, ...]
    runs: tuple[int, ...]

    @property
    def interval_s(self) -> float | None:
        """See `interval_of`."""
        return interval_of(self.times_s, self.runs)

    def stream_times(self, refresh_s: float) -> Iterator[float]:
        """Of each map: a time on a clock that jumps between runs, so that each begins with a refresh."""
        at, last_s = 0, 0.0
        for length in self.runs:
            shift_s = last_s + 2 * refresh_s - self.times_s[at]
            for k in range(at, at + length):
                last_s = self.times_s[k] + shift_s
                yield last_s
            at += length

    def levels(self, feature: MapSettings, folder: Path | None = None) -> CalibrationMaps:
        """The same as levels, for the planner (SettingsError: too many to hold).

        :param folder: where the class map lies, if there is one
        """
        quantizer = quantizer_of(feature, folder)
        assert quantizer is not None
        if self.values.size > MAX_SAMPLES:
            raise SettingsError(f"{len(self.values)} maps hold more than {MAX_SAMPLES} samples: look at fewer pictures")
        depth = feature.quantizer.bit_depth
        count, channels, height, width = self.values.shape
        levels = np.empty((count, height, width, channels), level_dtype(depth))
        for k, one in enumerate(self.values):
            levels[k] = quantizer.quantize(one.transpose(1, 2, 0))
        return CalibrationMaps(as_levels(levels, depth), self.times_s, self.runs)


def fit_maps(maps: KeptMaps, places: Sequence[int] | None = None) -> list[NDArray[np.float32]]:
    """Maps that quantizers are fitted to, [H, W, C], evenly spread.

    :param places: of those to take from; None: all
    """
    some = range(len(maps.values)) if places is None else places
    return [maps.values[some[at]].transpose(1, 2, 0) for at in spread(len(some), FIT_MAPS)]


class MapSamples:
    """Kept maps as a head's samples, see `Samples`.

    :param tensor: name of the head's input
    """

    labelled = False

    def __init__(self, maps: KeptMaps, tensor: str) -> None:
        self._values, self._tensor = maps.values, tensor
        self.count = len(maps.values)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """In order, `size` at a time."""
        places = spread(self.count, self.count if limit is None else limit)
        for first in range(0, len(places), size):
            yield Batch({self._tensor: self._values[places[first : first + size]]}, None, first)


def chosen_pictures(clip: Clip, frames: int) -> Iterator[tuple[int, Picture]]:
    """Pictures in runs of consecutive ones, each with the number of its run."""
    chosen = runs_of(clip.count(), frames)
    run_of = {number: run for run, numbers in enumerate(chosen) for number in numbers}
    for picture in clip.picked(run_of):
        yield run_of[picture.number], picture


def keep_maps(
    file: Path, folder: Path, settings: ExtractorSettings, clip: Clip, frames: int, progress: Progress | None = None
) -> KeptMaps:
    """Run an extractor's backbone on pictures, one at a time.

    :param file: where the maps go, .npy
    :param folder: the extractor
    :param progress: called with ("maps", maps done, maps in all)
    :raises SettingsError: the backbone cannot be run, or its map is not what extractor.toml says
    :raises FeatlinkError: the source cannot be read
    """
    (feature,) = settings.maps
    total = sum(len(run) for run in runs_of(clip.count(), frames))
    shape = (feature.channels, feature.height, feature.width)
    backbone = ModelRunner(folder / settings.models.backbone)
    preprocess = Preprocessor(settings.input)
    tensor = preprocess.new_tensor()
    values: Any = np.lib.format.open_memmap(file, "w+", np.float32, (total, *shape))
    times_s: list[float] = []
    runs: list[int] = []
    for run, picture in chosen_pictures(clip, frames):
        found = backbone({settings.input.tensor: preprocess(picture.frame, tensor)})[feature.tensor]
        if found.shape != (1, *shape):
            raise SettingsError(f"tensor {feature.tensor!r}: found shape {found.shape}, expected {(1, *shape)}")
        values[len(times_s)] = found[0]
        times_s.append(picture.time_s)
        runs.append(run)
        if progress:
            progress("maps", len(times_s), total)
    if not times_s:
        raise FeatlinkError(f"{clip.path}: no images: none of its pictures could be looked at")
    starts = [k for k, run in enumerate(runs) if k == 0 or run != runs[k - 1]]
    lengths = tuple(b - a for a, b in pairwise([*starts, len(runs)]))
    return KeptMaps(values[: len(times_s)], tuple(times_s), lengths)
