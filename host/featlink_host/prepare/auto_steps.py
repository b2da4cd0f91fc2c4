"""The transformations that `auto` can put before the split, each one's own step function."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from featlink_codec.errors import SettingsError

from .calibrate import Progress
from .scoring import Judge


@dataclass(frozen=True)
class Transformation:
    """Where a step's function is, and how its options come from `auto`'s.

    :param module: in this package
    :param function: (model, judge, options, progress) -> a result with .model and .figures()
    :param options: class of its options
    :param argument: which of them `auto` sets
    :param fixed: options that `auto` always gives
    :param inner: class of options inside those, under the name `weights`, which has the argument
    """

    module: str
    function: str
    options: str
    argument: str
    inner: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)


#: By the name of the option, in the order in which they are done.
TRANSFORMATIONS: Mapping[str, Transformation] = {
    "prune": Transformation("pruning.structured", "prune_channels", "ChannelOptions", "channels"),
    "low_rank": Transformation(
        "factorization.step", "factorize", "FactorOptions", "budget_macs", fixed={"spatial": True}
    ),
    "sparsity": Transformation("pruning.unstructured", "prune_weights", "WeightOptions", "sparsity"),
    "quantize": Transformation("quantization.step", "quantize", "QuantizeOptions", "bits", "WeightOptions"),
}


def transform(
    name: str, value: Any, model: onnx.ModelProto, judge: Judge | None, progress: Progress | None = None
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Do a step.

    :returns: the changed network, and the step's figures
    :raises SettingsError: there is no such step, or it refuses the network
    """
    try:
        step = TRANSFORMATIONS[name]
    except KeyError:
        raise SettingsError(f"step {name!r}: expected one of {', '.join(TRANSFORMATIONS)}") from None
    module = importlib.import_module(f"{__package__}.{step.module}")
    if step.inner:
        options = getattr(module, step.options)(weights=getattr(module, step.inner)(**{step.argument: int(value)}))
    else:
        options = getattr(module, step.options)(**{step.argument: value}, **step.fixed)
    result = getattr(module, step.function)(model, judge, options, progress)
    onnx.checker.check_model(result.model)
    return result.model, result.figures()
