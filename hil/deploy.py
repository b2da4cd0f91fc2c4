"""featlink onto a board: codec and device as one bundle over SSH, switched by renaming a symbolic link.

A bundle is unpacked into a folder of its own, named by its content, beside the link; only then does the link move, in
one step. Programs that run keep the folder that they were started from. What featlink needs besides (NumPy, ONNX
Runtime, PyAV) is not in it: a virtual board's image has it, a real board gets it by the [provisioning] of target.toml.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featlink_codec.errors import FeatlinkError, SettingsError

from .targets import ROOT
from .virtual_board.cache import key_of
from .virtual_board.guest_files import DEPLOYED, INSTALLED
from .virtual_board.wheels import build_featlink, compile_bytecode, featlink_sources

if TYPE_CHECKING:
    from .board import Board

#: Machines that the C core is built for; elsewhere a bundle has none.
MACHINES = ("aarch64", "x86_64")
#: Wheels by the hash of what they are made of; only the newest are kept.
WHEELS = ROOT / "out" / "hil" / "wheels"
KEPT_WHEELS = 4
BUNDLE_FACTS = "bundle.json"
#: Of every file in a bundle (seconds since 1970), so that the same tree gives the same bytes.
_DATE_S = 946684800

LAUNCHER = f"""\
#!/bin/sh
# The folder behind the link, so that a switch does not change a program while it runs.
here=$(dirname "$(dirname "$(readlink -f "$0")")")
# Real boards have a virtual environment there, virtual ones a folder of packages.
python={INSTALLED}/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH="$here:{INSTALLED}${{PYTHONPATH:+:$PYTHONPATH}}"
export PYTHONPATH
exec "$python" -c 'import sys; sys.argv[0] = "featlink-device"; from featlink_device.cli import main; main()' "$@"
"""

#: $1: the bundle, $2: the link, $3: the version. Prints the version that was there before.
SWITCH = """\
set -e
bundle=$1 link=$2 folder=$2-$3
before=$(readlink "$link" || true)
# An image may bring the place as an empty folder; anything else that is no link stays, and is an error.
[ -L "$link" ] || [ ! -e "$link" ] || rmdir "$link"
if [ ! -d "$folder" ]; then
  rm -rf "$folder.part"
  mkdir -p "$folder.part"
  tar -xzf "$bundle" -C "$folder.part"
  mv -T "$folder.part" "$folder"
fi
ln -s "$folder" "$link.new.$$"
mv -T "$link.new.$$" "$link"
rm -f "$bundle"
# The one before stays, for whoever still runs from it.
for old in "$link"-*; do
  [ "$old" = "$folder" ] || [ "$old" = "$before" ] || rm -rf "$old"
done
echo "${before#"$link"-}"
"""


@dataclass(frozen=True)
class Bundle:
    """What is deployed."""

    #: a .tar.gz of the folder that the link points to
    path: Path
    #: hash of the content (hex, 12 digits)
    version: str
    #: as git describes the tree; "unknown" without git
    commit: str


def build_wheels(machine: str, cache: Path = WHEELS) -> list[Path]:
    """Wheels of codec, compiled for `machine`, and of device; built only where their sources changed.

    :raises SettingsError: there is no C core for that machine
    :raises BoardError: the build failed
    """
    if machine not in MACHINES:
        raise SettingsError(
            f"architecture: found {machine!r}, expected {' or '.join(MACHINES)}: there is no C core for it"
        )
    key = key_of([machine, *(f"{name} {digest}" for name, digest in featlink_sources())])
    folder = cache / key
    if not folder.exists():
        part = cache / f"{key}.{os.getpid()}.part"
        build_featlink(part, machine)
        part.replace(folder)
        for old in sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_WHEELS]:
            shutil.rmtree(old)
    return sorted(folder.glob("*.whl"))


def build_bundle(machine: str, folder: Path, python: str = "", cache: Path = WHEELS) -> Bundle:
    """The bundle of this tree for a machine, written into `folder`.

    :param python: version of the board's Python, as "3.11": then its bytecode comes along, where this one can make it
    """
    return pack_bundle(build_wheels(machine, cache), folder, describe_tree(), python)


def pack_bundle(wheels: list[Path], folder: Path, commit: str, python: str = "") -> Bundle:
    """Unzip wheels side by side, add the launcher and bundle.json, and write the .tar.gz.

    :raises FeatlinkError: two wheels have the same file
    """
    tree = folder / "bundle"
    tree.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as files:
            for name in files.namelist():
                if (tree / name).exists():
                    raise FeatlinkError(f"{wheel.name}: {name}: another wheel has it too")
            files.extractall(tree)
    launcher = tree / "bin" / "featlink-device"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)
    version = _digest(tree)
    facts = {"version": version, "commit": commit, "wheels": [wheel.name for wheel in wheels]}
    (tree / BUNDLE_FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for path in tree.rglob("*"):
        os.utime(path, (_DATE_S, _DATE_S))
    compile_bytecode(tree, DEPLOYED, python)
    out = folder / f"featlink-{version}.tar.gz"
    _write_tar(tree, out)
    shutil.rmtree(tree)
    return Bundle(out, version, commit)


def deploy(board: Board, bundle: Bundle) -> None:
    """Put a bundle onto a board and switch to it; `board.device` uses it from then on.

    :raises FeatlinkError: the board refuses it, e.g. since /opt cannot be written or is full
    """
    home = board.run('printf "%s %s" "$(id -u)" "$HOME"').check().stdout.strip()
    user, _, home = home.partition(" ")
    # Only root may write to /opt; on real boards the user's own folder does as well.
    link = DEPLOYED if user == "0" else f"{home}/{Path(DEPLOYED).name}"
    remote = f"{link}.{bundle.version}.tar.gz"
    board.put(bundle.path, remote)
    done = board.run(switch_command(remote, link, bundle.version), timeout_s=120).check()
    board.launcher = f"{link}/bin/featlink-device"
    board.facts["deployed"] = {
        "version": bundle.version,
        "commit": bundle.commit,
        "before": done.stdout.strip() or None,
    }
    board.facts["deploy_s"] = round(done.seconds, 1)


def switch_command(bundle: str, link: str, version: str) -> str:
    """The shell command that unpacks a bundle on the board, moves the link, and prints the version before."""
    return shlex.join(["sh", "-c", SWITCH, "switch", bundle, link, version])


def describe_tree() -> str:
    """As git describes this tree; "unknown" without git."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _digest(tree: Path) -> str:
    """Hash of the files of a folder, their names and whether they are programs."""
    digest = hashlib.sha256()
    for path in _files(tree):
        head = f"{path.relative_to(tree).as_posix()}\0{path.stat().st_mode & 0o100:o}\0{path.stat().st_size}\0"
        digest.update(head.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _write_tar(tree: Path, out: Path) -> None:
    """A .tar.gz with everything root's, of one date: its bytes depend on the content alone."""
    with (
        out.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as files,
    ):
        for path in _files(tree):
            info = files.gettarinfo(path, path.relative_to(tree).as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = _DATE_S
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            with path.open("rb") as file:
                files.addfile(info, file)


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file())
