"""Builds the plugin, and for this machine a private libv4l2 that finds it: no root rights, nothing installed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..targets import ROOT
from ..virtual_board.cache import Cache, digest_file, key_of, locked
from ..virtual_board.commands import BoardError, require_programs, run
from ..virtual_board.packages import Apt
from .private_library import private_copy

PLUGIN = "featlink-venc.so"
LIBRARY = "libv4l2.so.0"
#: The oldest C library that the plugin runs with; memfd_create came with 2.27.
GLIBC = "2.28"
FLAGS = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", "-fno-sanitize=undefined"]
#: Entries of tables are left out where they are zero.
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
#: Of what libv4l2 and libx265 depend on, what a machine need not have.
OWN = re.compile(r"lib(v4l-|v4lconvert|x265-|numa|jpeg)")
#: libv4l2 unloads a plugin with its device; what libx265 keeps for its process would be lost with every session.
#: libx265 is looked for beside the plugin first, and what it needs, too: so RPATH, which is passed on, not RUNPATH.
LINK = ["-shared", "-s", "-lm", "-Wl,-z,nodelete", "-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"]
#: Debian's name of the architecture -> the machine's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_PROGRAMS = {"dpkg-deb": "dpkg"}
_FOREIGN = {"apt-get": "a Debian or a system made of it"}


def sources() -> list[Path]:
    """The files that decide what is built."""
    folder = Path(__file__).parent
    return sorted(path for pattern in ("*.c", "*.h", "*.py") for path in folder.glob(pattern))


def recipe() -> list[str]:
    """SHA-256 of each of `sources()`."""
    return [digest_file(path) for path in sources()]


def compile_plugin(machine: str, headers: Path, x265: Path, out: Path) -> None:
    """Write the plugin for `machine` (x86_64 or aarch64) to `out`.

    :param headers: folder with x265.h
    :param x265: the shared library to link with
    :raises BoardError: the compiler says why
    """
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}"]
    files = [path for path in sources() if path.suffix == ".c"]
    run([*compiler, *FLAGS, "-isystem", headers, "-o", out, *files, x265, *LINK], "virtual encoder")


def private_library(
    cache: Path = ROOT / "out" / "boards" / ".cache",
    *,
    force: bool = False,
    offline: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Path:
    """libv4l2 with the virtual encoder for this machine: load it by this path, or name it in FEATLINK_LIBV4L2.

    Made of the packages that Debian has on the day, and kept until the sources change. Its plugins are found by a
    link in /tmp, made anew here where it is gone: a long path has no room in libv4l2.

    :param cache: folder of the results, of the package lists and packages
    :raises BoardError: packages cannot be had, or what they hold is not as expected
    """
    with locked(cache, say):
        key = key_of([platform.machine(), *recipe()])
        link = _link(cache)
        made = Cache(cache, say).get("libv4l2", key, lambda to: _make(to, link, cache, offline), force=force)
    folder = made.resolve()
    _point(link, folder)
    return folder / LIBRARY


def _make(folder: Path, plugins: Path, cache: Path, offline: bool) -> None:
    require_programs(_PROGRAMS, _FOREIGN)
    apt = Apt(cache / "apt", offline=offline)
    apt.update()
    machine = MACHINES.get(apt.host)
    if machine is None:
        raise BoardError(f"virtual encoder: found a machine of {apt.host}, expected {' or '.join(MACHINES)}")
    resolved = apt.resolve([f"libv4l-0:{apt.host}", f"libx265-dev:{apt.host}"])
    packages = [package for package in resolved if OWN.match(package.name)]
    with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as name:
        work = Path(name)
        for deb in apt.fetch(packages):
            run(["dpkg-deb", "-x", deb, work], f"package {deb.name}")
        for path in work.glob("usr/lib/*/lib*.so.*"):
            if re.fullmatch(r"lib[\w-]+\.so\.\d+", path.name):
                shutil.copyfile(path, folder / path.name)
        library = folder / LIBRARY
        x265 = next(folder.glob("libx265.so.*"), None)
        if x265 is None or not library.exists():
            raise BoardError(f"packages {', '.join(package.file for package in packages)}: found no libx265 or libv4l2")
        library.write_bytes(private_copy(library.read_bytes(), plugins))
        compile_plugin(machine, work / "usr/include", x265, folder / PLUGIN)


def _link(cache: Path) -> Path:
    """Where libv4l2 looks for the plugins of this cache."""
    who = hashlib.sha256(f"{os.getuid()} {cache.resolve()}".encode()).hexdigest()[:12]
    return Path("/tmp") / f"featlink-{who}"


def _point(link: Path, folder: Path) -> None:
    """Make `link` point at `folder`, whatever was there, unless it is another user's."""
    if link.is_symlink() and link.lstat().st_uid == os.getuid() and link.readlink() == folder:
        return
    part = link.with_name(f"{link.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(folder)
    try:
        part.replace(link)  # fails in /tmp where the link is another user's
    except OSError as error:
        part.unlink()
        raise BoardError(f"{link}: found it in use, expected to make a link of it ({error.strerror})") from None
