"""What the survey measures: values of inner tensors on images, and milliseconds of both halves."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from .calibrate import Progress
from .distribution import Distribution, fit_distribution, level_entropy
from .graph import DataGraph
from .quantization.histograms import StreamedHistogram
from .samples import model_inputs
from .scoring import Judge
from .scoring_runs import ModelRunner
from .split import extract_halves

#: Bytes of inner tensors that are held at a time: more are looked at in several passes over the samples.
HELD_BYTES = 1 << 28
#: Runs before those that count.
_WARM = 2


@dataclass(frozen=True)
class Looks:
    """What a tensor's values looked like.

    :param minimum: smallest value
    :param maximum: largest value
    :param zeros: share of values that are exactly 0, 0..1
    :param distribution: of the others
    :param entropy_bits: of a picture: zeroth-order entropy of 8-bit levels
    """

    minimum: float
    maximum: float
    zeros: float
    distribution: Distribution
    entropy_bits: float


def looks_of(
    graph: DataGraph, tensors: Sequence[str], judge: Judge, samples: int, progress: Progress | None = None
) -> tuple[dict[str, Looks], int]:
    """Values of inner tensors over some samples, one sample at a time; tensors that are not numbers are left out.

    :returns: by tensor; and how many samples there were
    :raises SettingsError: the network cannot be run, or a tensor holds NaN or infinity
    """
    found: dict[str, Looks] = {}
    seen = 0
    parts = list(_parts(graph, tensors))
    for number, part in enumerate(parts):
        run = ModelRunner(_with_outputs(graph.model, part))
        histograms = {name: StreamedHistogram() for name in part}
        sizes: dict[str, int] = {}
        seen = 0
        for one in single_samples(judge, samples):
            outputs = run(one)
            for name in part:
                try:
                    histograms[name].add(outputs[name].astype(np.float32, copy=False))
                except SettingsError as error:
                    raise SettingsError(f"tensor {name!r}: {error}") from None
                sizes[name] = outputs[name].size
            seen += 1
            if progress:
                progress("values", number * samples + seen, len(parts) * samples)
        for name, histogram in histograms.items():
            values = histogram.seen()
            found[name] = Looks(
                values.minimum,
                values.maximum,
                values.zeros / values.total,
                fit_distribution(values),
                level_entropy(values) * sizes[name],
            )
    return found, seen


def single_samples(judge: Judge, limit: int) -> Iterator[dict[str, NDArray[Any]]]:
    """A judge's inputs, evenly spread, one sample at a time."""
    for inputs in judge.batches(limit):
        for at in range(len(next(iter(inputs.values())))):
            yield {name: values[at : at + 1] for name, values in inputs.items()}


def time_halves(
    graph: DataGraph,
    places: Sequence[tuple[str, ...]],
    judge: Judge | None,
    runs: int,
    progress: Progress | None = None,
) -> list[tuple[float | None, float | None, str]]:
    """Median milliseconds of the backbone and of the head at each place, one thread of this machine.

    :param judge: gives the picture; without one it is noise
    :returns: both, and why the network cannot be split there (empty: it can)
    """
    if judge is not None:
        sample: Mapping[str, NDArray[Any]] = next(single_samples(judge, 1))
    else:
        rng = np.random.default_rng(0)
        sample = {
            name: rng.random([side or 1 for side in shape]).astype(dtype)
            for name, (dtype, shape) in model_inputs(graph.model).items()
        }
    found: list[tuple[float | None, float | None, str]] = []
    for done, place in enumerate(places, 1):
        try:
            near, far = (ModelRunner(half) for half in extract_halves(graph, place))
            sent = near(sample)
            far(sent)
            times = (_median_ms(near, sample, runs), _median_ms(far, sent, runs)) if runs else (None, None)
            found.append((*times, ""))
        except SettingsError as error:
            found.append((None, None, str(error)))
        if progress:
            progress("times", done, len(places))
    return found


def _median_ms(run: ModelRunner, inputs: Mapping[str, NDArray[Any]], runs: int) -> float:
    times = []
    for _ in range(_WARM + runs):
        begun = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times[_WARM:])


def _parts(graph: DataGraph, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Tensors in groups that are held at a time."""
    part: list[str] = []
    held = 0
    for name in tensors:
        kind = graph.type_of(name)
        if kind.dtype and np.dtype(kind.dtype).kind not in "fiu":
            continue
        size = 4 * math.prod(side or 1 for side in kind.shape or ())
        if part and held + size > HELD_BYTES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    return opened
