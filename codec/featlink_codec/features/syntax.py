"""Syntax of the feature-map stream, T/AI part 4 tables 8 to 13 and 18: one definition for both directions.

Every structure has `code(io)`, which runs against a reader or a writer (`featlink_codec.bits`); the field names are the
standard's. Checks that need nothing but the structure itself stand here; what needs earlier maps is in `heritage`.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..bits import BitCoder, BitReader, BitWriter, bits_float
from .adaptive.syntax import AdaptiveQuant
from .quantizers import LOGARITHMIC_LIMIT
from .syntax_lists import code_order_list, code_partitions

FEAT_MAP_SEQUENCE_END_CODE = 0x000000E0
FEAT_MAP_SEQUENCE_START_CODE = 0x000000E1
TIME_TAG_START_CODE = 0x000000E2
FEAT_MAP_START_CODE = 0x000000E3

#: Unit of interval_time, in seconds (6.2).
INTERVAL_UNIT_S = 0.01
#: Longest interval that a time tag can hold, in units of 0.01 s.
MAX_INTERVAL_TIME = (1 << 15) - 1
#: Samples of a map, H * W * C; more is refused before anything is allocated. Pictures have limits of their own.
MAX_MAP_SAMPLES = 1 << 28
#: total_order_number and repack_tile_c are u(16).
MAX_CHANNELS = 65535


class Profile(enum.Enum):
    """Which reading of the syntax both ends agreed on. It is not signalled in the stream."""

    #: Clauses 6 and 7 as they stand.
    STANDARD = "standard"
    #: Clause 8, table 18: repack_tile_c in 12 bits, no custom partitions.
    INTERFACE = "interface"
    #: `standard` with 16-bit maps, sent as a high and a low byte plane.
    STANDARD_16 = "standard-16"
    #: `standard` with pre_quant_mode 3: quantizers that fit the map, in classes.
    ADAPTIVE = "adaptive"


class AppliedVideoCodec(enum.IntEnum):
    """applied_video_codec of the sequence header; 2 to 7 are reserved."""

    AVS3 = 0
    HEVC = 1


class PreQuantMode(enum.IntEnum):
    """pre_quant_mode; 3 to 7 are reserved, but for profile `adaptive`, which gives 3 a meaning."""

    UNIFORM = 0
    LOGARITHMIC = 1
    CUSTOM = 2
    ADAPTIVE = 3


class RepackMode(enum.IntEnum):
    """repack_mode; 3 is reserved."""

    #: One channel a picture, in the order of the list (7.2.2.1).
    STACK = 0
    #: Channels side by side in their own order (7.2.2.2).
    TILE = 1
    #: Channels side by side in the order of the list (7.2.2.3).
    ORDERED_TILE = 2


@dataclass(slots=True)
class SequenceHeader:
    """feat_map_sequence_header(), table 9."""

    applied_video_codec: int = AppliedVideoCodec.HEVC
    #: Which network made the maps, 0 to 7.
    feat_extractor_id: int = 0
    reserved_bits: int = 0

    def code(self, io: BitCoder) -> None:
        """Read or write the structure."""
        io.f(32, FEAT_MAP_SEQUENCE_START_CODE)
        self.applied_video_codec = io.u(3, self.applied_video_codec)
        self.feat_extractor_id = io.u(3, self.feat_extractor_id)
        self.reserved_bits = io.r(2, self.reserved_bits)

    def __bytes__(self) -> bytes:
        return _written(self)


@dataclass(slots=True)
class TimeTag:
    """time_tag(), table 10: either a universal time or the interval since the previous tag."""

    universal_time_flag: int = 0
    #: The low 63 bits of an IEEE-754 binary64, seconds since 1970; its sign bit is 0.
    universal_time: int = 0
    #: In units of 0.01 s.
    interval_time: int = 0

    def code(self, io: BitCoder) -> None:
        """Read or write the structure. A universal time that is no number is for the reader's semantics to refuse."""
        io.f(32, TIME_TAG_START_CODE)
        self.universal_time_flag = io.u(1, self.universal_time_flag)
        if self.universal_time_flag:
            self.universal_time = io.u(63, self.universal_time)
        else:
            self.interval_time = io.u(15, self.interval_time)

    @classmethod
    def universal(cls, seconds: float) -> TimeTag:
        """The tag for a time in seconds since 1970; finite and not negative."""
        return cls(universal_time_flag=1, universal_time=int.from_bytes(struct.pack(">d", seconds), "big"))

    @property
    def universal_time_s(self) -> float:
        """universal_time as seconds since 1970, possibly infinite or NaN."""
        seconds: float = struct.unpack(">d", self.universal_time.to_bytes(8, "big"))[0]
        return seconds

    def __bytes__(self) -> bytes:
        return _written(self)


