"""The control data of a model stream edited as what it is: JSON with a head that has the lengths and checks."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from base64 import b85encode
from collections.abc import Sequence
from typing import Any

from model_framing import body, framed, kind_of

from featlink_codec.model.control_document import CHECK_DIGITS, MAGIC
from featlink_codec.model.orders import OrderKind
from featlink_codec.model.tensor_level import DTYPES, Rule

_TPL, _NDU = 3, 5
_FORMATS = ("float32", "float16", "int8", "fixed 2.6", "fixed 1.31", "fixed 32.0", "fixed 0.1", "fixed 0.32", "int4")
#: Stands for a JSON text that `json` would not write.
_RAW = {
    "@deep": "[" * 900 + "]" * 900,
    "@deeper": "[" * 20000 + "]" * 20000,
    "@objects": '{"a":' * 950 + "0" + "}" * 950,
    "@long": "1" * 5000,
    "@float": "1e39",
    "@infinite": "1e999",
    "@nan": "NaN",
    "@surrogate": '"\\ud800"',
}
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    255,
    (1 << 31) - 1,
    1 << 31,
    1 << 48,
    1 << 64,
    0.5,
    -0.0,
    3.45e38,
    1e-50,
    "",
    "a",
    "w" * 5000,
    [],
    {},
    [[]],
    [1] * 65,
    [1] * 300,
    [0],
    ["a"],
    [{}],
    *_RAW,
)


def lines_of(piece: bytes) -> list[Any] | None:
    """Head and levels, or None."""
    inside = body(piece)
    text = inside[3:-1]
    if kind_of(piece) != _TPL or not text.startswith(MAGIC):
        return None
    try:
        return [json.loads(line) for line in text[1:-1].split(b",\n")]
    except (ValueError, RecursionError):
        return None


def written(piece: bytes, lines: Sequence[Any], consistent: bool = True) -> bytes:
    """The unit with other lines; the head says their lengths and checks again."""
    texts = []
    for line in lines:
        text = json.dumps(line, separators=(",", ":"))
        for name, raw in _RAW.items():
            text = text.replace(json.dumps(name), raw)
        texts.append(text.encode())
    head = lines[0]
    if consistent and isinstance(head, dict):
        numbers = [line.get("level") if isinstance(line, dict) else 1 for line in lines[1:]]
        sums = [[len(text), hashlib.sha256(text).hexdigest()[:CHECK_DIGITS]] for text in texts[1:]]
        levels = [[number, *one] for number, one in zip(numbers, sums, strict=True)]
        texts[0] = json.dumps(head | {"levels": levels}, separators=(",", ":")).encode()
    return framed(body(piece)[:3] + b"[" + b",\n".join(texts) + b"]\0")


def edited(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Members changed, left out or repeated; lengths and checks are right again, mostly."""
    for k, piece in enumerate(pieces):
        lines = lines_of(piece)
        if lines is None:
            continue
        for _ in range(rng.choice((1, 1, 2, 4))):
            edit = rng.choice((_anywhere, _anywhere, _record, _record, _record, _versions, _topology, _names))
            edit(lines, rng)
        try:
            pieces[k] = written(piece, lines, rng.random() < 0.93)
        except (RecursionError, ValueError):
            return pieces
    return pieces


def fitted(pieces: list[bytes]) -> list[bytes]:
    """Places of units as they have become, in the order in which they stand."""
    for k, piece in enumerate(pieces):
        lines = lines_of(piece)
        if lines is None:
            continue
        records = _records(lines)
        at, places = 0, []
        for unit in pieces[k + 1 :]:
            if kind_of(unit) == _NDU:
                places.append([at, len(unit)])
            at += len(unit)
        try:
            order = sorted(range(len(records)), key=lambda n: records[n]["at"])
            kinds = list(dict.fromkeys(tuple(records[n]["at"]) for n in order))
        except (KeyError, TypeError):
            return pieces
        if len(kinds) != len(places):
            return pieces
        new = dict(zip(kinds, places, strict=True))
        if all(list(old) == place for old, place in new.items()):
            return pieces
        for record in records:
            record["at"] = new[tuple(record["at"])]
        pieces[k] = written(piece, lines)
    return pieces


def _records(lines: Sequence[Any]) -> list[dict[str, Any]]:
    for line in lines[1:]:
        if isinstance(line, dict) and line.get("level") == 1 and isinstance(line.get("tensors"), list):
            return [record for record in line["tensors"] if isinstance(record, dict)]
    return []


def _anywhere(lines: list[Any], rng: random.Random) -> None:
    """Any member: another value, gone, twice, or exchanged with its neighbour."""
    here: Any = lines if rng.random() < 0.05 else rng.choice(lines)
    while True:
        if not isinstance(here, (list, dict)) or not here:
            return
        key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
        if isinstance(here[key], (list, dict)) and here[key] and rng.random() < 0.8:
            here = here[key]
            continue
        break
    kind = rng.randrange(4)
    if kind == 0:
        del here[key]
    elif kind == 1 and isinstance(here, list):
        here[key:key] = [here[key]] * rng.choice((1, 1, 40))
    elif kind == 2 and isinstance(here[key], int):
        here[key] = here[key] + rng.choice((-1, 1, 1 << 20))
    else:
        here[key] = rng.choice(_VALUES)


