"""What is preloaded so that FFmpeg finds the virtual encoder, and so that copies into its buffers are counted."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hil.virtual_board.commands import run
from hil.virtual_encoder.build import FLAGS, GLIBC

FOLDER = Path(__file__).parent
#: What the virtual encoder's memory is called in /proc/self/maps.
_MEMORY = "/memfd:featlink-venc"


def build(folder: Path) -> tuple[Path, Path]:
    """Compile both with the virtual encoder's compiler and flags: the way onto libv4l2, and what counts copies.

    :raises BoardError: the compiler says why
    """
    made = folder / "onto_libv4l2.so", folder / "count_copies.so"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-gnu.{GLIBC}"]
    for library in made:
        source = FOLDER / f"{library.stem}.c"
        # -fno-builtin: memcpy must not become a call of itself
        run([*compiler, *FLAGS, "-fno-builtin", "-shared", "-s", "-o", library, source, "-ldl"], source.name)
    return made


def environment(libv4l2: Path, dev: Path, preloaded: Sequence[Path]) -> dict[str, str]:
    """Of a process to which the nodes of the virtual encoder in `dev` are /dev/video*, and all that are in /dev."""
    return {
        **os.environ,
        "LD_PRELOAD": os.pathsep.join(map(str, preloaded)),
        "FEATLINK_LIBV4L2": str(libv4l2),
        "FEATLINK_BENCH_DEV": str(dev),
    }


def payloads_raised() -> int:
    """Pictures that the virtual encoder refused at first, because their bytes ended before their last sample."""
    return int(ctypes.CDLL(None).featlink_raised())


class CopyCounter:
    """Bytes that memcpy and memmove write into the virtual encoder's buffers of a size; with count_copies.so alone.

    :param length: of the buffers to watch, in bytes; those that are mapped now are
    """

    def __init__(self, length: int) -> None:
        self._library = ctypes.CDLL(None)
        self._library.featlink_watch.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        self._library.featlink_counted.restype = ctypes.c_uint64
        whole = -(-length // os.sysconf("SC_PAGESIZE")) * os.sysconf("SC_PAGESIZE")
        self.buffers = 0
        for start, end in _mapped():
            if end - start == whole:
                if self._library.featlink_watch(start, whole) < 0:
                    raise AssertionError("more buffers than can be watched")
                self.buffers += 1

    def total(self) -> int:
        """All of them up to now."""
        return int(self._library.featlink_counted())


def _mapped() -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if _MEMORY in line:
            start, end = line.split()[0].split("-")
            yield int(start, 16), int(end, 16)
