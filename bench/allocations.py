"""Memory over many maps: what is still held after them, by Python's count, by the C library's and by the system's.

`python -m bench.allocations MAPS` prints it as JSON: in a process of its own, whose peak nothing else has raised.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np

from featlink_codec.features.packer import MapPacker
from featlink_codec.features.unpacker import MapUnpacker

from .cases import SIZES, empty_map, fill, packing_of, uniform
from .measure import aligned

WARM_UP = 2000
ROOT = Path(__file__).parents[1]


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "k")
    ]


@cache
def _mallinfo() -> Callable[[], _Mallinfo] | None:
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is not None:
        function.restype = _Mallinfo
    return function


def c_library_bytes() -> int | None:
    """Bytes that the C library's malloc has given out and not got back; None: it cannot say."""
    mallinfo = _mallinfo()
    if mallinfo is None:
        return None
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def peak_bytes() -> int:
    """The most memory that this process ever had: ru_maxrss, which Linux gives in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def calls(checked: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """Pack and unpack of a float32 map of 64x19x19: bound, or with all checks made anew for every map."""
    size = SIZES[0]
    packing = packing_of("tile", size)
    picture = aligned(packing.picture_size(size.height, size.width), np.uint8)
    values, back = (empty_map(size, "CHW", "float32") for _ in range(2))
    fill(values)
    packer = MapPacker(packing, size.height, size.width, "float32", thresholds=uniform().thresholds)
    unpacker = MapUnpacker(packing, size.height, size.width, uniform().level_values)
    if checked:
        return lambda: packer.pack(values, 0, picture), lambda: unpacker.unpack(picture, 0, back)
    return packer.bind(values, 0, picture), unpacker.bind(picture, 0, back)


def held(maps: int, checked: bool) -> dict[str, int | None]:
    """What `maps` maps leave behind, after a warm-up: all of it should be 0."""
    pack, unpack = calls(checked)

    def run(count: int) -> None:
        for _ in repeat(None, count):
            pack()
            unpack()

    def blocks(count: int) -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        run(count)
        gc.collect()
        return sys.getallocatedblocks() - before

    for count in (WARM_UP, 0):
        blocks(count)
        c_library_bytes()
    peak, given = peak_bytes(), c_library_bytes()
    python_blocks = blocks(maps) - blocks(0)
    given_after, peak_after = c_library_bytes(), peak_bytes()
    tracemalloc.start()
    run(WARM_UP)
    gc.collect()
    tracemalloc.reset_peak()
    traced, _ = tracemalloc.get_traced_memory()
    run(maps)
    gc.collect()
    traced_after, traced_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "maps": maps,
        "python_blocks": python_blocks,
        "traced_bytes": traced_after - traced,
        "traced_peak_bytes": traced_peak - traced,
        "c_library_bytes": None if given is None or given_after is None else given_after - given,
        "peak_rss_bytes": peak_after - peak,
    }


def isolated(maps: int) -> dict[str, dict[str, int | None]]:
    """`held` for bound and checked calls, each in a fresh process."""
    command = [sys.executable, "-m", "bench.allocations", str(maps)]
    found: dict[str, dict[str, int | None]] = {}
    for way in ("bound", "checked"):
        done = subprocess.run([*command, way], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        found[way] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    json.dump(held(int(sys.argv[1]), sys.argv[2] == "checked"), sys.stdout)
