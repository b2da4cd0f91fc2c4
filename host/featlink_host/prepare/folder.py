"""A folder that appears whole or not at all: written beside its place, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SETTINGS_FILE


@contextmanager
def new_folder(out: Path, force: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write into; it takes the place of `out` when the block ends without an error.

    After any error, Ctrl-C too, everything is as it was before.

    :param out: must not exist, or be empty; its parents are made
    :param force: an extractor that stands there is replaced (another folder is not)
    :raises SettingsError: something stands in the way, or cannot be written
    """
    out = out.absolute()
    check_free(out, force)
    made: list[Path] = []
    mark = secrets.token_hex(4)
    fresh, old = (out.with_name(f".{out.name}.{kind}-{mark}") for kind in ("new", "old"))
    try:
        for parent in reversed([p for p in out.parents if not p.exists()]):
            parent.mkdir()
            made.append(parent)
        fresh.mkdir()
        yield fresh
        for file in fresh.iterdir():
            _flush(file)
        _flush(fresh)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not out.exists():
            old.rename(out)
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise SettingsError(f"{error.filename or out}: {error.strerror or error}") from None
        raise
    finally:
        # Only where the new folder stands: an interrupted way back must not lose the old one.
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
    _flush(out.parent)


def replace_folder(source: Path, out: Path, force: bool = False) -> None:
    """Copy a folder's files into a new one at `out`, which appears whole (SettingsError as `new_folder`)."""
    with new_folder(out, force) as fresh:
        for file in source.iterdir():
            shutil.copyfile(file, fresh / file.name)


def check_free(out: Path, force: bool = False) -> None:
    """Whether an extractor may be written to `out` (SettingsError if not)."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise SettingsError(f"{out}: found a file or link, expected a new or empty folder")
    if any(out.iterdir()):
        if not force:
            raise SettingsError(f"{out}: found a folder that is not empty, expected a new or empty one (or force)")
        if not (out / SETTINGS_FILE).is_file():
            raise SettingsError(
                f"{out}: found a folder without {SETTINGS_FILE}: only an extractor is replaced by force"
            )


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
