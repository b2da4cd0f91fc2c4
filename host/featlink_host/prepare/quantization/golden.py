"""Golden hashes of an integer backbone: the same levels whatever onnxruntime is told, or it is said where not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ...inference import one_line
from ..shapes import fix_shapes
from .affine import Affine

#: Key of a session by which x86 without VNNI computes in more than 16 bits.
PRECISE = "session.x64quantprecision"
#: Pictures that are hashed.
PICTURES = 3
_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class RunSetting:
    """How onnxruntime is told to run a network.

    :param optimization: "none", "basic", "extended", "all"
    :param threads: of one operator
    :param precise: with `PRECISE`
    """

    optimization: str = "all"
    threads: int = 1
    precise: bool = False

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"optimization {self.optimization}, {threads}{', x64quantprecision' if self.precise else ''}"

    def open(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """A session on the CPU.

        :raises SettingsError: onnxruntime cannot open it
        """
        options = ort.SessionOptions()
        options.graph_optimization_level = _LEVELS[self.optimization]
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        if self.precise:
            options.add_session_config_entry(PRECISE, "1")
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"{self}: onnxruntime cannot open it: {one_line(error)}") from None


#: The first is how cameras run their backbone.
RUN_SETTINGS: tuple[RunSetting, ...] = (
    RunSetting(),
    RunSetting(threads=2),
    RunSetting(precise=True),
    RunSetting("extended"),
    RunSetting("basic"),
    RunSetting("none"),
    RunSetting("none", 2, True),
)


@dataclass(frozen=True)
class Golden:
    """What the settings gave.

    :param hashes: SHA-256 of the levels of each picture, as `hash_of`, with the first setting
    :param equal: settings that gave the same
    :param differing: those that did not: the largest difference in levels, and the share of levels that differ
    """

    hashes: tuple[str, ...]
    equal: tuple[str, ...]
    differing: dict[str, tuple[int, float]]

    @property
    def holds(self) -> bool:
        """Whether all gave the same."""
        return not self.differing

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sha256": list(self.hashes),
            "equal": list(self.equal),
            "differing": {
                name: {"largest": largest, "share": share} for name, (largest, share) in self.differing.items()
            },
        }


def golden(
    model: onnx.ModelProto,
    affine: Affine,
    settings: tuple[RunSetting, ...] = RUN_SETTINGS,
    pictures: int = PICTURES,
) -> Golden:
    """Run a backbone on fixed inputs with all settings.

    :param model: one input of a fixed shape, whose quantizer is `affine`; its only output is levels
    :raises SettingsError: it cannot be run, or leaves its input's shape open
    """
    value = model.graph.input[0]
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    # An open number of samples is one; anything else has to be fixed.
    shape = [1, *shape[1:]] if shape and not shape[0] else shape
    if not shape or 0 in shape:
        fix_shapes(model, {})
        raise SettingsError(f"input {value.name!r}: found no shape, golden hashes need one")
    first: list[NDArray[Any]] = []
    equal: list[str] = []
    differing: dict[str, tuple[int, float]] = {}
    for setting in settings:
        session = setting.open(model)
        found = [np.asarray(session.run(None, {value.name: one})[0]) for one in fixed_inputs(shape, affine, pictures)]
        first = first or found
        apart = [np.abs(a.astype(np.int64) - b.astype(np.int64)) for a, b in zip(first, found, strict=True)]
        largest = max(int(one.max()) for one in apart)
        if largest:
            differing[str(setting)] = largest, float(np.mean([np.count_nonzero(one) / one.size for one in apart]))
        else:
            equal.append(str(setting))
    return Golden(tuple(hash_of(one) for one in first), tuple(equal), differing)


def fixed_inputs(shape: list[int], affine: Affine, count: int) -> Iterator[NDArray[np.float32]]:
    """The same inputs everywhere, float32: a gradient that moves, and noise on it, each exactly a level.

    Whole numbers make them, so that no library's random numbers or rounding matter.
    """
    size = int(np.prod(shape))
    places = np.arange(size, dtype=np.uint64)
    width = np.uint64(max(shape[-1], 1))
    for number in range(count):
        mixed = (places + np.uint64(number * size + 1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        noise = (mixed >> np.uint64(40)) % np.uint64(64)
        ramp = (places % width) * np.uint64(192) // width + places // width * np.uint64(3) + np.uint64(16 * number)
        levels = (ramp + noise) % np.uint64(256)
        # Of wider levels the top eight bits.
        yield affine.dequantize(levels.astype(np.int64) << (affine.bits - 8)).reshape(shape)


def hash_of(levels: NDArray[Any]) -> str:
    """SHA-256 of levels as little-endian int32; maps [1, C, H, W] as [H, W, C], as `featlink-device check` has them."""
    if levels.ndim == 4 and levels.shape[0] == 1:
        levels = levels[0].transpose(1, 2, 0)
    return hashlib.sha256(np.ascontiguousarray(levels, "<i4").tobytes()).hexdigest()
