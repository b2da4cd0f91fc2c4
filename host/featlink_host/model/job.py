"""One run of `featlink-host model encode`, from files to a stream in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.model import Description, EncodedModel, TensorSettings
from featlink_codec.model import encode as encode_tensors
from featlink_codec.model.control_data import ModelInfo
from featlink_codec.model.reconstruction import step_size

from .blocks import blocks_of
from .encoding import Telling, as_bits, encode_model, lossless_settings
from .evaluate import Evaluator, accuracy, read_inputs, read_labels
from .feedback import Feedback
from .notes import Notes, key_of
from .npz import read_npz
from .onnx_graph import OnnxModel, read_onnx
from .search import WAYS, Point, Search, Way, settings_at
from .sensitivity import offsets, sensitivities
from .versions import Beside, encode_versions, relevance, robustness

Tensor = NDArray[Any]
Progress = Callable[[str, int, int], None]
SUPPLEMENTS = ("relevance", "robustness")


@dataclass(frozen=True)
class Job:
    """What is to be done; see the options of the command line.

    :param target_size: bytes, or percent of the tensors' bytes with True
    """

    source: Path
    out: Path
    qp: int = -32
    target_size: tuple[float, bool] | None = None
    target_accuracy: float | None = None
    images: Path | None = None
    labels: Path | None = None
    vector_qp: int | None = None
    rate_weight: float | None = None
    feedback: bool | None = None
    dq: bool = True
    lossless: bool = False
    enhance: int | None = None
    compensate: int | None = None
    supplements: tuple[str, ...] = ()
    options: bool = False
    blocks: bool = False
    data_formats: bool = False
    name: str = ""
    release: str = ""

    def __post_init__(self) -> None:
        if self.target_accuracy is not None and (self.images is None or self.labels is None):
            raise SettingsError("--target-accuracy needs --images and --labels")
        if self.feedback and (self.images is None or self.rate_weight is not None):
            raise SettingsError("--feedback needs --images, and goes without --lambda")
        if self.labels is not None and self.images is None:
            raise SettingsError("--labels needs --images")
        if self.supplements and self.images is None:
            raise SettingsError("--supplement needs --images")
        for kind in self.supplements:
            if kind not in SUPPLEMENTS:
                raise SettingsError(f"--supplement {kind}: expected one of {', '.join(SUPPLEMENTS)}")
        beside = self.enhance is not None or self.compensate is not None or bool(self.supplements)
        if beside and self.lossless:
            raise SettingsError("--lossless leaves nothing for --enhance, --compensate or --supplement")
        if beside and self.source.suffix == ".npz":
            raise SettingsError(f"{self.source}: versions and supplements are for ONNX models")
        if self.blocks and (self.lossless or self.source.suffix == ".npz"):
            raise SettingsError("--blocks needs an ONNX model, and goes without --lossless")
        if self.images is not None and self.source.suffix == ".npz":
            raise SettingsError(f"{self.source}: tensors alone cannot be run on --images")


@dataclass(frozen=True)
class Done:
    """What came of it.

    :param raw: bytes of the tensors as they were
    :param score: accuracy with labels; else minus the distortion of the outputs; None without images
    """

    made: EncodedModel
    out: Path
    raw: int
    tensors: int
    point: Point | None
    accuracy: float | None
    distortion: float | None
    trials: int
    notes: Notes

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        size = len(self.made.data)
        return {
            "out": str(self.out),
            "bytes": size,
            "share": size / self.raw,
            "tensors": self.tensors,
            "qp": None if self.point is None else self.point.qp,
            "lambda": None if self.point is None or self.point.way.feedback else self.point.way.rate_weight,
            "feedback": self.point is not None and self.point.way.feedback,
            "accuracy": self.accuracy,
            "distortion": self.distortion,
            "trials": self.trials,
            "model": self.made.model_sha256,
        }

    def lines(self) -> list[str]:
        """For a reader."""
        size = len(self.made.data)
        how = "lossless" if self.point is None else f"qp {self.point.qp:g}, {self.point.way.text}"
        text = f"{self.tensors} tensors, {size} bytes, {size / self.raw:.2%} of {self.raw} ({how}) -> {self.out}"
        more = []
        if self.accuracy is not None:
            more.append(f"accuracy {self.accuracy:.4f}")
        if self.distortion is not None:
            more.append(f"outputs' error {self.distortion:.3g} of their variance")
        return [text, *([", ".join(more)] if more else [])]


def run_job(job: Job, progress: Progress | None = None) -> Done:
    """Do it; nothing is written but the notes of a search.

    :raises SettingsError: the files do not go together, or the target cannot be reached
    """
    model = _read(job.source)
    raw = sum(values.nbytes for values in model.tensors.values())
    if not raw:
        raise SettingsError(f"{job.source}: no tensors to carry")
    telling = Telling(job.options, ModelInfo(job.name, job.release) if job.name or job.release else None)
    evaluator = labels = None
    if job.images is not None:
        evaluator = Evaluator(model, read_inputs(job.images))
        labels = read_labels(job.labels) if job.labels is not None else None
        if labels is not None:
            accuracy(evaluator.reference[0], labels)  # before hours of searching
    searching = job.target_size is not None or job.target_accuracy is not None
    key = key_of(["search", job, model.graph, *model.tensors.values(), *(evaluator.reference if evaluator else ())])
    notes = Notes(job.out.with_name(job.out.name + ".search") if searching else None, key)
    if job.lossless:
        made = _encode(model, Point(0), job, {}, telling, None, None)
        return _done(job, made, None, raw, model, evaluator, labels, 0, notes)
    found = _sensitivities(evaluator, notes, progress) if evaluator is not None else {}
    steps = offsets(found, {name: model.tensors[name].size for name in found})
    beside = _beside(job, evaluator, found, progress)

    ways = _ways(job)
    feedback = None
    if evaluator is not None and any(way.feedback for way in ways):
        feedback = Feedback(evaluator, progress)

    def encode(point: Point) -> EncodedModel:
        return _encode(model, point, job, steps, telling, beside, feedback)

    if not searching:
        point = Point(4 * job.qp, ways[0])
        return _done(job, encode(point), point, raw, model, evaluator, labels, 1, notes)

    def score(tensors: Mapping[str, Tensor]) -> float:
        assert evaluator is not None
        own = {name: values for name, values in tensors.items() if name in model.tensors}
        return evaluator.accuracy(own, labels) if labels is not None else -evaluator.distortion(own)

    search = Search(encode, score if evaluator is not None else None, notes, progress)
    if job.target_accuracy is not None:
        chosen = search.to_score(job.target_accuracy, ways)
    else:
        assert job.target_size is not None
        number, is_share = job.target_size
        # Of streams of one size the one whose outputs are nearest: labels say less about small differences.
        by_outputs = Search(
            encode, (lambda tensors: -_distortion(evaluator, model, tensors)) if evaluator else None, notes, progress
        )
        chosen = by_outputs.to_size(int(raw * number / 100) if is_share else int(number), ways)
    return _done(job, chosen.made, chosen.point, raw, model, evaluator, labels, chosen.trials, notes)


def _ways(job: Job) -> tuple[Way, ...]:
    """How to round: what was said, else all that can be tried."""
    if job.rate_weight is not None:
        return (Way(job.rate_weight),)
    if job.images is None:
        return (Way(),)
    if job.feedback is None:
        return WAYS
    return tuple(way for way in WAYS if way.feedback == job.feedback)


def _distortion(evaluator: Evaluator | None, model: OnnxModel, tensors: Mapping[str, Tensor]) -> float:
    assert evaluator is not None
    return evaluator.distortion({name: values for name, values in tensors.items() if name in model.tensors})


def _read(source: Path) -> OnnxModel:
    """A model; tensors of an .npz have no graph."""
    return OnnxModel(b"", read_npz(source)) if source.suffix == ".npz" else read_onnx(source)


def _sensitivities(evaluator: Evaluator, notes: Notes, progress: Progress | None) -> dict[str, float]:
    known = notes.get("sensitivities")
    if known is None:
        known = sensitivities(evaluator, progress)
        notes.put("sensitivities", known)
    return {str(name): float(value) for name, value in known.items()}


def _beside(
    job: Job, evaluator: Evaluator | None, found: Mapping[str, float], progress: Progress | None
) -> Beside | None:
    if job.enhance is None and job.compensate is None and not job.supplements:
        return None
    supplements: list[tuple[str, str, Tensor]] = []
    if evaluator is not None:
        if "relevance" in job.supplements:
            supplements += relevance(evaluator, progress)
        if "robustness" in job.supplements:
            supplements += robustness(evaluator, found)
    return Beside(
        enhance=None if job.enhance is None else TensorSettings(qp=job.enhance, dq=job.dq),
        compensate=None if job.compensate is None else TensorSettings(qp=job.compensate, dq=job.dq),
        supplements=tuple(supplements),
    )


def _encode(
    model: OnnxModel,
    point: Point,
    job: Job,
    steps: Mapping[str, float],
    telling: Telling,
    beside: Beside | None,
    feedback: Feedback | None,
) -> EncodedModel:
    tensors, settings = dict(model.tensors), lossless_settings()
    if not job.lossless:
        rounded = [name for name in tensors if feedback is not None and name in feedback] if point.way.feedback else []
        settings = settings_at(tensors, point, dq=job.dq, offsets=steps, vector_qp=job.vector_qp, rounded=rounded)
        for name in rounded:
            assert feedback is not None
            qp = settings.of(name, tensors[name].ndim).qp
            tensors[name] = feedback.round(name, float(step_size(qp, settings.qp_density)))
    settings = replace(settings, data_formats=job.data_formats)
    if not model.graph:
        return encode_tensors(as_bits(tensors) if job.lossless else tensors, settings, Description(model=telling.model))
    if job.blocks:
        settings = replace(settings, blocks=blocks_of(model.proto(), tensors, settings))
    if beside is not None:
        return encode_versions(model, settings, beside, telling, tensors)
    return encode_model(model, settings, lossless=job.lossless, tensors=tensors, telling=telling)


def _done(
    job: Job,
    made: EncodedModel,
    point: Point | None,
    raw: int,
    model: OnnxModel,
    evaluator: Evaluator | None,
    labels: Tensor | None,
    trials: int,
    notes: Notes,
) -> Done:
    reached = distance = None
    if evaluator is not None and not job.lossless:
        own = {name: values for name, values in made.tensors.items() if name in model.tensors}
        distance = evaluator.distortion(own)
        if labels is not None:
            reached = evaluator.accuracy(own, labels)
    return Done(made, job.out, raw, len(model.tensors), point, reached, distance, trials, notes)
