"""One cut, ready for quantizers to be tried on: its maps, its head, and what was fitted to a part of the maps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.extractor import ExtractorSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.video.clip import Clip

from ..model.notes import Notes
from .build_bench import kept_bench
from .build_maps import KeptMaps, fit_maps, keep_maps
from .build_points import Bench, CodedPoint, Way, point_of
from .calibrate import Calibration, Progress
from .coded_maps import CodedSize
from .kept_judge import KeptJudge
from .pipeline import PrepareOptions, prepare_split
from .quantizer_fits import AdaptiveChoice, Fitter
from .quantizer_sensitivity import channel_sensitivity
from .score import Score
from .split import open_graph
from .structure import read_structure


@dataclass(frozen=True)
class QuantizerPoint:
    """One way, measured.

    :param chosen_on: on the pictures that quantizers are fitted to and chosen on
    :param reported_on: on the others
    :param header_bytes: of a map that begins an intra period, class parameters and class map among them
    """

    chosen_on: CodedPoint
    reported_on: CodedPoint
    header_bytes: int

    @property
    def way(self) -> Way:
        """The way."""
        return self.chosen_on.way

    def named(self, way: Way) -> QuantizerPoint:
        """The same, of a way that comes to the same."""
        one, other = replace(self.chosen_on, way=way), replace(self.reported_on, way=way)
        return QuantizerPoint(one, other, self.header_bytes)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "chosen_on": self.chosen_on.figures(),
            "reported_on": self.reported_on.figures(),
            "header_bytes": self.header_bytes,
        }


@dataclass(frozen=True, eq=False)
class CutBench:
    """A cut that quantizers are tried on.

    :param tensor: where
    :param folder: the network split there, an extractor
    :param parts: of each map: 0 chosen on, 1 reported on
    """

    tensor: str
    folder: Path
    settings: ExtractorSettings
    calibration: Calibration
    maps: KeptMaps
    parts: tuple[int, ...]
    bench: Bench
    judge: KeptJudge | None
    notes: Notes

    @property
    def fitter(self) -> Fitter:
        """Of adaptive quantizers."""
        assert self.bench.fitter is not None
        return self.bench.fitter

    @property
    def signed(self) -> bool:
        """Whether there are values below 0."""
        return self.calibration.minimum < 0

    def measure(self, way: Way) -> QuantizerPoint:
        """Code, decode, judge; or what is known of it. Ways that come to the same quantizer are measured once."""
        name = f"{self.tensor} {self._mark(way)}"
        known = self.notes.get(name)
        if known is None:
            assert self.judge is not None
            sizes: list[CodedSize] = []
            scores = self.judge.scores_of(self.bench.runner(way, sizes), self.parts)
            one, other = (
                self.bench.point(way, [size for size, of in zip(sizes, self.parts, strict=True) if of == part], score)
                for part, score in enumerate(scores)
            )
            known = QuantizerPoint(one, other, max(size.header for size in sizes)).figures()
            self.notes.put(name, known)
        found = QuantizerPoint(point_of(known["chosen_on"]), point_of(known["reported_on"]), known["header_bytes"])
        return found.named(way)

    def uncoded(self) -> list[Score]:
        """What the head gives on maps that were not coded, of each part."""
        assert self.judge is not None
        return self.judge.scores_of(self.bench.uncoded(), self.parts)

    def error(self, way: Way, count: int = 16) -> float:
        """Mean squared error of the quantizer alone over the map's variance, on maps that it was not fitted to."""
        feature, _ = way.settings(self.bench.feature, self.bench.video, self.bench.largest, None, self.fitter)
        quantizer = quantizer_of(feature, self.fitter.folder)
        assert quantizer is not None
        maps = fit_maps(self.maps, places_of(self.parts, 1))
        some = [np.ascontiguousarray(one) for one in maps[:: max(1, len(maps) // count)]]
        wrong = sum(
            float(np.square(quantizer.dequantize(quantizer.quantize(one)).astype(np.float64) - one).mean())
            for one in some
        )
        return wrong / len(some) / float(np.stack(some).var(dtype=np.float64))

    def _mark(self, way: Way) -> str:
        if way.adaptive is None:
            return str(way)
        return f"adaptive {self.fitter.mark(way.adaptive)} {way.scaled} {way.qp}"


def open_cut(
    model: Path,
    tensor: str,
    clip: Clip,
    prepare: PrepareOptions,
    frames: int,
    fps: float | None,
    judge: KeptJudge | None,
    work: Path,
    notes: Notes,
    progress: Progress | None = None,
) -> CutBench:
    """Split, calibrate, run the backbone over the pictures.

    Every other run of consecutive pictures is for choosing, the rest for reporting; with one run both are the same.

    :param judge: None: nothing is measured but errors of quantizers
    :param work: folder for the split network, its maps and class maps
    :raises SettingsError: no such cut, or anything that does not fit
    """
    work.mkdir(parents=True, exist_ok=True)
    folder = work / "split"
    shutil.rmtree(folder, ignore_errors=True)
    video = replace(prepare.video, session="continuous")
    how = replace(prepare, mode="adaptive", quantizer=AdaptiveChoice(), video=video)
    prepared = prepare_split(model, tensor, clip, folder, how, progress=progress)
    settings = prepared.settings
    maps = keep_maps(work / "maps.npy", folder, settings, clip, frames, progress)
    parts = run_parts(maps.runs)
    mine = places_of(parts, 0)
    fitter = Fitter(
        work,
        fit_maps(maps, mine),
        read_structure(open_graph(model), tensor),
        sensitivity_of(folder / settings.models.head, settings.maps[0].tensor, maps.values, mine, notes),
    )
    largest = max(prepared.calibration.maximum, float(maps.values[mine].max()))
    bench = kept_bench(folder, settings, maps, clip, fps, judge, fitter, largest)
    return CutBench(tensor, folder, settings, prepared.calibration, maps, parts, bench, judge, notes)


def sensitivity_of(
    head: Path, tensor: str, maps: NDArray[np.float32], places: list[int], notes: Notes
) -> Callable[[], NDArray[np.float64]]:
    """Measures it when it is asked for, unless the notes know it."""

    def measured() -> NDArray[np.float64]:
        known = notes.get(f"sensitivity {tensor}")
        if known is None:
            known = channel_sensitivity(head, tensor, maps, places).tolist()
            notes.put(f"sensitivity {tensor}", known)
        return np.array(known)

    return measured


def run_parts(runs: Sequence[int]) -> tuple[int, ...]:
    """Of each map: 0 in every other run, 1 in those between."""
    return tuple(number % 2 for number, length in enumerate(runs) for _ in range(length))


def places_of(parts: Sequence[int], part: int) -> list[int]:
    """Numbers of the maps of a part; of the other where it has none."""
    return [at for at, one in enumerate(parts) if one == part] or list(range(len(parts)))
