"""The C core under the address and undefined-behaviour sanitizers of GCC: golden.c, and the tests of the kernels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tools.core_build import GOLDEN, ROOT, by_path, recipe
from tools.errors import ToolError

COMPILER = "gcc"
FLAGS = ["-std=c11", "-g", "-O1", "-fPIC", "-fno-omit-frame-pointer", "-ffp-contract=off", "-Wall", "-Wextra"]
#: GCC has this in -Wextra; table entries are overridden on purpose.
FLAGS += ["-Wno-override-init"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TESTS = [
    "tests/codec/features/test_kernels.py",
    "tests/codec/features/test_class_kernels.py",
    "tests/core/test_guard_pages.py",
    *(f"tests/codec/model/test_{name}.py" for name in ("tensor_core", "golden_vectors", "damaged_streams")),
]
#: Python keeps much until it ends; a fault of the guard pages is to stay one; what is found ends the process.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:abort_on_error=1:strict_string_checks=1:malloc_context_size=8",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # Otherwise small objects lie in large blocks, where no overrun is seen.
    "PYTHONMALLOC": "malloc",
}
#: An array that is a column short, in malloc's memory: this must be found, or the rest proves nothing. Masked loads and
#: stores, and gathers, go unseen: those are for the guard pages of tests/core.
OVERRUN = """
import ctypes, sys
import numpy as np
from featlink_codec import _core
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.packing import Packing
from featlink_codec.features.syntax import RepackMode
_core.choose_path(sys.argv[1])
values, out = (np.zeros(int(size), np.uint8) for size in sys.argv[2:])
table = np.arange(256, dtype=np.uint16)[::-1]
packer = MapPacker(Packing(RepackMode.STACK, 1), 1, 64, "uint8", table=table)
source, target = _core.Map(values.ctypes.data, 64, 1, 1), _core.Picture(out.ctypes.data, None, 64, 0)
addresses = map(ctypes.addressof, (packer._layout.core_packing, packer._quantizer, source))
_core.library().fl_pack(*addresses, 0, ctypes.addressof(target))
"""


def run(folder: Path, profile: str, arguments: list[str]) -> int:
    """Build in `folder`, see that overruns are found there, and run the tests.

    :param profile: of hypothesis, in tests/conftest.py
    :param arguments: for pytest
    :returns: 0, or the exit code of what failed
    :raises ToolError: see `environment`
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--hypothesis-profile={profile}"]
    return subprocess.run(
        [*command, "--timeout=3000", *TESTS, *arguments], cwd=ROOT, env=environment(folder), check=False
    ).returncode


def environment(folder: Path) -> dict[str, str]:
    """Build in `folder`, see that overruns are found there; the variables with which Python uses that build.

    :raises ToolError: no GCC, or a set-up that finds nothing
    """
    if not shutil.which(COMPILER):
        raise ToolError(f"{COMPILER} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libfeatlink_core.so"
    _build(library)
    paths = _run_golden(library, folder / "golden")
    runtime = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    made = {**os.environ, **OPTIONS, "LD_PRELOAD": runtime, "FEATLINK_CORE_LIBRARY": str(library)}
    _prove(paths, made)
    return made


def _build(library: Path) -> None:
    made, objects = recipe(), []
    for file, flags in made.FILES[platform.machine()].items():
        objects.append(str(library.with_name(f"{file}.o")))
        subprocess.run(
            [COMPILER, *FLAGS, *SANITIZERS, *flags, "-c", str(made.SOURCES / file), "-o", objects[-1]], check=True
        )
    subprocess.run([COMPILER, *SANITIZERS, "-shared", "-o", str(library), *objects], check=True)


def _run_golden(library: Path, program: Path) -> list[str]:
    """golden.c on every path; it frees what it takes, so leaks are looked for, too. Returns the paths."""
    subprocess.run([COMPILER, *FLAGS, *SANITIZERS, str(GOLDEN), str(library), "-o", str(program)], check=True)
    expected = GOLDEN.with_suffix(".txt").read_text()
    done = subprocess.run([str(program)], input=expected, stdout=subprocess.PIPE, text=True, check=False)
    found = by_path(done.stdout)
    if done.returncode or any(lines != expected.splitlines() for lines in found.values()):
        wrong = [path for path, lines in found.items() if lines != expected.splitlines()]
        raise ToolError(f"golden.c: exit code {done.returncode}, wrong: {', '.join(wrong) or 'none'}")
    print(f"golden.c: right, and nothing found, in {', '.join(found)}", flush=True)
    return list(found)


def _prove(paths: list[str], environment: dict[str, str]) -> None:
    """What must be found is found, at the end of either array, and nothing where they are long enough."""
    for path in paths:
        for sizes in ((64, 64), (63, 64), (64, 63)):
            command = [sys.executable, "-c", OVERRUN, path, *map(str, sizes)]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            found = "63-byte region" in done.stderr
            if found != (63 in sizes) or bool(done.returncode) != found:
                said = f"exit code {done.returncode}\n{done.stderr[-2000:]}"
                raise ToolError(f"{path}, arrays of {sizes} for 64 elements: {said}")
    print(f"overruns are found in {', '.join(paths)}", flush=True)
