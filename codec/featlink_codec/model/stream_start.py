"""The beginning of a model stream: profile, parameter set and, where there is one, our control data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import StreamError
from .budget import Budget
from .control_document import MODEL_ID, ControlDocument
from .decoded import StreamParameters
from .fields import unpacked
from .syntax import ModelParameterSet, StartHeader, TopologyStorageFormat, TopologyUnit, UnitType
from .units import Unit, read_unit


@dataclass(frozen=True)
class StreamStart:
    """What stands before the tensors.

    :param control: None in streams of others
    :param end: offset of the first unit behind it
    """

    parameters: StreamParameters
    control: ControlDocument | None
    end: int


def read_start(data: memoryview, budget: Budget) -> StreamStart:
    """STR, MPS, and the TPL behind them where its text is control data; only its head is read.

    :raises StreamError: no start of a model stream, or one that is damaged
    """
    start = _expect(data, 0, UnitType.STR)
    header = StartHeader()
    header.code(start.reader(data))
    unit = _expect(data, start.end, UnitType.MPS)
    io = unit.reader(data)
    mps = ModelParameterSet()
    mps.code(io, header.general_profile_idc)
    rest = bytes(data[io.position : unit.end])
    if mps.has_performance_maps:
        mps.performance_maps = rest
    elif rest:
        raise StreamError("bad-size", io.position, f"{len(rest)} bytes after the model parameter set")
    control, end = _control(data, unit.end, budget)
    _check_model(mps, control, end)
    return StreamStart(StreamParameters(header.general_profile_idc, mps), control, end)


def _expect(data: memoryview, offset: int, wanted: UnitType) -> Unit:
    unit = read_unit(data, offset)
    if unit.unit_type is not wanted:
        raise StreamError("not-a-stream", offset, f"a unit of type {unit.unit_type.name}, expected {wanted.name}")
    return unit


def _control(data: memoryview, offset: int, budget: Budget) -> tuple[ControlDocument | None, int]:
    """The control data in the unit at an offset, and where the next unit begins."""
    if offset == len(data):
        return None, offset
    unit = read_unit(data, offset)
    if unit.unit_type is not UnitType.TPL:
        return None, offset
    io = unit.reader(data)
    topology = TopologyUnit()
    topology.code_header(io)
    text = data[io.position : unit.end - 1]
    if topology.topology_storage_format != TopologyStorageFormat.UNREC or not ControlDocument.is_one(text):
        return None, offset
    if unit.size > budget.max_control_bytes:
        limit = budget.max_control_bytes
        asked = f"control data of {unit.size} bytes, the budget's max_control_bytes is {limit}"
        raise StreamError("over-budget", offset, asked)
    if data[unit.end - 1]:
        raise StreamError("bad-string", unit.end - 1, "no zero at the end of the control data")
    return ControlDocument(text, io.position, budget), unit.end


def _check_model(mps: ModelParameterSet, control: ControlDocument | None, end: int) -> None:
    """The parameter set and the control data name the same model, or neither does."""
    named = mps.base_model_id or ""
    ours = named.startswith(MODEL_ID)
    if control is None:
        if ours:
            raise StreamError("bad-control", end, "the control data is not there, or not to be recognised")
        return
    digest = unpacked(named.removeprefix(MODEL_ID)) if ours else None
    is_update = mps.mps_parent_signalling_enabled_flag
    if digest is None or not (is_update or digest == control.head.model):
        text = f"the parameter set is of the model {named!r}, the control data of another"
        raise StreamError("bad-control", control.offset, text)
    if is_update:
        control.head = replace(control.head, base=digest)
