"""What a step was given, what came of it: kept beside its result so that it can be told and done again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import sha256_of
from featlink_codec.files import write_whole
from featlink_codec.tables import parse_json, read_text


@dataclass(frozen=True)
class StepRecord:
    """A step.

    :param step: its name, e.g. "survey"
    :param version: of the package that did it
    :param inputs: by name: SHA-256 of a file, or of a folder's files
    :param options: as they were given, for doing it again
    :param figures: what was found
    :param outputs: by name: SHA-256 of a file
    """

    step: str
    version: str
    inputs: dict[str, str]
    options: dict[str, Any]
    figures: dict[str, Any]
    outputs: dict[str, str]

    @property
    def key(self) -> str:
        """Of everything that the step's result follows from."""
        return step_key(self.step, self.inputs, self.options)


def record_of(
    step: str,
    inputs: Mapping[str, Path | None],
    options: Mapping[str, Any],
    figures: Mapping[str, Any],
    outputs: Mapping[str, Path | None],
) -> StepRecord:
    """The record of a step that was just done, its files by name; those that are None were not there.

    :raises SettingsError: a file cannot be read
    """
    read, written = (
        {name: digest_of(file) for name, file in files.items() if file is not None} for files in (inputs, outputs)
    )
    return StepRecord(step, package_version(), read, plain(options), plain(figures), written)


def step_key(step: str, inputs: Mapping[str, str], options: Mapping[str, Any]) -> str:
    """A hash of what a step's result follows from, the package's version among it."""
    text = json.dumps([step, package_version(), dict(inputs), plain(options)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_step(out: Path, record: StepRecord, page: str) -> None:
    """Write out/<step>.html and out/<step>.json, which comes last: where it is, both are whole.

    :raises FeatlinkError: they cannot be written
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror or error}") from None
    html, file = out / f"{record.step}.html", out / f"{record.step}.json"
    file.unlink(missing_ok=True)
    write_whole(html, page)
    try:
        write_whole(file, json.dumps(plain(asdict(record)), indent=1) + "\n")
    except BaseException:
        html.unlink(missing_ok=True)
        raise


def read_step(path: Path) -> StepRecord:
    """A record from its file.

    :raises SettingsError: not such a file
    """
    found = parse_json(read_text(path), path, "a step's record")
    kinds = {"step": str, "version": str, "inputs": dict, "options": dict, "figures": dict, "outputs": dict}
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: found no table, expected a step's record")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise SettingsError(f"{path}: {key}: found {found.get(key)!r}, expected a {kind.__name__}")
    return StepRecord(**{key: found[key] for key in kinds})


def recorded_step(path: Path, name: str) -> dict[str, Any] | None:
    """A step in an extractor's record of all of them; None: there is no such one.

    :raises SettingsError: not such a file
    """
    found = parse_json(read_text(path), path, "an extractor's record of its steps")
    steps = found.get("steps") if isinstance(found, dict) else None
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and step.get("step") == name:
            return step
    return None


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files' names and own digests (SettingsError: it cannot be read)."""
    if not path.is_dir():
        return sha256_of(path)
    whole = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return whole.hexdigest()


def package_version() -> str:
    """Of this distribution."""
    try:
        return metadata.version("featlink-host")
    except metadata.PackageNotFoundError:
        return "unknown"


def plain(value: Any) -> Any:
    """The same in what JSON has: paths as text, NumPy's numbers as numbers, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
