"""Wheels of all three packages, and what must hold of the ones with compiled code in them."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from tools.core_build import ROOT, recipe
from tools.errors import ToolError

#: Machine -> its name in an ELF header.
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
PURE = ("device", "host")
#: Packs a map of one channel: 0 .. 6 in 256 steps.
PROBE = """
import numpy as np
from featlink_codec import _core
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.packing import Packing
from featlink_codec.features.quantizers import UniformQuantizer
from featlink_codec.features.syntax import RepackMode
quantizer = UniformQuantizer(6.0, 8)
packer = MapPacker(Packing(RepackMode.STACK, 1), 16, 16, "float32", thresholds=quantizer.thresholds)
out = np.zeros((16, 16), np.uint8)
packer.pack(quantizer.level_values.reshape(16, 16, 1), 0, out)
assert out.ravel().tolist() == list(range(256)), out
print(_core.__file__, _core.chosen_path())
"""


@dataclass(frozen=True)
class Wheel:
    """A wheel as it was found."""

    path: Path
    machine: str  # "any" without compiled code
    newest: str  # symbol version of the C library, or "-"


def build_all(dist: Path) -> list[Wheel]:
    """Build into `dist`, check, and try the wheel for this machine in an environment of its own.

    :raises ToolError: a build failed, or a wheel is not what it should be
    """
    if not shutil.which("uv"):
        raise ToolError("uv is not installed")
    native = recipe().SOURCES / recipe().LIBRARY
    before = _digest(native)
    wheels = []
    for machine in MACHINES:
        wheels.append(check_codec(_build("codec", dist, machine), machine))
    for package in PURE:
        wheels.append(check_pure(_build(package, dist, "")))
    if _digest(native) != before:
        raise ToolError(f"{native} was changed by building wheels")
    here = [wheel.path for wheel in wheels if wheel.machine == platform.machine()]
    _try(here[0])
    return wheels


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _build(package: str, dist: Path, machine: str) -> Path:
    with tempfile.TemporaryDirectory() as name:
        command = ["uv", "build", "--wheel", "--quiet", "--package", f"featlink-{package}", "--out-dir", name]
        _checked(command, cwd=ROOT, env={**os.environ, "FEATLINK_TARGET": machine})
        found = list(Path(name).glob("*.whl"))
        if len(found) != 1:
            raise ToolError(f"{package}: {len(found)} wheels were built, expected one")
        dist.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(found[0], dist))


def check_codec(path: Path, machine: str) -> Wheel:
    """:raises ToolError: tag, machine or C library are not those of a wheel for `machine`."""
    glibc = tuple(map(int, recipe().GLIBC.split(".")))
    tag = f"py3-none-manylinux_{'_'.join(map(str, glibc))}_{machine}"
    if not path.name.endswith(f"-{tag}.whl"):
        raise ToolError(f"{path.name}: expected a name that ends in {tag}.whl")
    with zipfile.ZipFile(path) as archive:
        libraries = [name for name in archive.namelist() if ".so" in Path(name).name]
        if libraries != [f"featlink_codec/_core/{recipe().LIBRARY}"]:
            raise ToolError(f"{path.name}: compiled code in it: {libraries}")
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        if f"Tag: {tag}" not in archive.read(about).decode().splitlines():
            raise ToolError(f"{path.name}: its WHEEL file does not say {tag}")
        elf = ELFFile(BytesIO(archive.read(libraries[0])))
        if elf["e_machine"] != MACHINES[machine]:
            raise ToolError(f"{path.name}: its library is for {elf['e_machine']}")
        versions = needed_versions(elf)
    late = [version for version in versions if version > glibc]
    if late:
        raise ToolError(f"{path.name}: needs a C library of {late}, expected up to {glibc}")
    return Wheel(path, machine, ".".join(map(str, max(versions, default=("-",)))))


def needed_versions(elf: ELFFile) -> list[tuple[int, ...]]:
    """Versions of glibc's symbols that a library asks for."""
    found = []
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            names = [one.name for _, auxiliaries in section.iter_versions() for one in auxiliaries]
            found += [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in names]
    return found


def check_pure(path: Path) -> Wheel:
    """:raises ToolError: it is not for any machine."""
    with zipfile.ZipFile(path) as archive:
        compiled = [name for name in archive.namelist() if ".so" in Path(name).name]
    if not path.name.endswith("-py3-none-any.whl") or compiled:
        raise ToolError(f"{path.name}: expected py3-none-any without compiled code, found {compiled}")
    return Wheel(path, "any", "-")


def _try(wheel: Path) -> None:
    """In a fresh environment, away from the source tree."""
    with tempfile.TemporaryDirectory() as name:
        _checked(["uv", "venv", "--quiet", "--python", sys.executable, f"{name}/venv"], cwd=ROOT)
        python = f"{name}/venv/bin/python"
        # In the workspace, for its pins; nothing of the workspace is installed.
        _checked(["uv", "pip", "install", "--quiet", "--python", python, str(wheel)], cwd=ROOT)
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FEATLINK"))}
        said = _checked([python, "-c", PROBE], cwd=Path(name), env=plain)
        if not said.startswith(str(Path(name).resolve())):
            raise ToolError(f"{wheel.name}: tried was another one: {said}")
        print(f"{wheel.name} packs a map in an environment of its own ({said.split()[-1]})")


def _checked(words: list[str], **how: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    if done.returncode:
        raise ToolError(f"{' '.join(words[:3])}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return str(done.stdout)


def table(wheels: list[Wheel]) -> str:
    """For people."""
    lines = [f"{'wheel':66} {'machine':8} {'glibc':6} {'KiB':>6}"]
    lines += [f"{w.path.name:66} {w.machine:8} {w.newest:6} {w.path.stat().st_size / 1024:6.0f}" for w in wheels]
    return "\n".join(lines)
