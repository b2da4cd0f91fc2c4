"""What a tensor becomes before it is coded: a name on the wire, binary32 or 32-bit integers, an order, tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .orders import Order, OrderKind, monotone
from .reconstruction import EscapeTable
from .settings import TensorSettings
from .tensor_level import DTYPES

#: Entries of a codebook, or of an escape table, that still make sense.
MAX_TABLE = 4096
#: Codes of at most this order for a codebook's differences.
MAX_EGK = 15


def unit_name(name: str) -> str:
    """The topology_elem_id for a tensor: its name, unless the peer takes that for a factor of a decomposition."""
    return name + "." if name.endswith(("_G", "_H")) else name


def coded_values(name: str, tensor: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    """A tensor as float32 or int32, and its type where that is another one.

    :raises SettingsError: no elements, a type that is not coded, or integers beyond 32 bits
    """
    if not tensor.size:
        raise SettingsError(f"{name!r}: shape {list(tensor.shape)} has no elements")
    dtype = tensor.dtype.name
    if dtype not in (*DTYPES, "float32", "int32"):
        raise SettingsError(f"{name!r} is {dtype}, expected one of float32, int32, {', '.join(DTYPES)}")
    if tensor.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = tensor.astype(np.float32, copy=False)
        if dtype == "float64" and (np.isfinite(tensor) & ~np.isfinite(values)).any():
            raise SettingsError(f"{name!r}: a value is beyond binary32")
        return values, None if dtype == "float32" else dtype
    if tensor.dtype.itemsize >= 4 and not -(1 << 31) <= int(tensor.min()) <= int(tensor.max()) < 1 << 31:
        raise SettingsError(f"{name!r}: integers of {dtype} from {tensor.min()} to {tensor.max()}, 32 bits are coded")
    return tensor.astype(np.int32, copy=False), None if dtype == "int32" else dtype


def orders(settings: TensorSettings, stored: NDArray[Any], arrange: bool) -> list[Order]:
    """The orders to try for a tensor [rows, ...]."""
    if stored.shape[0] == 1 or stored.size == stored.shape[0]:
        return [Order()]
    if isinstance(settings.order, Order):
        return [settings.order]
    if not arrange:
        return [Order()]
    if settings.order == "monotone":
        return [monotone(stored)]
    return [Order(), Order(OrderKind.COLUMN), Order(OrderKind.BLOCKED, 8), Order(OrderKind.DIAGONAL), monotone(stored)]


def escaped(
    stored: NDArray[np.float32], indices: NDArray[np.int32], limit: int
) -> tuple[NDArray[np.int32], EscapeTable]:
    """Indices beyond the limit become places in a table of the exact values."""
    indices = indices.copy()
    tables: list[tuple[float, ...]] = []
    for sign in (1, -1):
        outside = indices > limit if sign > 0 else indices < -limit
        table, places = np.unique(stored[outside] * np.float32(sign), return_inverse=True)
        if len(table) > MAX_TABLE:
            raise SettingsError(f"{len(table)} values beyond the escape limit {limit}, at most {MAX_TABLE} make sense")
        indices[outside] = sign * (limit + 1 + places.reshape(-1))
        # The shortest decimal numbers that binary32 rounds to the values.
        tables.append(tuple(float(str(value)) for value in table * np.float32(sign)))
    return indices, EscapeTable(limit, *tables)


def egk(values: NDArray[np.int32]) -> int:
    """The order of Exp-Golomb codes that takes the fewest bits for the differences between a codebook's values."""
    differences = Counter((np.diff(values.astype(np.int64)) - 1).tolist())

    def bits(k: int) -> int:
        return sum(times * (2 * ((d + (1 << k)).bit_length() - 1) + 1 - k) for d, times in differences.items())

    return min(range(MAX_EGK + 1), key=bits)
