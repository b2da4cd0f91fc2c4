"""Runs a model with other tensors in its place: what it puts out, how far off that is, how often it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..inference import one_line
from .npz import read_npz
from .onnx_graph import OnnxModel

Tensor = NDArray[Any]
#: Samples in one run.
BATCH = 256


class Evaluator:
    """Runs a model on fixed inputs.

    :param inputs: by name, each with samples along its first axis
    :param threads: of onnxruntime
    :raises SettingsError: the inputs are not the model's
    """

    def __init__(self, model: OnnxModel, inputs: Mapping[str, Tensor], threads: int = 1) -> None:
        self.model = model
        self._threads = threads
        session = self._session(model.tensors)
        wanted = {one.name: one for one in session.get_inputs()}
        inputs = _named(inputs, list(wanted))
        self._inputs = {name: _typed(name, values, wanted[name].type) for name, values in inputs.items()}
        counts = {len(values) for values in self._inputs.values()}
        if len(counts) != 1 or counts == {0}:
            raise SettingsError(f"inputs with {sorted(counts)} samples, expected as many of each")
        self.samples = counts.pop()
        # A fixed first dimension takes so many at a time.
        fixed = {one.shape[0] for one in wanted.values() if one.shape and isinstance(one.shape[0], int)}
        self._batch = fixed.pop() if len(fixed) == 1 else BATCH
        if fixed or (self._batch != BATCH and self.samples % self._batch):
            raise SettingsError(f"{self.samples} samples, the model takes {self._batch} at a time")
        self.reference = self._run(session)

    def _session(self, tensors: Mapping[str, Tensor]) -> ort.InferenceSession:
        return self._opened(self.model.whole(dict(tensors)))

    def _opened(self, model: bytes) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"onnxruntime cannot open the model: {one_line(error)}") from None

    def _feeds(self) -> Iterator[dict[str, Tensor]]:
        for begin in range(0, self.samples, self._batch):
            yield {name: values[begin : begin + self._batch] for name, values in self._inputs.items()}

    @staticmethod
    def _ran(session: ort.InferenceSession, outputs: list[str] | None, feed: dict[str, Tensor]) -> list[Tensor]:
        try:
            found: list[Tensor] = session.run(outputs, feed)
        except Exception as error:
            raise SettingsError(f"onnxruntime cannot run the model: {one_line(error)}") from None
        return found

    def _run(self, session: ort.InferenceSession) -> list[Tensor]:
        parts = [self._ran(session, None, feed) for feed in self._feeds()]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    @property
    def runs(self) -> int:
        """How many runs the inputs take."""
        return -(-self.samples // self._batch)

    def inner(self, names: list[str]) -> Iterator[dict[str, Tensor]]:
        """Values inside the model by name, one run after the other."""
        proto = onnx.load_model_from_string(self.model.whole())
        known = {output.name for output in proto.graph.output}
        proto.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for name in names
            if name not in known and name not in self._inputs
        )
        session = self._opened(proto.SerializeToString())
        outputs = [output.name for output in session.get_outputs()]
        for feed in self._feeds():
            yield dict(zip(outputs, self._ran(session, None, feed), strict=True)) | feed

    def outputs(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """What the model puts out with these tensors, those left out as they were."""
        return self._run(self._session({**self.model.tensors, **tensors}))

    def distortion(self, tensors: Mapping[str, Tensor]) -> float:
        """Mean squared error of the outputs over their variance, in the mean of all floating-point outputs."""
        return distortion(self.reference, self.outputs(tensors))

    def accuracy(self, tensors: Mapping[str, Tensor], labels: Tensor) -> float:
        """How often the greatest of the first output's numbers is the label's."""
        return accuracy(self.outputs(tensors)[0], labels)


def distortion(reference: list[Tensor], outputs: list[Tensor]) -> float:
    """See `Evaluator.distortion`; 0 where there are no floating-point outputs, infinite where they are not finite."""
    found = []
    for wanted, got in zip(reference, outputs, strict=True):
        if wanted.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                error = np.square(got.astype(np.float64) - wanted.astype(np.float64)).mean()
            found.append(float(error) / max(float(wanted.astype(np.float64).var()), 1e-30))
    result = float(np.mean(found)) if found else 0.0
    return result if math.isfinite(result) else math.inf


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """How often the greatest score is the label's.

    :raises SettingsError: there are not as many labels as scores
    """
    scores = scores.reshape(len(scores), -1)
    if labels.shape != (len(scores),):
        raise SettingsError(f"labels of shape {list(labels.shape)} for {len(scores)} samples")
    return float((scores.argmax(axis=1) == labels).mean())


def read_inputs(path: Path) -> dict[str, Tensor]:
    """Inputs of a model from an .npz: one array for each, by name, or just one."""
    return read_npz(path)


def read_labels(path: Path) -> Tensor:
    """Labels from an .npz: the array `labels`, or the only one.

    :raises SettingsError: neither
    """
    found = read_npz(path)
    if "labels" in found:
        return found["labels"].reshape(-1)
    if len(found) == 1:
        return next(iter(found.values())).reshape(-1)
    raise SettingsError(f"{path}: no array 'labels'; there are {', '.join(found)}")


def _named(inputs: Mapping[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    given = {name: values for name, values in inputs.items() if name in wanted}
    if not given and len(wanted) == 1:
        others = {name: values for name, values in inputs.items() if name != "labels"}
        if len(others) == 1:
            given = {wanted[0]: next(iter(others.values()))}
    if missing := [name for name in wanted if name not in given]:
        raise SettingsError(f"no array for the model's input {missing[0]!r}; there are {', '.join(inputs) or 'none'}")
    return given


def _typed(name: str, values: Tensor, kind: str) -> Tensor:
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    wanted = types.get(kind)
    if wanted is not None and values.dtype.kind in "fiu":
        return values.astype(wanted, copy=False)
    if wanted is None and values.dtype.kind not in "iub":
        raise SettingsError(f"input {name!r} is {values.dtype}, the model takes {kind}")
    return values
