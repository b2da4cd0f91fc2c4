"""Levels to the samples of 8-bit pictures and back: as they are, or spread over all of a byte (level_scaling)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import SettingsError
from .quantizers import Levels, level_dtype


@dataclass(frozen=True, eq=False)
class Sampling:
    """How the elements of a class become samples: by thresholds (float maps) or by a table (integer maps).

    :param thresholds: float32 [peak], not decreasing; level(x) is the number of thresholds <= x
    :param step: with thresholds: the sample of level 1, 255 / peak under level_scaling; 0: level_scaling at any depth
    :param table: [256] or [65536] samples by the element's bits; values up to 65535 where the map is wide
    :param limit: with a table: greater elements, and negative ones, are an excess; None: none is
    """

    thresholds: NDArray[np.float32] | None = None
    step: int = 1
    table: NDArray[np.uint16] | None = None
    limit: int | None = None


def samples_of(levels: Levels, bit_depth: int, level_scaling: bool) -> list[NDArray[np.uint8]]:
    """The byte planes that the pictures carry: one, or high and low bytes at depth 16.

    :param levels: uint8 or uint16, any shape
    :param level_scaling: samples = level * 255 / peak, rounded; without it samples are the levels
    """
    if levels.dtype != level_dtype(bit_depth):
        raise SettingsError(f"levels are {levels.dtype}, expected {np.dtype(level_dtype(bit_depth))}")
    peak = (1 << bit_depth) - 1
    if levels.size and int(levels.max()) > peak:
        raise SettingsError(f"level {int(levels.max())} is above the peak {peak}")
    if bit_depth == 16:
        return [(levels >> 8).astype(np.uint8), (levels & 0xFF).astype(np.uint8)]
    if level_scaling and bit_depth < 8:
        return [scaling_table(bit_depth)[levels]]
    return [levels.astype(np.uint8, copy=False)]


def scaling_table(bit_depth: int) -> NDArray[np.uint8]:
    """uint8 [peak + 1]: the sample of each level under level_scaling."""
    peak = (1 << bit_depth) - 1
    return np.floor(np.arange(peak + 1) * 255.0 / peak + 0.5).astype(np.uint8)


def sample_table(bit_depth: int, level_scaling: bool, dtype: DTypeLike) -> NDArray[np.uint16]:
    """uint16 [256] or [65536]: the sample of each level, by the bits of an integer of `dtype`.

    Integers above peak, and negative ones, are no levels: they have the sample of peak.
    """
    size = 256 ** np.dtype(dtype).itemsize if np.dtype(dtype).kind in "ui" else 0
    levels = np.minimum(np.arange(size), (1 << bit_depth) - 1)
    scaled = level_scaling and bit_depth < 8
    return scaling_table(bit_depth)[levels].astype(np.uint16) if scaled else levels.astype(np.uint16)


def level_table(bit_depth: int, level_scaling: bool) -> NDArray[np.uint8]:
    """uint8 [256]: the level of each decoded sample, for depths up to 8."""
    peak = (1 << bit_depth) - 1
    samples = np.arange(256)
    if level_scaling:
        return np.floor(samples * peak / 255.0 + 0.5).astype(np.uint8)
    return np.minimum(samples, peak).astype(np.uint8)


def integer_levels(
    kind: np.dtype[np.generic], thresholds: NDArray[np.float32] | None, peak: int
) -> NDArray[np.signedinteger]:
    """[256] or [65536]: the level of each integer, by its bits.

    :param thresholds: of the values; None: integers are levels, and those below 0 or above peak are the peak
    """
    integers = np.arange(256**kind.itemsize)
    if thresholds is None:
        return np.minimum(integers, peak)
    # binary32 holds every integer of 16 bits
    values = integers.astype(f"u{kind.itemsize}").view(kind).astype(np.float32)
    return np.searchsorted(thresholds, values, side="right")
