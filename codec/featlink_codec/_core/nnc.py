"""The C core's coder of NNC payloads: structures and signatures of nnc.h."""

from __future__ import annotations

import ctypes
from functools import cache

from ..errors import FeatlinkError
from . import library as core_library

#: FL_NNC_ROOM
ROOM = 1 << 20
#: Errors of nnc.h.
BAD_CODING, BAD_MEMORY, TRUNCATED, BAD_LEVEL, BAD_INDEX = range(-1, -6, -1)
NO_END, BAD_PADDING, BAD_ENTRY, FULL, BAD_REGISTER = range(-6, -11, -1)


class Coding(ctypes.Structure):
    """fl_nnc_coding."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("rows", "columns", "unary_length", "codebook_size", "zero_offset")),
        *((name, ctypes.c_uint8) for name in ("dq", "scan_order", "profile_idc", "parent", "temporal")),
        ("reserved", ctypes.c_uint8 * 3),
    ]


class Reader(ctypes.Structure):
    """fl_nnc_reader."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("next", ctypes.c_uint64),
        ("window", ctypes.c_uint64),
        ("left", ctypes.c_int32),
        ("range", ctypes.c_uint32),
        ("bit", ctypes.c_uint64),
    ]


class Writer(ctypes.Structure):
    """fl_nnc_writer."""

    _fields_ = [
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("capacity", "size", "low")),
        *((name, ctypes.c_uint32) for name in ("pending", "range")),
        ("done", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("started", "state", "side")),
    ]


class Entry(ctypes.Structure):
    """fl_nnc_entry."""

    _fields_ = [("position", ctypes.c_uint64), ("low", ctypes.c_uint32), ("state", ctypes.c_uint32)]


@cache
def library() -> ctypes.CDLL:
    """The library, with the signatures of nnc.h.

    :raises FeatlinkError: it is not there, is for another machine, or was built from another version
    """
    core = core_library()
    if not hasattr(core, "fl_nnc_size"):
        raise FeatlinkError("this C core has no coder of models; install featlink-codec anew")
    core.fl_nnc_size.restype = ctypes.c_size_t
    for number, structure in enumerate((Coding, Reader, Writer, Entry)):
        if core.fl_nnc_size(number) != ctypes.sizeof(structure):
            raise FeatlinkError(f"{structure.__doc__} has {core.fl_nnc_size(number)} bytes in this C core")
    pointer, number32, size, state = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32)
    core.fl_nnc_memory.argtypes, core.fl_nnc_memory.restype = [pointer], size
    core.fl_nnc_block_rows.argtypes, core.fl_nnc_block_rows.restype = [pointer], number32
    core.fl_nnc_read.argtypes, core.fl_nnc_read.restype = [pointer, pointer, size], None
    core.fl_nnc_read_bits.argtypes, core.fl_nnc_read_bits.restype = [pointer, ctypes.c_uint], number32
    core.fl_nnc_read_setup.argtypes = [pointer, pointer, pointer, size]
    core.fl_nnc_read_rows.argtypes = [pointer, pointer, pointer, size, number32, number32, state, *[pointer] * 3]
    core.fl_nnc_position.argtypes, core.fl_nnc_position.restype = [pointer], ctypes.c_uint64
    core.fl_nnc_register.argtypes, core.fl_nnc_register.restype = [pointer], number32
    core.fl_nnc_seek.argtypes = [pointer, ctypes.c_uint64, number32]
    core.fl_nnc_read_end.argtypes = [pointer, ctypes.POINTER(ctypes.c_uint64)]
    core.fl_nnc_write.argtypes = core.fl_nnc_write_to.argtypes = [pointer, pointer, size]
    core.fl_nnc_write_bits.argtypes = [pointer, number32, ctypes.c_uint]
    core.fl_nnc_write_memory.argtypes, core.fl_nnc_write_memory.restype = [pointer], size
    core.fl_nnc_write_setup.argtypes = [pointer, pointer, size, *[pointer] * 3, ctypes.c_int, ctypes.c_int]
    core.fl_nnc_write_tensor.argtypes = [pointer, pointer, pointer, size, *[pointer] * 4]
    core.fl_nnc_write_end.argtypes = [pointer]
    core.fl_nnc_quantize_memory.argtypes, core.fl_nnc_quantize_memory.restype = [pointer, ctypes.c_double], size
    core.fl_nnc_quantize.argtypes = [pointer, pointer, size, pointer, ctypes.c_double, ctypes.c_double, *[pointer] * 5]
    core.fl_nnc_costs.argtypes = [pointer, pointer, size, *[pointer] * 4]
    core.fl_nnc_levels.argtypes = [pointer] * 3
    core.fl_nnc_dequantize.argtypes = [pointer, ctypes.c_float, ctypes.c_uint64, pointer]
    core.fl_nnc_dequantize.restype = None
    for name in ("write", "write_to", "write_bits", "write_end"):
        getattr(core, f"fl_nnc_{name}").restype = None
    return core
