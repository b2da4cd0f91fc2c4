"""The labgrid environment of a board: its labgrid.yaml, filled in for this desk and this run.

labgrid's own !template gives only strings, and ports must be integers; so the shipped files are string.Template
sources, and a filled copy is written to out/hil. Secrets are the exception: they stay in environment variables.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from featlink_codec.errors import SettingsError
from featlink_codec.files import write_whole

from .local import DeskBoard, LocalSettings
from .target_fields import Target
from .targets import ROOT, TARGETS

ENVIRONMENT_FILE = "labgrid.yaml"
PLACE_FILE = TARGETS / "labgrid" / "place.yaml"
#: What the image builder leaves in out/boards/NAME.
IMAGE_FILES = ("kernel", "initrd.img", "root.ext4", "board.dtb", "id_ed25519", "board.json")


@dataclass(frozen=True)
class Prepared:
    """An environment that labgrid can read."""

    file: Path
    #: to be added to the environment of the process that runs labgrid; LG_FEATLINK_PASSWORD is secret
    variables: Mapping[str, str] = field(repr=False)
    ssh_port: int
    #: whether a person is the power switch
    manual_power: bool = False
    #: the coordinator's name of the board; empty without a coordinator
    place: str = ""


def images_of(target: Target, root: Path = ROOT) -> Path:
    """The folder of a virtual board's image; its `share` is the guest's folder on this machine."""
    return root / "out" / "boards" / target.name


def prepare(
    target: Target,
    local: LocalSettings,
    *,
    coordinator: str | None = None,
    environ: Mapping[str, str] = os.environ,
    root: Path = ROOT,
) -> Prepared:
    """Write out/hil/NAME/labgrid.yaml, and say what labgrid must find in its process environment.

    :param coordinator: HOST:PORT of labgrid's coordinator, for a board that it lends
    :param environ: where passwords are looked up
    :raises SettingsError: a board without an address, a variable that is not set, an image that was not built
    """
    board = local.board(target.name)
    if coordinator is not None and target.virtual is not None:
        raise SettingsError(f"--coordinator: found {target.name!r}, expected a real board; virtual ones run here")
    if target.virtual is not None:
        values = _virtual(target, root)
    elif coordinator is not None:
        values = _place(target, board, coordinator)
    else:
        values = _desk(target, board)
    username = board.username or target.users.login
    values |= {
        "USERNAME": username,
        "PROMPT": _prompt(target, username),
        "LOGIN_PROMPT": target.console.login_prompt,
        "KEY_FILE": board.key_file or "",
    }
    source = PLACE_FILE if coordinator is not None else TARGETS / target.name / ENVIRONMENT_FILE
    file = root / "out" / "hil" / target.name / ENVIRONMENT_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, fill(source, values))
    variables = {
        "LG_ENV": str(file),
        "LG_FEATLINK_PASSWORD": _password(target, board, environ),
        "FEATLINK_BOARD": target.name,
        "FEATLINK_SSH_PORT": values.get("SSH_PORT", ""),
    }
    if coordinator is not None:
        variables["LG_COORDINATOR"] = coordinator
    manual = values.get("POWER_DRIVER") == _POWER_DRIVERS["manual"]
    return Prepared(file, variables, int(values.get("SSH_PORT", board.ssh_port)), manual, values.get("PLACE", ""))


def fill(source: Path, values: Mapping[str, str]) -> str:
    """A labgrid.yaml with its ${NAMES} filled in; they stand in single quotes, or are numbers, names and JSON.

    :raises SettingsError: a name that nothing is known for, or a value with quotes or line ends
    """
    for key, value in values.items():
        if re.search(r"['\x00-\x1f]", value):
            raise SettingsError(f"{source}: {key}: found {value!r}, expected text without ' and line ends")
    try:
        return Template(source.read_text(encoding="utf-8")).substitute(values)
    except OSError as error:
        raise SettingsError(f"{source}: {error.strerror or error}") from None
    except KeyError as error:
        raise SettingsError(f"{source}: found ${{{error.args[0]}}}, expected one of {', '.join(values)}") from None
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None


def _prompt(target: Target, username: str) -> str:
    """The prompt of whoever logs in: target.toml's begins with its own user, and ends as that user's does."""
    before = f"{target.users.login}@"
    prompt = target.console.prompt
    if username == target.users.login or before not in prompt:
        return prompt
    prompt = prompt.replace(before, f"{username}@", 1)
    return re.sub(r"(\\\$|#) $", "[$#] ", prompt)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on. Another process may take it before QEMU does: then run again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _virtual(target: Target, root: Path) -> dict[str, str]:
    images = images_of(target, root)
    missing = [name for name in IMAGE_FILES if not (images / name).is_file()]
    if missing:
        expected = f"a board's image; python -m hil board-image --board {target.name}"
        raise SettingsError(f"{images}: found no {', '.join(missing)}, expected {expected}")
    # The path is part of QEMU's arguments, which labgrid splits like a shell and QEMU at commas.
    if re.search(r"[\s,\"\\]", str(images)):
        raise SettingsError(f"{images}: expected a path without spaces, commas, quotes and backslashes")
    (images / "share").mkdir(exist_ok=True)
    return {
        "IMAGES": str(images),
        "SSH_PORT": str(free_port()),
        "CPU": target.system.cpu,
        "CORES": str(target.system.cores),
        "MEMORY_MIB": str(target.system.memory_mib),
        "CONSOLE_DEVICE": target.console.device,
    }


def _desk(target: Target, board: DeskBoard) -> dict[str, str]:
    if board.address is None:
        expected = f"the board's address in hil/local.toml, [boards.{target.name}] address"
        raise SettingsError(f"board {target.name}: found no address, expected {expected}")
    power = board.power
    kind = power.kind if power else target.power.kind
    if kind == "network" and (power is None or power.host is None):
        expected = f"model and host of the switch in hil/local.toml, [boards.{target.name}.power]"
        raise SettingsError(f"board {target.name}: found no power switch, expected {expected}")
    console: dict[str, str | int] = {"port": board.console, "speed": target.console.speed}
    protocol, _, where = board.console.partition("://")
    if where:
        host, _, port = where.rpartition(":")
        console |= {"protocol": protocol, "host": host, "port": int(port)}
    return {
        "ADDRESS": board.address,
        "SSH_PORT": str(board.ssh_port),
        "CONSOLE_CLASS": "NetworkSerialPort" if where else "RawSerialPort",
        "CONSOLE": json.dumps(console),
        "POWER_DRIVER": _POWER_DRIVERS[kind],
        "POWER_MODEL": (power and power.model) or "",
        "POWER_HOST": (power and power.host) or "",
        "POWER_INDEX": str(power.index if power else 0),
    }


def _place(target: Target, board: DeskBoard, coordinator: str) -> dict[str, str]:
    if not re.fullmatch(r"[\w.:\[\]-]+", coordinator):
        raise SettingsError(f"--coordinator: found {coordinator!r}, expected HOST or HOST:PORT")
    kind = board.power.kind if board.power else "network"
    return {
        "COORDINATOR": coordinator,
        "PLACE": board.place or target.name,
        "POWER_DRIVER": _POWER_DRIVERS[kind],
    }


_POWER_DRIVERS = {"manual": "ManualPowerDriver", "network": "NetworkPowerDriver"}


def _password(target: Target, board: DeskBoard, environ: Mapping[str, str]) -> str:
    if board.password_env is None:
        return target.users.factory_password or ""
    if board.password_env not in environ:
        where = f"hil/local.toml: [boards.{target.name}] password_env"
        raise SettingsError(f"{where}: found no variable {board.password_env} in the environment, expected one")
    return environ[board.password_env]
