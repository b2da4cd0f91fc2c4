"""What must hold for any bytes at all: one check for the fuzzer and for the ordinary tests.

The first byte of an input chooses what is done with the rest:

==== ==================================================================================
bits
==== ==================================================================================
0-1  profile: 0 standard, 1 interface, 2 standard-16; 3: no stream, but one structure, or a stream of profile adaptive
2    stream: level_scaling
3    stream: decode the pictures
4    stream: require_hash
5-6  stream: how the bytes arrive the second time, a value of `Arrival`
7    stream: max_map_bytes is SMALL_MAP_BYTES
4    structure: 0 headers and tags by their syntax, 1 video by its NAL units
7    profile 3: a stream of profile adaptive after all, decoded, as bits 2, 5 and 6 say
2-3  structure: profile (3: adaptive)
==== ==================================================================================
"""

from __future__ import annotations

import enum
import hashlib
import math
import random
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from featlink_codec.bits import BitReader
from featlink_codec.errors import RefusedError, StreamError
from featlink_codec.features import (
    AdaptiveMap,
    Damage,
    Event,
    FeatMapHeader,
    FeatureMap,
    Profile,
    SequenceEnd,
    SequenceHeader,
    SequenceStart,
    StreamReader,
    Tag,
    TimeTag,
)
from featlink_codec.features.quantizers import level_dtype
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import SUFFIX_SEI, AccessUnit, escape, split_access_units, unescape
from featlink_codec.video.picture_hash import has_md5
from featlink_codec.video.sps import parse_sps

PROFILES = (Profile.STANDARD, Profile.INTERFACE, Profile.STANDARD_16, Profile.ADAPTIVE)
#: Pictures beyond this are not decoded here: they are slow, and nothing but the time depends on it.
MAX_PIXELS = 1 << 16
SMALL_MAP_BYTES = 300
LARGE_MAP_BYTES = 1 << 20
#: Longest input that arrives byte by byte throughout.
SHORT = 256

_MD5 = re.compile(rb"\x84[\x11-\xff]\x00(.{16})", re.DOTALL)
_START_CODE = re.compile(rb"\x00\x00\x00[\xe0-\xe3]")


class Arrival(enum.IntEnum):
    """How the bytes of a stream arrive. The first time they always come whole (in units: each unit whole)."""

    IN_TWO = 0
    IN_PIECES = 1
    #: byte by byte: short streams throughout, others around start codes
    BYTE_BY_BYTE = 2
    #: as messages: the reader is told where each ends
    IN_UNITS = 3


@dataclass(frozen=True)
class Options:
    """What the first byte of an input says about a stream."""

    profile: Profile
    level_scaling: bool
    decode: bool
    require_hash: bool
    arrival: Arrival
    max_map_bytes: int

    @classmethod
    def of(cls, byte: int) -> Options:
        adaptive = byte & 3 == 3
        return cls(
            profile=PROFILES[byte & 3],
            level_scaling=bool(byte & 4),
            decode=bool(byte & 8) or adaptive,
            require_hash=bool(byte & 16) and not adaptive,
            arrival=Arrival(byte >> 5 & 3),
            max_map_bytes=SMALL_MAP_BYTES if byte & 128 and not adaptive else LARGE_MAP_BYTES,
        )


@dataclass
class Outcome:
    """What a reader gave."""

    events: list[Event] = field(default_factory=list)
    refusal: RefusedError | None = None


def check(data: bytes) -> None:
    """Raise AssertionError, or whatever the codec raises against its promise, where something does not hold."""
    if not data:
        return
    if is_stream(data[0]):
        check_stream(data[1:], Options.of(data[0]))
    elif data[0] & 16:
        check_video(data[1:])
    else:
        check_syntax(data[1:], PROFILES[data[0] >> 2 & 3])


def is_stream(byte: int) -> bool:
    """Whether an input's first byte stands before a stream."""
    return byte & 3 != 3 or bool(byte & 128)


def check_stream(data: bytes, options: Options) -> None:
    """Read a stream twice: refusals only, the same events both times, and each of them true to its bytes."""
    rng = random.Random(zlib.crc32(data))
    in_units = options.arrival is Arrival.IN_UNITS
    units = _cut(data, _unit_ends(data, rng)) if in_units else [data]
    whole = read([[unit] for unit in units], options)
    in_pieces = read([_cut(unit, _piece_ends(unit, options.arrival, rng)) for unit in units], options)
    check_same(whole, in_pieces)
    check_events(data, whole, options)
    if whole.refusal is None and not any(isinstance(event, Damage) for event in whole.events):
        check_complete(data, whole.events, in_units)


