"""hil/local.toml: the boards on this desk. Not kept in git; it names environment variables, and holds no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from featlink_codec.errors import SettingsError
from featlink_codec.extractor.fields import Choice, FieldError, Integer, Text, check_fields, read_table, refuse

from .targets import ALIASES, ROOT, read_toml, target_names

LOCAL_FILE = ROOT / "hil" / "local.toml"

_PLAIN = Text("text without spaces, quotes or backslashes", r"[^\s'\"\\]+")
_VARIABLE = Text("the name of an environment variable", r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class PowerSwitch:
    """[boards.NAME.power]: the switch that the board hangs on."""

    TABLE: ClassVar[str] = "power"

    kind: Annotated[str, Choice("manual", "network")] = "network"
    #: labgrid's name of the switch's protocol (NetworkPowerPort), e.g. shelly_gen2
    model: Annotated[str | None, Text("one of labgrid's power back ends", r"[a-z][a-z0-9_]*")] = None
    host: Annotated[str | None, _PLAIN] = None
    #: number of the outlet
    index: Annotated[int, Integer(0, 255)] = 0

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        if (self.model is None) != (self.host is None):
            raise refuse(self, "host", "model and host, or neither where a coordinator knows the switch")


@dataclass(frozen=True)
class DeskBoard:
    """[boards.NAME]: one board; NAME is a target's."""

    TABLE: ClassVar[str] = "boards"

    address: Annotated[str | None, _PLAIN] = None
    ssh_port: Annotated[int, Integer(1, 65535)] = 22
    #: in the place of [users] login
    username: Annotated[str | None, Text("a user name", r"[a-z_][\w-]*")] = None
    #: SSH's private key; without it SSH uses its agent and its own files
    key_file: Annotated[str | None, _PLAIN] = None
    #: environment variable that holds the console's password
    password_env: Annotated[str | None, _VARIABLE] = None
    #: serial console: a device file here, or rfc2217://HOST:PORT or raw://HOST:PORT
    console: Annotated[
        str,
        Text("a device file, rfc2217://HOST:PORT or raw://HOST:PORT", r"/[\w./:+-]+|(rfc2217|raw)://[\w.-]+:\d{1,5}"),
    ] = "/dev/ttyUSB0"
    #: its place at labgrid's coordinator; without it the target's name
    place: Annotated[str | None, _PLAIN] = None
    power: PowerSwitch | None = None

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class LocalSettings:
    """What hil/local.toml says; everything has a default, and so has the file."""

    #: alias to target, the shipped ones included
    aliases: Mapping[str, str] = field(default_factory=lambda: dict(ALIASES))
    boards: Mapping[str, DeskBoard] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path = LOCAL_FILE) -> LocalSettings:
        """The settings of a file; the defaults where there is none.

        :raises SettingsError: not TOML, or a field that does not fit: file, table, key, found, expected
        """
        if not file.exists():
            return cls()
        try:
            return cls.from_dict(read_toml(file))
        except FieldError as error:
            raise SettingsError(f"{file}: {error}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LocalSettings:
        """The settings of a parsed file (FieldError)."""
        tables = read_table(_Tables, dict(data), "")
        names = Choice(*target_names())
        aliases, boards = dict(ALIASES), {}
        for key, name in tables.aliases.items():
            if names.take(name) != name:
                raise FieldError("aliases", key, repr(name), names.expected)
            aliases[key] = name
        for name, table in tables.boards.items():
            where = f"boards.{name}"
            if names.take(name) != name:
                raise FieldError("boards", name, "a board of an unknown target", names.expected)
            more = {}
            if isinstance(table, Mapping) and "power" in table:
                more["power"] = read_table(PowerSwitch, table["power"], f"{where}.power")
            boards[name] = read_table(DeskBoard, table, where, more)
        return cls(aliases, boards)

    def board(self, name: str) -> DeskBoard:
        """What is known of the board of a target."""
        return self.boards.get(name, DeskBoard())


@dataclass(frozen=True)
class _Tables:
    aliases: Mapping[str, Any] = field(default_factory=dict)
    boards: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("aliases", "boards"):
            if not isinstance(getattr(self, key), Mapping):
                raise refuse(self, key, "a table")
