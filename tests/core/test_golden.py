"""golden.txt is what NumPy says, and what the C core says on every instruction set: of this machine and of aarch64."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from core.cases import GOLDEN, STORED, cases, golden, stored
from core.twin import CLASSES, QUANTIZERS, Case, sample_table, value_table
from tools import core_build

from featlink_codec import _core
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.unpacker import MapUnpacker

compiles = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ziglang", "hatchling")),
    reason="no C compiler here: PyPI's ziglang and hatchling are not installed",
)
EMULATOR = shutil.which("qemu-aarch64-static")
#: Debian's libc6-arm64-cross.
AARCH64_LIBC = Path("/usr/aarch64-linux-gnu")


def test_golden_is_what_numpy_says():
    assert STORED.read_text() == stored()
    assert GOLDEN.read_text() == golden()


def kernel_of(case: Case) -> tuple[str, str]:
    """What the core makes of a case."""
    height, width, _ = case.size
    if case.what == "unpack":
        values = value_table(case.table, 65536 if case.wide else 256, case.dtype.name)
        return "unpack", MapUnpacker(case.packing, height, width, values).kernel
    if case.dtype.kind == "f":
        how = {"thresholds": QUANTIZERS[case.table].thresholds, "step": case.step}
    else:
        how = {"table": sample_table(case.table, 256**case.dtype.itemsize, case.dtype.kind == "i", case.wide)}
    return "pack", MapPacker(case.packing, height, width, case.dtype, wide=case.wide, **how).kernel


def test_the_cases_reach_every_kernel():
    found: dict[tuple[str, str], set[tuple[str, bool]]] = {}
    alone = [case for case in cases() if case.table not in CLASSES]
    for case in {(case.what, case.type, case.table, case.planes): case for case in alone}.values():
        found.setdefault(kernel_of(case), set()).add((case.type, case.wide))
    floats, bytes_, words = ("f32", "f16"), ("u8", "i8"), ("u16", "i16")
    assert found["pack", "linear"] == {(kind, wide) for kind in floats for wide in (False, True)}
    assert found["pack", "buckets"] == {(kind, False) for kind in floats}
    assert found["pack", "steps"] == {(kind, wide) for kind in floats for wide in (False, True)}
    assert found["pack", "search"] == {(kind, False) for kind in floats}
    assert found["pack", "copy"] == {("u8", False), ("i8", False), ("u16", True), ("i16", True)}
    assert found["pack", "affine"] == {(kind, False) for kind in bytes_}
    assert found["pack", "table"] == {(kind, wide) for kind in (*bytes_, *words) for wide in (False, True)}
    assert found["unpack", "copy"] == {("u8", False), ("u16", True)}
    assert found["unpack", "linear"] == {("f32", False), ("f32", True)}
    assert {kind for kind, _ in found["unpack", "table"]} == {*floats, *bytes_, *words}


def check(program: Path, paths: list[str], *emulator: str) -> None:
    done = subprocess.run(
        [*emulator, str(program)], input=GOLDEN.read_text(), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr or f"exit code {done.returncode}"
    found = core_build.by_path(done.stdout)
    assert list(found) == paths
    expected = GOLDEN.read_text().splitlines()
    for path, lines in found.items():
        differences = [f"{path}: {line}" for line, other in zip(lines, expected, strict=True) if line != other]
        assert not differences


@compiles
def test_the_library_gives_it_on_every_instruction_set_of_this_machine(tmp_path):
    library = Path(_core.library()._name)
    program = core_build.link_golden(platform.machine(), library, tmp_path / "golden")
    check(program, _core.paths())


@compiles
@pytest.mark.skipif(EMULATOR is None, reason="no qemu-aarch64-static here: install qemu-user-static")
@pytest.mark.skipif(not AARCH64_LIBC.is_dir(), reason="no C library for aarch64 here: install libc6-arm64-cross")
def test_the_library_of_the_aarch64_wheel_gives_it_under_emulation(tmp_path):
    library = core_build.build_library("aarch64", tmp_path / "libfeatlink_core.so")
    program = core_build.link_golden("aarch64", library, tmp_path / "golden")
    assert EMULATOR is not None
    # The oldest of the 64-bit cores: newer instructions than the baseline's are a fault.
    check(program, ["neon", "portable"], EMULATOR, "-cpu", "cortex-a53", "-L", str(AARCH64_LIBC))


def test_stored_thresholds_are_thresholds():
    """A table with a slip in it would make cases that prove little."""
    for name, quantizer in QUANTIZERS.items():
        assert quantizer.thresholds.dtype == np.float32
        assert len(quantizer.thresholds) == quantizer.peak, name
        assert (np.diff(quantizer.thresholds.astype(np.float64)) >= 0).all(), name
