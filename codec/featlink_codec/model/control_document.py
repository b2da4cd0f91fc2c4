"""The text of the control data: a JSON array, an object a line, the deeper the later; read only as deep as asked.

The first line is the head: the identities, and of each level its number, its bytes and a check. A reader takes the
lines up to the level that it wants and never looks at the rest. Units are found by offsets that count from the end of
the unit that holds this text, so that the text does not depend on its own length.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

from ..errors import SettingsError, StreamError
from .budget import Budget
from .control_data import DataSet, LayerLevel, ModelInfo, Topology
from .fields import FieldError, Fields, Json, packed, parse
from .tensor_level import TensorLevel

#: What the text begins with; the number is the version of the layout.
MAGIC = b'[{"control_data":1,'
#: What base_model_id of the parameter set begins with in streams that have control data; the identity of the model, or
#: of the model that an update is for, comes behind it. Without, a damaged text would pass for somebody else's.
MODEL_ID = "featlink:"
#: The head ends within so many bytes.
MAX_HEAD = 2048
#: Hexadecimal digits of a level's check, from its SHA-256.
CHECK_DIGITS = 16
LEVELS = (TensorLevel, LayerLevel, Topology, ModelInfo, DataSet)


class _Level(Protocol):
    def json(self) -> dict[str, Json]: ...


@dataclass(frozen=True)
class Head:
    """The first line.

    :param model: identity of the model; of an update: of the update alone
    :param base: of an update: identity of the model that it is for. It stands in the parameter set, not in the line
    :param result: of an update: `identity.values_sha256` of the tensors that it leads to
    :param levels: number, bytes and check of each level
    """

    model: str
    result: str | None = None
    levels: tuple[tuple[int, int, str], ...] = ()
    base: str | None = None

    def json(self) -> Json:
        """Its object."""
        found: dict[str, Json] = {"control_data": 1, "model": packed(self.model)}
        if self.result is not None:
            found["result"] = packed(self.result)
        return found | {"levels": [list(level) for level in self.levels]}


def write(
    tensors: TensorLevel,
    layers: LayerLevel | None,
    model: str,
    *,
    result: str | None = None,
    topology: Topology | None = None,
    info: ModelInfo | None = None,
    data_set: DataSet | None = None,
) -> str:
    """The whole text."""
    levels: tuple[_Level | None, ...] = (tensors, layers, topology, info, data_set)
    lines, table = [], []
    for number, level in enumerate(levels, 1):
        if level is not None:
            line = _dump({"level": number} | level.json())
            table.append((number, len(line), _check(line.encode())))
            lines.append(line)
    head = _dump(Head(model, result, tuple(table)).json())
    return "[" + ",\n".join([head, *lines]) + "]"


class ControlDocument:
    """Reads the text, a level at a time, each once.

    :param text: the bytes of the text; nothing is copied
    :param offset: of the text in the stream
    :raises StreamError: ``bad-control``: the head is not what it should be
    """

    def __init__(self, text: memoryview, offset: int, budget: Budget) -> None:
        self._text = text
        self.offset = offset
        self._budget = budget
        line = bytes(text[:MAX_HEAD]).partition(b"\n")[0]
        self._begin = len(line) + 1
        self.head = self._read_head(line)
        self._levels: dict[int, object] = {}

    @staticmethod
    def is_one(text: memoryview) -> bool:
        """Whether a text is control data, rather than somebody else's."""
        return bytes(text[: len(MAGIC)]) == MAGIC

    def _read_head(self, line: bytes) -> Head:
        try:
            if not line.endswith((b",", b"]")):
                raise FieldError(f"no end of the line within {MAX_HEAD} bytes")
            io = Fields(parse(line[1:-1]), "head")
            levels = []
            for number, entry in enumerate(io.list("levels")):
                match entry:
                    case [int(level), int(size), str(check)] if 1 <= level <= len(LEVELS) and size > 0:
                        levels.append((level, size, check))
                    case _:
                        raise FieldError(f"{io.way(f'levels[{number}]')}: expected a level, its bytes and its check")
            numbers = [level for level, _, _ in levels]
            if numbers != sorted(set(numbers)):
                raise FieldError(f"{io.way('levels')}: the levels {numbers} do not rise")
            return Head(
                io.digest("model"),
                io.digest("result") if io.has("result") else None,
                tuple(levels),
            )
        except FieldError as error:
            raise StreamError("bad-control", self.offset, str(error)) from None

    def _level(self, number: int) -> object | None:
        """A level, or None where the text does not have it."""
        if number in self._levels:
            return self._levels[number]
        begin = self._begin
        for level, size, check in self.head.levels:
            if level == number:
                found = self._levels[number] = self._read_level(number, begin, size, check)
                return found
            begin += size + 2
        return None

    def _read_level(self, number: int, begin: int, size: int, check: str) -> object:
        at = self.offset + min(begin, len(self._text))
        if begin + size > len(self._text):
            text = f"level {number} of {size} bytes, of which {max(0, len(self._text) - begin)} are there"
            raise StreamError("bad-control", at, text)
        line = bytes(self._text[begin : begin + size])
        try:
            if _check(line) != check:
                raise FieldError(f"its check is {_check(line)}, expected {check!r}")
            return LEVELS[number - 1].parse(Fields(parse(line), ""), self._budget)
        except FieldError as error:
            raise StreamError("bad-control", at, f"level {number}: {error}") from None

    @property
    def tensors(self) -> TensorLevel:
        """Level 1: tensors, versions and supplements."""
        found = self._level(1)
        return found if isinstance(found, TensorLevel) else TensorLevel()

    @property
    def layers(self) -> LayerLevel:
        """Level 2: layers."""
        found = self._level(2)
        return found if isinstance(found, LayerLevel) else LayerLevel()

    @property
    def topology(self) -> Topology | None:
        """Level 3: the graph."""
        found = self._level(3)
        return found if isinstance(found, Topology) else None

    @property
    def model(self) -> ModelInfo | None:
        """Level 4: the model."""
        found = self._level(4)
        return found if isinstance(found, ModelInfo) else None

    @property
    def data_set(self) -> DataSet | None:
        """Level 5: the data set."""
        found = self._level(5)
        return found if isinstance(found, DataSet) else None


def _check(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:CHECK_DIGITS]


def _dump(value: Json) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the control data cannot be written as JSON: {error}") from None
