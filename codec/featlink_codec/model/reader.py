"""Reads a model stream lazily: a tensor is decoded when it is asked for, from the bytes of its own unit alone."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from . import identity
from .ahead import ahead
from .budget import Budget
from .control_document import ControlDocument
from .core import PayloadCore, default_core
from .data_unit import DataUnitHeader
from .decoded import DecodedTensor, TensorContext, converted, decode_unit, read_header
from .hash_tree import check_hashes
from .inference import Materialized
from .stream_start import read_start
from .syntax import UnitType
from .tensor_level import TensorRecord
from .units import Unit, read_unit, read_units

Tensor = NDArray[Any]
Contexts = Mapping[str, TensorContext]


class ModelStream:
    """An NNC bitstream in memory, ours or another encoder's.

    With control data, units are found by its offsets and every tensor is checked against its hash. Without, the
    stream is gone through once, by the units' lengths, when the first tensor is asked for.

    :param data: the whole stream; nothing is copied. A memory map may be closed after `close`
    :param budget: what the stream may ask for
    :param core: the coder of payloads; the C core's where left out
    :param threads: for tensors one beside the other, and for parts of one that has entry points
    :raises StreamError: no start of a model stream, control data of ours whose head is damaged, or ``unsupported-...``
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview | mmap.mmap,
        budget: Budget | None = None,
        core: PayloadCore | None = None,
        threads: int = 1,
    ) -> None:
        self._data = memoryview(data).cast("B")
        self.budget = budget or Budget()
        self._core = core or default_core()
        self._threads = threads
        start = read_start(self._data, self.budget)
        self.parameters = start.parameters
        self.control: ControlDocument | None = start.control
        self._first = start.end
        self._places: dict[str, tuple[Unit, TensorRecord | None]] | None = None

    def close(self) -> None:
        """Let go of the data."""
        self.control = None
        self._data.release()

    def __enter__(self) -> ModelStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def units(self) -> Iterator[Unit]:
        """All units, in order; only their common headers are read.

        :raises StreamError: at the first one that cannot be
        """
        return read_units(self._data, 0, self.budget)

    def header(self, unit: Unit) -> DataUnitHeader:
        """The header of an NDU."""
        return read_header(self._data, unit, self.parameters, self.budget)[0]

    def _index(self) -> dict[str, tuple[Unit, TensorRecord | None]]:
        """Where each tensor is, by name in the model."""
        if self._places is None:
            if self.control is not None:
                self._places = {record.name: (self._recorded(record), record) for record in self.records()}
            else:
                self._places = self._scanned()
        return self._places

    def _recorded(self, record: TensorRecord) -> Unit:
        offset = self._first + record.offset
        if record.size < 3 or offset + record.size > len(self._data):
            text = f"the control data has {record.name!r} at {offset} with {record.size} bytes, which are not there"
            raise StreamError("bad-index", len(self._data), text)
        # Not read yet: its own header is compared when it is.
        return Unit(UnitType.NDU, offset, record.size, offset)

    def _scanned(self) -> dict[str, tuple[Unit, TensorRecord | None]]:
        places: dict[str, tuple[Unit, TensorRecord | None]] = {}
        for unit in read_units(self._data, self._first, self.budget):
            if unit.unit_type is UnitType.NDU:
                # The peer lets the last one of a name win.
                places.update((name, (unit, None)) for name in self.header(unit).topology_elem_ids)
            elif unit.unit_type is not UnitType.TPL:
                text = f"a second unit of type {unit.unit_type.name}"
                raise StreamError("bad-order", unit.offset, text)
        # An update may well say that nothing changes.
        if not places and not self.parameters.mps.mps_parent_signalling_enabled_flag:
            raise StreamError("no-tensors", len(self._data), "the stream ends before its first tensor")
        return places

    def records(self) -> tuple[TensorRecord, ...]:
        """Level 1 of the control data, as far as it is about tensors; nothing where there is none."""
        return self.control.tensors.tensors if self.control is not None else ()

    def __contains__(self, name: str) -> bool:
        return name in self._index()

    def names(self, supplements: bool = False) -> list[str]:
        """The tensors, in the order of the stream.

        :param supplements: also those that inference does not need
        """
        beside = set()
        if self.control is not None and not supplements:
            beside = {supplement.source for supplement in self.control.tensors.supplements}
        return [name for name in self._index() if name not in beside]

    def _decode(self, name: str, contexts: Contexts) -> tuple[dict[str, DecodedTensor], TensorRecord | None]:
        """All tensors of the unit that holds a tensor, by topology_elem_id, checked against the control data."""
        try:
            place, record = self._index()[name]
        except KeyError:
            raise SettingsError(f"no tensor {name!r} in the stream") from None
        unit = place
        if record is not None:
            unit = read_unit(self._data, place.offset)
            if unit.unit_type is not UnitType.NDU or unit.size != record.size:
                found = f"a {unit.unit_type.name} of {unit.size} bytes"
                text = f"{name!r}: {found}, the control data says an NDU of {record.size}"
                raise StreamError("bad-index", unit.offset, text)
        header, payload = read_header(self._data, unit, self.parameters, self.budget)
        if record is not None:
            self._check_held(record, header.topology_elem_ids, unit.offset)
        tensors = decode_unit(self._data, unit, header, payload, self.parameters, self._core, contexts, self._threads)
        return {tensor.name: tensor for tensor in tensors}, record

    def decoded(self, name: str, contexts: Contexts | None = None) -> DecodedTensor:
        """A tensor as it stands in the stream, its hash checked where the control data has one.

        :param contexts: of earlier updates, for an update that is coded against them
        :raises SettingsError: no such tensor
        :raises StreamError: its unit is damaged; ``hash-mismatch``: it decodes, but to something else
        """
        tensors, record = self._decode(name, contexts or {})
        return self._checked(tensors, name, record)

    def _checked(self, tensors: dict[str, DecodedTensor], name: str, record: TensorRecord | None) -> DecodedTensor:
        if record is None:
            return tensors[name]
        # Of names that have one unit, only the first was looked for in it.
        self._check_held(record, list(tensors), self._first + record.offset)
        tensor = tensors[record.topology_elem_id]
        if (found := tensor.sha256().hex()) != record.sha256:
            text = f"tensor {name!r} has the hash {found[:16]}..., the control data says {record.sha256[:16]}..."
            raise StreamError("hash-mismatch", tensor.offset, text)
        return tensor

    @staticmethod
    def _check_held(record: TensorRecord, held: list[str], offset: int) -> None:
        """The unit of a tensor holds it, by the name that the control data says."""
        if record.topology_elem_id not in held:
            names = ", ".join(map(repr, held))
            text = f"the unit holds {names}, the control data says {record.topology_elem_id!r}"
            raise StreamError("bad-index", offset, text)

    def _values(self, tensor: DecodedTensor, record: TensorRecord | None) -> Tensor:
        """The values in the order, shape and type of the model."""
        try:
            if record is None:
                return tensor.values()
            values: Tensor = tensor.values(record.escape)
            shape = tensor.dimensions if record.shape is None else record.shape
            values = record.order.restore(values, shape)
        except SettingsError as error:
            raise StreamError("bad-tensor", tensor.offset, f"{tensor.name!r}: {error}") from None
        return values if record.dtype is None else converted(values, record.dtype, tensor)

    def tensor(self, name: str, contexts: Contexts | None = None) -> Tensor:
        """A tensor's values: float32, or int32 for INT, or what the control data says it was.

        Touches only the bytes of its unit (without control data: also the headers of all units, the first time).

        :raises SettingsError: no such tensor
        :raises StreamError: see `decoded`
        """
        record = self._index()[name][1] if name in self._index() else None
        return self._values(self.decoded(name, contexts), record)

    def materialized(self, name: str) -> Materialized:
        """A tensor in its inference format (aspect 2), float32 or its own integers where none is named.

        :raises StreamError: see `tensor`; ``bad-tensor``: the format cannot hold the values
        """
        values = self.tensor(name)
        record = self._index()[name][1]
        if record is None or record.inference is None:
            return Materialized(values, 1.0)
        try:
            return record.inference.materialize(values)
        except SettingsError as error:
            raise StreamError("bad-tensor", self._first + record.offset, f"{name!r}: {error}") from None

    def each(
        self, names: list[str] | None = None, contexts: Contexts | None = None
    ) -> Iterator[tuple[str, DecodedTensor, Tensor]]:
        """Tensors one after the other: names, what stands in the stream, values. Each unit is decoded once.

        With several threads the next units are decoded meanwhile, at most twice as many as there are threads.

        :param names: all that inference may need where left out
        :raises StreamError: ``over-budget``: together they have more elements than the budget; see `decoded`
        """
        contexts = contexts or {}
        index = self._index()
        wanted = self.names() if names is None else names
        # Names of one unit, one after the other. One that is not there has a group of its own, and its error.
        units = [
            list(group) for _, group in groupby(wanted, lambda name: index[name][0].offset if name in index else name)
        ]
        total = 0
        for group in ahead(partial(self._unit_tensors, contexts=contexts), units, self._threads):
            for name, tensor, values in group:
                total += int(np.prod(tensor.dimensions, dtype=np.int64))
                self.budget.check_total(total, name, tensor.offset)
                yield name, tensor, values

    def _unit_tensors(self, names: list[str], contexts: Contexts) -> list[tuple[str, DecodedTensor, Tensor]]:
        """Tensors of one unit, decoded."""
        tensors, _ = self._decode(names[0], contexts)
        found = []
        for name in names:
            record = self._index()[name][1]
            tensor = self._checked(tensors, name, record)
            found.append((name, tensor, self._values(tensor, record)))
        return found

    def tensors(self, names: list[str] | None = None) -> dict[str, Tensor]:
        """The values of `each` by name. For versions of a model, see `versions.compose`."""
        return {name: values for name, _, values in self.each(names)}

    def supplement(self, kind: str, tensor: str) -> Tensor:
        """Supplemental data about a tensor, e.g. ``relevance`` (aspect 11).

        :raises SettingsError: there is none
        """
        if self.control is not None:
            for supplement in self.control.tensors.supplements:
                if (supplement.kind, supplement.tensor) == (kind, tensor):
                    return self.tensor(supplement.source)
        raise SettingsError(f"no supplement {kind!r} of {tensor!r} in the stream")

    def model_sha256(self) -> str:
        """Identity of the model: what the control data says, else what the decoded tensors come to."""
        if self.control is not None:
            return self.control.head.model
        return identity.sha256_of_tensors({name: tensor.sha256().hex() for name, tensor, _ in self.each()})

    def verify(self, partly: bool = False) -> list[str]:
        """Decode everything and check every hash, from tensors over layers to the model.

        :param partly: of an update, leave out the tensors that are coded against the update before it
        :return: what was left out
        :raises StreamError: at the first thing that is damaged, by name
        """
        for _ in self.units():
            pass
        names = self.names(supplements=True)
        left_out: list[str] = []
        if partly and self.parameters.mps.mps_parent_signalling_enabled_flag:
            left_out = [name for name in names if self._is_temporal(name)]
        for _ in self.each([name for name in names if name not in set(left_out)]):
            pass
        if self.control is not None:
            check_hashes(self.control, self._first)
        return left_out

    def _is_temporal(self, name: str) -> bool:
        unit = read_unit(self._data, self._index()[name][0].offset)
        return bool(self.header(unit).temporal_context_modeling_flag)
