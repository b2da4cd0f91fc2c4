"""Pictures to maps in one pass, by the C core: the inverse of repack, and dequantization through a table of values."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import SettingsError
from .layout import CORE_ERRORS, CoreData, Layout, core_arguments, core_classes
from .packing import Packing


class MapUnpacker:
    """fl_unpack for maps of one shape and type: the inverse of repack (7.2.2) and dequantization (7.2.1) in one pass.

    :param packing: where the channels are
    :param height: of the map
    :param width: of the map
    :param values: [256] by sample, or [65536] by both bytes: what is written; 1, 2 or 4 bytes each. With classes
        [classes, 256]
    :param ids: uint8, the class of each element: of the map's shape, or 1 along axes that it does not depend on
    :raises SettingsError: what does not fit, or FeatlinkError: the C core cannot be loaded
    """

    def __init__(
        self,
        packing: Packing,
        height: int,
        width: int,
        values: NDArray[np.generic],
        ids: NDArray[np.uint8] | None = None,
    ) -> None:
        size = values.shape[-1] if values.ndim == (1 if ids is None else 2) else 0
        if size not in ((256, 65536) if ids is None else (256,)) or not values.size:
            expected = "256 or 65536" if ids is None else "[classes, 256]"
            raise SettingsError(f"a table of {list(values.shape)} values, expected {expected}")
        tables = np.ascontiguousarray(values).reshape(-1, size)
        wide = size == 65536
        self._layout = Layout(packing, height, width, values.dtype, wide)
        self._memory = np.empty((len(tables), _core.MEMORY // 8), np.uint64)
        self._values = (_core.Values * len(tables))()
        self._ids = ids
        self._classes = None if ids is None else core_classes(ids, self._layout.shape, len(tables))
        for table, memory, one in zip(tables, self._memory, self._values, strict=True):
            code = _core.library().fl_values_table(
                ctypes.addressof(one), table.ctypes.data, table.itemsize, wide, table.dtype == np.float32,
                memory.ctypes.data, memory.nbytes,
            )  # fmt: skip
            if code:
                raise SettingsError(f"a table of {values.dtype}: the values have {CORE_ERRORS[code]}")

    @property
    def kernel(self) -> str:
        """What the table, or that of class 0, came to: "copy", "linear" or "table"."""
        return str(_core.library().fl_values_kernel(ctypes.addressof(self._values)).decode())

    def unpack(
        self,
        low: NDArray[np.uint8],
        picture: int,
        out: NDArray[np.generic],
        high: NDArray[np.uint8] | None = None,
    ) -> None:
        """Read one picture into its channels.

        :param low: uint8 [rows, columns], columns side by side; of wide maps the low bytes
        :param picture: 0 .. pictures-1, within a plane of bytes
        :param out: [H, W, C] of the table's type, writable, any strides
        :param high: wide maps: the high bytes
        :raises SettingsError: an array that does not fit; nothing was written
        """
        self.bind(low, picture, out, high)()

    def bind(
        self,
        low: NDArray[np.uint8],
        picture: int,
        out: NDArray[np.generic],
        high: NDArray[np.uint8] | None = None,
    ) -> Callable[[], None]:
        """`unpack` with its checks made once.

        :raises SettingsError: as `unpack`
        """
        layout = self._layout
        layout.check_index(picture)
        if layout.wide and high is None:
            raise SettingsError("a map of 16 bits needs the picture of high bytes, too")
        target = layout.map(out, written=True)
        source = layout.picture(low, high, out, written=False)
        core, packing = _core.library(), layout.core_packing
        fl_unpack = core.fl_unpack if self._classes is None else core.fl_unpack_classes
        kinds: list[CoreData] = [packing, self._values, *([] if self._classes is None else [self._classes])]
        arguments = core_arguments(kinds, source, picture, target)

        def call(_keep: object = (self, low, high, out, source, target)) -> None:
            code = fl_unpack(*arguments)
            assert not code, CORE_ERRORS[code]

        return call
