"""Number formats in which a tensor is kept for inference (aspect 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

#: nnr_decompressed_data_format, as nncodec numbers them.
DATA_FORMATS = {
    "int32": 0, "float32": 1, "int2": 2, "int3": 3, "int4": 4,
    "int8": 5, "int16": 6, "int64": 7, "float16": 8, "float64": 9,
}  # fmt: skip

_FIXED = re.compile(r"fixed (\d{1,2})\.(\d{1,2})")


@dataclass(frozen=True)
class Materialized:
    """A tensor in its inference format: values are ``array * scale``."""

    array: NDArray[Any]
    scale: float


@dataclass(frozen=True)
class InferenceFormat:
    """A number format.

    :param name: ``float32``, ``float16``, ``int8`` (symmetric, scale chosen to fit) or ``fixed n.m``: two's
        complement with n bits before the point, the sign among them, and m bits behind it; n + m is 1 to 32
    """

    name: str

    def __post_init__(self) -> None:
        if self.name in ("float32", "float16", "int8"):
            return
        if not (found := _FIXED.fullmatch(self.name)) or not 1 <= int(found[1]) + int(found[2]) <= 32:
            raise SettingsError(
                f"inference format {self.name!r}; expected float32, float16, int8 or fixed n.m, 1..32 bits"
            )

    @property
    def data_format(self) -> int | None:
        """nnr_decompressed_data_format, None where it has no number for the format."""
        if self.name.startswith("fixed"):
            return DATA_FORMATS.get(f"int{self.bits}")
        return DATA_FORMATS[self.name]

    @property
    def bits(self) -> int:
        """Bits of one number."""
        if found := _FIXED.fullmatch(self.name):
            return int(found[1]) + int(found[2])
        return {"float32": 32, "float16": 16, "int8": 8}[self.name]

    def materialize(self, values: NDArray[Any]) -> Materialized:
        """The values in this format, rounded to nearest even; fixed point and int8 saturate.

        Fixed point is held in int8, int16 or int32, the least that holds its bits.

        :raises SettingsError: values that are not finite, which only the floating-point formats have
        """
        if self.name.startswith("float"):
            with np.errstate(over="ignore", invalid="ignore"):
                return Materialized(values.astype(self.name), 1.0)
        exact = values.astype(np.float64)
        if not np.isfinite(exact).all():
            raise SettingsError(f"values that are not finite have no {self.name}")
        if self.name == "int8":
            largest = float(np.abs(exact).max()) if exact.size else 0.0
            scale = largest / 127 if largest else 1.0
            bits = 8
        else:
            found = _FIXED.fullmatch(self.name)
            assert found
            scale = 2.0 ** -int(found[2])
            bits = self.bits
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        held = np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32
        return Materialized(np.clip(np.rint(exact / scale), low, high).astype(held), scale)
