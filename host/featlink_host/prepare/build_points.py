"""One way to code maps, tried out: what it costs, and how good the head is on what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log2
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import MapSettings, PackingSettings, QuantizerSettings, VideoSettings
from featlink_codec.extractor.coding import map_coding

from .build_maps import KeptMaps
from .coded_maps import CodedSize, decoded_maps, head_runner, mean_bytes
from .quantizer_fits import AdaptiveChoice, Fitter
from .score import Score, score_of_figures
from .scoring_runs import ModelRunner, Runner, Tensor


@dataclass(frozen=True)
class Way:
    """How maps are quantized and coded.

    :param mode: "uniform" or "logarithmic", or "adaptive"
    :param bit_depth: 2, 4 or 8; adaptive: of classes at most, 2 to 8
    :param qp: None: lossless
    :param adaptive: which quantizers, in mode "adaptive"
    """

    mode: str
    bit_depth: int
    qp: int | None
    adaptive: AdaptiveChoice | None = None

    def __post_init__(self) -> None:
        if (self.adaptive is None) == (self.mode == "adaptive"):
            raise SettingsError(f"mode {self.mode!r}: found {self.adaptive}, expected a choice where it is adaptive")

    @classmethod
    def adapted(cls, choice: AdaptiveChoice, qp: int | None) -> Way:
        """An adaptive one."""
        return cls("adaptive", choice.depth, qp, choice)

    @property
    def kind(self) -> Way:
        """The same but for the QP."""
        return replace(self, qp=None)

    @property
    def name(self) -> str:
        """Of the quantizer."""
        return f"{self.mode} {self.bit_depth} bit" if self.adaptive is None else str(self.adaptive)

    def __str__(self) -> str:
        return f"{self.name}, {'lossless' if self.qp is None else f'QP {self.qp}'}"

    @property
    def scaled(self) -> bool:
        """Whether levels are spread over all samples.

        With loss, few levels are: else a QP's error would be as large as a level. Classes of several depths are not:
        that a class of fewer levels takes fewer bits, and more of the QP's error, is what its depth is for.
        """
        several = self.adaptive is not None and self.adaptive.bits is not None
        return self.qp is not None and self.bit_depth < 8 and not several

    def settings(
        self,
        feature: MapSettings,
        video: VideoSettings,
        largest: float,
        packing: PackingSettings | None = None,
        fitter: Fitter | None = None,
    ) -> tuple[MapSettings, VideoSettings]:
        """The [[maps]] and [video] tables.

        :param largest: greatest value of the map
        :param fitter: of adaptive quantizers
        """
        packing = packing or feature.packing
        if self.adaptive is None:
            most = float(np.float32(log2(largest + 1) if self.mode == "logarithmic" else largest))
            table = QuantizerSettings(self.mode, self.bit_depth, most)
            profile = "standard" if video.profile == "adaptive" else video.profile
        else:
            if fitter is None:
                raise SettingsError(f"{self}: found nothing that fits adaptive quantizers")
            table, profile = fitter.table(self.adaptive), "adaptive"
            packing = fitter.packing(self.adaptive, packing)
        return (
            replace(feature, quantizer=table, packing=packing),
            replace(video, profile=profile, lossless=self.qp is None, qp=self.qp, crf=None, level_scaling=self.scaled),
        )


@dataclass(frozen=True)
class CodedPoint:
    """What a way costs and gives.

    :param map_bytes: mean of a map in a running stream, headers counted
    :param kbps: at the pictures' own rate
    """

    way: Way
    map_bytes: float
    kbps: float
    score: Score

    def figures(self) -> dict[str, Any]:
        """For JSON, and for `point_of`."""
        return {"way": asdict(self.way), "map_bytes": self.map_bytes, "kbps": self.kbps, "score": self.score.figures()}


def point_of(figures: Mapping[str, Any]) -> CodedPoint:
    """The point of its figures."""
    score = score_of_figures(figures["score"])
    way = dict(figures["way"])
    if way.get("adaptive") is not None:
        way["adaptive"] = AdaptiveChoice(**way["adaptive"])
    return CodedPoint(Way(**way), figures["map_bytes"], figures["kbps"], score)


class RunJudge(Protocol):
    """What a bench needs of a judge."""

    def score_of(self, run: Runner) -> Score:
        """How good is what a run makes of all samples in order."""


class Bench:
    """Tries ways on the same maps.

    :param maps: of the pictures that the judge has too, in its order
    :param judge: None: `measure` is never asked for
    :param feature: the [[maps]] table; its quantizer and packing are replaced by each way's
    :param largest: greatest value of the map
    :param every: maps from refresh to refresh in a running stream
    :param fps: pictures a second
    :param fitter: of adaptive quantizers, where some are tried
    """

    def __init__(
        self,
        maps: KeptMaps,
        head: Path,
        judge: RunJudge | None,
        feature: MapSettings,
        video: VideoSettings,
        largest: float,
        every: int,
        fps: float,
        fitter: Fitter | None = None,
    ) -> None:
        self.fitter = fitter
        self.maps, self.judge, self.feature, self.video = maps, judge, feature, video
        self.largest, self.every, self.fps = largest, every, fps
        self._head = ModelRunner(head)

    def measure(self, way: Way) -> CodedPoint:
        """Code the maps, decode them, run the head on them, and let the judge score it."""
        sizes: list[CodedSize] = []
        assert self.judge is not None
        return self.point(way, sizes, self.judge.score_of(self.runner(way, sizes)))

    def point(self, way: Way, sizes: Sequence[CodedSize], score: Score) -> CodedPoint:
        """Of what its maps took."""
        nbytes = mean_bytes(sizes, self.every)
        return CodedPoint(way, nbytes, nbytes * 8 * self.fps / 1e3, score)

    def runner(self, way: Way, sizes: list[CodedSize] | None = None) -> Runner:
        """What a judge scores: it gives the outputs for its next pictures, whatever their inputs.

        :param sizes: takes those of each map
        """
        return self.head_on(self.decoded(way, sizes))

    def decoded(self, way: Way, sizes: list[CodedSize] | None = None) -> Iterator[Tensor]:
        """The maps as they come over the link, float32 [1, C, H, W], each coded when it is asked for."""
        feature, video = way.settings(self.feature, self.video, self.largest, None, self.fitter)
        folder = None if self.fitter is None else self.fitter.folder
        return decoded_maps(self.maps, map_coding(feature, video, folder=folder), video, sizes)

    def head_on(self, maps: Iterator[Tensor]) -> Runner:
        """The head's outputs of the next maps."""
        return head_runner(self._head, self.feature.tensor, maps)

    def uncoded(self) -> Runner:
        """The same with the maps as they are."""
        return self.head_on(one[None] for one in self.maps.values)