def read(units: Iterable[Sequence[bytes]], options: Options) -> Outcome:
    """Feed each unit in its pieces. Units are more than one only where the reader is told that they end."""
    outcome = Outcome()
    reader = StreamReader(
        options.profile,
        options.level_scaling,
        decode=options.decode,
        require_hash=options.require_hash,
        new_decoder=_small_decoder,
        max_map_bytes=options.max_map_bytes,
    )
    try:
        for pieces in units:
            for piece in pieces:
                outcome.events += reader.feed(piece)
                _check_held(reader, options)
            if options.arrival is Arrival.IN_UNITS:
                outcome.events += reader.unit_ended()
        outcome.events += reader.close()
    except RefusedError as refusal:
        outcome.refusal = refusal
        assert reader.feed(b"\0\0\0\xe1") + reader.close() == [], "events after a refusal"
    return outcome


def check_same(one: Outcome, other: Outcome) -> None:
    """Events must not depend on how the bytes arrived. A refusal takes along what the same call had completed."""
    found, expected = ([_fingerprint(event) for event in outcome.events] for outcome in (other, one))
    if one.refusal is not None or other.refusal is not None:
        assert one.refusal is not None, f"refused only in pieces: {other.refusal}"
        assert other.refusal is not None, f"refused only as a whole: {one.refusal}"
        # Not the text: it quotes the bytes that had come by then.
        assert (one.refusal.name, one.refusal.offset) == (other.refusal.name, other.refusal.offset)
        length = min(len(found), len(expected))
        found, expected = found[:length], expected[:length]
    for k, (a, b) in enumerate(zip(expected, found, strict=False)):
        assert a == b, f"event {k} is {a[:3]} of the whole, {b[:3]} of the pieces"
    assert len(expected) == len(found), f"{len(expected)} events of the whole, {len(found)} of the pieces"


def check_events(data: bytes, outcome: Outcome, options: Options) -> None:
    """Each element stands where it says, byte for byte, behind the one before; maps and tags are consistent."""
    end = tags = 0
    last_tag: int | None = None
    if outcome.refusal is not None:
        _check_offset(outcome.refusal, data)
    for event in outcome.events:
        if isinstance(event, Damage):
            _check_offset(event.error, data)
            if event.map_offset is not None:
                assert data[event.map_offset : event.map_offset + 4] == b"\0\0\0\xe3"
            continue
        assert event.offset >= end, f"{type(event).__name__} at {event.offset}, the one before ends at {end}"
        raw = bytes(event)
        end = event.offset + len(raw)
        assert data[event.offset : end] == raw, f"{type(event).__name__} at {event.offset} is not what stands there"
        assert not any(raw[len(raw) - event.zero_bytes :])
        if isinstance(event, Tag):
            assert event.index == tags
            assert event.time_s is None or math.isfinite(event.time_s)
            last_tag, tags = tags, tags + 1
        elif isinstance(event, FeatureMap):
            assert event.tag_index is None or event.tag_index == last_tag
            check_map(event, options)


def check_complete(data: bytes, events: Sequence[Event], in_units: bool) -> None:
    """Without damage the events are the whole stream, byte for byte, from its start to its end."""
    assert isinstance(events[0], SequenceStart)
    assert isinstance(events[-1], SequenceEnd), "the end is missing, and no damage is reported"
    if not in_units:
        assert b"".join(bytes(event) for event in events) == data, "the events' bytes are not the stream"
        return
    # Where the reader was told that a unit ended, zero bytes in front of the next one belong to nothing.
    left = bytearray(data)
    for event in events:
        assert not isinstance(event, Damage)
        left[event.offset : event.offset + len(bytes(event))] = bytes(len(bytes(event)))
    assert not any(left), "bytes are in no event, and no damage is reported"


def check_map(found: FeatureMap, options: Options) -> None:
    """A map that was delivered is one that a head can be fed with."""
    header, packing = found.header, found.packing
    assert header.profile is options.profile
    assert header.bit_depth != 16 or options.profile is Profile.STANDARD_16
    assert found.video
    assert found.video[-1]
    assert found.nbytes == len(bytes(found))
    assert found.pictures == packing.picture_count(header.bit_depth) >= 1
    assert found.shape == (*packing.map_size(*found.picture_size), packing.channels)
    assert packing.picture_size(*found.shape[:2]) == found.picture_size
    assert packing.order is None or sorted(packing.order) == list(range(packing.channels))
    assert (found.quantizer is None) == bool(header.feat_integer)
    if isinstance(found.quantizer, AdaptiveMap):
        assert options.profile is Profile.ADAPTIVE
        found.quantizer.check(*found.shape, header.bit_depth)
    else:
        assert found.quantizer is None or found.quantizer.bit_depth == header.bit_depth
    assert found.partitions is None or (found.partitions.dtype, len(found.partitions)) == (np.float32, header.peak)
    assert found.hashed or not options.require_hash
    if not options.decode:
        assert found.levels is None
        return
    assert found.picture_size[0] * found.picture_size[1] <= MAX_PIXELS
    assert found.levels is not None
    assert found.levels.shape == found.shape
    assert found.levels.dtype == level_dtype(header.bit_depth)
    assert int(found.levels.max()) <= header.peak
    if header.bit_depth < 16:  # 65536 levels one by one take their time
        values = found.values()
        assert values.dtype == np.float32
        assert values.shape == found.shape
        assert np.isfinite(values).all()


