"""How good a changed network is: right labels, the same detections, or outputs that are near the old ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SsdDetectorTask
from featlink_codec.video.clip import Clip, open_source

from ..detector import Agreement, Detection, SsdDetector, agreement, read_labels
from .graph import DataGraph, load_model
from .pipeline import PrepareOptions, input_settings
from .samples import Batch, ClipSamples, Samples
from .score import Score as Score
from .scoring_runs import Distortion, ModelRunner, Runner, Tensor

#: Pictures of the demo's clip that a detector is judged on.
DEMO_FRAMES = 64


class Tally(Protocol):
    """Sums up what a network does, a batch at a time."""

    def add(self, batch: Batch, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Take in the reference's and the network's outputs of a batch; of its inputs only the number counts."""

    def score(self) -> Score:
        """Of all that was added."""


class Judge(Protocol):
    """Scores networks on the same samples; holds no more of them than a batch."""

    kind: str
    samples: int

    def score(self, model: onnx.ModelProto | Path) -> Score:
        """How good a whole network is, run batch by batch."""

    def score_of(self, run: Runner) -> Score:
        """The same of anything that makes outputs of inputs; it is given the batches in order."""

    def batches(self, limit: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Inputs, for calibration; with a limit so many samples, evenly spread."""

    def references(self) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """Batches in order, and what the reference makes of them."""

    def tally(self) -> Tally:
        """A new one, by this judge's measure."""


class OutputTally:
    """How near outputs are to the reference's."""

    kind = "outputs"

    def __init__(self) -> None:
        self._distortion = Distortion()
        self.seen = 0

    def add(self, batch: Batch, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """See Tally."""
        self._distortion.add(wanted, found)
        self.seen += len(next(iter(batch.inputs.values())))

    @property
    def distortion(self) -> float:
        """So far."""
        return self._distortion.value

    def score(self) -> Score:
        """See Tally."""
        return Score(self.kind, max(0.0, 1 - self.distortion), None, None, self.distortion, self.seen)


class LabelTally(OutputTally):
    """Share of samples whose greatest number of an output is the label's."""

    kind = "accuracy"

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output, self._right = output, 0

    def add(self, batch: Batch, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """See Tally."""
        super().add(batch, wanted, found)
        scores = found[self._output]
        assert batch.labels is not None
        flat = scores.reshape(len(scores), -1)
        if len(wrong := batch.labels[(batch.labels < 0) | (batch.labels >= flat.shape[1])]):
            raise SettingsError(
                f"labels: found {wrong[0]}, expected 0 to {flat.shape[1] - 1}: output {self._output!r} has "
                f"{flat.shape[1]} numbers a sample"
            )
        self._right += int((flat.argmax(axis=1) == batch.labels).sum())

    def score(self) -> Score:
        """See Tally."""
        value = self._right / self.seen if self.seen else 0.0
        return Score(self.kind, value, None, None, self.distortion, self.seen, self.seen)


class DetectionTally(OutputTally):
    """Recall and precision of the reference's detections."""

    kind = "detections"

    def __init__(self, judge: DetectorJudge) -> None:
        super().__init__()
        self._judge, self._agreement = judge, Agreement()

    def add(self, batch: Batch, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """See Tally."""
        super().add(batch, wanted, found)
        for place, ours in enumerate(self._judge.detections(found), batch.first):
            self._agreement += agreement(self._judge.reference[place], ours, self._judge.score_threshold)

    def score(self) -> Score:
        """See Tally."""
        recall, precision = self._agreement.recall, self._agreement.precision
        f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
        counted = self._agreement.matched + self._agreement.missed
        return Score(self.kind, recall, precision, f1, self.distortion, self.seen, counted)


class _Judge:
    """What all judges share: the reference runs beside the candidate, so that nothing but sums is kept."""

    kind = "outputs"

    def __init__(self, model: onnx.ModelProto | Path, samples: Samples, limit: int | None) -> None:
        self._reference = ModelRunner(model)
        self._samples, self._limit = samples, limit
        self.samples = samples.count if limit is None else min(limit, samples.count)

    def _batches(self, limit: int | None = None) -> Iterator[Batch]:
        if limit is None:
            return self._samples.batches(self._reference.batch, self._limit)
        return self._samples.batches(min(self._reference.batch, limit), limit)

    def batches(self, limit: int | None = None) -> Iterator[dict[str, Tensor]]:
        """See Judge."""
        for batch in self._batches(limit):
            yield batch.inputs

    def references(self) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """See Judge."""
        for batch in self._batches():
            yield batch, self._reference(batch.inputs)

    def score(self, model: onnx.ModelProto | Path) -> Score:
        """See Judge.

        :raises SettingsError: the network cannot be run, or its outputs are not the reference's
        """
        return self.score_of(ModelRunner(model))

    def score_of(self, run: Runner) -> Score:
        """See Judge."""
        tally = self.tally()
        for batch, wanted in self.references():
            tally.add(batch, wanted, run(batch.inputs))
        return tally.score()

    def tally(self) -> Tally:
        """See Judge."""
        return OutputTally()


class LabelledJudge(_Judge):
    """Share of samples whose greatest number of the first output is the label's."""

    kind = "accuracy"

    def __init__(self, model: onnx.ModelProto | Path, samples: Samples, limit: int | None = None) -> None:
        if not samples.labelled:
            raise SettingsError("no labels for the images: give them, or judge by the outputs")
        super().__init__(model, samples, limit)

    def tally(self) -> Tally:
        """See Judge."""
        return LabelTally(self._reference.outputs[0])


class DetectorJudge(_Judge):
    """Recall and precision of the reference's detections, which are computed once; only they are kept."""

    kind = "detections"

    def __init__(
        self, model: onnx.ModelProto | Path, detector: SsdDetector, samples: Samples, limit: int | None = None
    ) -> None:
        super().__init__(model, samples, limit)
        self._detector = detector
        self.score_threshold = detector.task.score_threshold
        for name in (detector.task.boxes_output, detector.task.logits_output):
            if name not in self._reference.outputs:
                raise SettingsError(f"found no output {name!r}, the network has {', '.join(self._reference.outputs)}")
        self.reference: list[list[Detection]] = []
        for _, wanted in self.references():
            self.reference += self.detections(wanted)

    def detections(self, outputs: Mapping[str, Tensor]) -> list[list[Detection]]:
        """Objects of each picture of a batch."""
        task = self._detector.task
        boxes, logits = outputs[task.boxes_output], outputs[task.logits_output]
        # One picture after the other: suppression is of a picture, and what its head gives may be float16.
        return [
            self._detector(np.asarray(one, np.float32), np.asarray(other, np.float32))
            for one, other in zip(boxes, logits, strict=True)
        ]

    def tally(self) -> Tally:
        """See Judge."""
        return DetectionTally(self)


def labelled_judge(model: onnx.ModelProto | Path, samples: Samples, limit: int | None = None) -> LabelledJudge:
    """By labels.

    :param model: the uncompressed network, for the distortion
    :raises SettingsError: there are no labels
    """
    return LabelledJudge(model, samples, limit)


def output_judge(model: onnx.ModelProto | Path, samples: Samples, limit: int | None = None) -> Judge:
    """By the outputs of the uncompressed network."""
    return _Judge(model, samples, limit)


def detector_judge(
    model: onnx.ModelProto | Path,
    options: PrepareOptions,
    source: Clip | Path,
    frames: int | None = None,
    *,
    runs: bool = False,
) -> DetectorJudge:
    """By the detections of the uncompressed network, an SSD detector.

    :param options: task, its files, and how pictures become inputs
    :param frames: pictures, evenly spread; None: all
    :param runs: in short runs of consecutive pictures instead
    :raises SettingsError: the task is no SSD detector, its files cannot be read, or the network is another
    """
    if not isinstance(options.task, SsdDetectorTask):
        raise SettingsError(f"[task] kind: found {options.task.kind!r}, expected 'ssd-detector'")
    graph = DataGraph(model if isinstance(model, onnx.ModelProto) else load_model(model))
    anchors_file = options.task_files["anchors"]
    try:
        anchors = np.load(anchors_file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{anchors_file}: no anchors: {error}") from None
    detector = SsdDetector(anchors, read_labels(options.task_files["labels"]), options.task)
    clip = source if isinstance(source, Clip) else open_source(source)
    return DetectorJudge(model, detector, ClipSamples(clip, input_settings(graph, options), runs=runs), frames)


def demo_judge(frames: int = DEMO_FRAMES, *, runs: bool = False) -> DetectorJudge:
    """The demo's detector on its street clip (FeatlinkError: the clip is not installed)."""
    from ..demo import demo_model, demo_options, demo_source_clip

    return detector_judge(demo_model(), demo_options(), demo_source_clip(), frames, runs=runs)
