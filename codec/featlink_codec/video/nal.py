"""HEVC byte streams (H.265 annex B): NAL units, and the access units that they make up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ..errors import StreamError

# nal_unit_type, H.265 table 7-1. Types 0..31 are VCL: they carry slices of a picture.
FIRST_IRAP, LAST_IRAP = 16, 23
LAST_VCL = 31
VPS, SPS, PPS, AUD, EOS, EOB, FILLER, PREFIX_SEI, SUFFIX_SEI = range(32, 41)

#: Types that begin a new access unit when they follow the last slice of a picture (H.265 7.4.2.4.4).
_BEGIN_ACCESS_UNIT = frozenset({VPS, SPS, PPS, AUD, PREFIX_SEI, *range(41, 45), *range(48, 56)})

_START_CODE = re.compile(rb"\x00\x00\x01")
_ILLEGAL = re.compile(rb"\x00\x00\x00[^\x00\x01]")
_NEEDS_ESCAPE = re.compile(rb"\x00\x00(?=[\x00-\x03])")

START_CODE = b"\0\0\1"

#: Twice the most that a map can need (2 x 65535 pictures, each with its hash): bounds the memory a few bytes can claim.
MAX_NAL_UNITS = 1 << 19


@dataclass(frozen=True, slots=True)
class NalUnit:
    """One NAL unit (H.265 7.3.1)."""

    #: nal_unit_type, 0..63
    type: int
    #: nuh_layer_id: always 0 here
    layer_id: int
    #: absolute byte offset in the stream of the first byte of the NAL unit header
    offset: int
    #: header (2 bytes) and payload, without the start code, emulation prevention bytes still in
    data: memoryview

    @property
    def is_vcl(self) -> bool:
        """Whether a slice of a picture is inside."""
        return self.type <= LAST_VCL


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One coded picture with everything that belongs to it (H.265 7.4.2.4.4)."""

    #: the Annex-B bytes, start codes included: one packet for a decoder
    data: memoryview
    #: absolute byte offset in the stream of ``data[0]``
    offset: int
    nal_units: tuple[NalUnit, ...]

    @property
    def is_irap(self) -> bool:
        """Whether the picture is an intra random access picture: decodable without any picture before it."""
        return any(FIRST_IRAP <= nal.type <= LAST_IRAP for nal in self.nal_units)

    @property
    def has_parameter_sets(self) -> bool:
        """Whether VPS, SPS and PPS are all inside."""
        return {VPS, SPS, PPS} <= {nal.type for nal in self.nal_units}

    @property
    def sps(self) -> list[NalUnit]:
        """The sequence parameter sets inside."""
        return [nal for nal in self.nal_units if nal.type == SPS]


def unescape(payload: bytes | bytearray | memoryview) -> bytes:
    """Remove the emulation prevention bytes: each 00 00 03 becomes 00 00 (H.265 7.4.2)."""
    return bytes(payload).replace(b"\0\0\3", b"\0\0")


def escape(payload: bytes | bytearray | memoryview) -> bytes:
    """Put a 03 in wherever 00 00 is followed by 00..03 (H.265 7.4.2). The payload must not end with a zero byte."""
    return _NEEDS_ESCAPE.sub(b"\0\0\3", payload)


