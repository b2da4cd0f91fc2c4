"""How much each tensor matters: what noise on it does to the outputs, and the steps that follow from that."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluate import Evaluator

Tensor = NDArray[Any]
#: Noise on a tensor, over its root mean square: little enough that the outputs follow it linearly. The smaller ones are
#: for tensors that bear less: a variance must stay above 0.
NOISES = (0.05, 0.005, 0.0005)
DRAWS = 2
#: Distortion up to which the outputs follow linearly.
LINEAR = 0.1
#: Quantization parameters a tensor may lie from the mean of all.
MAX_OFFSET = 60.0


def sensitivities(evaluator: Evaluator, progress: Callable[[str, int, int], None] | None = None) -> dict[str, float]:
    """Of each floating-point tensor: distortion of the outputs per element and unit of noise variance.

    The noise is the same on every run. Tensors without any effect are as sensitive as the least of the others.
    """
    tensors = {
        name: values
        for name, values in evaluator.model.tensors.items()
        if values.dtype.kind == "f" and np.isfinite(values).all()
    }
    found: dict[str, float] = {}
    for number, (name, values) in enumerate(tensors.items(), 1):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        for noise in NOISES:
            rng = np.random.default_rng(seed)
            deviation = noise * math.sqrt(float(np.mean(np.square(values, dtype=np.float64)))) or 1e-6
            moved = 0.0
            for _ in range(DRAWS):
                noisy = values.astype(np.float32) + rng.normal(0, deviation, values.shape).astype(np.float32)
                moved += evaluator.distortion({name: noisy.astype(values.dtype)}) / DRAWS
            found[name] = moved / (deviation**2 * values.size)
            if math.isfinite(moved) and moved < LINEAR:
                break
        if progress is not None:
            progress("sensitivity", number, len(tensors))
    least = min((one for one in found.values() if one > 0 and math.isfinite(one)), default=1.0)
    return {name: one if one > 0 and math.isfinite(one) else least for name, one in found.items()}


def offsets(found: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """Quantization parameters of tensors against their common one, at which all have the same slope.

    Where distortion falls by s * step^2 for each element and rate by one bit for each halving of the step, the slopes
    are equal when s * step^2 is: two steps of 4 in the quantization parameter for each factor of 16 in s. The mean
    over all elements is 0.
    """
    if not found:
        return {}
    total = sum(sizes[name] for name in found)
    mean = sum(math.log2(one) * sizes[name] for name, one in found.items()) / total
    return {name: max(-MAX_OFFSET, min(MAX_OFFSET, -2 * (math.log2(one) - mean))) for name, one in found.items()}
