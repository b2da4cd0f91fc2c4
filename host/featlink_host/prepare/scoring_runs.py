"""Runs networks batch by batch, and sums up how far one's outputs are from another's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..inference import one_line, open_session

Tensor = NDArray[Any]
#: From inputs to outputs, both by name.
Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
#: Samples in one run, unless the network wants a number of its own.
BATCH = 64


class ModelRunner:
    """A network in onnxruntime that takes any number of samples: those of a fixed batch go so many at a time.

    :param model: the network or its file
    :raises SettingsError: onnxruntime cannot open it
    """

    def __init__(self, model: onnx.ModelProto | Path | str) -> None:
        self._session = open_session(model)
        self._name = str(model) if isinstance(model, (str, Path)) else "the model"
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]
        first = [one.shape[0] for one in self._session.get_inputs() if one.shape]
        fixed = {axis for axis in first if isinstance(axis, int)}
        #: samples that the network takes at a time; None: any number
        self.fixed: int | None = fixed.pop() if len(fixed) == 1 else None
        if self.fixed is not None and self.fixed < 1:
            self.fixed = None

    @property
    def batch(self) -> int:
        """Samples that are worth giving at a time."""
        return self.fixed or BATCH

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name.

        :raises SettingsError: the inputs are not the network's, or it cannot be run
        """
        if missing := [name for name in self.inputs if name not in inputs]:
            raise SettingsError(f"{self._name}: takes an input {missing[0]!r}, there are {', '.join(inputs)}")
        feed = {name: inputs[name] for name in self.inputs}
        count = len(next(iter(feed.values())))
        if self.fixed is None or count == self.fixed:
            return self._run(feed)
        parts = []
        for first in range(0, count, self.fixed):
            some = {name: values[first : first + self.fixed] for name, values in feed.items()}
            have = len(next(iter(some.values())))
            # The last one again and again: what comes of it is dropped.
            lacking = self.fixed - have
            whole = {name: np.concatenate([v, np.repeat(v[-1:], lacking, axis=0)]) for name, v in some.items()}
            parts.append({name: values[:have] for name, values in self._run(whole if lacking else some).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        try:
            found: Sequence[Tensor] = self._session.run(self.outputs, dict(feed))
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"{self._name}: onnxruntime cannot run it: {one_line(error)}") from None
        return dict(zip(self.outputs, found, strict=True))


class Distortion:
    """Mean squared error of outputs over the variance of the reference's, in the mean of all floating-point outputs.

    The same figure as `model.evaluate.distortion`, but of sums over batches.
    """

    def __init__(self) -> None:
        #: by output: values, their mean, sum of squared differences from it, sum of squared errors
        self._sums: dict[str, tuple[int, float, float, float]] = {}
        self._finite = True

    def add(self, reference: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Take in a batch.

        :raises SettingsError: an output is missing or of another shape
        """
        for name, wanted in reference.items():
            if wanted.dtype.kind != "f":
                continue
            got = found.get(name)
            if got is None or got.shape != wanted.shape:
                shape = "nothing" if got is None else list(got.shape)
                raise SettingsError(f"output {name!r}: found {shape}, expected {list(wanted.shape)}")
            exact = wanted.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                error = float(np.square(got.astype(np.float64) - exact).sum())
            self._finite = self._finite and math.isfinite(error)
            count, mean, spread, errors = self._sums.get(name, (0, 0.0, 0.0, 0.0))
            ours, more = float(exact.mean()), exact.size
            both = count + more
            # Chan's sum of two parts: no large numbers are subtracted.
            spread += float(np.square(exact - ours).sum()) + (ours - mean) ** 2 * count * more / both
            self._sums[name] = both, mean + (ours - mean) * more / both, spread, errors + error

    @property
    def value(self) -> float:
        """0: the same; infinite where outputs are not finite."""
        if not self._finite:
            return math.inf
        found = [errors / max(spread, 1e-30 * count) for count, _, spread, errors in self._sums.values()]
        return float(np.mean(found)) if found else 0.0
