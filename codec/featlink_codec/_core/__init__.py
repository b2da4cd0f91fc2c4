"""The C core: one shared library, compiled when the package is built and loaded at first use. Nothing stands in."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from ..errors import FeatlinkError

#: FL_ABI of featlink_core.h: raised whenever a structure or a signature changes.
ABI = 2
#: FL_MEMORY: bytes that a quantizer or a table of values needs at most.
MEMORY = 65536 * 6 + 128
#: Another build of the library, such as one with sanitizers.
LIBRARY_VARIABLE = "FEATLINK_CORE_LIBRARY"
LIBRARY = Path(__file__).with_name("libfeatlink_core.so")


class Packing(ctypes.Structure):
    """fl_packing."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("height", "width", "channels", "tile_h", "tile_w", "pad_h", "pad_w")),
        ("order", ctypes.c_void_p),
        ("place_of", ctypes.c_void_p),
    ]


class Map(ctypes.Structure):
    """fl_map."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("stride_h", ctypes.c_int64),
        ("stride_w", ctypes.c_int64),
        ("stride_c", ctypes.c_int64),
    ]


class Picture(ctypes.Structure):
    """fl_picture."""

    _fields_ = [
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("low_stride", ctypes.c_int64),
        ("high_stride", ctypes.c_int64),
    ]


class Quantizer(ctypes.Structure):
    """fl_quantizer: its fields are the library's own affair."""

    _fields_ = [("_", ctypes.c_uint64 * 14)]


class Values(ctypes.Structure):
    """fl_values, likewise."""

    _fields_ = [("_", ctypes.c_uint64 * 3)]


class Classes(ctypes.Structure):
    """fl_classes."""

    _fields_ = [
        ("ids", ctypes.c_void_p),
        ("stride_h", ctypes.c_int64),
        ("stride_w", ctypes.c_int64),
        ("stride_c", ctypes.c_int64),
        ("count", ctypes.c_uint32),
    ]


@cache
def library() -> ctypes.CDLL:
    """The library, with its signatures.

    :raises FeatlinkError: it is not there, is for another machine, or was built from another version
    """
    path = Path(os.environ.get(LIBRARY_VARIABLE) or LIBRARY)
    try:
        core = ctypes.CDLL(str(path))
    except OSError as error:
        raise FeatlinkError(f"{path}: the C core cannot be loaded ({error}); install featlink-codec anew") from None
    if (found := core.fl_abi()) != ABI:
        raise FeatlinkError(f"{path}: C core with interface {found}, expected {ABI}; install featlink-codec anew")
    core.fl_size.restype = ctypes.c_size_t
    for number, structure in enumerate((Packing, Map, Picture, Quantizer, Values, Classes)):
        if core.fl_size(number) != ctypes.sizeof(structure):
            raise FeatlinkError(f"{path}: {structure.__doc__} has {core.fl_size(number)} bytes in this C core")
    pointer, number32, size = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t
    for name in ("fl_path", "fl_chosen_path", "fl_quantizer_kernel", "fl_values_kernel"):
        getattr(core, name).restype = ctypes.c_char_p
    core.fl_quantizer_thresholds.argtypes = [pointer, ctypes.c_int, pointer, number32, number32, pointer, size]
    core.fl_quantizer_table.argtypes = [pointer, ctypes.c_int, pointer, ctypes.c_int, number32, pointer, size]
    core.fl_values_table.argtypes = [pointer, pointer, number32, ctypes.c_int, ctypes.c_int, pointer, size]
    core.fl_pack.argtypes = [pointer, pointer, pointer, number32, pointer]
    core.fl_unpack.argtypes = [pointer, pointer, pointer, number32, pointer]
    core.fl_pack_classes.argtypes = core.fl_unpack_classes.argtypes = [*[pointer] * 4, number32, pointer]
    core.fl_overlaps.argtypes = [pointer, pointer, number32]
    core.fl_quantizer_kernel.argtypes = core.fl_values_kernel.argtypes = [pointer]
    core.fl_path.argtypes = [ctypes.c_int]
    core.fl_choose_path.argtypes = [ctypes.c_char_p]
    return core


def paths() -> list[str]:
    """The instruction sets that this machine has and the library knows, best first."""
    found: list[str] = []
    while (name := library().fl_path(len(found))) is not None:
        found.append(name.decode())
    return found


def chosen_path() -> str:
    """The instruction set in use: "avx512", "avx2", "neon" or "portable"."""
    return str(library().fl_chosen_path().decode())


def choose_path(name: str) -> None:
    """Use another instruction set, for tests and comparisons; not while another thread packs.

    :raises FeatlinkError: this machine does not have it
    """
    if library().fl_choose_path(name.encode()):
        raise FeatlinkError(f"no instruction set {name!r} here; there are {', '.join(paths())}")
