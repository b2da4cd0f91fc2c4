"""Zero run-length coding of levels: pairs of a run of zeros and the level behind it, of fixed widths.

A rival that feature maps are measured against: the stream of the standard carries HEVC only, so nothing of this is
ever sent.

The code of a map: the number of pairs, 32 bits, most significant first; then the pairs without gaps, each `run_bits` of
run and `bit_depth` of level. A pair stands for that many zeros and then its level. A run that is longer than a pair can
say goes on: the greatest run and level 0 are that many zeros and one more. Zeros at the end are not coded, since the
reader knows how many levels a map has.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.features.quantizers import Levels, as_levels

#: Bytes of the number of pairs.
HEAD = 4
MAX_RUN_BITS = 16


@dataclass(frozen=True)
class ZeroRuns:
    """The code's widths.

    :param bit_depth: bits of a level, 1 to 16
    :param run_bits: bits of a run, 1 to 16
    """

    bit_depth: int
    run_bits: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.bit_depth <= 16:
            raise SettingsError(f"bit_depth: found {self.bit_depth}, expected 1..16")
        if not 1 <= self.run_bits <= MAX_RUN_BITS:
            raise SettingsError(f"run_bits: found {self.run_bits}, expected 1..{MAX_RUN_BITS}")

    @property
    def longest(self) -> int:
        """Zeros of the greatest run."""
        return (1 << self.run_bits) - 1

    @property
    def pair_bits(self) -> int:
        """Of a pair."""
        return self.run_bits + self.bit_depth

    def pairs(self, levels: Levels) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Runs and levels of the pairs, uint32 [pairs] each.

        :param levels: of any shape, gone through row by row
        :raises SettingsError: a level beyond bit_depth
        """
        flat = levels.reshape(-1)
        places = np.flatnonzero(flat)
        values = flat[places].astype(np.uint32)
        if values.size and int(values.max()) >> self.bit_depth:
            raise SettingsError(f"level {int(values.max())} does not fit {self.bit_depth} bits")
        gaps = np.diff(places, prepend=-1) - 1
        long, rest = np.divmod(gaps, self.longest + 1)
        ends = np.cumsum(long + 1)
        runs = np.full(int(ends[-1]) if ends.size else 0, self.longest, np.uint32)
        found = np.zeros(runs.size, np.uint32)
        runs[ends - 1] = rest
        found[ends - 1] = values
        return runs, found

    def size(self, pairs: int) -> int:
        """Bytes of so many pairs."""
        return HEAD + ceil(pairs * self.pair_bits / 8)

    def encode(self, levels: Levels) -> bytes:
        """The code of a map (SettingsError: a level beyond bit_depth, or more pairs than the code can count)."""
        runs, values = self.pairs(levels)
        if runs.size >> 32:
            raise SettingsError(f"{runs.size} pairs, the code counts up to {(1 << 32) - 1}")
        words = (runs.astype(np.uint64) << np.uint64(self.bit_depth)) | values
        places = np.arange(self.pair_bits - 1, -1, -1, dtype=np.uint64)
        bits = ((words[:, None] >> places) & np.uint64(1)).astype(np.uint8)
        return len(words).to_bytes(HEAD, "big") + np.packbits(bits.reshape(-1)).tobytes()

    def decode(self, data: bytes, count: int) -> Levels:
        """The levels of a map; no more memory than for them and the code is taken.

        :param count: levels of the map
        :returns: uint8 (uint16 above depth 8) [count]
        :raises StreamError: data that `encode` does not give for any map of that many levels
        """
        if len(data) < HEAD:
            raise StreamError(
                "run-length", len(data), f"the code ends after {len(data)} bytes, its number of pairs has {HEAD}"
            )
        pairs = int.from_bytes(data[:HEAD], "big")
        if len(data) != self.size(pairs):
            raise StreamError("run-length", HEAD, f"{pairs} pairs take {self.size(pairs)} bytes, found {len(data)}")
        bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=HEAD))
        if bits[pairs * self.pair_bits :].any():
            raise StreamError("run-length", len(data) - 1, "the bits behind the last pair are not zero")
        grid = bits[: pairs * self.pair_bits].reshape(pairs, self.pair_bits)
        runs, values = self._number(grid[:, : self.run_bits]), self._number(grid[:, self.run_bits :])
        if ((values == 0) & (runs != self.longest)).any() or (pairs and values[-1] == 0):
            raise StreamError("run-length", HEAD, "a pair of level 0 that continues no run")
        ends = np.cumsum(runs.astype(np.int64) + 1)
        if pairs and int(ends[-1]) > count:
            raise StreamError("run-length", HEAD, f"the pairs make {int(ends[-1])} levels, the map has {count}")
        levels = np.zeros(count, np.uint32)
        levels[ends - 1] = values
        return as_levels(levels, self.bit_depth)

    @staticmethod
    def _number(bits: NDArray[np.uint8]) -> NDArray[np.uint32]:
        weights = np.uint32(1) << np.arange(bits.shape[1] - 1, -1, -1, dtype=np.uint32)
        found: NDArray[np.uint32] = (bits * weights).sum(axis=1, dtype=np.uint32)
        return found


def entropy_coded_size(code: ZeroRuns, levels: Levels) -> int:
    """Bytes of the pairs after Huffman coding: runs and levels each by themselves (zlib, no string matching).

    They could be read back: the sizes are those of whole zlib streams, and the number of pairs is counted.
    """
    streams = []
    for values, bits in zip(code.pairs(levels), (code.run_bits, code.bit_depth), strict=True):
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
        narrow = values.astype(">u1" if bits <= 8 else ">u2")
        streams.append(packer.compress(narrow.tobytes()) + packer.flush())
    return HEAD + sum(map(len, streams))


def zeroth_order_bytes(levels: Levels) -> float:
    """Entropy of the levels, each by itself, in bytes: what an ideal coder without any context would take."""
    counts = np.bincount(levels.reshape(-1))
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / levels.size)).sum() / 8) if levels.size else 0.0
