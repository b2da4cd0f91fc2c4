"""The fields of a target.toml: what a kind of board can do, as frozen dataclasses that are checked once.

docs/targets.md says the same for people, field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from featlink_codec.extractor.fields import Choice, FieldError, Integer, Many, Text, check_fields, read_table, refuse
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits

FORMAT_VERSION = 1

#: The encoder back ends; the first two are reached through device nodes.
NODE_BACKENDS = ("v4l2", "libv4l2")
BACKENDS = (*NODE_BACKENDS, "rkmpp", "x265")
#: How a back end is told a constant QP.
QP_CONTROLS = {"v4l2": "hevc-qp-controls", "libv4l2": "init-frame-qp", "rkmpp": "cqp", "x265": "x265-qp"}
#: Highest QP of HEVC's 8-bit video; some hardware takes more.
_MAX_QP = 63


@dataclass(frozen=True)
class System:
    """[system]: the processor, and what must be on the board before featlink is."""

    TABLE: ClassVar[str] = "system"

    #: as Debian and manylinux say it
    architecture: Annotated[str, Choice("aarch64", "armhf", "x86_64")]
    cpu: Annotated[str, Text()]
    cores: Annotated[int, Integer(1, 256)]
    memory_mib: Annotated[int, Integer(64, 1 << 20)]
    #: oldest interpreter that featlink finds there
    python: Annotated[str, Text("a Python version from '3.10' on", r"3\.[1-9]\d")]
    #: oldest C library; decides which wheels fit
    glibc: Annotated[str, Text("a glibc version such as '2.31'", r"2\.\d+")]
    #: ONNX Runtime's execution providers, in the order of trial
    providers: Annotated[tuple[str, ...], Many(Text("a provider", r"[A-Z]\w*ExecutionProvider"), 0, 8)]

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Encoder:
    """[[encoders]]: one HEVC encoder back end; they stand in the order of trial."""

    TABLE: ClassVar[str] = "encoders"

    backend: Annotated[str, Choice(*BACKENDS)]
    qp_control: Annotated[str, Choice(*QP_CONTROLS.values())]
    #: what its buffers take; None for x265, whose limits the codec knows
    limits: EncoderLimits | None = None
    min_qp: Annotated[int, Integer(0, _MAX_QP)] = 0
    max_qp: Annotated[int, Integer(0, _MAX_QP)] = 51
    #: V4L2's name of the coded format, where it is reached through V4L2
    fourcc: Annotated[str | None, Choice("HEVC", "H265")] = None
    #: device files in the order of trial, * for any number
    nodes: Annotated[tuple[str, ...], Many(Text("an absolute path", r"/[\w./*-]+"), 0, 8)] = ()

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        if self.qp_control != QP_CONTROLS[self.backend]:
            raise refuse(self, "qp_control", f"{QP_CONTROLS[self.backend]!r} where backend is {self.backend!r}")
        if self.min_qp > self.max_qp:
            raise refuse(self, "max_qp", f"at least min_qp, {self.min_qp}")
        if (self.backend == "x265") != (self.limits is None):
            expected = "nothing, since the codec knows x265's" if self.limits else "a table [encoders.limits]"
            raise FieldError(self.TABLE, "limits", "a table" if self.limits else "nothing", expected)
        if (self.backend in NODE_BACKENDS) != (self.fourcc is not None):
            raise refuse(self, "fourcc", "nothing outside of V4L2" if self.fourcc else "'HEVC' or 'H265'")
        if self.backend in NODE_BACKENDS and not self.nodes:
            raise refuse(self, "nodes", "at least one device file")

    @property
    def takes(self) -> EncoderLimits:
        """The pictures that it takes; of x265 those with luma alone."""
        return self.limits or X265_LIMITS["400"]


@dataclass(frozen=True)
class ConsoleSettings:
    """[console]: the serial console."""

    TABLE: ClassVar[str] = "console"

    #: its name on the board
    device: Annotated[str, Text("a device name such as 'ttyS0'", r"tty\w+")]
    #: baud
    speed: Annotated[int, Choice(9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1500000)]
    #: regular expressions
    prompt: Annotated[str, Text("a regular expression without a '", r"[^'\x00-\x1f]+")]
    login_prompt: Annotated[str, Text("a regular expression without a '", r"[^'\x00-\x1f]+")] = r"[\w.-]+ login: "

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Users:
    """[users]: who logs in."""

    TABLE: ClassVar[str] = "users"

    #: runs featlink and the tests, on the console and over SSH
    login: Annotated[str, Text("a user name", r"[a-z_][\w-]*")]
    #: of the image as it is delivered, where one is publicly known; never a secret
    factory_password: Annotated[str | None, Text()] = None

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Power:
    """[power]: how it is switched off and on when nobody says otherwise (hil/local.toml may)."""

    TABLE: ClassVar[str] = "power"

    kind: Annotated[str, Choice("manual", "network", "qemu")]

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Provisioning:
    """[provisioning]: what makes a freshly flashed board a camera, as root, in this order."""

    TABLE: ClassVar[str] = "provisioning"

    #: of the board's own distribution, installed first
    packages: Annotated[tuple[str, ...], Many(Text("a package name", r"[a-z0-9][a-z0-9.+-]*"), 0, 64)] = ()
    #: shell lines; the working directory holds featlink's wheels
    commands: Annotated[tuple[str, ...], Many(Text(), 0, 64)] = ()

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Flash:
    """[flash]: how the operating system gets onto the board. Text for people: nothing runs it."""

    TABLE: ClassVar[str] = "flash"

    tool: Annotated[str, Text()]
    steps: Annotated[tuple[str, ...], Many(Text(), 1, 64)]

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Virtual:
    """[virtual]: a machine of QEMU that stands in for a board."""

    TABLE: ClassVar[str] = "virtual"

    #: what /proc/device-tree/model says
    model: Annotated[str, Text("a name that ends in '(virtual)'", r"[ -~]+ \(virtual\)")]
    #: name of the target that it stands for
    stands_for: Annotated[str, Text()]

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)


@dataclass(frozen=True)
class Target:
    """target.toml, a field a table."""

    name: Annotated[str, Text("lower-case letters, digits and -", r"[a-z0-9]+(-[a-z0-9]+)*")]
    description: Annotated[str, Text()]
    system: System
    encoders: tuple[Encoder, ...]
    console: ConsoleSettings
    users: Users
    power: Power
    flash: Flash
    provisioning: Provisioning = field(default_factory=Provisioning)
    virtual: Virtual | None = None
    #: fields and tables whose values come from documents and were never seen on a board, see `confirmed`
    unconfirmed: Annotated[tuple[str, ...], Many(Text(), 0, 256)] = ()
    format_version: Annotated[int, Choice(FORMAT_VERSION)] = FORMAT_VERSION

    def __post_init__(self) -> None:
        """:raises FieldError: fields that do not fit, or not together."""
        check_fields(self)
        if not self.encoders:
            raise FieldError("", "encoders", "none", "at least one [[encoders]] table")
        if len({encoder.backend for encoder in self.encoders}) < len(self.encoders):
            raise FieldError("", "encoders", "a backend twice", "every backend once")
        if (self.power.kind == "qemu") != (self.virtual is not None):
            expected = "'manual' or 'network' without [virtual]" if self.virtual is None else "'qemu' beside [virtual]"
            raise FieldError("power", "kind", repr(self.power.kind), expected)


_TABLES: dict[str, type] = {
    "system": System,
    "console": ConsoleSettings,
    "users": Users,
    "power": Power,
    "flash": Flash,
    "provisioning": Provisioning,
    "virtual": Virtual,
}


def read_target(data: Mapping[str, Any]) -> Target:
    """The target that the tables of a parsed target.toml hold.

    :raises SettingsError: a field that does not fit; mostly FieldError, with table, key, found and expected
    """
    tables: dict[str, Any] = {key: read_table(kind, data[key], key) for key, kind in _TABLES.items() if key in data}
    if "encoders" in data:
        if not isinstance(data["encoders"], list):
            raise FieldError("", "encoders", "one table", "an array of tables, [[encoders]]")
        tables["encoders"] = tuple(_encoder(item, f"encoders[{k}]") for k, item in enumerate(data["encoders"]))
    return read_table(Target, dict(data), "", tables)


def _encoder(data: object, table: str) -> Encoder:
    more: dict[str, Any] = {}
    if isinstance(data, Mapping) and "limits" in data:
        limits = data["limits"]
        if not isinstance(limits, Mapping) or "name" in limits:
            found = "a key 'name'" if isinstance(limits, Mapping) else "no table"
            raise FieldError(table, "limits", found, "a table of limits; their name is the backend's")
        more["limits"] = EncoderLimits.from_dict({"name": str(data.get("backend")), **limits}, f"[{table}.limits]")
    return read_table(Encoder, data, table, more)
