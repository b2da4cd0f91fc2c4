"""Calls of the core whose arrays and tables touch pages that may not be touched."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import multiprocessing
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from core.twin import CLASSES, QUANTIZERS, sample_table, value_table

from featlink_codec import _core

#: map, low plane, high plane, tables, class ids
ROOM = (1 << 16, 1 << 16, 1 << 16, 4 * _core.MEMORY, 1 << 16)
TYPES = ("u8", "i8", "u16", "i16", "f16", "f32")
DTYPES = dict(zip(TYPES, ("uint8", "int8", "uint16", "int16", "float16", "float32"), strict=True))
PROT_NONE = 0


def outcome(function, *arguments) -> int:
    """The exit code of a child that calls it: -SIGSEGV for a fault."""
    child = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    child.start()
    try:
        child.join(200)
        assert child.exitcode is not None, "not ready after 200 s"
        return child.exitcode
    finally:
        child.kill()
        child.join()


class Arena:
    """Memory between two pages that may not be touched."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = -(-size // page) * page
        self._map = mmap.mmap(-1, self._size + 2 * page)
        noise = np.random.default_rng(size).integers(0, 256, self._size, np.uint8)
        self._map[page : page + self._size] = noise.tobytes()
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._first = start + page
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for guard in (start, self._first + self._size):
            if protect(guard, page, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, size: int, at_end: bool) -> int:
        """The address of `size` bytes that end, or start, where the guarded memory does."""
        assert size <= self._size
        return self._first + (self._size - size if at_end else 0)


#: what, type, table, wide
KINDS = [
    *product(["pack"], ["f32", "f16"], ["uniform8", "log8", "walk8", "uniform4"], [False]),
    *product(["pack"], ["f32", "f16"], ["uniform16", "walk16"], [True]),
    *product(["channels", "regions"], ["f32", "f16"], ["lines", "buckets"], [False]),
    *product(["channels", "regions"], ["u8", "i16"], ["tables"], [False]),
    *product(["channels"], ["f32", "f16"], ["mixed"], [False]),
    *product(["pack"], ["u8", "i8"], ["identity", "affine", "ramp", "steps"], [False]),
    *product(["pack"], ["u8", "u16", "i16"], ["random"], [False, True]),
    ("pack", "u16", "identity", True),
    ("unpack", "u8", "identity", False),
    ("unpack", "u8", "random", False),
    *product(["unpack"], ["u16", "f32"], ["random"], [False, True]),
    ("unpack", "u16", "identity", True),
    *product(["unpack"], ["f32"], ["uniform"], [False, True]),
]
SIZES = range(1, 131)


def geometries(n: int) -> Iterator[tuple[tuple[int, int, int], tuple[int, int], bool, int]]:
    """Map, tiles, whether channels stand side by side, and bytes between two rows of the picture."""
    yield (1, n, 1), (1, 1), False, 0
    yield (70, n, 1), (1, 1), False, 0
    yield (5, n, 2), (1, 2), False, 3
    yield (2, n, 3), (3, 1), True, 0
    yield (2, 3, n), (1, n), True, 0


class Calls:
    """fl_pack or fl_unpack with one table, or fl_pack_classes with a set of them, again and again."""

    def __init__(self, what: str, kind: str, table: str, wide: bool, arenas: list[Arena], at_end: bool) -> None:
        self.core, self.what, self.wide, self.arenas, self.at_end = _core.library(), what, wide, arenas, at_end
        dtype = np.dtype(DTYPES[kind])
        self.element = dtype.itemsize
        names = CLASSES.get(table, [table])
        memory = arenas[3].place(len(names) * _core.MEMORY, at_end)
        self.prepared = _core.Values() if what == "unpack" else (_core.Quantizer * len(names))()
        if what == "unpack":
            values = value_table(table, 65536 if wide else 256, DTYPES[kind])
            made = (values.ctypes.data, self.element, wide, kind == "f32", memory, _core.MEMORY)
            assert self.core.fl_values_table(ctypes.addressof(self.prepared), *made) == 0
            return
        for number, name in enumerate(names):
            room = (memory + number * _core.MEMORY, _core.MEMORY)
            pointer = ctypes.addressof(self.prepared[number])
            if dtype.kind == "f":
                bounds, step = QUANTIZERS[name].thresholds, 17 if table == "uniform4" else int(table != "lines")
                made = (TYPES.index(kind), bounds.ctypes.data, len(bounds), step, *room)
                code = self.core.fl_quantizer_thresholds(pointer, *made)
            else:
                samples = sample_table(name, 256**self.element, dtype.kind == "i", wide)
                made = (TYPES.index(kind), samples.ctypes.data, wide, 15, *room)
                code = self.core.fl_quantizer_table(pointer, *made)
            assert code == 0

    def _pack(self, size: tuple[int, int, int], packing: int, array: int, out: int) -> int:
        """fl_pack, or fl_pack_classes with drawn classes."""
        quantizers, (height, width, channels) = ctypes.addressof(self.prepared), size
        if self.what == "pack":
            return int(self.core.fl_pack(packing, quantizers, array, 0, out))
        by_channel = self.what == "channels"
        ids = np.random.default_rng(width).integers(0, 4, channels if by_channel else height * width).astype(np.uint8)
        where = self.arenas[4].place(ids.size, self.at_end)
        ctypes.memmove(where, ids.ctypes.data, ids.size)
        classes = _core.Classes(where, 0 if by_channel else width, not by_channel, by_channel, 4)
        return int(self.core.fl_pack_classes(packing, quantizers, ctypes.addressof(classes), array, 0, out))

    def call(
        self, size: tuple[int, int, int], tiles: tuple[int, int], interleaved: bool, margin: int, excess: int = 0
    ) -> None:
        """One picture. `excess`: columns that the arrays do not have, to see that it is noticed."""
        height, width, channels = size
        rows, columns = tiles[0] * height, tiles[1] * width
        strides = (width * channels, channels, 1) if interleaved else (width, 1, height * width)
        stride = columns + margin
        place = [arena.place for arena in self.arenas]
        data = place[0](height * width * channels * self.element, self.at_end)
        planes = [place[k](stride * (rows - 1) + columns, self.at_end) for k in (1, 2)]
        packing = _core.Packing(height, width + excess, channels, *tiles, 0, 0, None, None)
        array = _core.Map(data, *(one * self.element for one in strides))
        picture = _core.Picture(planes[0], planes[1] if self.wide else None, stride, stride)
        p, t, a, out = (ctypes.addressof(one) for one in (packing, self.prepared, array, picture))
        code = self.core.fl_unpack(p, t, out, 0, a) if self.what == "unpack" else self._pack(size, p, a, out)
        assert code >= 0


def run(path: str, told: Callable[[str], None]) -> None:
    """Every kind of call, at either end of the memory, in every size; `told` hears what comes next."""
    _core.choose_path(path)
    arenas = [Arena(size) for size in ROOM]
    for at_end, kind in product((True, False), KINDS):
        calls = Calls(*kind, arenas, at_end)
        for n in SIZES:
            for geometry in geometries(n):
                told(f"{path}: {' '.join(map(str, kind))}, map {geometry}, {'end' if at_end else 'start'} of memory")
                calls.call(*geometry)


def overrun(path: str, kind: tuple[str, str, str, bool]) -> None:
    """A call that must be noticed: the arrays are one column short."""
    faulthandler.disable()  # nobody needs to see where
    _core.choose_path(path)
    Calls(*kind, [Arena(size) for size in ROOM], True).call((1, 64, 1), (1, 1), False, 0, excess=1)
