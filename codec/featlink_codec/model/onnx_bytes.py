"""An ONNX file without the onnx package: its tensors are taken out of the graph's bytes and put back.

The graph travels as an ONNX model whose carried tensors have no data: still a protobuf message that any ONNX tool can
show. Joining writes the message again with nothing but lengths changed and the tensors' bytes put in, so a device
needs neither the onnx package (30 MB installed, with what it needs) nor the model twice in memory: the graph has some
hundred KB, tensors are asked for one by one while the file is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from .protobuf import BYTES, VARINT, bytes_head, packed_varints, wire_fields

FORMAT = "onnx"
#: Key of the metadata that holds the identity of the model that a file was decoded from.
IDENTITY_KEY = "featlink_model_sha256"
#: Integers and booleans of at most so many elements stay in the graph: shapes, axes.
GRAPH_INTEGERS = 64
_MAX_DEPTH = 32
#: TensorProto.DataType.
_DTYPES = {
    1: "<f4", 2: "|u1", 3: "|i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8",
}  # fmt: skip
#: Which fields of a message of onnx.proto may hold tensors, and what they are.
_INSIDE = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_METADATA, _DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 14, 1, 2, 8, 9
#: Fields of TensorProto that hold or point to data: float_data to int64_data, raw_data, double_data, uint64_data,
#: external_data.
_DATA_FIELDS = (4, 5, 6, 7, 9, 10, 11, 13)


@dataclass(frozen=True)
class Slot:
    """A place for a tensor's bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def bytes_of(self, tensor: NDArray[Any]) -> memoryview:
        """A tensor as the file has it. Integers as wide as the slot's numbers are their bits.

        :raises SettingsError: the tensor does not fit
        """
        # A single number has the shape [1] on the wire.
        if tensor.shape != self.shape and (tensor.shape, self.shape) != ((1,), ()):
            raise SettingsError(f"{self.name!r}: shape {list(tensor.shape)}, the graph has {list(self.shape)}")
        if tensor.dtype != self.dtype and (tensor.dtype.kind not in "iu" or tensor.itemsize != self.dtype.itemsize):
            raise SettingsError(f"{self.name!r} is {tensor.dtype}, the graph has {self.dtype}")
        little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


_Piece = memoryview | bytes | Slot
_Visit = Callable[[memoryview, int], "list[_Piece] | None"]


@dataclass(frozen=True)
class OnnxGraph:
    """An ONNX model's bytes with places for tensors.

    :param pieces: in the order of the file
    :param slots: by name, in the order of the file
    """

    pieces: tuple[_Piece, ...]
    slots: dict[str, Slot]

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return sum(_size(piece) for piece in self.pieces)

    def write(self, tensor: Callable[[str], NDArray[Any]]) -> Iterator[memoryview | bytes]:
        """The file, piece by piece; each tensor is asked for when its place has come.

        :raises SettingsError: a tensor does not fit
        """
        for piece in self.pieces:
            yield piece if not isinstance(piece, Slot) else piece.bytes_of(tensor(piece.name))


@dataclass
class OnnxTensors:
    """An ONNX model taken apart.

    :param graph: the model without its tensors' data
    :param tensors: by name, views of the file's bytes
    :param identity: of the model that the file was decoded from; None where it was not
    """

    graph: bytes
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    identity: str | None = None


def parse_graph(graph: bytes | memoryview, identity: str | None = None) -> OnnxGraph:
    """Where the tensors' bytes go.

    :param graph: what `take_apart` left
    :param identity: for the file's metadata
    :raises StreamError: ``bad-graph``
    """
    slots: dict[str, Slot] = {}

    def visit(message: memoryview, offset: int) -> list[_Piece] | None:
        tensor = _Tensor(message, offset)
        if tensor.slot is None or tensor.has_data or tensor.slot.name in slots:
            return None
        slots[tensor.slot.name] = tensor.slot
        return [message, bytes_head(_RAW_DATA, tensor.slot.size), tensor.slot]

    pieces = _rewritten(memoryview(graph), "model", visit) or [memoryview(graph)]
    if identity is not None:
        pieces.append(_metadata(identity))
    return OnnxGraph(tuple(pieces), slots)


