"""Changes to a stream that know its structure: pieces, headers, NAL units. Anything else is left to libFuzzer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from featlink_codec.bits import BitReader, float_bits
from featlink_codec.errors import FeatlinkError
from featlink_codec.features import FeatMapHeader, Profile, TimeTag
from featlink_codec.features.adaptive.syntax import AdaptiveQuant

_PIECE = re.compile(rb"(?=\x00\x00\x00[\xe0-\xe3])")
_NAL = re.compile(rb"(?=\x00\x00\x01)")
_PROFILES = (Profile.STANDARD, Profile.INTERFACE, Profile.STANDARD_16, Profile.ADAPTIVE)
#: What sits on the edges of checks.
_EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\0\0\0", b"\0\0\1", b"\0\0\3", b"\x7f\x80\0\0")
_CODES = tuple(bytes([0, 0, 0, last]) for last in (0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0x02))

#: bytes of libFuzzer's own mutation of them, at most so many
Mutate = Callable[[bytes, int], bytes]


class Mutator:
    """Makes an input of another, the first byte being its options.

    :param streams: good streams, without option byte, to take pieces from
    :param mutate: libFuzzer's own
    """

    def __init__(self, streams: Sequence[bytes], mutate: Mutate) -> None:
        self._mutate = mutate
        self._pool = [piece for stream in streams for piece in _PIECE.split(stream) if piece]

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if len(data) < 6 or rng.random() < 0.2:
            return self._mutate(data, max_size)
        options, rest = data[:1], data[1:]
        if rng.random() < 0.1:
            options = bytes([rng.randrange(256) & (0xFF if rng.random() < 0.3 else 0xF7)])  # decoding is slow
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            pieces = [piece for piece in _PIECE.split(rest) if piece]
            change = rng.choice(
                (self._pieces, self._pieces, self._splice, _header, _header, _fields, _tag, _nals, _zeros, _edge, _cut)
            )
            if pieces:
                rest = b"".join(change(pieces, rng, options[0]))
        return (options + rest)[:max_size]

    def crossover(self, one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        """The front of one, cut between pieces, and the back of another."""
        rng = random.Random(seed)
        front, back = _PIECE.split(one), _PIECE.split(other[1:])
        return b"".join([*front[: rng.randint(1, len(front))], *back[rng.randint(0, len(back)) :]])[:max_size]

    def _pieces(self, pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
        """Leave out, repeat or exchange."""
        k, j = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        kind = rng.randrange(3)
        if kind == 0:
            del pieces[k]
        elif kind == 1:
            pieces.insert(j, pieces[k])
        else:
            pieces[k], pieces[j] = pieces[j], pieces[k]
        return pieces

    def _splice(self, pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
        k = rng.randint(0, len(pieces))
        pieces[k : k + rng.randrange(2)] = [rng.choice(self._pool)]
        return pieces


def _pick(pieces: list[bytes], rng: random.Random, last: int) -> int | None:
    """A piece whose start code ends in `last`."""
    found = [k for k, piece in enumerate(pieces) if piece[3:4] == bytes([last])]
    return rng.choice(found) if found else None


def _header(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """Flip bits, or change bytes, among the first of a piece, where its header is."""
    k = rng.randrange(len(pieces))
    piece = bytearray(pieces[k])
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(len(piece), 24))
        piece[at] = rng.randrange(256) if rng.random() < 0.3 else piece[at] ^ 1 << rng.randrange(8)
    pieces[k] = bytes(piece)
    return pieces


def _fields(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """Change fields of a map's header by name, and write it anew in front of the same video."""
    k = _pick(pieces, rng, 0xE3)
    if k is None:
        return pieces
    profile = _PROFILES[options & 3]
    io = BitReader(pieces[k])
    try:
        header = FeatMapHeader.read(io, profile)
    except FeatlinkError:
        return pieces
    for _ in range(rng.randint(1, 3)):
        _field(header, rng)
    try:
        written = bytes(header)
    except FeatlinkError:
        return pieces
    pieces[k] = written + pieces[k][io.index :]
    return pieces


