"""Which facts of a target were seen on a board, and which only in documents.

A fact has a dotted name, as in TOML: ``console.speed``, ``encoders.0.limits.max_width``. A name in `unconfirmed` may
also be a table's; it then marks every fact below it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any

from featlink_codec.extractor.fields import FieldError

from .target_fields import Target

#: Fields that say what a file is, or what is wanted, not how a board is.
_NOT_FACTS = {"name", "description", "unconfirmed", "format_version", "stands_for"}


def facts_of(target: Target) -> dict[str, Any]:
    """Every fact by its dotted name, in the order of the fields; lists of values are one fact."""
    return dict(_facts(target, ""))


def _facts(settings: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if field.name in _NOT_FACTS or value is None or value == ():
            continue
        if dataclasses.is_dataclass(value):
            yield from _facts(value, name + ".")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for index, item in enumerate(value):
                yield from _facts(item, f"{name}.{index}.")
        else:
            yield name, value


def unconfirmed_facts(target: Target) -> list[str]:
    """The facts that `unconfirmed` marks, alone or by their table."""
    return [
        fact
        for fact in facts_of(target)
        if any(fact == name or fact.startswith(name + ".") for name in target.unconfirmed)
    ]


def check_unconfirmed(target: Target) -> None:
    """Every name in `unconfirmed` is that of a fact or of a table with facts, and stands there once (FieldError)."""
    facts = list(facts_of(target))
    tables = {fact[:k] for fact in facts for k in range(len(fact)) if fact[k] == "."}
    known = [*facts, *sorted(tables)]
    seen: set[str] = set()
    for name in target.unconfirmed:
        if name in seen:
            raise FieldError("", "unconfirmed", f"{name!r} again", "every name once")
        seen.add(name)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            expected = repr(near[0]) if near else "the dotted name of a field or table of this file"
            raise FieldError("", "unconfirmed", repr(name), expected)