def take_apart(model: bytes | memoryview) -> OnnxTensors:
    """The graph and the tensors of an ONNX file. What stays in the graph: `is_carried` says.

    :raises StreamError: ``bad-graph``: not an ONNX model
    """
    found = OnnxTensors(b"")

    def visit(message: memoryview, offset: int) -> list[_Piece] | None:
        tensor = _Tensor(message, offset)
        if tensor.slot is None or tensor.raw is None or tensor.slot.name in found.tensors:
            return None
        if len(tensor.raw) != tensor.slot.size:
            text = f"{tensor.slot.name!r} has {len(tensor.raw)} bytes, its shape and type make {tensor.slot.size}"
            raise StreamError("bad-graph", offset, text)
        values = np.frombuffer(tensor.raw, tensor.slot.dtype).reshape(tensor.slot.shape)
        if not is_carried(values):
            return None
        found.tensors[tensor.slot.name] = values
        begin, end = tensor.raw_at
        return [message[:begin], message[end:]]

    view = memoryview(model).cast("B")
    pieces = _rewritten(view, "model", visit)
    found.graph = b"".join(bytes(piece) for piece in pieces or [view] if not isinstance(piece, Slot))
    found.identity = _identity(view)
    return found


def is_carried(values: NDArray[Any]) -> bool:
    """Whether a tensor is one of the stream's, rather than a part of the graph.

    Single numbers and short lists of integers belong to the graph, and so does what the stream has no numbers for:
    integers beyond 32 bits, binary64 that is not binary32 as well.
    """
    if values.dtype == np.float64:
        with np.errstate(over="ignore"):
            return values.size > 1 and np.array_equal(values.astype(np.float32), values, equal_nan=True)
    if values.dtype.kind == "f":
        return values.size > 1
    if values.size <= GRAPH_INTEGERS:
        return False
    return values.itemsize < 4 or -(1 << 31) <= int(values.min()) <= int(values.max()) < 1 << 31


class _Tensor:
    """A TensorProto. :param slot: None where it can be no tensor of the stream"""

    def __init__(self, message: memoryview, offset: int) -> None:
        dims: list[int] = []
        data_type, name = 0, ""
        self.raw: memoryview | None = None
        self.raw_at = (0, 0)
        self.has_data = False
        for one in wire_fields(message, offset):
            if one.number == _DIMS and one.kind == VARINT:
                dims.append(one.value)
            elif one.number == _DIMS and one.kind == BYTES:  # packed
                dims += packed_varints(one.data, offset)
            elif one.number == _DATA_TYPE:
                data_type = one.value
            elif one.number == _NAME:
                name = _text(one.data, offset)
            elif one.number in _DATA_FIELDS:
                self.has_data = True
                if one.number == _RAW_DATA and one.kind == BYTES:
                    self.raw, self.raw_at = one.data, (one.begin, one.end)
        self.slot: Slot | None = None
        dtype = _DTYPES.get(data_type)
        if dtype is not None and name and all(0 < size < 1 << 31 for size in dims) and math.prod(dims) < 1 << 31:
            self.slot = Slot(name, np.dtype(dtype), tuple(dims))


def _rewritten(message: memoryview, kind: str, visit: _Visit, offset: int = 0, depth: int = 0) -> list[_Piece] | None:
    """A message with other tensors in it, in pieces; None where it stays as it is."""
    if depth > _MAX_DEPTH:
        raise StreamError("bad-graph", offset, f"graphs within graphs, more than {_MAX_DEPTH} messages deep")
    if kind == "tensor":
        return visit(message, offset)
    inside = _INSIDE[kind]
    pieces: list[_Piece] = []
    done = 0
    for one in wire_fields(message, offset):
        if kind == "model" and one.number == _METADATA and _entry(one.data, offset)[0] == IDENTITY_KEY:
            pieces.append(message[done : one.begin])
            done = one.end
        elif one.number in inside and one.kind == BYTES:
            at = offset + one.end - len(one.data)
            parts = _rewritten(one.data, inside[one.number], visit, at, depth + 1)
            if parts is not None:
                size = sum(_size(part) for part in parts)
                pieces += [message[done : one.begin], bytes_head(one.number, size), *parts]
                done = one.end
    return [*pieces, message[done:]] if pieces else None


def _size(piece: _Piece) -> int:
    return piece.size if isinstance(piece, Slot) else len(piece)


def _text(data: memoryview, offset: int) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise StreamError("bad-graph", offset, "a name that is not UTF-8") from None


def _entry(message: memoryview, offset: int) -> tuple[str, str]:
    """A StringStringEntryProto."""
    found = {one.number: _text(one.data, offset) for one in wire_fields(message, offset) if one.number in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _identity(model: memoryview) -> str | None:
    for one in wire_fields(model):
        if one.number == _METADATA and one.kind == BYTES:
            key, value = _entry(one.data, one.begin)
            if key == IDENTITY_KEY:
                return value
    return None


def _metadata(identity: str) -> bytes:
    key, value = IDENTITY_KEY.encode(), identity.encode()
    entry = bytes_head(1, len(key)) + key + bytes_head(2, len(value)) + value
    return bytes_head(_METADATA, len(entry)) + entry
