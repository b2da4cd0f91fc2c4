"""What a search has found so far, in a file beside its result: an interrupted search goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from featlink_codec.files import write_whole


class Notes:
    """Figures by name, kept in a file as soon as they are known.

    :param path: the file; None keeps them in memory alone
    :param key: of everything that the figures follow from: a file of another key is begun anew
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = path
        self._key = key
        self._found: dict[str, Any] = {}
        if path is not None and path.exists():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
                if known["key"] == key and isinstance(known["found"], dict):
                    self._found = known["found"]
            except (ValueError, KeyError, TypeError):
                self._found = {}

    def get(self, name: str) -> Any:
        """What was found, None where nothing was."""
        return self._found.get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep a finding."""
        self._found[name] = value
        if self._path is not None:
            write_whole(self._path, json.dumps({"key": self._key, "found": self._found}))

    def done(self) -> None:
        """The search is over: the file goes."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def key_of(parts: Iterable[object]) -> str:
    """A hash of arrays, bytes and whatever has a text."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
        else:
            raw = part if isinstance(part, bytes) else repr(part).encode()
            found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()
