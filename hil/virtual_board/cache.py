"""Results of steps in folders named by the hash of what they are made of, checked before they are used again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "manifest.json"


def key_of(parts: Iterable[str]) -> str:
    """Hash of texts, of which each counts as a whole (hex, 16 digits)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def digest_file(path: Path) -> str:
    """SHA-256 of a file (hex)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def manifest_of(folder: Path) -> dict[str, str]:
    """Every file of a folder with its SHA-256, every link with where it points."""
    found = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST:
            found[name] = f"-> {path.readlink()}" if path.is_symlink() else digest_file(path)
    return found


class Cache:
    """One folder a step, the newest only: an image is large."""

    def __init__(self, folder: Path, say: Callable[[str], object]) -> None:
        self.folder = folder
        self._say = say

    def get(self, step: str, key: str, make: Callable[[Path], None], *, force: bool = False) -> Path:
        """The folder of a step's result, made by `make(folder)` where it is not there or was damaged."""
        whole = self.folder / f"{step}-{key}"
        if whole.exists() and not force:
            if self._whole(whole):
                return whole
            self._say(f"{step}: the cached result is damaged, and made again")
        part = self.folder / f"{step}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        (part / MANIFEST).write_text(json.dumps(manifest_of(part), indent=0))
        for old in self.folder.glob(f"{step}-*"):
            shutil.rmtree(old)
        part.rename(whole)
        return whole

    @staticmethod
    def _whole(folder: Path) -> bool:
        try:
            expected = json.loads((folder / MANIFEST).read_text())
            return bool(expected == manifest_of(folder))
        except (OSError, ValueError):
            return False


@contextmanager
def locked(
    folder: Path, say: Callable[[str], object], busy: str = "another build runs: waiting for its end"
) -> Iterator[None]:
    """One process at a time in `folder`: another one says `busy` and waits here."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(busy)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        for name in sorted(files + links):
            yield Path(where) / name
