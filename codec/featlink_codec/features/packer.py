"""Maps to pictures in one pass, by the C core: what `Quantizer` and `Packing` define, as fast as memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from enum import IntFlag

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import _core
from ..errors import SettingsError
from .layout import CORE_ERRORS, CoreData, Layout, core_arguments, core_classes
from .packing import Packing
from .samples import Sampling

#: FL_U8 .. FL_F32.
_TYPES = [np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "float16", "float32")]


class Saw(IntFlag):
    """What a map held. Bits of fl_pack."""

    NAN = 1
    INFINITY = 2
    #: a number below 0
    NEGATIVE = 4
    #: an integer above the limit, or below 0
    EXCESS = 8


#: What is refused unless told otherwise. Where it is not, NaN becomes level 0, infinities the lowest and highest one.
DEFAULT_REFUSED = Saw.NAN | Saw.INFINITY | Saw.EXCESS


#: FL_NO_LIMIT.
_NO_LIMIT = 0xFFFFFFFF
_SAWS = [Saw(k) for k in range(16)]


class MapValueError(SettingsError):
    """A map holds values that it must not.

    :param saw: which
    """

    def __init__(self, saw: Saw, text: str) -> None:
        super().__init__(text)
        self.saw = saw


class MapPacker:
    """fl_pack for maps of one shape and type: quantization and repack (7.2.1, 7.2.2) in one pass.

    :param packing: where the channels go
    :param height: of the map
    :param width: of the map
    :param dtype: of its elements: uint8, int8, uint16, int16, float16 or float32
    :param thresholds: float maps: see `Sampling`, as the next three are
    :param step: float maps
    :param table: integer maps
    :param limit: integer maps
    :param wide: samples have 16 bits, and a map twice as many pictures: high bytes first
    :param refuse: what a map must not hold
    :param classes: instead of the four: one `Sampling` a class; samples of up to 8 bits
    :param ids: with classes: uint8, of the map's shape, or 1 along axes that it does not depend on
    :raises SettingsError: what does not fit, or FeatlinkError: the C core cannot be loaded
    """

    def __init__(
        self,
        packing: Packing,
        height: int,
        width: int,
        dtype: DTypeLike,
        *,
        thresholds: NDArray[np.float32] | None = None,
        step: int = 1,
        table: NDArray[np.uint16] | None = None,
        limit: int | None = None,
        wide: bool = False,
        refuse: Saw = DEFAULT_REFUSED,
        classes: Sequence[Sampling] = (),
        ids: NDArray[np.uint8] | None = None,
    ) -> None:
        kind = np.dtype(dtype)
        if kind not in _TYPES:
            raise SettingsError(f"maps of {kind}: expected one of {', '.join(map(str, _TYPES))}")
        if bool(classes) != (ids is not None) or (classes and wide):
            raise SettingsError("classes go with their ids, and with samples of up to 8 bits")
        self._layout = Layout(packing, height, width, kind, wide)
        self.refuse = refuse
        self._ids = ids
        samplings = classes or [Sampling(thresholds, step, table, limit)]
        self._classes = None if ids is None else core_classes(ids, self._layout.shape, len(samplings))
        self._memory = np.empty((len(samplings), _core.MEMORY // 8), np.uint64)
        self._quantizer = (_core.Quantizer * len(samplings))()
        for number, sampling in enumerate(samplings):
            self._prepare(number, sampling, kind)

    def _prepare(self, number: int, sampling: Sampling, kind: np.dtype[np.generic]) -> None:
        """Fill in one quantizer."""
        core, type_, wide = _core.library(), _TYPES.index(kind), self._layout.wide
        memory = (self._memory[number].ctypes.data, self._memory[number].nbytes)
        pointer = ctypes.addressof(self._quantizer[number])
        if kind.kind == "f":
            if sampling.thresholds is None or sampling.table is not None:
                raise SettingsError(f"maps of {kind} take thresholds")
            bounds = np.ascontiguousarray(sampling.thresholds, np.float32)
            if bounds.ndim != 1 or (len(bounds) > 255) != wide:
                raise SettingsError(f"thresholds {list(bounds.shape)}, expected {'65535' if wide else 'up to 255'}")
            code = core.fl_quantizer_thresholds(pointer, type_, bounds.ctypes.data, len(bounds), sampling.step, *memory)
        else:
            size, table = 256**kind.itemsize, sampling.table
            if table is None or sampling.thresholds is not None:
                raise SettingsError(f"maps of {kind} take a table")
            if table.shape != (size,) or table.dtype.kind not in "ui" or table.min() < 0 or table.max() > 65535:
                raise SettingsError(f"a table of {table.dtype} {list(table.shape)}, expected {size} samples")
            samples = np.ascontiguousarray(table, np.uint16)
            most = _NO_LIMIT if sampling.limit is None else sampling.limit
            code = core.fl_quantizer_table(pointer, type_, samples.ctypes.data, wide, most, *memory)
        if code:
            raise SettingsError(f"the quantizer has {CORE_ERRORS[code]}")

    @property
    def kernel(self) -> str:
        """What the quantizer, or that of class 0, came to: "copy", "affine", "table", "linear", "buckets", "steps" or
        "search".
        """
        return str(_core.library().fl_quantizer_kernel(ctypes.addressof(self._quantizer)).decode())

    def pack(
        self,
        values: NDArray[np.generic],
        picture: int,
        low: NDArray[np.uint8] | None,
        high: NDArray[np.uint8] | None = None,
    ) -> Saw:
        """Write one picture: tiles, and 0 into unused tiles and pads.

        :param values: [H, W, C], any strides; a transposed view for [C, H, W]
        :param picture: 0 .. pictures-1, within a plane of bytes
        :param low: uint8 [rows, columns] as `Packing.picture_size` says, writable, columns side by side, rows any
            distance apart: an encoder's own buffer; in wide maps it takes the low bytes and may be None
        :param high: wide maps: the same for the high bytes
        :returns: what the map held
        :raises SettingsError: an array that does not fit; nothing was written
        :raises MapValueError: the map holds what is refused; the picture is not to be used
        """
        return self.bind(values, picture, low, high)()

    def bind(
        self,
        values: NDArray[np.generic],
        picture: int,
        low: NDArray[np.uint8] | None,
        high: NDArray[np.uint8] | None = None,
    ) -> Callable[[], Saw]:
        """`pack` with its checks made once, for buffers that are filled again and again.

        :returns: a call that packs what then stands in `values`
        :raises SettingsError: as `pack`
        """
        layout = self._layout
        layout.check_index(picture)
        source = layout.map(values, written=False)
        target = layout.picture(low, high, values, written=True)
        core, packing = _core.library(), layout.core_packing
        fl_pack = core.fl_pack if self._classes is None else core.fl_pack_classes
        kinds: list[CoreData] = [packing, self._quantizer, *([] if self._classes is None else [self._classes])]
        arguments = core_arguments(kinds, source, picture, target)
        refused = int(self.refuse)

        def call(_keep: object = (self, values, low, high, source, target)) -> Saw:
            saw: int = fl_pack(*arguments)
            if saw & refused or saw < 0:
                raise self._refused(Saw(saw), values)
            return _SAWS[saw]

        return call

    def _refused(self, saw: Saw, values: NDArray[np.generic]) -> MapValueError:
        """The error, with the place of the first culprit: slow, but nobody waits for it."""
        for kind, name in ((Saw.NAN, "NaN"), (Saw.INFINITY, "infinity"), (Saw.NEGATIVE, "negative numbers")):
            if saw & self.refuse & kind:
                found = {Saw.NAN: np.isnan, Saw.INFINITY: np.isinf, Saw.NEGATIVE: np.signbit}[kind](values)
                found &= values != 0
                where = tuple(int(k) for k in np.argwhere(found)[0])
                share = f"{int(found.sum())} of {values.size}, the first {values[where]} at {where}"
                return MapValueError(saw, f"the map holds {name} ({share})")
        return MapValueError(saw, f"the map holds integers from {values.min()} to {values.max()}: beyond its depth")
