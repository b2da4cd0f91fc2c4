"""One way to code maps, tried out: what it costs, and how good the head is on what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import log2
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import MapSettings, PackingSettings, QuantizerSettings, VideoSettings
from featlink_codec.extractor.coding import map_coding, x265_settings
from featlink_codec.features.map_decoder import MapDecoder
from featlink_codec.features.map_encoder import MapEncoder
from featlink_codec.features.map_target import Wanted
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.x265 import X265Encoder

from .build_maps import KeptMaps
from .planner import running_mean
from .quantizer_fits import AdaptiveChoice, Fitter
from .score import Score, score_of_figures
from .scoring_runs import ModelRunner, Runner

Tensor = NDArray[Any]


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


class CodedSize(NamedTuple):
    """Of one map."""

    nbytes: int
    refresh: bool
    #: of nbytes
    header: int


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
        refreshes = [one.nbytes for one in sizes if one.refresh]
        following = [one.nbytes for one in sizes if not one.refresh]
        nbytes = running_mean(refreshes, following, self.every)
        return CodedPoint(way, nbytes, nbytes * 8 * self.fps / 1e3, score)

    def runner(self, way: Way, sizes: list[CodedSize] | None = None) -> Any:
        """What a judge scores: it gives the outputs for its next pictures, whatever their inputs.

        :param sizes: takes those of each map
        """
        coded = self._coded(way, [] if sizes is None else sizes)

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            count = len(next(iter(inputs.values())))
            tensors = list(islice(coded, count))
            if len(tensors) != count:
                raise FeatlinkError(f"{count} pictures, but {len(tensors)} maps of them")
            return self._head({self.feature.tensor: np.concatenate(tensors)})

        return run

    def uncoded(self) -> Any:
        """The same with the maps as they are."""
        maps = iter(self.maps.values)

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            count = len(next(iter(inputs.values())))
            return self._head({self.feature.tensor: np.stack([next(maps) for _ in range(count)])})

        return run

    def _coded(self, way: Way, sizes: list[CodedSize]) -> Iterator[Tensor]:
        feature, video = way.settings(self.feature, self.video, self.largest, None, self.fitter)
        folder = None if self.fitter is None else self.fitter.folder
        encoder = MapEncoder(
            map_coding(feature, video, folder=folder),
            lambda width, height: X265Encoder(x265_settings(video, width, height)),
        )
        wanted = Wanted(levels=False, tensor="float32")
        decoder = MapDecoder(video.level_scaling, HevcDecoder, False, wanted)
        try:
            times = self.maps.stream_times(video.refresh_s)
            for one, time_s in zip(self.maps.values, times, strict=True):
                (coded,) = encoder.encode(one.transpose(1, 2, 0), time_s)
                head, units = bytes(coded.header), coded.access_units
                sizes.append(CodedSize(len(head) + len(units), coded.refresh, len(head)))
                decoded = decoder.decode(coded.header, 0, units, 0, 0, None, time_s)
                assert decoded.tensor is not None
                yield decoded.tensor.copy()
        finally:
            encoder.close()
            decoder.close()
