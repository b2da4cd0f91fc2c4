"""The firmware targets that are shipped: folders of firmware_targets with a target.toml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featlink_codec.errors import SettingsError
from featlink_codec.tables import parse_toml, read_text

from .confirmed import check_unconfirmed
from .target_fields import Target, read_target

ROOT = Path(__file__).parents[1]
TARGETS = ROOT / "firmware_targets"
SETTINGS_FILE = "target.toml"

#: What `hil/local.toml` may point elsewhere.
ALIASES: Mapping[str, str] = {"jetson": "jetson-orin-nx", "rockchip": "rk3588", "virtual": "virtual-a76"}


def target_names(folder: Path = TARGETS) -> list[str]:
    """Names of the targets in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{SETTINGS_FILE}"))


def load_target(folder: Path) -> Target:
    """The target of a folder.

    :raises SettingsError: no such file, not TOML, or a field that does not fit: file, table, key, found, expected
    """
    file = folder / SETTINGS_FILE
    data = read_toml(file)
    try:
        target = read_target(data)
        check_unconfirmed(target)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    if target.name != folder.name:
        raise SettingsError(f"{file}: name: found {target.name!r}, expected its folder's name, {folder.name!r}")
    return target


def load_targets(folder: Path = TARGETS) -> list[Target]:
    """All targets, by name.

    :raises SettingsError: as `load_target`; also a virtual board that stands for no target of the folder
    """
    targets = [load_target(folder / name) for name in target_names(folder)]
    names = {target.name for target in targets if target.virtual is None}
    for target in targets:
        if target.virtual is not None and target.virtual.stands_for not in names:
            file, found = folder / target.name / SETTINGS_FILE, target.virtual.stands_for
            expected = f"one of {', '.join(sorted(names))}"
            raise SettingsError(f"{file}: [virtual] stands_for: found {found!r}, expected {expected}")
    return targets


def find_target(name: str, aliases: Mapping[str, str] = ALIASES, folder: Path = TARGETS) -> Target:
    """The target of a name or an alias.

    :raises SettingsError: there is none; the nearest names are said
    """
    names = target_names(folder)
    meant = name if name in names else aliases.get(name, name)
    if meant not in names:
        known = sorted({*names, *aliases})
        near = difflib.get_close_matches(meant, known, n=3, cutoff=0.5)
        expected = " or ".join(repr(one) for one in near) if near else f"one of {', '.join(known)}"
        through = f" (alias {name!r})" if meant != name else ""
        raise SettingsError(f"board: found {meant!r}{through}, expected {expected}")
    return load_target(folder / meant)


def read_toml(file: Path) -> dict[str, Any]:
    """A parsed TOML file (SettingsError: it cannot be read, or is not TOML)."""
    return parse_toml(read_text(file), file)
