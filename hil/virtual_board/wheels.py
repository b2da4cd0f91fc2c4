"""Python packages for the guest: PyPI's wheels by the project's pins, and featlink's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..targets import ROOT
from .cache import digest_file
from .commands import run, search_path
from .guest_files import INSTALLED

#: Oldest C library of the wheels that are taken; Debian's is newer.
PLATFORM = "aarch64-manylinux_2_28"
MACHINE = "aarch64"
#: featlink on a camera: the members of the workspace, and the files that their wheels are made of.
MEMBERS = ("codec", "device")
SOURCES = ("*.py", "*.c", "*.h", "*.toml", "*.json", "*.typed")


class Wheels:
    """Wheels for one version of Python."""

    def __init__(self, python: str, *, offline: bool = False) -> None:
        self._python = python
        self._where = ["--python-platform", PLATFORM, "--python-version", python, "--only-binary", ":all:"]
        self._offline = ["--offline"] if offline else []

    def resolve(self) -> str:
        """What featlink needs on a camera, as requirements with versions and hashes."""
        words = [*self._uv("pip", "compile"), *self._where, "--extra", "av"]
        words += ["--generate-hashes", "--no-annotate", "--no-header"]
        words += [word for member in MEMBERS for word in ("--no-emit-package", f"featlink-{member}")]
        return run([*words, *(f"{member}/pyproject.toml" for member in MEMBERS)], "wheels", cwd=ROOT)

    def install(self, requirements: str, folder: Path) -> None:
        """Unpack the wheels of `requirements` into `folder`, checked against their hashes."""
        words = ["--require-hashes", "--no-deps", "--requirements", "-"]
        self._install(folder, words, stdin=requirements.encode())

    def install_featlink(self, folder: Path) -> None:
        """Build featlink's wheels for the guest and unpack them into `folder`."""
        built = folder / "wheels"
        build_featlink(built, MACHINE, self._offline)
        self._install(folder / "site", ["--no-deps", *(str(path) for path in sorted(built.glob("*.whl")))])

    def _install(self, folder: Path, words: list[str], stdin: bytes | None = None) -> None:
        # Copies: the cache of uv is not for others to write to.
        how = [*self._uv("pip", "install"), "--link-mode", "copy", "--target", str(folder), *self._where]
        run([*how, *words], "wheels", cwd=ROOT, stdin=stdin)
        # Programs for the machine that this runs on.
        shutil.rmtree(folder / "bin", ignore_errors=True)
        compile_bytecode(folder, INSTALLED, self._python)

    def _uv(self, *words: str) -> list[str]:
        return ["uv", "--quiet", *self._offline, *words]


def build_featlink(folder: Path, machine: str, options: Sequence[str] = ()) -> None:
    """Build the wheels of codec, compiled for `machine`, and of device into `folder`.

    :param options: of uv itself
    """
    for member in MEMBERS:
        words = ["uv", "--quiet", *options, "build", "--wheel", "--out-dir", str(folder), member]
        run(words, f"wheel of {member}", cwd=ROOT, environment={"FEATLINK_TARGET": machine})


def compile_bytecode(folder: Path, shown_as: str, python: str) -> None:
    """Compile a folder's Python where this interpreter is of the guest's version, else leave it as it is.

    The guest keeps nothing, so that it would compile at every start, slowly.

    :param shown_as: where the folder is in the guest
    """
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        return
    words = [sys.executable, "-m", "compileall", "-q", "-j2", "-s", str(folder), "-p", shown_as, str(folder)]
    # Its exit code counts files that are not for this version, which some packages carry.
    subprocess.run(words, capture_output=True, check=False, env={"PATH": search_path()})


def versions_of(requirements: str) -> dict[str, str]:
    """Name and version of each requirement."""
    return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", requirements))


def featlink_sources() -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of every file that featlink's wheels are made of."""
    for member in MEMBERS:
        paths = {path for pattern in SOURCES for path in (ROOT / member).rglob(pattern)}
        for path in sorted(paths):
            yield path.relative_to(ROOT).as_posix(), digest_file(path)
