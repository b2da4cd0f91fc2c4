"""The step `quantize`: weights at any width, where asked for what goes into layers, too; scores before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from featlink_codec.errors import SettingsError
from featlink_codec.model import EncodedModel

from ...model.encoding import encode_model, lossless_settings
from ...model.onnx_graph import from_proto
from ..scoring import Judge, Score
from .folding import LEAST_OPSET, WIDE_OPSET, folded
from .inner_inputs import why_untuned
from .places import find_places
from .qdq import QdqNetwork, QdqOptions, insert_qdq
from .ranges import RangeOptions, observe
from .tables import with_tables
from .tuning import tuned_qdq
from .weights import Progress, WeightOptions, WeightsResult, quantize_weights
from .weights_stored import to_stored, with_stored
from .weights_stream import to_stream

#: Widths that a sweep tries.
SWEEP = (1, 2, 3, 4, 5, 6, 8)
#: Inputs of so many bits are floating point, as they were.
FLOAT_BITS = 32


@dataclass(frozen=True)
class QuantizeOptions:
    """What is quantized, and how.

    :param inputs: bits of what goes into each layer but the first, 8 to 31; 32: floating point
    :param method: where inputs are cut off, see `RangeOptions`
    :param samples: inputs to calibrate with
    :param sweep: also score the network at the widths of `SWEEP`, all else being the same
    """

    weights: WeightOptions = field(default_factory=WeightOptions)
    inputs: int = FLOAT_BITS
    method: str = "mse"
    samples: int = 64
    sweep: bool = False

    def __post_init__(self) -> None:
        if not 8 <= self.inputs <= FLOAT_BITS:
            raise SettingsError(f"inputs of {self.inputs} bits, expected 8 to {FLOAT_BITS}")
        RangeOptions(self.method)  # type: ignore[arg-type]  # checked there, whatever is quantized
        if self.samples < 1:
            raise SettingsError(f"{self.samples} samples to calibrate with, expected at least 1")

    @property
    def used_weights(self) -> WeightOptions:
        """Beside integer inputs, weights are integers that int8 holds, as far as their bits allow it."""
        narrow = self.inputs < FLOAT_BITS and max(self.weights.bits, 0, *self.weights.layer_bits.values()) <= 8
        return replace(self.weights, whole=True) if narrow else self.weights


@dataclass(frozen=True)
class Trial:
    """A width that a sweep has tried: bytes without and with entropy coding."""

    bits: int
    plain_bytes: int
    stream_bytes: int
    score: Score


@dataclass(frozen=True, eq=False)
class Quantized:
    """What came of it.

    :param model: to be run: stored weights, and QuantizeLinear before layers where inputs are quantized
    :param weights: the weights alone; beside quantized inputs, not yet fine-tuned
    :param network: with quantized inputs: what `insert_qdq` made
    :param stream: the model, and nothing lost
    :param before: score of the network as it was; None without a judge
    :param outputs_error: of fine-tuned layers, see `WeightsResult`
    """

    model: onnx.ModelProto
    options: QuantizeOptions
    weights: WeightsResult
    network: QdqNetwork | None
    stream: EncodedModel
    before: Score | None
    after: Score | None
    trials: tuple[Trial, ...]
    outputs_error: Mapping[str, tuple[float, float]]

    @property
    def untuned(self) -> dict[str, str]:
        """Weights that should have been fine-tuned and were not, and why."""
        if not self.options.weights.fine_tune:
            return {}
        rest = [one for one in self.weights.tensors if one.name not in self.outputs_error]
        return {one.name: why_untuned(one.layer, one.shape) for one in rest}

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.weights.figures(),
            "untuned": self.untuned,
            "inputs": self.options.inputs,
            "quantized_inputs": len(self.network.quantizers) if self.network is not None else 0,
            "stream_bytes": len(self.stream.data),
            "model_sha256": self.stream.model_sha256,
            "outputs_error": {name: list(pair) for name, pair in self.outputs_error.items()},
            "before": self.before.figures() if self.before is not None else None,
            "after": self.after.figures() if self.after is not None else None,
            "sweep": [
                {
                    "bits": one.bits,
                    "plain_bytes": one.plain_bytes,
                    "stream_bytes": one.stream_bytes,
                    **one.score.figures(),
                }
                for one in self.trials
            ],
        }


def quantize(
    model: onnx.ModelProto,
    judge: Judge | None,
    options: QuantizeOptions,
    progress: Progress | None = None,
    tuning: Judge | None = None,
) -> Quantized:
    """Quantize a network.

    :param judge: None: nothing is scored
    :param tuning: gives the inputs to calibrate and fine-tune with; the judge does where left out
    :param progress: is told of ("weights" | "fine-tune" | "calibrate" | "judge" | "sweep", done, total)
    :raises SettingsError: options that need inputs without a judge, or a network that cannot be quantized so
    """
    tuning = tuning or judge
    if (tuning is None and options.inputs < FLOAT_BITS) or (judge is None and options.sweep):
        what = "a sweep" if options.sweep else f"inputs of {options.inputs} bits"
        raise SettingsError(f"{what}: needs samples, give images")
    done = _unscored(model, tuning, options, progress)
    if judge is None:
        return done
    if progress is not None:
        progress("judge", 0, 2)
    before = judge.score(model)
    if progress is not None:
        progress("judge", 1, 2)
    after = judge.score(done.model)
    if progress is not None:
        progress("judge", 2, 2)
    return replace(done, before=before, after=after, trials=_sweep(model, judge, tuning, options, progress))


def _unscored(
    model: onnx.ModelProto, tuning: Judge | None, options: QuantizeOptions, progress: Progress | None = None
) -> Quantized:
    if options.inputs < FLOAT_BITS:
        assert tuning is not None
        return _with_inputs(model, tuning, options, progress)
    weights = quantize_weights(model, tuning, options.used_weights, progress)
    model, stream = to_stored(weights), to_stream(weights)
    return Quantized(model, options, weights, None, stream, None, None, (), weights.outputs_error)


def _with_inputs(
    model: onnx.ModelProto, tuning: Judge, options: QuantizeOptions, progress: Progress | None
) -> Quantized:
    """Levels before every layer but the first: BatchNorm goes into the weights before they are quantized."""
    plain = folded(model, WIDE_OPSET if options.inputs > 8 else LEAST_OPSET)
    ours = options.used_weights
    weights = quantize_weights(plain, None, replace(ours, fine_tune=False), progress)
    qdq = QdqOptions(
        RangeOptions(options.method, bits=options.inputs),  # type: ignore[arg-type]  # checked there
        scope="layers",
        portable=ours.portable,
    )
    wanted = find_places(plain, qdq.scope, first_input=qdq.first_input, outputs=qdq.outputs).leaders
    seen = observe(plain, tuning.batches(options.samples), wanted, progress)
    if ours.fine_tune:
        network, errors = tuned_qdq(plain, ours, seen, lambda: tuning.batches(ours.samples), qdq, progress)
    else:
        network, errors = insert_qdq(plain, {one.name: one for one in weights.tensors}, seen, qdq), {}
    # Weights that int8 does not hold stay as numbers there; where they are known here they are stored as integers.
    plain_ones = [one for one in weights.tensors if one.name in network.plain_weights and not ours.fine_tune]
    made, coded = (with_stored(network.model, plain_ones, codes) for codes in (False, True))
    stream = encode_model(from_proto(with_tables(coded)), lossless_settings(), lossless=True)
    return Quantized(made, options, weights, network, stream, None, None, (), errors)


def _sweep(
    model: onnx.ModelProto, judge: Judge, tuning: Judge | None, options: QuantizeOptions, progress: Progress | None
) -> tuple[Trial, ...]:
    trials: list[Trial] = []
    for number, bits in enumerate(SWEEP if options.sweep else ()):
        if progress is not None:
            progress("sweep", number, len(SWEEP))
        weights = replace(options.weights, bits=bits, layer_bits={})
        one = _unscored(model, tuning, replace(options, weights=weights))
        trials.append(Trial(bits, one.weights.plain_bytes, len(one.stream.data), judge.score(one.model)))
    if options.sweep and progress is not None:
        progress("sweep", len(SWEEP), len(SWEEP))
    return tuple(trials)
