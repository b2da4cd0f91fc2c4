"""Other people's programs: which must be there, and what is said when one fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from featlink_codec.errors import FeatlinkError

#: Program -> Debian's package of it.
PROGRAMS: Mapping[str, str] = {
    "qemu-system-aarch64": "qemu-system-arm",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-strip": "binutils-aarch64-linux-gnu",
    "make": "make",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
    "dpkg-deb": "dpkg",
    "tar": "tar",
}
#: Those that make the difference between Debian and the rest: nothing of Debian can install them.
FOREIGN: Mapping[str, str] = {"apt-get": "a Debian or a system made of it", "uv": "pip install uv"}
#: depmod and mke2fs are often outside of a user's PATH.
SYSTEM_PATH = ("/usr/sbin", "/sbin")


class BoardError(FeatlinkError):
    """The image of a virtual board cannot be built, or does not start."""


def search_path() -> str:
    """PATH, and where a system keeps what is for its administrator."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_PATH])


def require_programs(programs: Mapping[str, str] = PROGRAMS, foreign: Mapping[str, str] = FOREIGN) -> None:
    """:raises BoardError: programs are missing; all are named at once, with the line that installs them."""
    path = search_path()
    missing = [name for name in programs if not shutil.which(name, path=path)]
    if missing:
        packages = " ".join(dict.fromkeys(programs[name] for name in missing))
        raise BoardError(f"not installed: {', '.join(missing)}; install: apt-get install {packages}")
    if missing := [f"{name} ({how})" for name, how in foreign.items() if not shutil.which(name, path=path)]:
        raise BoardError(f"not installed: {', '.join(missing)}")


def run(
    words: Sequence[str | Path],
    what: str,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """What a program writes to its standard output.

    :param what: what it is for, as a message begins
    :raises BoardError: it failed: `what`, the program, its exit code and its last words
    """
    env = {**os.environ, "LC_ALL": "C", "PATH": search_path(), **(environment or {})}
    command = [str(word) for word in words]
    try:
        done = subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise BoardError(f"{what}: not installed: {command[0]}") from None
    if done.returncode:
        raise BoardError(f"{what}: {Path(command[0]).name}: exit code {done.returncode}: {_last_words(done.stderr)}")
    return done.stdout.decode(errors="replace")


def _last_words(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    if any(os.strerror(errno.ENOSPC) in line for line in lines):
        return os.strerror(errno.ENOSPC)
    # apt says what is wrong in lines with E:, and goes on with advice.
    said = [line for line in lines if line.startswith(("E:", "error:"))] or lines[-3:]
    return " / ".join(said) or "it said nothing"
