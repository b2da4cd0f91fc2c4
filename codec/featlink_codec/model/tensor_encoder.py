"""Encodes one tensor into an NDU, with the record that the control data keeps of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import Encoder, PayloadCore
from .data_unit import Codebook, DataUnitHeader, PayloadType
from .decoded import DecodedTensor, TensorContext
from .layers import parameter_type
from .reconstruction import QP_DELTA_BITS, EscapeTable, step_size
from .settings import EncodeSettings, TensorSettings
from .tensor_coding import EntryPoint, TensorCoding
from .tensor_level import TensorRecord
from .tensor_values import MAX_TABLE, coded_values, egk, escaped, orders, unit_name
from .units import StreamWriter

#: Indices stay within this, so that dependent quantization, which doubles them, stays within 32 bits.
MAX_INDEX = (1 << 30) - 1


@dataclass(frozen=True)
class Node:
    """What an NDU says of its place: in the model, and among updates.

    :param context: of an update: what the update before it left of the tensor
    """

    parameter_id: int = 0
    put_node_depth: int = 0
    is_update: bool = False
    context: TensorContext | None = None


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor, the NDU that holds it, and what it decodes to.

    :param unit: the whole unit; nothing where it is that of the tensor before
    :param record: of the control data, its offset still 0
    :param decoded: what a reader finds in the unit
    :param shape: of the tensor in its model
    :param dtype: likewise
    """

    unit: bytes
    record: TensorRecord
    decoded: DecodedTensor
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def values(self) -> NDArray[Any]:
        """What a reader makes of it: an array of its own."""
        restored = self.record.order.restore(self.decoded.values(self.record.escape), self.shape)
        with np.errstate(over="ignore"):
            # What has no step is still the caller's.
            return restored.astype(self.dtype, copy=self.decoded.qp is None)

    def without_levels(self) -> EncodedTensor:
        """All that a stream is assembled from, so that a model is not held twice."""
        return replace(self, decoded=replace(self.decoded, levels=None, raw=None))

    @property
    def is_zero(self) -> bool:
        """All levels are zero."""
        return self.decoded.levels is not None and not self.decoded.levels.any()


@dataclass(frozen=True)
class Indices:
    """Quantized: indices int32 in the tensor's stored dimensions, and what they mean."""

    values: NDArray[np.int32]
    dimensions: tuple[int, ...]
    dq: bool
    qp: int | None
    codebook: Codebook | None = None
    escape: EscapeTable | None = None


