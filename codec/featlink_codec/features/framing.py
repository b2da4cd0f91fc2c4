"""Where the structures of a feature-map stream begin and end: what the reader looks for in the bytes."""

from __future__ import annotations

import enum
import re

from ..bits import BitReader
from ..errors import RefusedError
from .syntax import FEAT_MAP_SEQUENCE_START_CODE, AppliedVideoCodec, SequenceHeader

ANY_START_CODE = re.compile(rb"\x00\x00\x00[\xe0-\xe3]")
#: Annex B allows 00 and 01 after three zeros; anything else ends the video: a start code, or damage.
END_OF_VIDEO = re.compile(rb"\x00\x00\x00[^\x00\x01]")
NOT_ZERO = re.compile(rb"[^\x00]")
SEQUENCE_START = FEAT_MAP_SEQUENCE_START_CODE.to_bytes(4, "big")


class State(enum.Enum):
    """Where a reader is."""

    START = enum.auto()  # before the sequence header
    GAP = enum.auto()  # next_start_code() behind a header or a tag
    TAG = enum.auto()  # at a time tag's start code
    MAP = enum.auto()  # at a map's start code
    VIDEO = enum.auto()  # in video_codec_stream()
    HUNT = enum.auto()  # after damage
    END = enum.auto()  # after the end code


def sequence_header(data: bytearray, at_end: bool) -> SequenceHeader | None:
    """The sequence header that a stream begins with; None while it is not all there.

    :param at_end: no more bytes will come
    :raises RefusedError: not a stream, or not one of HEVC
    """
    found = bytes(data[:4])
    if not SEQUENCE_START.startswith(found) or (at_end and len(data) < 5):
        expected = f"expected feat_map_sequence_start_code ({SEQUENCE_START.hex()})"
        raise RefusedError("not-a-stream", 0, f"found {found.hex() or 'nothing'}, {expected}")
    if len(data) < 5:
        return None
    header = SequenceHeader()
    header.code(BitReader(data))
    if header.applied_video_codec != AppliedVideoCodec.HEVC:
        if header.applied_video_codec == AppliedVideoCodec.AVS3:
            raise RefusedError("codec-avs3", 4, "the video is AVS3, only HEVC is read")
        raise RefusedError("codec-reserved", 4, f"applied_video_codec {header.applied_video_codec} is reserved")
    return header


def tag_size(data: bytearray, at: int) -> int:
    """Bytes of the time tag at `at`: 6 or 12; 5 while its flag has not come."""
    if len(data) - at < 5:
        return 5
    return 12 if data[at + 4] & 0x80 else 6


def end_code_ends(data: bytearray, at: int, at_end: bool) -> bool | None:
    """Whether an end code that was come upon ends the stream: at the end of the data, or before another sequence.

    :returns: None while that cannot be known
    """
    behind = bytes(data[at + 4 : at + 8])
    if behind == SEQUENCE_START or (not behind and at_end):
        return True
    return None if len(behind) < 4 and not at_end and SEQUENCE_START.startswith(behind) else False
