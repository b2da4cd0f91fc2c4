"""Builds of the C core besides the one in the source tree, and of the program that checks them against golden.txt."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "core" / "golden.c"


@cache
def recipe() -> ModuleType:
    """codec/hatch_build.py: files, flags and `compile_core`."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "codec" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_library(machine: str, out: Path) -> Path:
    """The shared library for `machine`, as in a wheel."""
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe().compile_core(machine, out)
    return out


def link_golden(machine: str, library: Path, out: Path) -> Path:
    """tests/core/golden.c on a shared library."""
    made = recipe()
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{made.GLIBC}"]
    subprocess.run([*compiler, *made.FLAGS, str(GOLDEN), str(library), "-o", str(out)], check=True)
    return out


def by_path(printed: str) -> dict[str, list[str]]:
    """What golden.c printed, a list of lines for each instruction set."""
    parts = [part.splitlines() for part in printed.split("path ")[1:]]
    return {lines[0]: lines[1:] for lines in parts}