class TensorEncoder:
    """Encodes the tensors of one stream.

    :param writer: of the stream's units
    """

    def __init__(self, settings: EncodeSettings, writer: StreamWriter, core: PayloadCore) -> None:
        self._settings = settings
        self._writer = writer
        self._core = core

    def encode(self, name: str, tensor: NDArray[Any], node: Node, *, arrange: bool = True) -> EncodedTensor:
        """An NDU for a tensor.

        :param tensor: floating-point numbers, integers or booleans
        :param arrange: whether a choice of order is the encoder's; an `Order` in the settings is kept anyhow
        :raises SettingsError: no elements, a type that is not coded, or integers beyond 32 bits
        """
        values, dtype = coded_values(name, tensor)
        settings = self._settings.of(name, tensor.ndim)
        stored_shape = values.shape or (1,)
        best: EncodedTensor | None = None
        least = math.inf
        for order in orders(settings, values.reshape(stored_shape), arrange):
            stored = np.ascontiguousarray(order.arrange(values.reshape(stored_shape)))
            for header, payload, decoded, escape in self._attempts(
                unit_name(name), stored, tensor.dtype.name, settings, node
            ):
                unit = self._writer.data_unit(header, payload)
                # A permutation stands in the control data, a few digits for each row.
                size = len(unit) + len(repr(order.permutation))
                if size < least:
                    least = size
                    record = TensorRecord(
                        name=name,
                        offset=0,
                        size=len(unit),
                        sha256="",
                        unit_name=unit_name(name) if unit_name(name) != name else None,
                        shape=tensor.shape if tensor.shape != stored.shape else None,
                        dtype=dtype,
                        parameter_type=parameter_type(name, tensor.shape),
                        order=order,
                        escape=escape,
                        inference=settings.inference,
                    )
                    best = EncodedTensor(unit, record, decoded, tensor.shape, tensor.dtype)
        assert best is not None
        return replace(best, record=replace(best.record, sha256=best.decoded.sha256().hex()))

    def _attempts(
        self, name: str, stored: NDArray[Any], dtype: str, settings: TensorSettings, node: Node
    ) -> Iterator[tuple[DataUnitHeader, bytes, DecodedTensor, EscapeTable | None]]:
        """The ways to code a tensor that are worth comparing."""
        header = DataUnitHeader(
            topology_elem_ids=[name],
            parameter_id=node.parameter_id,
            put_node_depth=node.put_node_depth,
            parent_node_id_present_flag=int(node.is_update),
            tensor_dimensions=list(stored.shape),
            cabac_unary_length_minus1=self._settings.unary_length - 1,
            nnr_decompressed_data_format=self._settings.data_format(dtype, settings),
        )
        place = (0, node.parameter_id, node.put_node_depth)
        if stored.dtype.kind == "f" and self._is_raw(stored, settings):
            header.nnr_compressed_data_unit_payload_type = PayloadType.RAW_FLOAT
            density, kind = self._settings.qp_density, PayloadType.RAW_FLOAT
            raw = DecodedTensor(name, kind, stored.shape, None, stored, None, density, None, 0, place, node.is_update)
            yield header, stored.astype("<f4").tobytes(), raw, None
            return
        if stored.dtype.kind == "i":
            quantized = Indices(stored, stored.shape, False, None)
        else:
            quantized = self.quantized(stored, settings)
        contexts = self._contexts(node, stored)
        for number, (context, history) in enumerate(contexts, 1):
            last = number == len(contexts)
            yield (*self._coded(replace(header), quantized, settings, node, context, history, last), quantized.escape)
        if settings.codebook and (booked := self._with_codebook(stored, settings)) is not None:
            yield (*self._coded(replace(header), booked, settings, node, None, False, True), None)

    def _contexts(self, node: Node, stored: NDArray[Any]) -> list[tuple[TensorContext | None, bool]]:
        """What an update may be coded in the light of: levels of the one before, places that changed in any."""
        context = node.context
        if not self._settings.temporal or context is None:
            return [(None, False)]
        if context.levels.shape != (stored.shape[0], math.prod(stored.shape[1:])):
            return [(None, False)]
        return [(context, True), (context, False), (None, False)]

    def _is_raw(self, stored: NDArray[np.float32], settings: TensorSettings) -> bool:
        if settings.raw or stored.size <= self._settings.raw_elements or not np.isfinite(stored).all():
            return True
        return self.qp(stored, settings) > self._settings.qp_bounds[1]

    def qp(self, stored: NDArray[np.float32], settings: TensorSettings) -> int:
        """The settings' quantization parameter, or the least one that keeps the indices within bounds."""
        qp, largest = settings.qp, max(float(stored.max()), -float(stored.min()))
        while largest / float(step_size(qp, self._settings.qp_density)) > MAX_INDEX:
            qp += 1
        return qp

    def quantized(self, stored: NDArray[np.float32], settings: TensorSettings) -> Indices:
        """Indices by the core's quantizer."""
        qp = self.qp(stored, settings)
        step = float(step_size(qp, self._settings.qp_density))
        header = DataUnitHeader(
            tensor_dimensions=list(stored.shape),
            dq_flag=int(settings.dq),
            cabac_unary_length_minus1=self._settings.unary_length - 1,
            scan_order=settings.scan_order,
        )
        coding = header.coding(0, 1)
        view = stored.reshape(coding.rows, coding.columns)
        indices = self._core.quantize(view, step, coding, settings.rate_weight).reshape(stored.shape)
        escape = None
        if settings.escape_limit is not None:
            indices, escape = escaped(stored, indices, settings.escape_limit)
        return Indices(indices, stored.shape, settings.dq, qp, escape=escape)

    def _with_codebook(self, stored: NDArray[Any], settings: TensorSettings) -> Indices | None:
        """Places in a table of the levels that uniform quantization leads to; None where there are too many."""
        if stored.dtype.kind == "i":
            return None
        uniform = self.quantized(stored, replace(settings, dq=False, codebook=False))
        values, places, counts = np.unique(uniform.values, return_inverse=True, return_counts=True)
        if len(values) > MAX_TABLE:
            return None
        zero_offset = int(counts.argmax())
        book = Codebook(egk(values), zero_offset, values.tolist())
        indices = (places.reshape(stored.shape) - zero_offset).astype(np.int32)
        return Indices(indices, stored.shape, False, uniform.qp, book)

    def _coded(
        self,
        header: DataUnitHeader,
        quantized: Indices,
        settings: TensorSettings,
        node: Node,
        context: TensorContext | None,
        history: bool,
        last: bool,
    ) -> tuple[DataUnitHeader, bytes, DecodedTensor]:
        """The header and payload of quantized values. :param last: nobody needs them afterwards"""
        kind = PayloadType.INT if quantized.qp is None else PayloadType.FLOAT
        header.nnr_compressed_data_unit_payload_type = kind
        header.codebook = quantized.codebook
        header.dq_flag = int(quantized.dq)
        rows, columns = quantized.dimensions[0], math.prod(quantized.dimensions[1:])
        if rows > 1 and columns > 1:
            header.scan_order = settings.scan_order
        header.temporal_context_modeling_flag = int(context is not None)
        coding = header.coding(0, 1)
        encoder = self._core.PayloadEncoder()
        header.cabac_entry_point_list = []
        self.put(encoder, quantized, coding, settings, header.cabac_entry_point_list, context, history)
        payload = encoder.finish()
        indices = levels = quantized.values.reshape(rows, columns)
        if coding.dq:
            levels = self._core.levels(indices, coding, indices if last else np.empty_like(indices))
        return header, payload, DecodedTensor(
            header.topology_elem_ids[0], kind, quantized.dimensions, levels, None, quantized.qp,
            self._settings.qp_density, quantized.codebook, 0, (0, node.parameter_id, node.put_node_depth),
            node.is_update,
        )  # fmt: skip

    def put(
        self,
        encoder: Encoder,
        quantized: Indices,
        coding: TensorCoding,
        settings: TensorSettings,
        entry_points: list[EntryPoint],
        context: TensorContext | None = None,
        history: bool = False,
    ) -> None:
        """Add quantized values to a codeword, their quantization parameter before them."""
        indices = quantized.values.reshape(coding.rows, coding.columns)
        # The peer's coder and quantizer disagree on skipped rows in blocks under dependent quantization: kept apart.
        row_skip = settings.row_skip and not (quantized.dq and coding.scan_order) and not indices.any(axis=1).all()
        if quantized.qp is not None:
            bits = QP_DELTA_BITS + self._settings.qp_density
            encoder.bits((quantized.qp - self._settings.weights.qp) & ((1 << bits) - 1), bits)
        encoder.tensor(
            indices,
            coding,
            context.levels if context is not None else None,
            context.history if context is not None and history else None,
            bool(row_skip),
            self._settings.choose_sets,
            entry_points,
        )
