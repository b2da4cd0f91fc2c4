"""One threshold tried out: zeros, bytes by HEVC and by run-length coding, and how good the head is on what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.extractor import ExtractorSettings, MapSettings, SsdDetectorTask, VideoSettings
from featlink_codec.extractor.coding import map_coding
from featlink_codec.features.map_coding import MapCoding
from featlink_codec.features.quantizers import as_levels

from ..detector import SsdDetector
from .build_maps import KeptMaps, MapSamples
from .build_points import RunJudge
from .coded_maps import CodedSize, coded_sizes, decoded_maps, head_runner, mean_bytes
from .scoring import DetectorJudge, Judge, Score, output_judge
from .scoring_runs import ModelRunner
from .zero_runs import ZeroRuns, entropy_coded_size, zeroth_order_bytes


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


def head_judge(folder: Path, settings: ExtractorSettings, maps: KeptMaps) -> Judge:
    """Judges the head by itself on the maps as they were: by detections, or by its outputs.

    :param folder: the extractor
    """
    detector = SsdDetector.from_extractor(folder, settings) if isinstance(settings.task, SsdDetectorTask) else None
    return judge_of_head(folder / settings.models.head, detector, maps, settings.maps[0].tensor)


def judge_of_head(head: onnx.ModelProto | Path, detector: SsdDetector | None, maps: KeptMaps, tensor: str) -> Judge:
    """The same of its parts.

    :param tensor: name of the head's input
    """
    samples = MapSamples(maps, tensor)
    return output_judge(head, samples) if detector is None else DetectorJudge(head, detector, samples)


class MapBench:
    """Tries thresholds on the same maps.

    :param maps: values as the backbone gives them
    :param head: of the extractor
    :param judge: of the head on these maps, see `head_judge`
    :param feature: the [[maps]] table
    :param video: the stream's own coding
    :param every: maps from refresh to refresh in a running stream
    :param also: further codings, by name; their bytes are measured beside
    :param run_bits: of the zero run-length code
    """

    def __init__(
        self,
        maps: KeptMaps,
        head: Path,
        judge: RunJudge,
        feature: MapSettings,
        video: VideoSettings,
        every: int,
        also: Sequence[tuple[str, VideoSettings]] = (),
        run_bits: int = 5,
    ) -> None:
        self.maps, self._judge, self._feature, self._video = maps, judge, feature, video
        self._every, self._also = every, tuple(also)
        self._head = ModelRunner(head)
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
        sizes: list[CodedSize] = []
        maps = decoded_maps(self.maps, self._coding_by(self._video, thresholds), self._video, sizes)
        score = self._judge.score_of(head_runner(self._head, self._feature.tensor, maps))
        also = {
            name: mean_bytes(coded_sizes(self.maps, self._coding_by(video, thresholds), video), self._every)
            for name, video in self._also
        }
        mean = mean_bytes(sizes, self._every)
        return DropPoint(threshold, fmean(zeros), mean, score, fmean(runs), fmean(after), fmean(entropy), also)

    def _coding_by(self, video: VideoSettings, thresholds: NDArray[np.float32]) -> MapCoding:
        return map_coding(self._feature, video, thresholds)
