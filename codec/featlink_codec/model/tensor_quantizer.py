"""Weights to quantization indices and back to values, by the C core."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .._core import nnc
from ..errors import SettingsError
from .tensor_arrays import History, Levels, address, beside, check_beside, check_written, core_coding
from .tensor_coding import TensorCoding


def quantize(
    weights: NDArray[np.float32],
    step: float,
    coding: TensorCoding,
    lambda_: float = 0.0,
    *,
    base: Levels | None = None,
    history: History | None = None,
    row_skip: bool = False,
    importance: NDArray[np.float32] | None = None,
) -> Levels:
    """Weights to quantization indices, int32 [rows, columns].

    The sum of ``importance * (weight / step - level)**2 + lambda_ * bits`` becomes small: for uniform quantization with
    lambda 0 and for dependent quantization with lambda 0 it is the least there is (a trellis of 8 states).

    :param weights: float32 [rows, columns]
    :param step: weights are levels * step; with dependent quantization, two steps lie between levels of one quantizer
    :param coding: without a codebook
    :param lambda_: squared steps per bit. The reference software's lambda_scale s is 0.3235 s here for dependent
        quantization, 0.1155 s for uniform; where bits are dear at high rate, these are the slopes with s = 1
    :param base: levels of the previous update, wanted where ``coding.temporal``
    :param history: where an earlier update had a level other than 0, if it is given to the encoder, too
    :param row_skip: the encoder skips rows of zeros: make rows zero where that is the cheaper way
    :param importance: float32 [rows, columns], not negative: how much a weight's error matters
    :raises SettingsError: arrays or a coding that do not fit, NaN or infinity, an index beyond 32 bits
    """
    core, made = nnc.library(), core_coding(coding)
    size: int = core.fl_nnc_quantize_memory(ctypes.addressof(made), lambda_)
    if not size or coding.codebook_size or not step > 0 or not 0 <= lambda_ < float("inf"):
        raise SettingsError(f"step {step}, lambda {lambda_}, {coding}: cannot be quantized so")
    values = beside("weights", weights, coding, "f")
    assert values is not None
    given: tuple[NDArray[np.generic] | None, ...]
    given = (values, beside("importance", importance, coding, "f"), *check_beside(coding, base, history))
    order = None
    if coding.scan_order and coding.rows > 1 and coding.columns > 1 and (coding.dq or lambda_):
        order = scan_positions(coding)
        given = tuple(None if array is None else array.reshape(-1)[order] for array in given)
        made.rows, made.columns = 1, coding.rows * coding.columns
    rows_zero = np.zeros(made.rows, np.uint8)
    if row_skip and order is None:
        rows_zero[:] = ~values.reshape(coding.rows, -1).any(axis=1)
    memory = np.empty(-(-size // 8), np.uint64)
    setup = (ctypes.addressof(made), memory.ctypes.data, memory.nbytes)
    indices = np.empty((made.rows, made.columns), np.int32)

    def run() -> None:
        source, weight, base_there, seen = map(address, given)
        places = (source, step, lambda_, weight, base_there, seen, address(rows_zero), address(indices))
        if core.fl_nnc_quantize(*setup, *places):
            raise SettingsError(f"weights that are not numbers, or so large that step {step} gives more than 32 bits")

    run()
    if row_skip and lambda_ > 0 and order is None and coding.rows > 1 and coding.columns > 1:
        bits = np.zeros(coding.rows)
        core.fl_nnc_costs(*setup, address(indices), *map(address, given[2:]), address(bits))
        errors, all_zero = (
            _squared(weights, found, step, importance) for found in (levels(indices, coding), np.zeros_like(indices))
        )
        dear = (all_zero < errors + lambda_ * bits) & indices.any(axis=1)
        if dear.any():
            rows_zero |= dear
            run()
    if order is not None:
        placed = np.empty(coding.rows * coding.columns, np.int32)
        placed[order] = indices.reshape(-1)
        indices = placed.reshape(coding.rows, coding.columns)
    return indices


def _squared(
    weights: NDArray[np.float32], found: Levels, step: float, importance: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Squared errors of each row, in squared steps."""
    error = weights.reshape(found.shape).astype(np.float64) / step - found
    error *= error
    if importance is not None:
        error *= importance.reshape(found.shape)
    total: NDArray[np.float64] = error.sum(axis=1)
    return total


def scan_positions(coding: TensorCoding) -> NDArray[np.int64]:
    """Positions in a row-major tensor, in scan order."""
    side = 4 << coding.scan_order
    row, column = np.divmod(np.arange(coding.rows * coding.columns), coding.columns)
    return np.lexsort((column, row, column // side, row // side))


def levels(indices: Levels, coding: TensorCoding, out: Levels | None = None) -> Levels:
    """What a decoder gives for quantization indices: int32 [rows, columns].

    :param out: where to put them, C-contiguous; may be the indices' own memory
    :raises SettingsError: an array that does not fit, or a level beyond 32 bits
    """
    values = beside("indices", indices, coding, "i")
    made = core_coding(coding)
    found = np.empty((coding.rows, coding.columns), np.int32) if out is None else out
    if found.shape != (coding.rows, coding.columns) or found.dtype != np.int32 or not found.flags.c_contiguous:
        raise SettingsError(f"out is {found.dtype} {list(found.shape)}, expected int32 {[coding.rows, coding.columns]}")
    check_written(nnc.library().fl_nnc_levels(ctypes.addressof(made), address(values), address(found)))
    return found


def dequantize(levels: Levels, step: float | np.float32, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """float32(step) * float32(level), of any shape.

    :param out: C-contiguous, of the same shape; ``levels.view(np.float32)`` where the levels are not needed any more
    :raises SettingsError: an array that does not fit
    """
    if levels.dtype != np.int32 or not levels.flags.c_contiguous:
        raise SettingsError(f"levels are {levels.dtype}, expected int32 side by side in memory")
    if out is None:
        out = np.empty(levels.shape, np.float32)
    if out.shape != levels.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise SettingsError(f"out is {out.dtype} {list(out.shape)}, expected float32 {list(levels.shape)}")
    nnc.library().fl_nnc_dequantize(address(levels), float(step), levels.size, address(out))
    return out