@dataclass(slots=True)
class FeatMapHeader:
    """feat_map_data() up to video_codec_stream(), table 11 (table 18 in profile `interface`)."""

    profile: Profile = Profile.STANDARD
    feat_type_id: int = 0
    #: 1: the map is of integers, and nothing is quantized; 0: of floating-point numbers.
    feat_integer: int = 0
    #: Bit depth is 2 ** (bit_depth_compact + 1).
    bit_depth_compact: int = 2
    pre_quant_mode: int = PreQuantMode.UNIFORM
    #: IEEE-754 binary32 pattern; `max_feat_digit` is its value.
    max_feat_digit_bits: int = 0x3F800000
    quant_heritage_flag: int = 0
    #: Binary32 patterns of the peak bounds, uint32 [peak]; None where inherited or unused.
    quant_partitions: NDArray[np.uint32] | None = None
    #: pre_quant_mode 3; None where inherited or unused.
    adaptive_quant: AdaptiveQuant | None = None
    #: Byte of side_info, counted as the header is read or written.
    side_info_at: int = field(default=0, compare=False)
    reserved_bits: int = 0
    repack_mode: int = RepackMode.TILE
    #: Rows added below each picture.
    feat_map_pad_h: int = 0
    #: Columns added to the right of each picture.
    feat_map_pad_w: int = 0
    repack_heritage_flag: int = 0
    repack_tile_h: int = 0
    repack_tile_w: int = 0
    repack_tile_c: int = 0
    #: uint32 [C]; None where inherited or unused.
    repack_order_list: NDArray[np.uint32] | None = field(default=None)
    alignment_bits: int = 0

    @property
    def bit_depth(self) -> int:
        """2, 4, 8 or 16."""
        return 2 << self.bit_depth_compact

    @property
    def peak(self) -> int:
        """Highest level: 2 ** bit_depth - 1."""
        return (1 << self.bit_depth) - 1

    @property
    def max_feat_digit(self) -> float:
        """Value of the binary32 in max_feat_digit."""
        return bits_float(self.max_feat_digit_bits)

    def code(self, io: BitCoder) -> None:
        """Read or write the structure; refuse by name, at once, what makes the rest unreadable."""
        io.f(32, FEAT_MAP_START_CODE)
        self.feat_type_id = io.u(8, self.feat_type_id)
        self.feat_integer = io.u(1, self.feat_integer)
        self.bit_depth_compact = io.u(2, self.bit_depth_compact)
        if self.bit_depth == 16 and self.profile is not Profile.STANDARD_16:
            io.refuse("depth-16", f"16-bit maps need profile standard-16, the profile is {self.profile.value}")
        if not self.feat_integer:
            self._code_quantizer(io)
            self.reserved_bits = io.r(2, self.reserved_bits)
        else:
            self.reserved_bits = io.r(5, self.reserved_bits)
        self.repack_mode = io.u(2, self.repack_mode)
        self.feat_map_pad_h = io.u(3, self.feat_map_pad_h)
        self.feat_map_pad_w = io.u(3, self.feat_map_pad_w)
        if self.repack_mode not in set(RepackMode):
            io.refuse("reserved-repack-mode", f"repack_mode {self.repack_mode} is reserved")
        self.repack_heritage_flag = io.u(1, self.repack_heritage_flag)
        if not self.repack_heritage_flag:
            self._code_repack(io)
        self.alignment_bits = io.align(self.alignment_bits)

    def _code_quantizer(self, io: BitCoder) -> None:
        self.pre_quant_mode = io.u(3, self.pre_quant_mode)
        at = io.position
        if self.pre_quant_mode not in set(PreQuantMode):
            io.refuse("reserved-quant-mode", f"pre_quant_mode {self.pre_quant_mode} is reserved")
        if self.pre_quant_mode == PreQuantMode.ADAPTIVE and self.profile is not Profile.ADAPTIVE:
            text = f"pre_quant_mode 3 is reserved but in profile adaptive, the profile is {self.profile.value}"
            io.refuse("reserved-quant-mode", text)
        self.max_feat_digit_bits = io.float32(self.max_feat_digit_bits)
        _check_max_feat_digit(io, self.pre_quant_mode, self.max_feat_digit, at)
        if self.pre_quant_mode == PreQuantMode.CUSTOM:
            if self.profile is Profile.INTERFACE:
                io.refuse("custom-in-interface", "profile interface has no syntax for custom partitions (table 18)")
            self.quant_heritage_flag = io.u(1, self.quant_heritage_flag)
            if not self.quant_heritage_flag:
                self.quant_partitions = code_partitions(io, self.peak, self.quant_partitions)
        elif self.pre_quant_mode == PreQuantMode.ADAPTIVE:
            self.quant_heritage_flag = io.u(1, self.quant_heritage_flag)
            if not self.quant_heritage_flag:
                self.adaptive_quant = self.adaptive_quant or AdaptiveQuant()
                self.adaptive_quant.code(io, self.bit_depth)
                self.side_info_at = io.position - len(self.adaptive_quant.side_info)

    def _code_repack(self, io: BitCoder) -> None:
        at = io.position
        if self.repack_mode != RepackMode.STACK:
            self.repack_tile_h = io.u(12, self.repack_tile_h)
            self.repack_tile_w = io.u(12, self.repack_tile_w)
            if not self.repack_tile_h or not self.repack_tile_w:
                io.refuse("bad-tile", f"{self.repack_tile_h} x {self.repack_tile_w} tiles", at)
        if self.repack_mode == RepackMode.TILE:
            bits = 12 if self.profile is Profile.INTERFACE else 16
            self.repack_tile_c = io.u(bits, self.repack_tile_c)
            if not self.repack_tile_c:
                io.refuse("bad-tile", "repack_tile_c is 0", at)
        else:
            self.repack_order_list = code_order_list(io, self.repack_order_list)

    @classmethod
    def read(cls, io: BitReader, profile: Profile) -> FeatMapHeader:
        """Read a header. Fields that the wire does not hold keep neutral values."""
        header = cls(profile=profile)
        header.code(io)
        return header

    def __bytes__(self) -> bytes:
        return _written(self)


def _check_max_feat_digit(io: BitCoder, pre_quant_mode: int, value: float, at: int) -> None:
    """max_feat_digit is finite and > 0 in every mode; in the logarithmic one also < 128, or level peak overflows."""
    if not math.isfinite(value) or value <= 0:
        io.refuse("bad-max", f"max_feat_digit is {value}, expected a finite number above 0", at)
    if pre_quant_mode == PreQuantMode.LOGARITHMIC and value >= LOGARITHMIC_LIMIT:
        io.refuse("bad-max", f"max_feat_digit is {value}, a logarithmic one is below {LOGARITHMIC_LIMIT:g}", at)


def _written(structure: SequenceHeader | TimeTag | FeatMapHeader) -> bytes:
    io = BitWriter()
    structure.code(io)
    return bytes(io)
