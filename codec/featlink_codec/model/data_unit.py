"""Header of an NDU, the unit that holds tensors (ISO/IEC 15938-17): nnr_compressed_data_unit_header()."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from ..bits import BitCoder
from .budget import Budget
from .tensor_coding import EntryPoint, TensorCoding
from .tensor_syntax import MAX_SCAN_ORDER

#: cabac_unary_length where the header has none.
DEFAULT_UNARY_LENGTH = 10


class PayloadType(enum.IntEnum):
    """nnr_compressed_data_unit_payload_type; 4 and above are reserved."""

    #: Integers as they are.
    INT = 0
    #: Integers times a step.
    FLOAT = 1
    #: Little-endian binary32, not arithmetic coded.
    RAW_FLOAT = 2
    #: A weight and the tensors that go with it, in one codeword.
    BLOCK = 3


class ParameterTypes(enum.IntFlag):
    """compressed_parameter_types: what a BLOCK holds beside the weight."""

    #: The weight is decomposed into two factors.
    DC = 1
    #: Local scaling.
    LS = 2
    #: Batch normalization: beta, gamma, mean, var.
    BN = 4
    #: Bias.
    BI = 8


class ParentNodeIdType(enum.IntEnum):
    """parent_node_id_type: how an update names what it updates."""

    NDU_ID = 0
    PAYLOAD_SHA256 = 1
    PAYLOAD_SHA512 = 2


def byte_alignment(io: BitCoder) -> None:
    """byte_alignment(): a one, then zeros to the byte boundary; a whole byte where it is aligned already."""
    io.f(1, 1)
    at = io.position
    if io.align():
        io.refuse("bad-fixed", "the bits up to the byte boundary are not 0", at)


@dataclass(slots=True)
class Codebook:
    """codebook(): integers in rising order; the payload codes the place in it, counted from `zero_offset`."""

    #: Order of the Exp-Golomb codes of the differences.
    egk: int = 0
    zero_offset: int = 0
    values: list[int] = field(default_factory=list)

    def code(self, io: BitCoder, budget: Budget) -> None:
        """Read or write the structure."""
        at = io.position
        self.egk = io.u(4, self.egk)
        size = io.ue(len(self.values), 2)
        budget.check(io, "max_codebook", size, "codebook_size", at)
        self.zero_offset = (size >> 1) + io.ie(self.zero_offset - (size >> 1), 2)
        if not 0 <= self.zero_offset < size:
            io.refuse("bad-codebook", f"entry {self.zero_offset} of {size} stands for index 0", at)
        values = self.values if len(self.values) == size else [0] * size
        zero = self.zero_offset
        values[zero] = io.ie(values[zero], 7)
        for j in range(zero - 1, -1, -1):
            values[j] = values[j + 1] - 1 - io.ue(values[j + 1] - 1 - values[j], self.egk)
        for j in range(zero + 1, size):
            values[j] = values[j - 1] + 1 + io.ue(values[j] - values[j - 1] - 1, self.egk)
        if values[0] < -(1 << 31) or values[-1] >= 1 << 31:
            io.refuse("bad-codebook", f"values {values[0]}..{values[-1]} do not fit in 32 bits", at)
        self.values = values


@dataclass(slots=True)
class DataUnitHeader:
    """nnr_compressed_data_unit_header(), after what all units share. Decomposed tensors are refused."""

    nnr_compressed_data_unit_payload_type: int = PayloadType.FLOAT
    #: topology_elem_id, or topology_elem_id_list for a BLOCK.
    topology_elem_ids: list[str] = field(default_factory=list)
    #: Profile 1.
    node_id_present_flag: int = 1
    device_id: int = 0
    #: Place of the tensor in the model.
    parameter_id: int = 0
    #: 0: a base model; an update is one deeper than what it updates.
    put_node_depth: int = 0
    parent_node_id_present_flag: int = 0
    parent_node_id_type: int = ParentNodeIdType.NDU_ID
    temporal_context_modeling_flag: int = 0
    parent_device_id: int = 0
    #: SHA-256 or SHA-512 of the parent's payload, as a number.
    parent_node_payload_sha: int = 0
    codebook: Codebook | None = None
    dq_flag: int = 0
    #: Present where not None; says nothing that the decoder needs.
    nnr_decompressed_data_format: int | None = None
    compressed_parameter_types: int = 0
    tensor_dimensions: list[int] = field(default_factory=list)
    #: N - 1; None: the default, 9.
    cabac_unary_length_minus1: int | None = None
    scan_order: int = 0
    cabac_entry_point_list: list[EntryPoint] = field(default_factory=list)

    def code(self, io: BitCoder, general_profile_idc: int, parent_signalling: int, budget: Budget) -> None:
        """Read or write the structure, to the first byte of the payload."""
        at = io.position
        kind = self.nnr_compressed_data_unit_payload_type = io.u(5, self.nnr_compressed_data_unit_payload_type)
        if kind not in set(PayloadType):
            io.refuse("unsupported-payload", f"payload type {kind} is not known", at)
        block = int(kind == PayloadType.BLOCK)
        if io.u(1, block) != block:
            io.refuse("unsupported-elements", f"{PayloadType(kind).name} unit, number of tensors", at)
        format_present = io.u(1, int(self.nnr_decompressed_data_format is not None))
        if not io.u(1, 1):
            io.refuse(
                "unsupported-no-dimensions", "input_parameters_present_flag is 0: dimensions must be in the unit", at
            )
        self._code_names(io, block, budget)
        if general_profile_idc == 1:
            self._code_node(io, parent_signalling)
        if kind in (PayloadType.FLOAT, PayloadType.BLOCK):
            self._code_codebook(io, budget)
        if kind != PayloadType.RAW_FLOAT:
            self.dq_flag = io.u(1, self.dq_flag)
        if format_present:
            self.nnr_decompressed_data_format = io.u(7, self.nnr_decompressed_data_format or 0)
        self._code_input_parameters(io, budget)
        if len(self.tensor_dimensions) > 1:
            self._code_scan(io, general_profile_idc, budget)
        byte_alignment(io)

    def _code_names(self, io: BitCoder, block: int, budget: Budget) -> None:
        if not block:
            self.topology_elem_ids = [io.string(self.topology_elem_ids[0] if self.topology_elem_ids else "")]
            return
        at = io.position
        count = io.ue(len(self.topology_elem_ids) - 2 if self.topology_elem_ids else 0, 7) + 2
        budget.check(io, "max_strings", count, "topology_elem_id_list", at)
        byte_alignment(io)
        names = self.topology_elem_ids or [""] * count
        self.topology_elem_ids = [io.string(name) for name in names]
        if len(set(self.topology_elem_ids)) < count:
            io.refuse("bad-block", "a name stands twice in topology_elem_id_list", at)

    def _code_node(self, io: BitCoder, parent_signalling: int) -> None:
        self.node_id_present_flag = io.u(1, self.node_id_present_flag)
        if self.node_id_present_flag:
            self.device_id = io.ue(self.device_id, 1)
            self._code_place(io)
        if not parent_signalling:
            return
        at = io.position
        self.parent_node_id_present_flag = io.u(1, self.parent_node_id_present_flag)
        if not self.parent_node_id_present_flag:
            return
        self.parent_node_id_type = io.u(2, self.parent_node_id_type)
        self.temporal_context_modeling_flag = io.u(1, self.temporal_context_modeling_flag)
        if self.parent_node_id_type == ParentNodeIdType.NDU_ID:
            self.parent_device_id = io.ue(self.parent_device_id, 1)
            if not self.node_id_present_flag:
                self._code_place(io)
        elif self.parent_node_id_type == ParentNodeIdType.PAYLOAD_SHA256:
            self.parent_node_payload_sha = io.u(256, self.parent_node_payload_sha)
        elif self.parent_node_id_type == ParentNodeIdType.PAYLOAD_SHA512:
            self.parent_node_payload_sha = io.u(512, self.parent_node_payload_sha)
        else:
            io.refuse("unsupported-parent", f"parent_node_id_type {self.parent_node_id_type} is not known", at)

    def _code_place(self, io: BitCoder) -> None:
        self.parameter_id = io.ue(self.parameter_id, 5)
        self.put_node_depth = io.ue(self.put_node_depth, 4)

    def _code_codebook(self, io: BitCoder, budget: Budget) -> None:
        if io.u(1, int(self.codebook is not None)):
            self.codebook = self.codebook or Codebook()
            self.codebook.code(io, budget)

    def _code_input_parameters(self, io: BitCoder, budget: Budget) -> None:
        at = io.position
        if not io.u(1, 1):
            io.refuse("unsupported-no-dimensions", "tensor_dimensions_flag is 0: no dimensions in the unit", at)
        unary_flag = io.u(1, int(self.cabac_unary_length_minus1 is not None))
        self.compressed_parameter_types = io.u(4, self.compressed_parameter_types)
        if self.compressed_parameter_types & ParameterTypes.DC:
            io.refuse("unsupported-decomposition", "compressed_parameter_types has DC", at)
        if self.nnr_compressed_data_unit_payload_type == PayloadType.BLOCK:
            wanted = len(self.block_order())
            if len(self.topology_elem_ids) != wanted:
                io.refuse("bad-block", f"{len(self.topology_elem_ids)} names for a block of {wanted} tensors", at)
        at = io.position
        count = io.ue(len(self.tensor_dimensions), 1)
        budget.check(io, "max_dimensions", count, "count_tensor_dimensions", at)
        dimensions = self.tensor_dimensions or [0] * count
        self.tensor_dimensions = [io.ue(dimension, 7) for dimension in dimensions]
        if not count or not all(self.tensor_dimensions):
            io.refuse("bad-dimensions", f"a tensor of dimensions {self.tensor_dimensions} has no elements", at)
        budget.check(io, "max_tensor_elements", math.prod(self.tensor_dimensions), "elements of the tensor", at)
        if unary_flag:
            self.cabac_unary_length_minus1 = io.u(8, self.cabac_unary_length_minus1 or 0)

    def _code_scan(self, io: BitCoder, general_profile_idc: int, budget: Budget) -> None:
        at = io.position
        if general_profile_idc == 1 and (shift := io.ue(0, 1)):
            io.refuse("unsupported-dimension-shift", f"first_tensor_dimension_shift is {shift}", at)
        self.scan_order = io.u(4, self.scan_order)
        if self.scan_order > MAX_SCAN_ORDER:
            io.refuse("unsupported-scan-order", f"scan_order {self.scan_order}, 0 to {MAX_SCAN_ORDER} are read", at)
        if not self.scan_order:
            return
        count = -(-self.tensor_dimensions[0] // (4 << self.scan_order)) - 1
        budget.check(io, "max_entry_points", count, "block rows", at)
        entries = self.cabac_entry_point_list or [EntryPoint(0, 0, 0)] * count
        if len(entries) != count:
            io.refuse("bad-entry-points", f"{len(entries)} entry points for {count} block rows after the first", at)
        before, coded = 0, []
        for j, entry in enumerate(entries):
            value = io.u(8, entry.value)
            dq_state = io.u(3, entry.dq_state) if self.dq_flag else 0
            offset = before + io.ie(entry.bit_offset - before, 7) if j else io.ue(entry.bit_offset, 11)
            if offset < 0:
                io.refuse("bad-entry-points", f"entry point {j} lies {-offset} bits before the one before it", at)
            coded.append(EntryPoint(value, dq_state, offset))
            before = offset
        self.cabac_entry_point_list = coded

    def block_order(self) -> list[int]:
        """The order in which a BLOCK's tensors are coded: places in topology_elem_ids, the weight (place 0) last."""
        types = self.compressed_parameter_types
        names = 1
        order, normalization = [], []
        if types & ParameterTypes.LS:
            order.append(names)
            names += 1
        if types & ParameterTypes.BN:
            normalization = list(range(names, names + 4))
            names += 4
        if types & ParameterTypes.BI:
            order.append(names)
        return [*order, *normalization, 0]

    def dimensions_of(self, place: int) -> tuple[int, ...]:
        """Dimensions of the tensor at a place in topology_elem_ids: beside the weight, one number a row."""
        return tuple(self.tensor_dimensions) if place == 0 else (self.tensor_dimensions[0],)

    def coding(self, place: int, general_profile_idc: int) -> TensorCoding:
        """How the tensor at a place in topology_elem_ids is coded."""
        dimensions = self.dimensions_of(place)
        codebook = self.codebook if place == 0 and general_profile_idc == 1 else None
        minus1 = self.cabac_unary_length_minus1
        return TensorCoding(
            rows=dimensions[0],
            columns=math.prod(dimensions[1:]),
            unary_length=DEFAULT_UNARY_LENGTH if minus1 is None else minus1 + 1,
            # The peer decodes integers without dependent quantization, whatever the flag says.
            dq=bool(self.dq_flag) and self.nnr_compressed_data_unit_payload_type != PayloadType.INT,
            scan_order=self.scan_order if len(dimensions) > 1 else 0,
            profile_idc=general_profile_idc,
            parent=bool(self.parent_node_id_present_flag),
            temporal=bool(self.temporal_context_modeling_flag),
            codebook_size=len(codebook.values) if codebook else 0,
            zero_offset=codebook.zero_offset if codebook else 0,
        )
