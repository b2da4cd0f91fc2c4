"""What `invoke wheels` lets through: a library for the machine that the tag names, one only, on an old C library."""

from __future__ import annotations

import platform
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from tools import wheels
from tools.errors import ToolError

from featlink_codec import _core

HERE = platform.machine()
LIBRARY = "featlink_codec/_core/libfeatlink_core.so"


def wheel(folder: Path, machine: str, contents: dict[str, bytes], told: str = "") -> Path:
    tag = f"py3-none-manylinux_2_17_{machine}"
    path = folder / f"featlink_codec-0.1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        archive.writestr("featlink_codec-0.1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {told or tag}\n")
    return path


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(_core.library()._name).read_bytes()


def test_the_library_of_this_machine_passes(tmp_path, library):
    found = wheels.check_codec(wheel(tmp_path, HERE, {LIBRARY: library}), HERE)
    assert found.machine == HERE
    assert tuple(map(int, found.newest.split("."))) <= (2, 17)


def test_others_do_not(tmp_path, library):
    other = next(machine for machine in wheels.MACHINES if machine != HERE)
    for machine, contents, told, says in (
        (other, {LIBRARY: library}, "", "its library is for"),
        (HERE, {}, "", "compiled code in it: \\[\\]"),
        (HERE, {LIBRARY: library, "featlink_codec/other.so": library}, "", "other.so"),
        (HERE, {LIBRARY: library}, "py3-none-any", "WHEEL file"),
    ):
        with pytest.raises(ToolError, match=says):
            wheels.check_codec(wheel(tmp_path, machine, contents, told), machine)
    with pytest.raises(ToolError, match="expected a name"):
        wheels.check_codec(wheel(tmp_path, other, {LIBRARY: library}), HERE)
    with pytest.raises(ToolError, match="expected py3-none-any"):
        wheels.check_pure(wheel(tmp_path, HERE, {LIBRARY: library}))


def test_a_newer_c_library_is_refused(tmp_path, library, monkeypatch):
    monkeypatch.setattr(wheels, "needed_versions", lambda elf: [(2, 2, 5), (2, 18)])
    with pytest.raises(ToolError, match="needs a C library of \\[\\(2, 18\\)\\]"):
        wheels.check_codec(wheel(tmp_path, HERE, {LIBRARY: library}), HERE)


def test_symbol_versions_are_read_from_the_library():
    with Path(_core.library()._name).open("rb") as file:
        versions = wheels.needed_versions(ELFFile(file))
    assert versions, "the core calls memcpy"
    assert all(version[0] == 2 for version in versions)