def _record(lines: list[Any], rng: random.Random) -> None:
    """What a tensor's record says about making values of what stands in the stream."""
    records = _records(lines)
    if not records:
        return
    record = rng.choice(records)
    kind = rng.randrange(7)
    rows = rng.choice((1, 2, 5, 6, 8, 18, 20))
    if kind == 0:
        shapes = ([], [1], [rows], [1] * 65, [6, 5], [5, 6], [1, 1, 30], [30, 1], [30], [1 << 31], [2] * 40)
        record["shape"] = rng.choice(shapes)
    elif kind == 1:
        record["dtype"] = rng.choice((*DTYPES, "float32", "int32", "complex64", "object", "V8"))
    elif kind <= 3:
        order: dict[str, Any] = {"kind": rng.choice(list(OrderKind)).value}
        if rng.random() < 0.4:
            order["block"] = rng.choice((0, 1, 3, 8, 64, (1 << 31) - 1))
        if rng.random() < 0.4:
            order["permutation"] = rng.sample(range(rows), rows)
        record["order"] = order
    elif kind == 4:
        table = rng.choice(([], [0.5], [1.5, 2.5, 1e38], [3.41e38], [0.1] * 400))
        record["escape"] = {"limit": rng.choice((0, 1, 3, 127, (1 << 31) - 1)), "positive": table, "negative": table}
    elif kind == 5:
        record["inference"] = rng.choice(_FORMATS)
    else:
        other = rng.choice(records)
        name = rng.choice(("at", "sha256", "unit", "name"))
        record[name] = other.get(name, other.get("name"))
    if rng.random() < 0.1:
        record["replaces"] = True


def _versions(lines: list[Any], rng: random.Random) -> None:
    """Chains of versions, supplements, and what an update removes."""
    level = next((line for line in lines[1:] if isinstance(line, dict) and line.get("level") == 1), None)
    names = [record.get("name", "") for record in _records(lines)]
    if level is None or not names:
        return
    kind = rng.randrange(3)
    if kind == 0:
        count = rng.choice((1, 2, 5, 200))
        level["versions"] = [
            {
                "name": f"v{k}",
                "parts": [
                    {
                        "tensor": rng.choice((f"t{k}", "t", *names)),
                        "source": source,
                        "rule": rng.choice(list(Rule)).value,
                    }
                    for source in rng.sample(names, min(len(names), rng.choice((1, 1, 3))))
                ],
            }
            | ({"extends": f"v{k - rng.choice((0, 1, 1, 1, 1, 1))}"} if k else {})
            for k in range(count)
        ]
    elif kind == 1:
        pair = {"tensor": rng.choice(names), "source": rng.choice(names)}
        level["supplements"] = [{"kind": "relevance"} | pair] * rng.choice((1, 2))
    else:
        level["removed"] = rng.sample(names, 1) * rng.choice((1, 2))


def _topology(lines: list[Any], rng: random.Random) -> None:
    """A graph that is damaged before it is deflated, or large when it is inflated."""
    kind = rng.randrange(4)
    data: bytes = rng.choice((b"", bytes(1 << 18), bytes(1 << 17), b"\x3a\x80" * 40, rng.randbytes(40)))
    if kind == 0:
        # Graphs within nodes within graphs.
        data = b""
        for _ in range(rng.choice((2, 30, 60))):
            for number in (6, 5, 1):
                data = bytes([number << 3 | 2]) + _length(len(data)) + data
        data = b"\x3a" + _length(len(data)) + data
    elif kind == 1:
        tensor = b"".join(
            b"\x08" + _length(rng.choice((0, 1, 5, 1 << 31, 1 << 40))) for _ in range(rng.choice((1, 3, 70)))
        )
        tensor += b"\x10" + bytes([rng.randrange(1, 16)]) + b"\x42\x01w"
        tensor = b"\x2a" + _length(len(tensor)) + tensor
        data = b"\x3a" + _length(len(tensor)) + tensor
    packed = bytearray(zlib.compress(data, 9))
    if kind == 3:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    level = {"level": 3, "format": rng.choice(("onnx", "onnx", "tflite")), "deflate": b85encode(packed).decode()}
    at = next((k for k, line in enumerate(lines) if isinstance(line, dict) and line.get("level") == 3), None)
    if at is not None:
        lines[at] = level
    else:
        lines.insert(min(len(lines), 3), level)


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _names(lines: list[Any], rng: random.Random) -> None:
    """Identities and names that stand in two places."""
    head = lines[0]
    if isinstance(head, dict) and rng.random() < 0.5:
        digests = [record.get("sha256") for record in _records(lines)] or ["A" * 43]
        head[rng.choice(("model", "result"))] = rng.choice(digests)
        return
    for line in lines[1:]:
        if (
            isinstance(line, dict)
            and line.get("level") == 2
            and isinstance(line.get("layers"), list)
            and line["layers"]
        ):
            layer = rng.choice(line["layers"])
            if isinstance(layer, dict):
                layer[rng.choice(("tensors", "name"))] = rng.choice((["conv.weight"], [], "conv", ["nowhere"]))