def check_syntax(data: bytes, profile: Profile) -> None:
    """What can be read is written as the same bytes, and these are read as the same fields."""
    for kind, options in ((SequenceHeader, {}), (TimeTag, {}), (FeatMapHeader, {"profile": profile})):
        found, io = kind(**options), BitReader(data)
        try:
            found.code(io)
        except StreamError as error:
            _check_offset(error, data)
            continue
        assert bytes(found) == data[: io.index], "written other than read"
        again = kind(**options)
        again.code(BitReader(bytes(found)))
        for one, other in zip(astuple(found), astuple(again), strict=True):
            assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def check_video(data: bytes) -> None:
    """Access units joined are the video, and nothing but StreamError comes of it."""
    if not data.endswith(b"\0"):
        assert unescape(escape(data)) == data
    try:
        units = split_access_units(memoryview(data), 0)
    except StreamError as error:
        _check_offset(error, data)
        return
    assert b"".join(unit.data for unit in units) == data
    end = 0
    for unit in units:
        assert unit.offset == end
        end += len(unit.data)
        assert any(nal.is_vcl for nal in unit.nal_units)
        for nal in unit.nal_units:
            assert data[nal.offset : nal.offset + len(nal.data)] == nal.data
        try:
            has_md5(unit)
        except StreamError as error:
            _check_offset(error, data)
        for nal in unit.sps:
            try:
                sps = parse_sps(nal)
            except StreamError as error:
                _check_offset(error, data)
                continue
            assert 0 < sps.width <= sps.coded_width
            assert 0 < sps.height <= sps.coded_height


class _VerifyingDecoder(HevcDecoder):
    """Verifies once more, other than by FFmpeg, that a hashed picture has the hash that stands with it."""

    _cropped = True

    def decode(self, unit: AccessUnit) -> NDArray[np.uint8]:
        picture = super().decode(unit)
        for sps in map(parse_sps, unit.sps):
            self._cropped = any(sps.crop)
        if has_md5(unit) and not self._cropped:  # what is cropped away counts in the hash
            digests = [
                m[1] for nal in unit.nal_units if nal.type == SUFFIX_SEI for m in _MD5.finditer(unescape(nal.data))
            ]
            assert hashlib.md5(np.ascontiguousarray(picture)).digest() in digests, "not the picture that was hashed"
        return picture


def _small_decoder(width: int, height: int) -> HevcDecoder:
    if width * height > MAX_PIXELS:
        raise StreamError("video-size", 0, f"{width}x{height} is more than is decoded here")
    return _VerifyingDecoder(width, height)


def _check_held(reader: StreamReader, options: Options) -> None:
    """Memory is bounded: what is held of a map's header depends on its lists, anything else on max_map_bytes."""
    if reader._state.name != "MAP":
        assert len(reader._buffer) <= options.max_map_bytes + 4, f"{len(reader._buffer)} bytes are held"


def _check_offset(error: StreamError, data: bytes) -> None:
    assert 0 <= error.offset <= len(data), f"not within {len(data)} bytes: {error}"


def _fingerprint(event: Event) -> tuple[object, ...]:
    if isinstance(event, Damage):
        return ("Damage", type(event.error).__name__, event.error.args, event.map_offset)
    common = (type(event).__name__, event.offset, event.zero_bytes, bytes(event))
    if isinstance(event, Tag):
        return (*common, event.index, event.time_s)
    if isinstance(event, FeatureMap):
        partitions = None if event.partitions is None else event.partitions.tobytes()
        # Of a slice that was cut short FFmpeg gives what lay in its memory, and nobody notices without a hash.
        levels = event.levels.tobytes() if event.levels is not None and event.hashed else None
        place = (event.tag_index, event.time_s, event.starts_session, event.hashed)
        return (*common, *place, event.packing, event.shape, event.picture_size, partitions, levels)
    return common


def _cut(data: bytes, ends: Iterable[int]) -> list[bytes]:
    """`data` cut at `ends`; what is empty is left out."""
    places = [0, *sorted({end for end in ends if 0 < end < len(data)}), len(data)]
    return [data[a:b] for a, b in pairwise(places) if a < b]


def _unit_ends(data: bytes, rng: random.Random) -> list[int]:
    """In front of most start codes, and now and then anywhere."""
    ends = [code.start() for code in _START_CODE.finditer(data) if rng.random() < 0.8]
    return ends if rng.random() < 0.7 else [*ends, *_anywhere(data, 2, rng)]


def _piece_ends(data: bytes, arrival: Arrival, rng: random.Random) -> Iterable[int]:
    if arrival is Arrival.BYTE_BY_BYTE:
        if len(data) <= SHORT:
            return range(len(data))
        return [code.start() + k for code in _START_CODE.finditer(data) for k in range(-3, 16)]
    return _anywhere(data, 1 if arrival is Arrival.IN_TWO else rng.randint(2, 8), rng)


def _anywhere(data: bytes, count: int, rng: random.Random) -> list[int]:
    return [rng.randint(0, len(data)) for _ in range(count)]
