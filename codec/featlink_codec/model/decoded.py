"""One NDU decoded: its tensors as the integers that stand in the stream, their values, and their hashes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError, TruncatedError
from .budget import Budget
from .core import PayloadCore
from .data_unit import Codebook, DataUnitHeader, PayloadType
from .reconstruction import QP_DELTA_BITS, EscapeTable, dequantize, look_up, step_size
from .syntax import ModelParameterSet
from .tensor_coding import TensorCoding
from .units import Unit

Values = NDArray[np.float32] | NDArray[np.int32]


@dataclass(frozen=True)
class StreamParameters:
    """What every NDU of a stream is read with: the profile of STR, and MPS."""

    general_profile_idc: int
    mps: ModelParameterSet


@dataclass(frozen=True)
class TensorContext:
    """What earlier updates left of a tensor, for the contexts of the next one.

    :param levels: of the last update that was sent, int32 [rows, columns]
    :param history: where any update had a level other than 0, bool [rows, columns]
    :param put_node_depth: of the last update that was sent
    """

    levels: NDArray[np.int32]
    history: NDArray[np.bool_]
    device_id: int
    parameter_id: int
    put_node_depth: int


@dataclass(frozen=True)
class DecodedTensor:
    """A tensor as it stands in the stream.

    :param levels: int32 [rows, columns]; None for RAW_FLOAT
    :param raw: float32, of the tensor's dimensions; only for RAW_FLOAT
    :param qp: quantization parameter, None for INT and RAW_FLOAT
    :param offset: of its unit in the stream
    :param node: device_id, parameter_id and put_node_depth
    :param is_update: it names a parent: it is a difference
    """

    name: str
    payload_type: PayloadType
    dimensions: tuple[int, ...]
    levels: NDArray[np.int32] | None
    raw: NDArray[np.float32] | None
    qp: int | None
    qp_density: int
    codebook: Codebook | None
    offset: int
    node: tuple[int, int, int] = (0, 0, 0)
    is_update: bool = False

    def integers(self) -> NDArray[np.int32]:
        """What is multiplied by the step: levels, or the codebook's entries. int32 [rows, columns]."""
        if self.levels is None:
            raise SettingsError(f"{self.name!r} is not made of integers, it is RAW_FLOAT")
        if self.codebook is None:
            return self.levels
        return look_up(self.levels, self.codebook.values, self.codebook.zero_offset)

    def values(self, escape: EscapeTable | None = None) -> Values:
        """float32 of the tensor's dimensions; int32 for INT."""
        if self.raw is not None:
            return self.raw
        integers = self.integers()
        if self.qp is None:
            return integers.reshape(self.dimensions)
        values = dequantize(integers, step_size(self.qp, self.qp_density))
        if escape is not None:
            escape.apply(values, integers)
        return values.reshape(self.dimensions)

    def sha256(self) -> bytes:
        """Hash of all that the values follow from: kind, dimensions, step, and every integer."""
        dimensions = "x".join(map(str, self.dimensions))
        kind = "RAW_FLOAT" if self.raw is not None else "INT" if self.qp is None else f"{self.qp}/{self.qp_density}"
        found = hashlib.sha256(f"{kind} {dimensions}\n".encode())
        held = self.integers().astype("<i4", copy=False) if self.raw is None else self.raw.astype("<f4", copy=False)
        found.update(np.ascontiguousarray(held).data)
        return found.digest()


def read_header(
    data: memoryview, unit: Unit, parameters: StreamParameters, budget: Budget
) -> tuple[DataUnitHeader, int]:
    """An NDU's header, and the offset of its payload."""
    io = unit.reader(data)
    header = DataUnitHeader()
    header.code(io, parameters.general_profile_idc, parameters.mps.mps_parent_signalling_enabled_flag, budget)
    return header, io.position


