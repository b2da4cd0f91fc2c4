"""From quantization indices to values: steps, dependent quantization, codebooks, escape tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .tables import NEXT_STATE
from .tensor_coding import TensorCoding
from .tensor_syntax import coding_order

#: qp_delta has this many bits more than qp_density.
QP_DELTA_BITS = 6


def step_size(qp: int, qp_density: int) -> np.float32:
    """The quantization step of a quantization parameter: it doubles every 2 ** qp_density. Exact in binary32.

    :raises SettingsError: the step is not a normal binary32 number
    """
    parts = 1 << qp_density
    exponent = (qp >> qp_density) - qp_density
    # The significand has qp_density + 1 bits, 4 .. 7 for a density of 2.
    if not -126 <= exponent <= 127 - qp_density - 1:
        raise SettingsError(f"quantization parameter {qp} of density {qp_density}: its step is beyond binary32")
    return np.float32(math.ldexp(parts + (qp & (parts - 1)), exponent))


def qp_for_step(step: float, qp_density: int) -> int:
    """The greatest quantization parameter whose step is not above `step`.

    :raises SettingsError: the step is not a positive number that binary32 can hold
    """
    if not (math.isfinite(step) and step > 0):
        raise SettingsError(f"a quantization step is finite and above 0, found {step}")
    significand, exponent = math.frexp(step)  # significand in [0.5, 1)
    parts = 1 << qp_density
    qp = (exponent - 1) * parts + math.floor((2 * significand - 1) * parts)
    step_size(qp, qp_density)
    return qp


def levels_of(indices: NDArray[np.int32], coding: TensorCoding) -> NDArray[np.int32]:
    """Levels of dependent quantization for its indices: what a decoder gives where no row of a block is skipped.

    :param indices: int32 [rows, columns]
    :raises SettingsError: a level beyond int32
    """
    state = 0
    levels = np.zeros(indices.size, np.int64)
    flat = indices.reshape(-1)
    for place in coding_order(coding):
        k = int(flat[place])
        levels[place] = 2 * k - (state & 1) * ((k > 0) - (k < 0))
        state = NEXT_STATE[state][k & 1]
    if levels.size and max(int(levels.max()), -int(levels.min()) - 1) >= 1 << 31:
        raise SettingsError("a level does not fit in 32 bits: the step is too small for the tensor")
    return levels.astype(np.int32).reshape(indices.shape)


@dataclass(frozen=True)
class EscapeTable:
    """Levels within +-limit are multiples of the step; the j-th beyond it has its value in a table.

    :param limit: Y, at least 0
    :param positive: values of the levels limit + 1, limit + 2 ...
    :param negative: values of the levels -limit - 1, -limit - 2 ...
    """

    limit: int
    positive: tuple[float, ...] = ()
    negative: tuple[float, ...] = ()

    def apply(self, values: NDArray[np.float32], levels: NDArray[np.int32]) -> None:
        """Put the table's values in place, float32.

        :raises SettingsError: a level that the table does not have
        """
        for sign, table in ((1, self.positive), (-1, self.negative)):
            outside = levels > self.limit if sign > 0 else levels < -self.limit
            places = np.abs(levels[outside].astype(np.int64)) - self.limit - 1
            if places.size:
                if int(places.max()) >= len(table):
                    level = sign * (int(places.max()) + self.limit + 1)
                    raise SettingsError(f"level {level} is not in the escape table")
                values[outside] = np.array(table, np.float32)[places]


def dequantize(levels: NDArray[np.int32], step: np.float32) -> NDArray[np.float32]:
    """float32(step) * float32(level), elementwise, rounded once each.

    :raises SettingsError: a value beyond binary32
    """
    values = levels.astype(np.float32)
    with np.errstate(over="ignore"):
        values *= step
    # Only a step above 2 ** 96 can take a level of 32 bits beyond the largest number.
    if step > 2.0**96 and not np.isfinite(values).all():
        raise SettingsError(f"a level times the step {step} is beyond binary32")
    return values


def look_up(indices: NDArray[np.int32], codebook: list[int], zero_offset: int) -> NDArray[np.int32]:
    """The codebook's integers for indices that the decoder gave.

    :raises SettingsError: an index outside the codebook (profile 0 can hold one)
    """
    places = indices.astype(np.int64) + zero_offset
    if places.size and (int(places.min()) < 0 or int(places.max()) >= len(codebook)):
        raise SettingsError(f"an index outside the codebook of {len(codebook)} entries")
    return np.array(codebook, np.int32)[places]
