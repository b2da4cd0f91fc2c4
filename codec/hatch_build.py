"""Compiles the C core while the package is built, with PyPI's ziglang: no compiler is needed on the machine.

FEATLINK_TARGET names the machine to build for where that is another one: x86_64 or aarch64.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent / "featlink_codec"
SOURCES = PACKAGE / "_core"
LIBRARY = "libfeatlink_core.so"
#: The oldest C library that the result runs with: that of manylinux_2_17.
GLIBC = "2.17"
FLAGS = ["-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
#: Sums and products stay apart, and overridden table entries are meant.
FLAGS += ["-ffp-contract=off", "-fno-sanitize=undefined", "-Wno-initializer-overrides"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vbmi", "-mprefer-vector-width=512"]
COMMON: dict[str, list[str]] = {
    "dispatch.c": [],
    "pack.c": [],
    "pack_mixed.c": [],
    "unpack.c": [],
    "quantizer.c": [],
    "kernels_portable.c": [],
    "nnc_contexts.c": [],
    "nnc_decode.c": [],
    "nnc_encode.c": [],
    "nnc_sets.c": [],
    "nnc_rate.c": [],
    "nnc_quantize.c": [],
    "nnc_trellis.c": [],
    "nnc_trellis_rates.c": [],
}
#: Machine -> file -> flags of its own.
FILES = {
    "x86_64": {**COMMON, "kernels_avx2.c": AVX2, "kernels_avx512.c": [*AVX2, *AVX512]},
    "aarch64": {**COMMON, "kernels_neon.c": []},
}


def compile_core(machine: str, out: Path) -> None:
    """Write the shared library for `machine` to `out`."""
    if machine not in FILES:
        raise SystemExit(f"no C core for {machine}: there is one for {' and '.join(FILES)}")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}"]
    with tempfile.TemporaryDirectory() as name:
        objects = []
        for file, flags in FILES[machine].items():
            objects.append(f"{name}/{file}.o")
            subprocess.run([*compiler, *FLAGS, *flags, "-c", str(SOURCES / file), "-o", objects[-1]], check=True)
        # Under its own name only once it is whole: another process may load it.
        part = f"{name}/{LIBRARY}"
        subprocess.run([*compiler, "-shared", "-s", "-o", part, *objects], check=True)
        beside = out.with_name(f".{out.name}.{os.getpid()}")
        shutil.copyfile(part, beside)
        beside.chmod(0o755)
        beside.replace(out)


class CoreBuildHook(BuildHookInterface[Any]):
    """Puts the library into the wheel, or into the source tree for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for."""
        machine = os.environ.get("FEATLINK_TARGET") or platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC.replace('.', '_')}_{machine}"
        if version == "editable":
            compile_core(machine, SOURCES / LIBRARY)
            return
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / LIBRARY
        compile_core(machine, library)
        build_data["force_include"][str(library)] = f"featlink_codec/_core/{LIBRARY}"