def _field(header: FeatMapHeader, rng: random.Random) -> None:
    kind = rng.randrange(8)
    if kind == 0:
        header.feat_type_id = rng.choice((0, 1, 2, 255))
    elif kind == 1:
        header.bit_depth_compact = rng.randrange(4)
    elif kind == 2:
        header.feat_integer ^= 1
        header.reserved_bits = rng.randrange(4)
    elif kind == 3:
        header.pre_quant_mode = rng.randrange(4)
        header.quant_heritage_flag = rng.randrange(2)
    elif kind == 4:
        header.repack_heritage_flag ^= 1
    elif kind == 5:
        header.repack_mode = rng.randrange(3)
        header.repack_tile_h, header.repack_tile_w = rng.randint(1, 4), rng.randint(1, 4)
    elif kind == 7 and header.adaptive_quant is not None:
        _classes(header.adaptive_quant, rng)
    elif kind == 6:
        header.feat_map_pad_h, header.feat_map_pad_w = rng.randrange(8), rng.randrange(8)
    channels = rng.choice((1, 2, 3, 6, 7))
    if header.repack_tile_c == 0 or rng.random() < 0.2:
        header.repack_tile_c = channels
    if header.repack_order_list is None or rng.random() < 0.2:
        header.repack_order_list = np.array(rng.sample(range(channels), channels), np.uint32)
    if not header.max_feat_digit_bits or rng.random() < 0.1:
        header.max_feat_digit_bits = float_bits(rng.choice((1.0, 127.9, 128.0, 3e38, 1e-45)))
    if header.quant_partitions is None or len(header.quant_partitions) != header.peak:
        small = header.peak <= 15  # longer lists leave no room for video
        bounds = np.arange(header.peak if small else 0, dtype=np.float32) - rng.randrange(3)
        header.quant_partitions = bounds.view(np.uint32) if small else None


def _classes(syntax: AdaptiveQuant, rng: random.Random) -> None:
    """Another kind or number of classes, other numbers, or another class map."""
    kind = rng.randrange(4)
    if kind == 0:
        syntax.partition_kind = rng.randrange(4)
        syntax.side_info = syntax.side_info or b"\x80\0"
    elif kind == 1:
        syntax.classes = [copy(rng.choice(syntax.classes)) for _ in range(rng.choice((1, 2, 3, 7, 256)))]
    elif kind == 2:
        one = rng.choice(syntax.classes)
        one.distribution, one.class_depth_minus1 = rng.randrange(4), rng.randrange(1, 8)
        name = rng.choice(("center", "spread", "step", "offset"))
        setattr(one, name, float_bits(rng.choice((1.0, 1e-45, 127.9, -1e6, 3e38))))
    else:
        changed = bytearray(syntax.side_info)
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        syntax.side_info = bytes(changed) + bytes(rng.randrange(2))


def _tag(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """A time tag put in, or changed."""
    if rng.random() < 0.5:
        tag = TimeTag.universal(rng.choice((0.0, 5e-324, 1.7e9, 1.7e308, float("inf"), float("nan"))))
    else:
        tag = TimeTag(interval_time=rng.choice((0, 1, 4, 224, 32767)))
    k = _pick(pieces, rng, 0xE2)
    if k is None or rng.random() < 0.5:
        pieces.insert(rng.randint(0, len(pieces)), bytes(tag))
    else:
        pieces[k] = bytes(tag)
    return pieces


def _nals(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """Leave out, repeat, exchange or change NAL units of a map."""
    k = _pick(pieces, rng, 0xE3)
    if k is None:
        return pieces
    head, *nals = _NAL.split(pieces[k])
    if not nals:
        return pieces
    i, j = rng.randrange(len(nals)), rng.randrange(len(nals))
    kind = rng.randrange(5)
    if kind == 0:
        del nals[i]
    elif kind == 1:
        nals.insert(j, nals[i])
    elif kind == 2:
        nals[i], nals[j] = nals[j], nals[i]
    elif kind == 3:
        nals[i] = nals[i][: rng.randint(3, len(nals[i]))]
    else:
        nal = bytearray(nals[i])
        nal[rng.randrange(3, max(4, min(len(nal), 40))) if len(nal) > 3 else 2] ^= 1 << rng.randrange(8)
        nals[i] = bytes(nal)
    pieces[k] = head + b"".join(nals)
    return pieces


def _zeros(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """More or fewer zero bytes between pieces."""
    k = rng.randrange(len(pieces))
    if rng.random() < 0.7:
        pieces[k] += bytes(rng.choice((1, 2, 3, 5, 400)))
    else:
        pieces[k] = pieces[k].rstrip(b"\0")
    return pieces


def _edge(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """Put in, or write over with, a start code or a value on an edge."""
    k = rng.randrange(len(pieces))
    piece = pieces[k]
    new = rng.choice(_CODES if rng.random() < 0.5 else _EDGES)
    at = rng.randint(0, len(piece))
    pieces[k] = piece[:at] + new + piece[at + (len(new) if rng.random() < 0.5 else 0) :]
    return pieces


def _cut(pieces: list[bytes], rng: random.Random, options: int) -> list[bytes]:
    """Cut bytes out, or off the end."""
    k = rng.randrange(len(pieces))
    piece = pieces[k]
    at = rng.randint(0, len(piece))
    end = len(piece) if rng.random() < 0.3 else at + rng.randint(1, 8)
    pieces[k] = piece[:at] + piece[end:]
    return pieces
