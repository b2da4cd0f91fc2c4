"""What the coder of a tensor's payload has to know: the part of an NDU's header that steers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class TensorCoding:
    """How one tensor of a payload is coded, of its two-dimensional view [rows, columns].

    :param rows: dims[0]
    :param columns: product of the other dims, 1 where there are none
    :param unary_length: N, cabac_unary_length_minus1 + 1: how many greater-than bins come before Exp-Golomb
    :param dq: dq_flag: dependent quantization, 8 states
    :param scan_order: 0 row-major; s >= 1: blocks of (4 << s) squared, with a new start at every block row
    :param profile_idc: general_profile_idc, 0 or 1
    :param parent: parent_node_id_present_flag
    :param temporal: temporal_context_modeling_flag with levels of an earlier update at hand (TCA)
    :param codebook_size: entries of the tensor's codebook, 0: none
    :param zero_offset: entry of the codebook that index 0 stands for
    """

    rows: int
    columns: int
    unary_length: int = 10
    dq: bool = False
    scan_order: int = 0
    profile_idc: int = 1
    parent: bool = False
    temporal: bool = False
    codebook_size: int = 0
    zero_offset: int = 0


class EntryPoint(NamedTuple):
    """One entry of cabac_entry_point_list: where decoding of a block row can begin (never the first one)."""

    #: The arithmetic decoder's offset register >> 7, 8 bits.
    value: int
    #: State of dependent quantization, 0 without it.
    dq_state: int
    #: Bits since the previous entry point; since the first weight for the first one.
    bit_offset: int