def decode_unit(
    data: memoryview,
    unit: Unit,
    header: DataUnitHeader,
    payload: int,
    parameters: StreamParameters,
    core: PayloadCore,
    contexts: Mapping[str, TensorContext],
    threads: int = 1,
) -> list[DecodedTensor]:
    """All tensors of an NDU, in the order of topology_elem_ids.

    :param payload: offset of the payload, as `read_header` gave it
    :param contexts: of the tensors' earlier updates
    :param threads: where there are entry points and the core can begin at them
    :raises StreamError: what the payload holds is not what the header promises
    """
    kind = PayloadType(header.nnr_compressed_data_unit_payload_type)
    density = parameters.mps.mps_qp_density
    common = (unit.offset, _node(header), bool(header.parent_node_id_present_flag))
    if kind is PayloadType.RAW_FLOAT:
        raw = _raw_values(data, unit, header, payload)
        return [DecodedTensor(header.topology_elem_ids[0], kind, raw.shape, None, raw, None, density, None, *common)]
    quantized = kind is not PayloadType.INT
    if quantized and not parameters.mps.mps_quantization_method_flags & 3:
        raise StreamError("bad-qp", unit.offset, "the MPS has no quantization parameter, the unit needs one")
    order = header.block_order() if kind is PayloadType.BLOCK else [0]
    codings = {place: header.coding(place, parameters.general_profile_idc) for place in order}
    held = {place: _context(contexts, header, place, coding, unit.offset) for place, coding in codings.items()}
    found: dict[int, DecodedTensor] = {}
    try:
        coder = core.PayloadDecoder(data[payload : unit.end])
        for place, coding in codings.items():
            name, context = header.topology_elem_ids[place], held[place]
            qp = None
            if quantized:
                bits = QP_DELTA_BITS + density
                delta = coder.bits(bits)
                delta -= (delta >> bits - 1) << bits
                qp = delta + parameters.mps.mps_quantization_parameter
                step_size(qp, density)
            base = context.levels if context is not None and coding.temporal else None
            history = context.history if context is not None and coding.parent else None
            entries = header.cabac_entry_point_list if place == 0 else []
            parallel = getattr(coder, "tensor_parallel", None) if threads > 1 and entries else None
            if parallel is not None:
                levels = parallel(coding, entries, threads, base, history)
            else:
                levels = coder.tensor(coding, base, history)
            book = header.codebook if place == 0 else None
            dimensions = header.dimensions_of(place)
            found[place] = DecodedTensor(name, kind, dimensions, levels, None, qp, density, book, *common)
        used = coder.finish()
    except TruncatedError as error:
        raise TruncatedError(payload + error.offset, error.needed, error.text) from None
    except StreamError as error:
        raise type(error)(error.name, payload + error.offset, error.text) from None
    except SettingsError as error:
        raise StreamError("bad-qp", payload, str(error)) from None
    if payload + used != unit.end:
        text = f"the codeword has {used} bytes, the unit has {unit.end - payload} for it"
        raise StreamError("bad-size", payload, text)
    return [found[place] for place in sorted(found)]


def _node(header: DataUnitHeader) -> tuple[int, int, int]:
    return header.device_id, header.parameter_id, header.put_node_depth


def _raw_values(data: memoryview, unit: Unit, header: DataUnitHeader, payload: int) -> NDArray[np.float32]:
    wanted = 4 * math.prod(header.tensor_dimensions)
    if unit.end - payload != wanted:
        text = f"{unit.end - payload} bytes for a tensor of {wanted // 4} raw values"
        raise StreamError("bad-size", payload, text)
    raw = np.frombuffer(data[payload : unit.end], "<f4").astype(np.float32)
    return raw.reshape(header.tensor_dimensions)


def _context(
    contexts: Mapping[str, TensorContext], header: DataUnitHeader, place: int, coding: TensorCoding, offset: int
) -> TensorContext | None:
    """What there is of earlier updates of a tensor. The update that one is coded against is the one before it."""
    name, shape = header.topology_elem_ids[place], (coding.rows, coding.columns)
    context = contexts.get(name)
    if not coding.temporal:
        return context if context is not None and context.levels.shape == shape else None
    if context is None:
        raise StreamError("missing-context", offset, f"{name!r} is coded against an earlier update, which is not here")
    if context.levels.shape != shape:
        raise StreamError("wrong-base", offset, f"{name!r} is {shape}, its earlier update {context.levels.shape}")
    wanted = (context.device_id, context.parameter_id, context.put_node_depth + 1)
    found = _node(header)
    if found != wanted:
        text = f"{name!r} is device, parameter, depth {found}; after the update that is here comes {wanted}"
        raise StreamError("wrong-base", offset, text)
    return context


def converted(values: NDArray[Any], dtype: str, tensor: DecodedTensor) -> NDArray[Any]:
    """Values in the type that they had before they were coded.

    :raises StreamError: ``bad-tensor``: the type cannot hold them
    """
    wanted = np.dtype(dtype)
    if tensor.payload_type is PayloadType.INT and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise StreamError("bad-tensor", tensor.offset, f"{tensor.name!r} has values that {dtype} cannot hold")
    elif wanted.kind in "iub" and tensor.payload_type is not PayloadType.INT:
        raise StreamError("bad-tensor", tensor.offset, f"{tensor.name!r} is {dtype}, but was not coded as integers")
    # Signalling NaNs, too, are converted as they are.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(wanted)
