"""Reads the members of a JSON object that nobody has checked yet, and says exactly which one is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NoReturn

Json = Any


#: Numbers below this round to finite ones in binary32.
BINARY32_LIMIT = (2 - 2.0**-24) * 2.0**127


class FieldError(Exception):
    """A member is not what it should be; the text begins with the way to it."""


def parse(text: str | bytes) -> Json:
    """The value of a JSON text; only what JSON has.

    :raises FieldError: it is not JSON
    """

    def constant(name: str) -> NoReturn:
        raise FieldError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"not JSON: {error}") from None


class Fields:
    """A JSON object at a place in a document.

    :param value: what should be an object
    :param where: the way to it, e.g. ``tensors[3]``
    """

    def __init__(self, value: Json, where: str) -> None:
        self._where = where
        if not isinstance(value, dict):
            self._refuse("", value, "an object")
        self._members: dict[str, Json] = value

    def _refuse(self, name: str, found: Json, expected: str) -> NoReturn:
        shown = json.dumps(found)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise FieldError(f"{self.way(name)}: found {shown}, expected {expected}")

    def way(self, name: str) -> str:
        """The way to a member."""
        return ".".join(part for part in (self._where, name) if part)

    def has(self, name: str) -> bool:
        """Whether the member is there."""
        return name in self._members

    def text(self, name: str, default: str | None = None) -> str:
        """A string that UTF-8 can hold."""
        found = self._members.get(name, default)
        if not isinstance(found, str) or any(0xD800 <= ord(c) < 0xE000 for c in found):
            self._refuse(name, found, "text")
        return found

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number within bounds."""
        found = self._members.get(name, default)
        if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
            self._refuse(name, found, f"a whole number from {low} to {high}")
        return found

    def boolean(self, name: str, default: bool = False) -> bool:
        """true or false."""
        found = self._members.get(name, default)
        if not isinstance(found, bool):
            self._refuse(name, found, "true or false")
        return found

    def digest(self, name: str) -> str:
        """A SHA-256, in hexadecimal; see `packed`."""
        found = self.text(name, "")
        if (digest := unpacked(found)) is None:
            self._refuse(name, found, "a SHA-256 in 43 letters of base64url")
        return digest

    def list(self, name: str) -> list[Json]:
        """A list, empty where it is not there."""
        found = self._members.get(name, [])
        if not isinstance(found, list):
            self._refuse(name, found, "a list")
        return found

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers within bounds."""
        found = self.list(name)
        if not all(isinstance(k, int) and not isinstance(k, bool) and low <= k <= high for k in found):
            self._refuse(name, found, f"whole numbers from {low} to {high}")
        return tuple(found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers that binary32 can hold."""
        found = self.list(name)
        if not all(isinstance(k, (int, float)) and not isinstance(k, bool) and abs(k) < BINARY32_LIMIT for k in found):
            self._refuse(name, found, "numbers")
        return tuple(float(k) for k in found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        found = self.list(name)
        if not all(isinstance(text, str) and not any(0xD800 <= ord(c) < 0xE000 for c in text) for text in found):
            self._refuse(name, found, "a list of text")
        return tuple(found)

    def objects(self, name: str) -> Iterator[Fields]:
        """A list of objects."""
        for number, value in enumerate(self.list(name)):
            yield Fields(value, self.way(f"{name}[{number}]"))

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self._members.get(name), self.way(name))

    def free(self, name: str) -> dict[str, Json]:
        """An object whose members are nobody's concern here; empty where it is not there."""
        found = self._members.get(name, {})
        if not isinstance(found, dict):
            self._refuse(name, found, "an object")
        return found


def packed(digest: str) -> str:
    """A hexadecimal SHA-256 as it stands in the document: base64url, a third shorter."""
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


def unpacked(text: str) -> str | None:
    """Undo `packed`; None for any other text."""
    try:
        digest = base64.urlsafe_b64decode(text + "=").hex()
    except ValueError:
        return None
    return digest if len(digest) == 64 and packed(digest) == text else None


def sparse(**members: Json) -> dict[str, Json]:
    """The members that say something."""
    return {name: value for name, value in members.items() if value not in (None, False, 0, "", [], {})}


def member(kind: type[Any], io: Fields, name: str, default: str | None = None) -> Any:
    """A word of an enumeration."""
    found = io.text(name, default)
    try:
        return kind(found)
    except ValueError:
        words = ", ".join(member.value for member in kind)
        raise FieldError(f"{io.way(name)}: found {found!r}, expected one of {words}") from None


def unique(where: str, names: list[str]) -> set[str]:
    """The names, none of which stands twice."""
    known: set[str] = set()
    for name in names:
        if name in known:
            raise FieldError(f"{where}: {name!r} stands twice")
        known.add(name)
    return known
