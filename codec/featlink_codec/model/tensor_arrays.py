"""Codings and arrays as the C core takes them."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .._core import nnc
from ..errors import SettingsError
from .tensor_coding import TensorCoding

Levels = NDArray[np.int32]
History = NDArray[np.bool_] | NDArray[np.uint8]


def core_coding(coding: TensorCoding) -> nnc.Coding:
    """The coding as the core takes it.

    :raises SettingsError: a member out of its range
    """
    numbers = (coding.rows, coding.columns, coding.unary_length, coding.codebook_size, coding.zero_offset)
    flags = (coding.dq, coding.scan_order, coding.profile_idc, coding.parent, coding.temporal)
    if not all(0 <= k < 1 << 32 for k in numbers) or not all(0 <= k < 256 for k in flags):
        raise SettingsError(f"{coding}: a number out of range")
    return nnc.Coding(*numbers, *flags)


def scratch(coding: TensorCoding, made: nnc.Coding) -> NDArray[np.uint64]:
    """Memory for contexts and row flags.

    :raises SettingsError: the coding cannot be
    """
    size: int = nnc.library().fl_nnc_memory(ctypes.addressof(made))
    if not size:
        raise SettingsError(f"{coding}: a tensor is not coded so")
    return np.empty(-(-size // 8), np.uint64)


def address(array: NDArray[np.generic] | None) -> int | None:
    """Where an array's elements are."""
    return None if array is None else int(array.ctypes.data)


def beside(
    name: str, array: NDArray[np.generic] | None, coding: TensorCoding, kinds: str
) -> NDArray[np.generic] | None:
    """An array that stands beside a tensor, side by side in memory.

    :raises SettingsError: it has another size or type
    """
    if array is None:
        return None
    if array.size != coding.rows * coding.columns or array.dtype.char not in kinds:
        wanted = f"{' or '.join(np.dtype(kind).name for kind in kinds)} {[coding.rows, coding.columns]}"
        raise SettingsError(f"{name} is {array.dtype} {list(array.shape)}, expected {wanted}")
    return np.ascontiguousarray(array)


def check_beside(
    coding: TensorCoding, base: Levels | None, history: History | None
) -> tuple[NDArray[np.generic] | None, NDArray[np.generic] | None]:
    """base and history as the core takes them."""
    if coding.temporal and base is None:
        raise SettingsError("temporal context modelling needs the levels of the previous update")
    return beside("base", base, coding, "i"), beside("history", history, coding, "?B")


def check_written(code: int) -> None:
    """What the core says of what it was given.

    :raises SettingsError: it refused it
    """
    if code == nnc.BAD_LEVEL:
        raise SettingsError("an index whose level does not fit in 32 bits")
    if code:
        raise SettingsError(f"the core refuses the tensor: {code}")
