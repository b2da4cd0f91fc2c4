"""Weights as integers with a scale for each output channel: what an integer network's layers hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from .groups import Groups
from .layers import WeightLayer
from .refine import at_scales, fixed_point, unsaturated
from .room import raised
from .tensors import QuantizedTensor
from .value_sets import FULL, PORTABLE, uniform


@dataclass(frozen=True, eq=False)
class ChannelWeights:
    """A layer's weights: integers times scales.

    :param integers: int64, in the shape of the layer's tensor
    :param scales: float64 [output channels], each a binary32 number above 0
    """

    integers: NDArray[np.int64]
    scales: NDArray[np.float64]

    def __post_init__(self) -> None:
        scales = self.scales
        if scales.ndim != 1 or not (np.isfinite(scales) & (scales > 0)).all():
            raise SettingsError(f"scales {list(scales.shape)}, expected finite numbers above 0, one an output channel")
        if (scales.astype(np.float32) != scales).any():
            raise SettingsError("scales that binary32 does not have")

    @property
    def span(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        return int(self.integers.min()), int(self.integers.max())

    def portable(self, full: bool = False) -> bool:
        """Whether onnxruntime computes with them alike on all machines (`full`: all but x86 with AVX2 and no VNNI)."""
        low, high = FULL if full else PORTABLE
        return low <= self.span[0] and self.span[1] <= high

    def values(self, layer: WeightLayer) -> NDArray[np.float32]:
        """The weights that they stand for, float32."""
        matrix = layer.matrix(self.integers).astype(np.float32) * self.scales.astype(np.float32)[:, None]
        return layer.tensor(matrix, self.integers.shape)


def direct(
    layer: WeightLayer, tensor: NDArray[Any], *, bits: int = 8, portable: bool = True, exact: bool = False
) -> ChannelWeights:
    """The nearest integers of a layer's weights, a scale for each output channel; nothing is trained.

    :param portable: 8 bits are -64..63 rather than -127..127
    :param exact: scales are powers of two, those with the least error
    :raises SettingsError: the layer has no axis of output channels, or weights that are not finite
    """
    if layer.axis is None:
        raise SettingsError(f"{layer.name}: a {layer.operator} in groups has no axis of output channels")
    matrix = layer.matrix(tensor).astype(np.float64)
    if not np.isfinite(matrix).all():
        raise SettingsError(f"{layer.name}: found NaN or infinity among the weights")
    groups = Groups("channel", *matrix.shape)
    values = uniform(bits, portable)
    parts = groups.split(matrix)
    found = fixed_point(parts, values, saturate=True) if exact else at_scales(parts, values, unsaturated(parts, values))
    integers = values.integers(found.indices)
    assert integers is not None  # a uniform set's values are integers
    scales = np.where(found.scales > 0, found.scales, 1.0)
    return ChannelWeights(layer.tensor(groups.join(integers), tensor.shape), scales)


def channel_weights(tensor: QuantizedTensor) -> ChannelWeights | None:
    """A quantized tensor that way; None where its values are no integers, or several scales share an output channel."""
    integers = tensor.integers()
    if integers is None or not tensor.plain_scales or tensor.layer.axis is None:
        return None
    scales = np.broadcast_to(tensor.scales.astype(np.float64), (integers.shape[tensor.layer.axis],))
    empty = scales <= 0
    if empty.any():
        matrix = tensor.layer.matrix(integers).copy()
        matrix[empty] = 0
        integers = tensor.layer.tensor(matrix, integers.shape)
    return ChannelWeights(integers, np.where(empty, 1.0, scales))


def coarser(
    layer: WeightLayer, weights: ChannelWeights, least: NDArray[np.float64], tensor: NDArray[Any]
) -> ChannelWeights:
    """The same with channels' scales raised to at least so much, by powers of two; the integers follow.

    :param least: float64 [output channels]
    :param tensor: the weights themselves
    """
    scales, short = raised(weights.scales, least)
    if not short.any():
        return weights
    low, high = weights.span
    matrix, integers = layer.matrix(tensor).astype(np.float64), layer.matrix(weights.integers).copy()
    integers[short] = np.clip(np.rint(matrix[short] / scales[short, None]), low, high).astype(np.int64)
    return ChannelWeights(layer.tensor(integers, tensor.shape), scales)
