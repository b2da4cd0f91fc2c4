"""Headers of an NNC bitstream's units, ISO/IEC 15938-17: one definition for both directions, the standard's names."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..bits import BitCoder
from .budget import Budget
from .data_unit import DataUnitHeader, PayloadType, byte_alignment

__all__ = [
    "DataUnitHeader",
    "ModelParameterSet",
    "PayloadType",
    "StartHeader",
    "TopologyStorageFormat",
    "TopologyUnit",
    "UnitHeader",
    "UnitType",
]

#: general_profile_idc that are read. The peer writes 1.
PROFILES = (0, 1)


class UnitType(enum.IntEnum):
    """nnr_unit_type; 7 and above are reserved."""

    #: Start: the profile.
    STR = 0
    #: Model parameter set.
    MPS = 1
    #: Layer parameter set.
    LPS = 2
    #: Topology, or text where its format is UNREC.
    TPL = 3
    #: Quantization data.
    QNT = 4
    #: Compressed data: tensors.
    NDU = 5
    #: Aggregate of units.
    AGG = 6


@dataclass(slots=True)
class UnitHeader:
    """nnr_unit_size() and the part of nnr_unit_header() that all units share."""

    nnr_unit_size_flag: int = 0
    #: Bytes of the whole unit, this field among them.
    nnr_unit_size: int = 0
    nnr_unit_type: int = UnitType.STR
    independently_decodable_flag: int = 1

    def code(self, io: BitCoder) -> None:
        """Read or write the structure; refuse what cannot be read, by name."""
        at = io.position
        self.nnr_unit_size_flag = io.u(1, self.nnr_unit_size_flag)
        self.nnr_unit_size = io.u(31 if self.nnr_unit_size_flag else 15, self.nnr_unit_size)
        self.nnr_unit_type = io.u(6, self.nnr_unit_type)
        self.independently_decodable_flag = io.u(1, self.independently_decodable_flag)
        if io.u(1, 0):
            io.refuse("unsupported-partial-data", "partial_data_counter_present_flag is 1", at)
        if self.nnr_unit_type > UnitType.AGG:
            io.refuse("unsupported-unit", f"nnr_unit_type {self.nnr_unit_type} is not known", at)
        if self.nnr_unit_type in (UnitType.LPS, UnitType.QNT, UnitType.AGG):
            name = UnitType(self.nnr_unit_type).name
            io.refuse(f"unsupported-{name.lower()}", f"units of type {name} are not read", at)


@dataclass(slots=True)
class StartHeader:
    """nnr_start_unit_header()."""

    general_profile_idc: int = 1

    def code(self, io: BitCoder) -> None:
        """Read or write the structure."""
        at = io.position
        self.general_profile_idc = io.u(8, self.general_profile_idc)
        if self.general_profile_idc not in PROFILES:
            io.refuse("unsupported-profile", f"general_profile_idc {self.general_profile_idc}, 0 and 1 are read", at)


@dataclass(slots=True)
class ModelParameterSet:
    """nnr_model_parameter_set_unit_payload(), for the profile of the stream."""

    topology_carriage_flag: int = 1
    mps_sparsification_flag: int = 0
    mps_pruning_flag: int = 0
    mps_unification_flag: int = 0
    mps_decomposition_performance_map_flag: int = 0
    #: 1: uniform, 2: codebook; 0 has no quantization parameter.
    mps_quantization_method_flags: int = 1
    mps_topology_indexed_reference_flag: int = 0
    #: Profile 1: present where not None.
    base_model_id: str | None = None
    validation_set_performance_present_flag: int = 0
    metric_type_performance_map_valid_flag: int = 0
    mps_parent_signalling_enabled_flag: int = 0
    #: Predictive residual encoding: the tensors are differences.
    nnr_pre_flag: int = 0
    nnr_reserved_zero_bits: int = 0
    performance_metric_type: str = ""
    mps_qp_density: int = 2
    mps_quantization_parameter: int = 0
    #: Binary32 pattern.
    validation_set_performance: int = 0
    #: Performance maps are kept as they are: all that follows, to the end of the unit.
    performance_maps: bytes = field(default=b"", repr=False)

    @property
    def has_performance_maps(self) -> bool:
        """Whether any of the flags promises a map."""
        return bool(
            self.mps_sparsification_flag
            or self.mps_pruning_flag
            or self.mps_unification_flag
            or self.mps_decomposition_performance_map_flag
        )

    def code(self, io: BitCoder, general_profile_idc: int) -> None:
        """Read or write the structure, performance maps left out."""
        at = io.position
        self.topology_carriage_flag = io.u(1, self.topology_carriage_flag)
        self.mps_sparsification_flag = io.u(1, self.mps_sparsification_flag)
        self.mps_pruning_flag = io.u(1, self.mps_pruning_flag)
        self.mps_unification_flag = io.u(1, self.mps_unification_flag)
        self.mps_decomposition_performance_map_flag = io.u(1, self.mps_decomposition_performance_map_flag)
        self.mps_quantization_method_flags = io.u(3, self.mps_quantization_method_flags)
        self.mps_topology_indexed_reference_flag = io.u(1, self.mps_topology_indexed_reference_flag)
        if self.mps_topology_indexed_reference_flag:
            io.refuse("unsupported-indexed-reference", "mps_topology_indexed_reference_flag is 1", at)
        if general_profile_idc == 1:
            self._code_profile_1(io)
        else:
            self.nnr_reserved_zero_bits = io.r(7, self.nnr_reserved_zero_bits)
        if self.mps_quantization_method_flags & 3:
            self.mps_qp_density = io.u(3, self.mps_qp_density)
            self.mps_quantization_parameter = io.i(13, self.mps_quantization_parameter)
        if not self.has_performance_maps:
            if general_profile_idc == 1 and self.validation_set_performance_present_flag:
                self.validation_set_performance = _flt32(io, self.validation_set_performance)
            byte_alignment(io)

    def _code_profile_1(self, io: BitCoder) -> None:
        base_model_id_present_flag = io.u(1, int(self.base_model_id is not None))
        self.validation_set_performance_present_flag = io.u(1, self.validation_set_performance_present_flag)
        self.metric_type_performance_map_valid_flag = io.u(1, self.metric_type_performance_map_valid_flag)
        self.mps_parent_signalling_enabled_flag = io.u(1, self.mps_parent_signalling_enabled_flag)
        self.nnr_pre_flag = io.u(1, self.nnr_pre_flag)
        self.nnr_reserved_zero_bits = io.r(2, self.nnr_reserved_zero_bits)
        if base_model_id_present_flag:
            self.base_model_id = io.string(self.base_model_id or "")
        if self.validation_set_performance_present_flag or self.metric_type_performance_map_valid_flag:
            self.performance_metric_type = io.string(self.performance_metric_type)


class TopologyStorageFormat(enum.IntEnum):
    """topology_storage_format. Only text of format UNREC is looked into: it carries the control data."""

    UNREC = 0
    NNEF = 1
    ONNX = 2
    PYT = 3
    TEF = 4
    PRUN = 5
    REFLIST = 6


@dataclass(slots=True)
class TopologyUnit:
    """nnr_topology_unit_header() and payload()."""

    topology_storage_format: int = TopologyStorageFormat.UNREC
    #: 0: as it stands, 1: deflate.
    topology_compression_format: int = 0
    topology_data: str = ""

    def code_header(self, io: BitCoder) -> None:
        """Read or write the header."""
        self.topology_storage_format = io.u(8, self.topology_storage_format)
        self.topology_compression_format = io.u(8, self.topology_compression_format)

    def code(self, io: BitCoder, budget: Budget) -> None:
        """Read or write the whole structure, for formats that hold text."""
        self.code_header(io)
        self.topology_data = io.string(self.topology_data, budget.max_control_bytes)


def _flt32(io: BitCoder, pattern: int) -> int:
    """flt(32): the pattern's bytes, least significant first."""
    return sum(io.u(8, pattern >> shift & 255) << shift for shift in (0, 8, 16, 24))
