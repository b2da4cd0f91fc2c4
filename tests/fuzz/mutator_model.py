"""Changes to a model stream that know its structure: units, headers by their fields, payloads."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import model_control
import model_headers
from model_framing import EDGES, NUMBERS, body, framed, split

#: bytes of some general mutation of them, at most so many
Mutate = Callable[[bytes, int], bytes]


def any_bytes(data: bytes, max_size: int) -> bytes:
    """Where libFuzzer is not at hand: a few bits flipped, bytes changed, taken out or put in."""
    rng = random.Random(data)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 8, 64))]
        else:
            out[at:at] = rng.choice(EDGES)
    return bytes(out[:max_size])


class Mutator:
    """Makes an input of another, the first byte being its options.

    :param streams: good streams, without option byte, to take units from
    :param mutate: libFuzzer's own, or `any_bytes`
    """

    def __init__(self, streams: Sequence[bytes], mutate: Mutate = any_bytes) -> None:
        self._mutate = mutate
        self._streams = list(streams)

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if len(data) < 6 or rng.random() < 0.08:
            return self._mutate(data, max_size)
        options, rest = data[0], data[1:]
        if rng.random() < 0.2:
            # The twin is slow, and so is measuring memory; under a tight budget most is refused.
            options = rng.randrange(256) & 0x3D
            options |= sum(flag for flag in (2, 64, 128) if rng.random() < 0.1)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            pieces = split(rest)
            if pieces:
                rest = b"".join(rng.choice(CHANGES)(pieces, rng, self._streams))
        if rng.random() < 0.7:
            rest = b"".join(model_control.fitted(split(rest)))
        return (bytes([options]) + rest)[:max_size]

    def crossover(self, one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        """The front of one, cut between units, and the back of another."""
        rng = random.Random(seed)
        front, back = split(one[1:]), split(other[1:])
        cut = rng.randint(0, len(front)), rng.randint(0, len(back))
        return b"".join([one[:1], *front[: cut[0]], *back[cut[1] :]])[:max_size]


def _units(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Leave out, repeat, exchange, or take from another stream."""
    k, j = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    kind = rng.randrange(4)
    if kind == 0:
        del pieces[k]
    elif kind == 1:
        pieces[j:j] = [pieces[k]] * rng.choice((1, 1, 1, 5, 30))
    elif kind == 2:
        pieces[k], pieces[j] = pieces[j], pieces[k]
    else:
        pieces[k : k + rng.randrange(2)] = [rng.choice(split(rng.choice(streams)))]
    return pieces


def _splice(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """A front of this and a back of another."""
    other = split(rng.choice(streams))
    return pieces[: rng.randint(1, len(pieces))] + other[rng.randrange(len(other)) :]


def _size(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """A length that is wrong, or right in the other form."""
    k = rng.randrange(len(pieces))
    inside = body(pieces[k])
    if rng.random() < 0.3:
        pieces[k] = framed(inside, True)
    else:
        right = len(inside) + 2
        size = rng.choice((right - 1, right + 1, right + rng.randint(-right, 40), *NUMBERS))
        wide = rng.random() < 0.3 or size >= 1 << 15
        pieces[k] = (
            ((size & (1 << 31) - 1) | wide << 31).to_bytes(4, "big") if wide else max(0, size).to_bytes(2, "big")
        )
        pieces[k] += inside
    return pieces


def _header(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Bits among the first of a unit, where its header is."""
    k = rng.randrange(len(pieces))
    inside = bytearray(body(pieces[k]))
    for _ in range(rng.choice((1, 1, 2, 4)) if inside else 0):
        at = rng.randrange(min(len(inside), 48))
        inside[at] = rng.randrange(256) if rng.random() < 0.3 else inside[at] ^ 1 << rng.randrange(8)
    pieces[k] = framed(bytes(inside))
    return pieces


def _payload(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Another payload behind the same header."""
    found = model_headers.data_unit(pieces, rng)
    if found is None:
        return pieces
    k, _, _, payload = found
    inside = body(pieces[k])
    out, kind = bytearray(payload), rng.randrange(7)
    if kind <= 1:
        for _ in range(rng.choice((1, 1, 3, 20)) if out else 0):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        out = bytearray(rng.randbytes(rng.choice((0, 1, 2, 3, 4, 8, 40, 400))))
    elif kind == 3:
        del out[rng.randint(0, len(out)) :]
    elif kind == 4:
        out += rng.choice((b"\0", b"\x80", b"\xff", bytes(9), rng.randbytes(20)))
    elif kind == 5:
        at = rng.randint(0, len(out))
        out[at:] = rng.choice((b"\0", b"\xff", b"\x55")) * rng.choice((len(out) - at, len(out) - at + 9, 3))
    else:
        other = model_headers.data_unit(split(rng.choice(streams)), rng)
        out = bytearray(other[3]) if other else out
    pieces[k] = framed(inside[: len(inside) - len(payload)] + bytes(out))
    return pieces


def _cut(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Cut bytes out of a unit, put some in, or end the stream."""
    k = rng.randrange(len(pieces))
    at = rng.randint(0, len(pieces[k]))
    kind = rng.randrange(3)
    if kind == 0:
        return [*pieces[:k], pieces[k][:at]]
    if kind == 1:
        pieces[k] = pieces[k][:at] + pieces[k][at + rng.randint(1, 8) :]
    else:
        pieces[k] = pieces[k][:at] + rng.choice(EDGES) + pieces[k][at:]
    return [piece for piece in pieces if piece]


CHANGES = (
    _units,
    _units,
    _splice,
    _size,
    _header,
    _header,
    model_headers.parameters,
    *4 * (model_headers.fields,),
    _payload,
    _payload,
    _payload,
    _cut,
    *4 * (model_control.edited,),
)
