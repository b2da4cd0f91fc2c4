"""The arrays that the C core works on, checked before the first byte is written."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import SettingsError
from .packing import Packing

#: What its return codes mean.
CORE_ERRORS = {
    -1: "an element type that it does not take",
    -2: "thresholds that decrease or are NaN, or a sample that its type does not hold",
    -3: "too little memory",
    -4: "no picture of that number",
    -5: "planes that do not fit the depth",
}


#: A structure of the core, or an array of them.
CoreData = ctypes.Structure | ctypes.Array[Any]


def core_arguments(kinds: Sequence[CoreData], first: CoreData, picture: int, second: CoreData) -> tuple[object, ...]:
    """Arguments of fl_pack and fl_unpack, converted once rather than at every call. They keep nothing alive.

    :param kinds: the packing; the quantizer or table, or several; the classes where there are several
    """
    pointers = [ctypes.c_void_p(ctypes.addressof(data)) for data in (*kinds, first, second)]
    return (*pointers[:-1], ctypes.c_uint32(picture), pointers[-1])


def core_classes(ids: NDArray[np.uint8], shape: tuple[int, int, int], count: int) -> _core.Classes:
    """Which of `count` quantizers each element goes through.

    :param ids: uint8, of the map's shape, or 1 along axes that it does not depend on; must be kept alive
    :raises SettingsError: another shape, or an id not below `count`
    """
    fits = ids.ndim == 3 and all(one in (1, whole) for one, whole in zip(ids.shape, shape, strict=True))
    if ids.dtype != np.uint8 or not fits:
        raise SettingsError(f"class ids are {ids.dtype} {list(ids.shape)}, expected uint8 {list(shape)} or 1 an axis")
    if int(ids.max()) >= count:
        raise SettingsError(f"class id {int(ids.max())} where there are {count} classes")
    strides = (0 if size == 1 else stride for size, stride in zip(ids.shape, ids.strides, strict=True))
    return _core.Classes(ids.ctypes.data, *strides, count)


class Layout:
    """A packing for maps of one size, and the checks of its arrays."""

    def __init__(self, packing: Packing, height: int, width: int, dtype: np.dtype[np.generic], wide: bool) -> None:
        packing.check_limits(height, width)
        self.packing = packing
        self.shape = (height, width, packing.channels)
        self.dtype = dtype
        self.wide = wide
        self._picture_size = packing.picture_size(height, width)
        order = None if packing.order is None else np.array(packing.order, np.uint16)
        place_of = None if order is None else np.argsort(order).astype(np.uint16)
        self._keep = (order, place_of)
        self.core_packing = _core.Packing(
            height, width, packing.channels, packing.tile_h, packing.tile_w, packing.pad_h, packing.pad_w,
            None if order is None else order.ctypes.data, None if place_of is None else place_of.ctypes.data,
        )  # fmt: skip

    def map(self, array: NDArray[np.generic], written: bool) -> _core.Map:
        """:raises SettingsError: it does not fit, or is to be written and cannot be."""
        if array.shape != self.shape or array.dtype != self.dtype:
            raise SettingsError(
                f"the map is {array.dtype} {list(array.shape)}, expected {self.dtype} {list(self.shape)}"
            )
        found = _core.Map(array.ctypes.data, *array.strides)
        if written:
            if not array.flags.writeable:
                raise SettingsError("the map is read-only")
            if _core.library().fl_overlaps(
                ctypes.addressof(self.core_packing), ctypes.addressof(found), self.dtype.itemsize
            ):
                raise SettingsError(f"the map's elements overlap: strides {list(array.strides)}")
        return found

    def picture(
        self, low: NDArray[np.uint8] | None, high: NDArray[np.uint8] | None, other: NDArray[np.generic], written: bool
    ) -> _core.Picture:
        """:raises SettingsError: they do not fit, overlap `other`, or are to be written and cannot be."""
        if high is not None and not self.wide:
            raise SettingsError("a map of up to 8 bits has no picture of high bytes")
        if low is None and high is None:
            raise SettingsError("no picture is given")
        for name, plane in (("low", low), ("high", high)):
            if plane is not None:
                self._check_plane(name if self.wide else "picture", plane, other, written)
        if low is not None and high is not None and written and np.may_share_memory(low, high):
            raise SettingsError("the pictures of low and of high bytes overlap")
        return _core.Picture(
            None if low is None else low.ctypes.data,
            None if high is None else high.ctypes.data,
            0 if low is None else low.strides[0],
            0 if high is None else high.strides[0],
        )

    def _check_plane(self, name: str, plane: NDArray[np.uint8], other: NDArray[np.generic], written: bool) -> None:
        if plane.shape != self._picture_size or plane.dtype != np.uint8:
            raise SettingsError(
                f"{name}: {plane.dtype} {list(plane.shape)}, expected uint8 {list(self._picture_size)}, pads included"
            )
        rows, columns = plane.shape
        if (columns > 1 and plane.strides[1] != 1) or (written and rows > 1 and abs(plane.strides[0]) < columns):
            raise SettingsError(f"{name}: strides {list(plane.strides)}, expected rows of {columns} bytes in a row")
        if written and not plane.flags.writeable:
            raise SettingsError(f"{name}: the picture is read-only")
        if np.may_share_memory(plane, other):
            raise SettingsError(f"{name}: the picture overlaps the map")

    def check_index(self, picture: int) -> None:
        """:raises SettingsError: no picture of that number."""
        if not 0 <= picture < self.packing.pictures:
            raise SettingsError(f"picture {picture} of {self.packing.pictures}")
