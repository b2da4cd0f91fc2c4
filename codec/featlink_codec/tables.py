"""What people write in files, TOML and JSON: read, or refused in a line that names the file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_text(path: Path, hint: str = "") -> str:
    """The text of a file.

    :param hint: what the file is, said where there is none
    :raises SettingsError: it cannot be read, or is not UTF-8
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        behind = f"; {hint}" if hint else ""
        raise SettingsError(f"{path}: {error.strerror or error}{behind}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None


def parse_toml(text: str, where: Path | str) -> dict[str, Any]:
    """The tables of a TOML text.

    :param where: the file, for messages
    :raises SettingsError: not TOML
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{where}: not TOML: {' '.join(str(error).split())}") from None


def parse_json(text: str, where: Path | str, expected: str = "") -> Any:
    """The value of a JSON text.

    :param where: the file, for messages
    :param expected: what it should hold, for messages
    :raises SettingsError: not JSON
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        behind = f", expected {expected}" if expected else f": {' '.join(str(error).split())}"
        raise SettingsError(f"{where}: not JSON{behind}") from None
