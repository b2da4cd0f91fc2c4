"""A quantized tensor: places in a set of values, scales of its groups, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .groups import Groups
from .layers import WeightLayer
from .refine import Scaled
from .value_sets import TableSet, ValueSet


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """The weights of a layer.

    :param shape: of the tensor, which the layer's matrix is made of
    :param dtype: in which the layer reads it: float32, float16 or float64
    :param indices: places in `set`, int64 [output channels, weights of each]
    :param scales: float32 [groups]
    :param error: squared error over the sum of the squared weights
    """

    layer: WeightLayer
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    set: ValueSet
    groups: Groups
    indices: NDArray[np.int64]
    scales: NDArray[np.float32]
    error: float

    @property
    def name(self) -> str:
        """Of the tensor that the layer reads."""
        return self.layer.name

    @property
    def bits(self) -> int:
        """Of an index."""
        return self.set.bits

    @property
    def axis(self) -> int | None:
        """Of the scales, as DequantizeLinear has it; None where there is one scale, or where it has no such axis."""
        return self.layer.axis if self.groups.kind == "channel" else None

    @property
    def plain_scales(self) -> bool:
        """Whether the scales are one number, or lie along one axis of the tensor."""
        return self.groups.kind == "tensor" or self.axis is not None

    def values(self) -> NDArray[Any]:
        """The tensor: float32(value) * float32(scale), rounded once, then in the layer's type."""
        matrix = self.set.values(self.indices).astype(np.float32) * self.groups.spread(self.scales)
        with np.errstate(over="ignore"):
            return self.layer.tensor(matrix, self.shape).astype(self.dtype)

    def integers(self) -> NDArray[np.int64] | None:
        """What the scales multiply, in the tensor's shape; None where the set's values are no integers."""
        found = self.set.integers(self.indices)
        return None if found is None else self.layer.tensor(found, self.shape)

    def codes(self) -> NDArray[np.int64]:
        """Places in the set counted from zero's, in the tensor's shape: small numbers for small weights."""
        return self.layer.tensor(self.indices - self.set.zero, self.shape)

    def table(self) -> NDArray[np.float64]:
        """The set's values, beginning with zero's place: a code is an index of it, negative ones from its end."""
        assert isinstance(self.set, TableSet)
        return np.roll(np.array(self.set.table), -self.set.zero)

    @property
    def plain_bytes(self) -> int:
        """Of indices of `bits` each, packed, scales, and a table that is this tensor's own: no entropy coding."""
        # What follows from the number of bits alone is not sent.
        own = isinstance(self.set, TableSet) and not self.set.whole
        table = 4 * self.set.size if own else 0
        return -(-self.indices.size * self.bits // 8) + 4 * self.scales.size + table


def tensor_of(
    layer: WeightLayer, shape: tuple[int, ...], dtype: np.dtype[Any], groups: Groups, scaled: Scaled, energy: float
) -> QuantizedTensor:
    """A tensor of scaled groups.

    :param energy: sum of the squared weights
    """
    indices = np.ascontiguousarray(groups.join(scaled.indices))
    error = float(scaled.errors.sum()) / energy if energy else 0.0
    return QuantizedTensor(layer, shape, dtype, scaled.values, groups, indices, scaled.scales.astype(np.float32), error)
