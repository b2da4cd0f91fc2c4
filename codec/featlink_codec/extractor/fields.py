"""Checked fields: a settings class says what each field may hold, and that one line reads, checks and writes it.

A field is ``Annotated[type, rule]``. `check_fields` runs the rules of an instance (from ``__post_init__``, so that no
unchecked settings exist), `read_table` builds an instance from a TOML table, `write_table` gives the table back.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import reprlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints

from ..errors import SettingsError

T = TypeVar("T")

#: What a rule's `take` gives back for a value that it refuses.
REFUSED = object()

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class FieldError(SettingsError):
    """One field that does not fit.

    :param table: name of the TOML table, e.g. ``video`` or ``maps[0].packing``; empty for the top of the file
    :param key: name of the key in it
    :param found: what stands there, as text
    :param expected: what may stand there, as text
    """

    def __init__(self, table: str, key: str, found: str, expected: str) -> None:
        super().__init__(f"{f'[{table}] ' if table else ''}{key}: found {found}, expected {expected}")
        self.table = table
        self.key = key
        self.found = found
        self.expected = expected


class Rule(Protocol):
    """What a field may hold."""

    @property
    def expected(self) -> str:
        """The rule in words, for messages: "an integer 0..7"."""

    def take(self, value: Any) -> Any:
        """The value as it is kept, or REFUSED."""


@dataclass(frozen=True)
class Text:
    """A non-empty string, of a pattern where one is given (`words` says it in words)."""

    words: str = "a non-empty string"
    pattern: str = r"(?s).+"

    @property
    def expected(self) -> str:
        """In words."""
        return self.words

    def take(self, value: Any) -> Any:
        """The string itself."""
        return value if isinstance(value, str) and re.fullmatch(self.pattern, value) else REFUSED


#: The name of a file in the extractor's own folder: nothing in an extractor points outside of it.
FILE_NAME = Text("the plain name of a file in the same folder", r"(?!\.{1,2}$)[^/\\\x00-\x1f:]+")
SHA256 = Text("64 lower-case hexadecimal digits", r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Choice:
    """One of a few values of one type."""

    values: tuple[str | int, ...]

    def __init__(self, *values: str | int) -> None:
        object.__setattr__(self, "values", values)

    @property
    def expected(self) -> str:
        """In words."""
        words = [repr(value) for value in self.values]
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    def take(self, value: Any) -> Any:
        """The value itself; True is not 1 here."""
        return value if any(type(value) is type(choice) and value == choice for choice in self.values) else REFUSED


@dataclass(frozen=True)
class Flag:
    """True or false."""

    expected: ClassVar[str] = "true or false"

    def take(self, value: Any) -> Any:
        """The value itself."""
        return value if isinstance(value, bool) else REFUSED


@dataclass(frozen=True)
class Integer:
    """An integer within limits, both included."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        """In words."""
        return f"an integer {self.low}..{self.high}"

    def take(self, value: Any) -> Any:
        """The integer itself."""
        good = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return value if good else REFUSED


@dataclass(frozen=True)
class Number:
    """A finite number; `above` is excluded, `low` and `high` are included.

    :param single: the value is rounded to binary32 once, here, so that both ends and the wire hold the same one
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    single: bool = False

    @property
    def expected(self) -> str:
        """In words."""
        limits = [f"above {self.above:g}"] if self.above > -math.inf else []
        limits += [f"at least {self.low:g}"] if self.low > -math.inf else []
        limits += [f"at most {self.high:g}"] if self.high < math.inf else []
        kind = "a finite number" + (" that binary32 can hold" if self.single else "")
        return " ".join([kind, " and ".join(limits)]).rstrip()

    def take(self, value: Any) -> Any:
        """The number as a float."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return REFUSED
        try:
            number = float(value)
            if self.single:
                number = struct.unpack("<f", struct.pack("<f", number))[0]
        except OverflowError:
            return REFUSED
        return number if math.isfinite(number) and number > self.above and self.low <= number <= self.high else REFUSED


@dataclass(frozen=True)
class Many:
    """A list of one kind of item, kept as a tuple."""

    item: Rule
    low: int
    high: int

    @property
    def expected(self) -> str:
        """In words."""
        count = f"{self.low}" if self.low == self.high else f"{self.low}..{self.high}"
        return f"a list of {count} items, each {self.item.expected}"

    def take(self, value: Any) -> Any:
        """The items as a tuple."""
        if not isinstance(value, (list, tuple)) or not self.low <= len(value) <= self.high:
            return REFUSED
        items = tuple(self.item.take(item) for item in value)
        return REFUSED if any(item is REFUSED for item in items) else items


def _layout(cls: type) -> dict[str, tuple[Any, Rule | None]]:
    """Of each field: its type and its rule; a field without a rule is a table of its own."""
    hints = get_type_hints(cls, include_extras=True)
    found: dict[str, tuple[Any, Rule | None]] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        found[field.name] = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    return found


def _table(settings: object) -> str:
    return str(getattr(settings, "TABLE", ""))


def refuse(settings: object, key: str, expected: str) -> FieldError:
    """The error for a field whose value does not fit beside its neighbours."""
    return FieldError(_table(settings), key, _short.repr(getattr(settings, key)), expected)


def check_fields(settings: Any) -> None:
    """Run every field's rule on a dataclass instance; values are kept as the rules give them back (FieldError)."""
    for key, (kind, rule) in _layout(type(settings)).items():
        value = getattr(settings, key)
        if rule is None or (value is None and type(None) in get_args(kind)):
            continue
        kept = rule.take(value)
        if kept is REFUSED:
            raise FieldError(_table(settings), key, _short.repr(value), rule.expected)
        object.__setattr__(settings, key, kept)


def read_table(cls: type[T], data: object, table: str, more: Mapping[str, Any] | None = None) -> T:
    """An instance of `cls` from a TOML table.

    :param table: the table's name for messages
    :param more: fields that the caller has read already (tables inside this one)
    :raises FieldError: unknown or missing keys, and what the rules and the class refuse
    """
    known = dataclasses.fields(cls)  # type: ignore[arg-type]
    more = more or {}
    if not isinstance(data, dict):
        raise FieldError("", table, _short.repr(data), "a table")
    names = [field.name for field in known]
    for key in data:
        if key not in names:
            raise FieldError(table, key, "an unknown key", _nearest(key, names))
    for field in known:
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in data and field.name not in more:
            rule = _layout(cls)[field.name][1]
            raise FieldError(table, field.name, "nothing", rule.expected if rule else "a table")
    try:
        return cls(**{**data, **more})
    except FieldError as error:
        own = getattr(cls, "TABLE", "")
        where = table + error.table[len(own) :] if own and error.table.startswith(own) else error.table
        raise FieldError(where, error.key, error.found, error.expected) from None


def _nearest(key: str, names: Sequence[str]) -> str:
    """Which key was probably meant."""
    near = difflib.get_close_matches(key, names, n=1)
    return repr(near[0]) if near else f"one of {', '.join(names)}"


def write_table(settings: Any) -> dict[str, Any]:
    """The TOML table of a dataclass instance: tuples as lists, what is None left out."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            value = write_table(value)
        elif isinstance(value, tuple):
            value = [write_table(item) if dataclasses.is_dataclass(item) else item for item in value]
        table[field.name] = value
    return table
