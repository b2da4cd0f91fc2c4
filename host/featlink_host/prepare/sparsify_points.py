"""One threshold tried out: zeros, bytes by HEVC and by run-length coding, and how good the head is on what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.extractor import ExtractorSettings, MapSettings, SsdDetectorTask, VideoSettings
from featlink_codec.extractor.coding import map_coding, x265_settings
from featlink_codec.features.map_decoder import MapDecoder
from featlink_codec.features.map_encoder import MapEncoder
from featlink_codec.features.map_target import Wanted
from featlink_codec.features.quantizers import as_levels
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.x265 import X265Encoder

from ..detector import Agreement, Detection, SsdDetector, agreement
from .build_maps import KeptMaps
from .planner import running_mean
from .scoring import Score
from .scoring_runs import Distortion, ModelRunner
from .zero_runs import ZeroRuns, entropy_coded_size, zeroth_order_bytes

Tensor = NDArray[Any]


@dataclass(frozen=True)
class DropPoint:
    """What a threshold does.

    :param threshold: what is below becomes level 0; 0: as the quantizer has it
    :param zeros: share of level 0
    :param map_bytes: mean of a map in a running stream by the stream's own coding, headers counted
    :param score: of the head on the decoded maps, against the head on the maps as they were
    :param run_bytes: mean of a map's zero run-length code
    :param run_entropy_bytes: the same after Huffman coding of runs and levels
    :param entropy_bytes: zeroth-order entropy of the levels
    :param also_bytes: as map_bytes, by further codings, by their names
    """

    threshold: float
    zeros: float
    map_bytes: float
    score: Score
    run_bytes: float
    run_entropy_bytes: float
    entropy_bytes: float
    also_bytes: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "score": self.score.figures()}


class HeadJudge:
    """Scores the head on maps, against itself on the maps as they were: by detections, or by its outputs.

    :param folder: the extractor
    """

    def __init__(self, folder: Path, settings: ExtractorSettings, maps: KeptMaps) -> None:
        self._head = ModelRunner(folder / settings.models.head)
        self._tensor = settings.maps[0].tensor
        self._maps = maps
        self._detector: SsdDetector | None = None
        if isinstance(settings.task, SsdDetectorTask):
            self._detector = SsdDetector.from_extractor(folder, settings)

    def score(self, tensors: Iterator[Tensor]) -> Score:
        """:param tensors: float32 [1, C, H, W] each, as many as there are maps."""
        distortion, found, seen = Distortion(), Agreement(), 0
        for values, tensor in zip(self._maps.values, tensors, strict=True):
            wanted, outputs = self._head({self._tensor: values[None]}), self._head({self._tensor: tensor})
            distortion.add(wanted, outputs)
            if self._detector is not None:
                least = self._detector.task.score_threshold
                found += agreement(self._objects(wanted), self._objects(outputs), least)
            seen += 1
        if self._detector is None:
            return Score("outputs", max(0.0, 1 - distortion.value), None, None, distortion.value, seen)
        recall, precision = found.recall, found.precision
        f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
        counted = found.matched + found.missed
        return Score("detections", recall, precision, f1, distortion.value, seen, counted)

    def _objects(self, outputs: dict[str, Tensor]) -> list[Detection]:
        assert self._detector is not None
        task = self._detector.task
        return self._detector(outputs[task.boxes_output].astype("f4"), outputs[task.logits_output].astype("f4"))


class MapBench:
    """Tries thresholds on the same maps.

    :param maps: values as the backbone gives them
    :param feature: the [[maps]] table
    :param video: the stream's own coding
    :param every: maps from refresh to refresh in a running stream
    :param also: further codings, by name; their bytes are measured beside
    :param run_bits: of the zero run-length code
    """

    def __init__(
        self,
        maps: KeptMaps,
        judge: HeadJudge,
        feature: MapSettings,
        video: VideoSettings,
        every: int,
        also: Sequence[tuple[str, VideoSettings]] = (),
        run_bits: int = 5,
    ) -> None:
        self.maps, self._judge, self._feature, self._video = maps, judge, feature, video
        self._every, self._also = every, tuple(also)
        self._code = ZeroRuns(feature.quantizer.bit_depth, run_bits)

    @property
    def coding(self) -> str:
        """The stream's own, in words."""
        if self._video.lossless:
            return "lossless"
        return f"QP {self._video.qp}" if self._video.crf is None else f"CRF {self._video.crf:g}"

    def measure(self, threshold: float, thresholds: NDArray[np.float32]) -> DropPoint:
        """Code the maps with these thresholds, decode them, and run the head on them.

        :param threshold: what the thresholds drop, for the record
        """
        zeros, runs, after, entropy = [], [], [], []
        for one in self.maps.values:
            found = np.searchsorted(thresholds, one, side="right")
            levels = as_levels(found, self._feature.quantizer.bit_depth)
            zeros.append(1 - np.count_nonzero(levels) / levels.size)
            runs.append(self._code.size(len(self._code.pairs(levels)[0])))
            after.append(entropy_coded_size(self._code, levels))
            entropy.append(zeroth_order_bytes(levels))
        sizes: list[tuple[int, bool]] = []
        score = self._judge.score(self._coded(self._video, thresholds, sizes))
        also = {}
        for name, video in self._also:
            others: list[tuple[int, bool]] = []
            for _ in self._coded(video, thresholds, others, decode=False):
                pass
            also[name] = self._mean(others)
        return DropPoint(
            threshold, fmean(zeros), self._mean(sizes), score, fmean(runs), fmean(after), fmean(entropy), also
        )  # fmt: skip

    def _mean(self, sizes: Sequence[tuple[int, bool]]) -> float:
        refreshes = [size for size, refresh in sizes if refresh]
        return running_mean(refreshes, [size for size, refresh in sizes if not refresh], self._every)

    def _coded(
        self, video: VideoSettings, thresholds: NDArray[np.float32], sizes: list[tuple[int, bool]], decode: bool = True
    ) -> Iterator[Tensor]:
        """The maps as the head gets them, empty without decoding; bytes of each, and whether it was a refresh."""
        coding = map_coding(self._feature, video, thresholds)
        encoder = MapEncoder(coding, lambda width, height: X265Encoder(x265_settings(video, width, height)))
        wanted = Wanted(levels=False, tensor="float32")
        decoder = MapDecoder(video.level_scaling, HevcDecoder, False, wanted)
        try:
            times = self.maps.stream_times(video.refresh_s)
            for one, time_s in zip(self.maps.values, times, strict=True):
                (coded,) = encoder.encode(one.transpose(1, 2, 0), time_s)
                head, units = bytes(coded.header), coded.access_units
                sizes.append((len(head) + len(units), coded.refresh))
                if not decode:
                    yield np.empty(0, np.float32)
                    continue
                decoded = decoder.decode(coded.header, 0, units, 0, 0, None, time_s)
                assert decoded.tensor is not None
                yield decoded.tensor.copy()
        finally:
            encoder.close()
            decoder.close()
