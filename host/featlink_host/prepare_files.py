"""Files of a step's command: what it would write is checked before anything is computed, what it reads is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featlink_codec.errors import SettingsError

if TYPE_CHECKING:
    import onnx


def check_outputs(
    outputs: Iterable[Path | None], inputs: Iterable[Path | None], report: Path | None = None, force: bool = False
) -> None:
    """Whether a command may write its files; those that are None were not asked for.

    :param inputs: what it reads: never replaced, even by force
    :param report: the folder for page and record; it need not be there
    :raises SettingsError: a file that is there (without force) or is read, two of one name, no folder to write to
    """
    read = {one.resolve() for one in inputs if one is not None}
    written: set[Path] = set()
    for file in outputs:
        if file is None:
            continue
        place = file.resolve()
        if place in read:
            raise SettingsError(f"{file}: is what the command reads, expected another file to write")
        if place in written:
            raise SettingsError(f"{file}: is given for two results, expected a file for each")
        written.add(place)
        if file.is_dir():
            raise SettingsError(f"{file}: found a folder, expected a file to write")
        if file.exists() and not force:
            raise SettingsError(f"{file}: is there already; --force replaces it")
        folder = place.parent
        if not folder.is_dir():
            what = "found a file" if folder.exists() else "found no such folder"
            raise SettingsError(f"{file}: {what} at {file.parent}, expected a folder to write to")
        _check_writable(folder)
    if report is not None:
        there = next(one for one in (report.resolve(), *report.resolve().parents) if one.exists())
        if not there.is_dir():
            raise SettingsError(f"--report {report}: found a file at {there}, expected a folder")
        _check_writable(there)


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise SettingsError(f"{folder}: found a folder that cannot be written to")


def network_of(path: Path, fix_shape: Sequence[str] | None) -> onnx.ModelProto:
    """The network in a file, with the shapes that --fix-shape gives its inputs; without any it stays as it is.

    :raises SettingsError: no valid model, or shapes that are not its inputs'
    """
    from .prepare.graph import load_model
    from .prepare.shapes import fix_shapes, parse_shapes

    model = load_model(path)
    return fix_shapes(model, parse_shapes(fix_shape)) if fix_shape else model