def split_nal_units(data: bytes | bytearray | memoryview, offset: int = 0) -> Iterator[NalUnit]:
    """Cut a byte stream at its start codes, whether pictures are inside or not.

    :param data: whole NAL units, nothing else; must not change while the result is in use
    :param offset: absolute byte offset in the stream of ``data[0]``, for the offsets in results and errors
    :raises StreamError: ``bad-video`` for bytes that are not an Annex-B byte stream
    """
    view = memoryview(data)
    if illegal := _ILLEGAL.search(view):
        at = illegal.end() - 1
        raise StreamError("bad-video", offset + at, f"0x{view[at]:02x} after three zero bytes, expected 00 or 01")
    codes = [code.start() for code in islice(_START_CODE.finditer(view), MAX_NAL_UNITS + 1)]
    if not codes:
        raise StreamError("bad-video", offset, f"no start code in {len(view)} bytes of video")
    if bytes(view[: codes[0]]).strip(b"\0"):
        raise StreamError("bad-video", offset, "the video does not begin with a start code")
    if len(codes) > MAX_NAL_UNITS:
        raise StreamError("bad-video", offset + codes[-1], f"more than {MAX_NAL_UNITS} NAL units")
    for code, end in zip(codes, [*codes[1:], len(view)], strict=True):
        start = code + 3
        # A NAL unit cannot end with a zero byte, so zeros before a start code (or the end) are padding.
        nal = view[start : start + len(bytes(view[start:end]).rstrip(b"\0"))]
        if len(nal) < 2:
            raise StreamError("bad-video", offset + start, f"a NAL unit of {len(nal)} bytes, expected 2 or more")
        header = nal[0] << 8 | nal[1]
        layer_id = header >> 3 & 63
        if header >> 15 or layer_id or not header & 7:
            raise StreamError(
                "bad-video",
                offset + start,
                f"NAL unit header 0x{header:04x}: forbidden_zero_bit {header >> 15}, nuh_layer_id {layer_id}, "
                f"nuh_temporal_id_plus1 {header & 7}; expected 0, 0 and 1 or more",
            )
        yield NalUnit(header >> 9 & 63, layer_id, offset + start, nal)


def has_slices(data: bytes | bytearray | memoryview) -> bool:
    """Whether a slice of a picture stands somewhere in a byte stream; nothing is checked, the search ends at the first.

    :param data: Annex-B bytes
    """
    view = memoryview(data)
    return any(view[code.end()] >> 1 & 63 <= LAST_VCL for code in _START_CODE.finditer(view) if code.end() < len(view))


def split_access_units(
    data: bytes | bytearray | memoryview, offset: int, max_pictures: int = MAX_NAL_UNITS
) -> list[AccessUnit]:
    """Cut a byte stream into access units, without decoding anything and without copying what it gives back.

    The access units' bytes joined are `data`: zero bytes in front belong to the first, zero bytes behind to the last.

    :param data: whole access units, nothing else; must not change while the result is in use
    :param offset: absolute byte offset in the stream of ``data[0]``, for the offsets in results and errors
    :param max_pictures: give up at the next one, before memory goes into pictures that nobody asked for
    :raises StreamError: ``bad-video`` for bytes that are not an Annex-B byte stream of whole access units,
        ``picture-count`` for more than `max_pictures`
    """
    view = memoryview(data)
    groups: list[list[NalUnit]] = []
    has_picture = True  # whether the last group has its slices; at the start there is none to complete
    for nal in split_nal_units(view, offset):
        if nal.is_vcl:
            if len(nal.data) < 3:
                raise StreamError("bad-video", nal.offset, f"a slice of {len(nal.data)} bytes, expected 3 or more")
            first_slice = nal.data[2] >> 7  # first_slice_segment_in_pic_flag: no emulation prevention before it
            if not first_slice and (not groups or not has_picture):
                raise StreamError("bad-video", nal.offset, "a picture without its first slice")
            if first_slice and has_picture:
                groups.append([])
            has_picture = True
        elif nal.type in _BEGIN_ACCESS_UNIT:
            if has_picture:
                groups.append([])
            has_picture = False
        elif not groups or not has_picture:
            raise StreamError("bad-video", nal.offset, f"a NAL unit of type {nal.type} before its picture")
        if len(groups) > max_pictures:
            raise StreamError("picture-count", nal.offset, f"more than {max_pictures} pictures")
        groups[-1].append(nal)
    if not has_picture:
        last = groups[-1]
        types = ", ".join(str(nal.type) for nal in last[:8])
        raise StreamError("bad-video", last[0].offset, f"NAL units of types {types} without a picture after them")
    starts = [0, *(_start_code_index(view, group[0].offset - offset) for group in groups[1:]), len(view)]
    return [
        AccessUnit(view[start:end], offset + start, tuple(group))
        for group, start, end in zip(groups, starts[:-1], starts[1:], strict=True)
    ]


def _start_code_index(view: memoryview, header: int) -> int:
    """Where the start code of the NAL unit with its header at index `header` begins, its zero_byte included."""
    return header - 4 if view[header - 4] == 0 else header - 3
