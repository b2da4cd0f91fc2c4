"""Quantizers of a network's activations: its tensors are looked at over samples, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ...inference import one_line, open_session
from ..calibrate import Progress
from . import thresholds
from .affine import MAX_BITS, MIN_BITS, Affine, asymmetric, power_of_two, symmetric
from .fixed_point import fitting
from .histograms import StreamedHistogram, ValuesSeen

Method = Literal["minmax", "percentile", "kl", "mse"]
Scheme = Literal["asymmetric", "symmetric", "fixed-point", "power-of-two"]
METHODS: tuple[str, ...] = get_args(Method)
SCHEMES: tuple[str, ...] = get_args(Scheme)
_SCHEMES: dict[str, Callable[[float, float, int], Affine]] = {
    "asymmetric": asymmetric,
    "symmetric": symmetric,
    "fixed-point": lambda low, high, bits: fitting(low, high, bits).affine(),
    "power-of-two": power_of_two,
}


@dataclass(frozen=True)
class RangeOptions:
    """How a tensor's values become levels.

    :param method: where they are cut off: "minmax" nowhere (unsaturated); "percentile", "kl" (divergence), "mse"
    :param scheme: "asymmetric" or "symmetric" with any step; "fixed-point": signed, steps 2^-f; "power-of-two":
        asymmetric with steps 2^k, exact on every machine
    :param bits: 8..32
    :param percent: of the values that are inside, for "percentile"
    """

    method: Method = "mse"
    scheme: Scheme = "asymmetric"
    bits: int = 8
    percent: float = 99.99

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("scheme", SCHEMES)):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name}: found {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise SettingsError(f"bits: found {self.bits}, expected {MIN_BITS} to {MAX_BITS}")
        if not 0 < self.percent <= 100:
            raise SettingsError(f"percent: found {self.percent:g}, expected above 0 and at most 100")


def observe(
    model: onnx.ModelProto,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    tensors: Sequence[str],
    progress: Progress | None = None,
    total: int = 0,
) -> dict[str, ValuesSeen]:
    """Run a network and look at some of its tensors; no more than a batch is held at a time.

    :param tensors: names, the network's inputs among them or not
    :param progress: told ("calibrate", batches done, `total`)
    :raises SettingsError: no batch, no such tensor, not finite, or the network cannot be run
    """
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in dict.fromkeys(tensors) if name not in inputs]
    session = open_session(with_outputs(model, inner)) if inner else None
    histograms = {name: StreamedHistogram() for name in tensors}
    seen = 0
    for batch in batches:
        found = dict(batch)
        if session is not None:
            try:
                found.update(zip(inner, session.run(inner, dict(batch)), strict=True))
            except Exception as error:  # onnxruntime's errors share no base but Exception
                raise SettingsError(f"the network cannot be run: {one_line(error)}") from None
        for name, histogram in histograms.items():
            try:
                histogram.add(found[name])
            except SettingsError as error:
                raise SettingsError(f"tensor {name!r}: {error}") from None
        seen += 1
        if progress is not None:
            progress("calibrate", seen, max(total, seen))
    if not seen:
        raise SettingsError("no images to calibrate with")
    return {name: histogram.seen() for name, histogram in histograms.items()}


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of a network that puts out some of its inner tensors, too.

    :raises SettingsError: there is no such tensor
    """
    made = {name for node in model.graph.node for name in node.output}
    if missing := [name for name in tensors if name not in made]:
        raise SettingsError(f"found no tensor {missing[0]!r} in the network")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    return copy


def quantizer_for(seen: ValuesSeen, options: RangeOptions) -> Affine:
    """The quantizer of a tensor that looked like that."""
    make = _SCHEMES[options.scheme]
    return make(*_range(seen, options, make), options.bits)


def quantizers_for(seen: Mapping[str, ValuesSeen], options: RangeOptions) -> dict[str, Affine]:
    """The same of several tensors."""
    return {name: quantizer_for(one, options) for name, one in seen.items()}


def _range(seen: ValuesSeen, options: RangeOptions, make: Callable[[float, float, int], Affine]) -> tuple[float, float]:
    if options.method == "minmax":
        return thresholds.unsaturated(seen)
    if options.method == "percentile":
        return thresholds.percentile(seen, options.percent)
    if options.method == "mse":
        return thresholds.squared_error(seen, lambda low, high: make(low, high, options.bits))
    # Of -T..T, half of which an unsigned tensor has for itself.
    doubled = seen.minimum >= 0 and options.scheme in ("asymmetric", "power-of-two")
    return thresholds.divergence(seen, 2 ** (options.bits + doubled))


def signal_to_noise(seen: ValuesSeen, affine: Affine) -> float:
    """Of a tensor quantized, in dB, by its histogram."""
    values, counts = seen.points()
    power = float((np.square(values) * counts).sum())
    error = affine.error(values, counts)
    return float("inf") if not error else 10 * float(np.log10(max(power, 1e-300) / error))
