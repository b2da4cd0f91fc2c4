"""Encodes tensors that share a BLOCK unit: a weight, and what is there once for each of its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .core import PayloadCore
from .data_unit import DataUnitHeader, ParameterTypes, PayloadType
from .decoded import DecodedTensor
from .layers import parameter_type
from .orders import Order
from .settings import Block, EncodeSettings, TensorSettings
from .tensor_encoder import EncodedTensor, Indices, Node, TensorEncoder
from .tensor_level import TensorRecord
from .tensor_values import coded_values, unit_name
from .units import StreamWriter


class BlockEncoder:
    """Encodes the blocks of one stream.

    :param tensors: quantizes and codes each of them
    :param writer: of the stream's units
    """

    def __init__(
        self, settings: EncodeSettings, tensors: TensorEncoder, writer: StreamWriter, core: PayloadCore
    ) -> None:
        self._settings = settings
        self._tensors = tensors
        self._writer = writer
        self._core = core

    def encode(self, block: Block, tensors: Mapping[str, NDArray[Any]], node: Node) -> list[EncodedTensor]:
        """An NDU for a block's tensors, in the order of its names; the first one has the unit.

        Dependent quantization, or none, is that of the weight.

        :param tensors: of the model
        :raises SettingsError: one of them is missing, or can be no part of a block
        """
        missing = [name for name in block.names if name not in tensors]
        if missing:
            raise SettingsError(f"block of {block.weight!r}: there is no tensor {missing[0]!r}")
        given = [np.asarray(tensors[name]) for name in block.names]
        settings = [self._settings.of(name, one.ndim) for name, one in zip(block.names, given, strict=True)]
        settings = [replace(one, dq=settings[0].dq) for one in settings]
        stored = [self._stored(block, *one) for one in zip(block.names, given, settings, strict=True)]
        rows = len(stored[0])
        for name, values in zip(block.names[1:], stored[1:], strict=True):
            if values.size != rows:
                text = f"{name!r} has {values.size} numbers, the weight has {rows} rows"
                raise SettingsError(f"block of {block.weight!r}: {text}")
        stored = [stored[0], *(values.reshape(rows) for values in stored[1:])]
        header = self._header(block, stored[0], given[0].dtype.name, settings[0], node)
        encoder = self._core.PayloadEncoder()
        quantized: dict[int, Indices] = {}
        for place in header.block_order():
            quantized[place] = self._tensors.quantized(stored[place], settings[place])
            entries = header.cabac_entry_point_list if place == 0 else []
            self._tensors.put(encoder, quantized[place], header.coding(place, 1), settings[place], entries)
        unit = self._writer.data_unit(header, encoder.finish())
        found = []
        for place, name in enumerate(block.names):
            decoded = self._decoded(header, place, quantized[place], node)
            record = TensorRecord(
                name=name,
                offset=0,
                size=len(unit),
                sha256=decoded.sha256().hex(),
                unit_name=unit_name(name) if unit_name(name) != name else None,
                shape=given[place].shape if given[place].shape != stored[place].shape else None,
                dtype=given[place].dtype.name if given[place].dtype != np.float32 else None,
                parameter_type=parameter_type(name, given[place].shape),
                order=_order(settings[0]) if place == 0 else Order(),
                inference=settings[place].inference,
            )
            found.append(EncodedTensor(b"" if place else unit, record, decoded, given[place].shape, given[place].dtype))
        return found

    def _stored(self, block: Block, name: str, tensor: NDArray[Any], settings: TensorSettings) -> NDArray[np.float32]:
        """The values as they are coded, with as many dimensions as they have."""
        values, _ = coded_values(name, tensor)
        problem = None
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            problem = "holds other than finite floating-point numbers"
        elif settings.raw or settings.codebook or settings.escape_limit is not None:
            problem = "has settings that a block has no syntax for: raw, codebook or escape_limit"
        elif self._tensors.qp(values, settings) > self._settings.qp_bounds[1]:
            problem = f"has values beyond what steps up to qp {self._settings.qp_bounds[1]} reach"
        if problem is not None:
            raise SettingsError(f"block of {block.weight!r}: {name!r} {problem}")
        values = values.reshape(values.shape or (1,))
        if name == block.weight:
            values = np.ascontiguousarray(_order(settings).arrange(values))
        return values

    def _header(
        self, block: Block, weight: NDArray[np.float32], dtype: str, settings: TensorSettings, node: Node
    ) -> DataUnitHeader:
        types = ParameterTypes(0)
        for kind, there in (
            (ParameterTypes.LS, block.local_scaling),
            (ParameterTypes.BN, block.normalization),
            (ParameterTypes.BI, block.bias),
        ):
            types |= kind if there else ParameterTypes(0)
        flat = weight.shape[0] == 1 or math.prod(weight.shape[1:]) == 1
        return DataUnitHeader(
            nnr_compressed_data_unit_payload_type=PayloadType.BLOCK,
            topology_elem_ids=[unit_name(name) for name in block.names],
            parameter_id=node.parameter_id,
            dq_flag=int(settings.dq),
            nnr_decompressed_data_format=self._settings.data_format(dtype, settings),
            compressed_parameter_types=int(types),
            tensor_dimensions=list(weight.shape),
            cabac_unary_length_minus1=self._settings.unary_length - 1,
            scan_order=0 if flat else settings.scan_order,
        )

    def _decoded(self, header: DataUnitHeader, place: int, quantized: Indices, node: Node) -> DecodedTensor:
        """What a reader finds; the indices are not needed any more."""
        coding = header.coding(place, 1)
        levels = quantized.values.reshape(coding.rows, coding.columns)
        if coding.dq:
            levels = self._core.levels(levels, coding, levels)
        return DecodedTensor(
            header.topology_elem_ids[place], PayloadType.BLOCK, header.dimensions_of(place), levels, None,
            quantized.qp, self._settings.qp_density, None, 0, (0, node.parameter_id, node.put_node_depth),
        )  # fmt: skip


def _order(settings: TensorSettings) -> Order:
    """The order that was told; in a block, none is looked for."""
    return settings.order if isinstance(settings.order, Order) else Order()
