"""The tests of the C core for aarch64 under emulation: Debian's Python for that machine in a folder, no root rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools.core_build import ROOT, build_library
from tools.errors import ToolError

EMULATOR = "qemu-aarch64-static"
PROGRAMS = {EMULATOR: "qemu-user-static", "apt-get": "apt", "dpkg-deb": "dpkg", "uv": "uv"}
#: numpy's wheel needs the C++ runtime of the machine.
PACKAGES = ["python3", "libstdc++6"]
#: Wheels for it; the versions are the pins of pyproject.toml.
WHEELS = ["numpy", "pytest", "pytest-timeout", "hypothesis"]
TESTS = [
    "tests/codec/features/test_kernels.py",
    "tests/codec/features/test_class_kernels.py",
    "tests/codec/test_selftest.py",
    "tests/core",
]


def run_tests(folder: Path, arguments: list[str]) -> int:
    """Make what is missing in `folder`, and run pytest there.

    :param arguments: for pytest, besides the usual ones
    :returns: its exit code
    :raises ToolError: a program is missing, or a download failed
    """
    if missing := [f"{name} (of {package})" for name, package in PROGRAMS.items() if not shutil.which(name)]:
        raise ToolError(f"not installed: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    system = _made(folder / "system", " ".join(PACKAGES), lambda part: _unpack_system(folder / "apt", part))
    python = next(p for p in sorted((system / "usr/bin").glob("python3.*")) if p.name.count(".") == 1)
    version, pins = python.name.removeprefix("python"), (ROOT / "pyproject.toml").read_text()
    site = _made(folder / "site", f"{version} {WHEELS}\n{pins}", lambda part: _install_wheels(version, part))
    library = build_library("aarch64", folder / "libfeatlink_core.so")
    print(f"{python.name} for aarch64 is ready after {time.monotonic() - started:.0f} s", flush=True)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "codec")]),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "FEATLINK_CORE_LIBRARY": str(library),
    }
    # tests/conftest.py needs video and network runtimes, which this is not about.
    how = ["-p", "no:cacheprovider", "--noconftest", "--hypothesis-profile=ci", "--timeout=3000"]
    command = [EMULATOR, "-L", str(system), str(python), "-m", "pytest", *how, *TESTS, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _made(whole: Path, source: str, make: Callable[[Path], None]) -> Path:
    """`whole`, made from what `source` says: under another name first, so that what was interrupted is begun anew."""
    note = "made-from.txt"
    if not (whole / note).exists() or (whole / note).read_text() != source:
        part = whole.with_name(f"{whole.name}.part")
        for old in (part, whole):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        (part / note).write_text(source)
        part.rename(whole)
    return whole


def _unpack_system(apt: Path, part: Path) -> None:
    """Python and what it depends on, from this machine's own package sources, for another architecture.

    apt works on a state of its own, so that the machine's is not touched and no rights are needed.
    """
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State": apt,
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
        "Debug::NoLocking": "true",
    }
    get = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    _checked([*get, "update"])
    _checked([*get, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES])
    for package in sorted((apt / "archives").glob("*.deb")):
        _checked(["dpkg-deb", "-x", str(package), str(part)])


def _install_wheels(version: str, part: Path) -> None:
    where = ["--target", str(part), "--python", sys.executable]
    what = ["--python-platform", "aarch64-manylinux_2_28", "--python-version", version, "--only-binary", ":all:"]
    _checked(["uv", "pip", "install", "--quiet", *where, *what, *WHEELS])


def _checked(words: list[str]) -> None:
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{' '.join(words[:1])}: exit code {done.returncode}\n{done.stdout[-2000:]}")
