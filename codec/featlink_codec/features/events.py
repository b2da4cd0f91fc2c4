"""What comes out of a feature-map stream. Each element gives back, as bytes, exactly what it was read from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import StreamError
from .adaptive.adaptive import AnyQuantizer
from .packing import Packing
from .quantizers import Levels
from .syntax import FEAT_MAP_SEQUENCE_END_CODE, FeatMapHeader, SequenceHeader, TimeTag


@dataclass(frozen=True, eq=False, kw_only=True)
class Element:
    """A structure of the stream with its place."""

    #: Byte offset of its start code from the start of the stream.
    offset: int
    #: Zero bytes between its end and the next start code.
    zero_bytes: int = 0

    def _body(self) -> bytes:
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        return self._body() + bytes(self.zero_bytes)


@dataclass(frozen=True, eq=False, kw_only=True)
class SequenceStart(Element):
    """feat_map_sequence_header()."""

    header: SequenceHeader

    def _body(self) -> bytes:
        return bytes(self.header)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tag(Element):
    """time_tag()."""

    #: 0, 1, 2 ...: place among the tags of the stream that were read.
    index: int
    tag: TimeTag
    #: Seconds since 1970; None while it cannot be known.
    time_s: float | None

    def _body(self) -> bytes:
        return bytes(self.tag)


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMap(Element):
    """feat_map_data(), checked, decoded and unpacked."""

    header: FeatMapHeader
    #: Index of the time tag that it stands under; None when that tag was lost.
    tag_index: int | None
    #: Seconds since 1970; None while it cannot be known.
    time_s: float | None
    packing: Packing
    #: (H, W, C)
    shape: tuple[int, int, int]
    #: None for an integer map.
    quantizer: AnyQuantizer | None
    #: Custom partitions in force, also where inherited: float32 [peak].
    partitions: NDArray[np.float32] | None
    #: video_codec_stream(), without the zero bytes behind it.
    video: bytes = field(repr=False)
    pictures: int
    #: (rows, columns) of a picture, pads included.
    picture_size: tuple[int, int]
    #: Its first picture is intra and comes with parameter sets.
    starts_session: bool
    #: Every picture carried an MD5 picture hash, and (where it was decoded) it held.
    hashed: bool
    #: uint8 (uint16 at depth 16) [H, W, C], a view of planes [C, H, W]; None where they are not wanted.
    levels: Levels | None = field(repr=False)
    #: The dequantized values, or the integers, as the head takes them: see `Wanted`.
    tensor: NDArray[np.generic] | None = field(repr=False, default=None)

    def values(self) -> NDArray[np.float32]:
        """float32 [H, W, C]: dequantized, or the integers themselves."""
        assert self.levels is not None, "the reader was told not to give levels"
        if self.quantizer is None:
            return self.levels.astype(np.float32)
        return self.quantizer.dequantize(self.levels)

    @property
    def nbytes(self) -> int:
        """Bytes in the stream, from start code to next start code."""
        return len(bytes(self.header)) + len(self.video) + self.zero_bytes

    def _body(self) -> bytes:
        return bytes(self.header) + self.video


@dataclass(frozen=True, eq=False, kw_only=True)
class SequenceEnd(Element):
    """feat_map_sequence_end_code."""

    def _body(self) -> bytes:
        return FEAT_MAP_SEQUENCE_END_CODE.to_bytes(4, "big")


@dataclass(frozen=True, eq=False)
class Damage:
    """Something was lost, or stands where nothing should: reported, and the stream goes on behind it."""

    error: StreamError
    #: Offset of the feat_map_data() that is lost with it; None when no map is known to be.
    map_offset: int | None = None


Event = SequenceStart | Tag | FeatureMap | SequenceEnd | Damage
