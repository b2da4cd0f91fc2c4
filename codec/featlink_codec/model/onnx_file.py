"""ONNX files as models to update, and written from streams: whole and verified, or not at all."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from ..files import whole_file
from . import identity
from .onnx_bytes import parse_graph, take_apart
from .reader import ModelStream
from .update_chain import TensorSource, UpdateChain


class OnnxFile:
    """An ONNX file that was decoded from a model stream, as a source of tensors.

    :param data: the file; tensors are views of it
    :raises StreamError: ``bad-graph``: not an ONNX model
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        found = take_apart(memoryview(data))
        self.tensors = found.tensors
        self.graph = found.graph
        self._identity = found.identity

    def names(self) -> list[str]:
        """Its tensors."""
        return list(self.tensors)

    def tensor(self, name: str) -> NDArray[Any]:
        """Values of one, read-only."""
        if isinstance(self._data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            # The tensors before need not stay in memory: the file still has them.
            self._data.madvise(mmap.MADV_DONTNEED)
        return self.tensors[name]

    def model_sha256(self) -> str:
        """Identity of the model that it was decoded from.

        :raises StreamError: ``wrong-base``: it was not decoded from a stream
        """
        if self._identity is None:
            text = "the ONNX file does not say which model stream it was decoded from; updates are for decoded models"
            raise StreamError("wrong-base", 0, text)
        return self._identity


def write_onnx(
    out: Path,
    base: TensorSource,
    updates: Sequence[ModelStream] = (),
    *,
    labels: Sequence[str] = (),
    check: Callable[[Path], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """An ONNX file of a model after updates, tensor by tensor. It gets its name when all of it is found right.

    The file itself is read back and compared with the hash that the last update has of its result.

    :param labels: what errors call the base and each update
    :param check: is shown the file before it gets its name
    :param progress: is told of tensors written: stage, done, total
    :returns: identity of the model
    :raises StreamError: see `UpdateChain`; ``no-graph``: neither base nor updates hold an ONNX graph; ``bad-graph``:
        the graph does not go with the tensors
    """
    chain = UpdateChain(base, updates, labels)
    graph = chain.graph()
    if graph is None:
        raise StreamError("no-graph", 0, "the stream holds no ONNX graph; its tensors can be had as .npz")
    layout = parse_graph(graph, chain.model_sha256())
    known = dict.fromkeys(chain.names())
    if missing := [name for name in layout.slots if name not in known]:
        raise StreamError("bad-graph", 0, f"the graph has a place for {missing[0]!r}, which the stream does not hold")
    if left := [name for name in known if name not in layout.slots]:
        raise StreamError("bad-graph", 0, f"the graph has no place for {left[0]!r}, which the stream holds")
    types: dict[str, np.dtype[Any]] = {}

    def tensor(name: str) -> NDArray[Any]:
        values = chain.tensor(name)
        types[name] = values.dtype
        if progress is not None:
            progress("tensors", len(types), len(layout.slots))
        return values

    with whole_file(out) as file:
        try:
            for piece in layout.write(tensor):
                file.write(piece)
        except SettingsError as error:
            raise StreamError("bad-graph", 0, str(error)) from None
        file.flush()
        part = Path(file.name)
        if chain.result_sha256 is not None:
            _verify(part, types, chain.result_sha256)
        if check is not None:
            check(part)
    return chain.model_sha256()


def _verify(path: Path, types: dict[str, np.dtype[Any]], wanted: str) -> None:
    """Compare the tensors in a file with their hash."""
    with path.open("rb") as file:
        found = OnnxFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    # Lossless streams hold binary16 as the integers of its bits; of an ONNX file nothing else says that it came of one.
    halves = any(dtype == np.float16 for dtype in types.values())
    for as_bits in (False, True) if halves else (False,):
        if identity.values_sha256(_Seen(found, types, as_bits)) == wanted:
            return
    raise StreamError("wrong-base", 0, "base and updates together do not come to the last update's hash of the result")


class _Seen(Mapping[str, NDArray[Any]]):
    """A file's tensors in the types that the stream has for them, each looked up when it is asked for."""

    def __init__(self, file: OnnxFile, types: dict[str, np.dtype[Any]], as_bits: bool) -> None:
        self._file = file
        self._types = types
        self._as_bits = as_bits

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._file.tensors:
            raise StreamError("bad-graph", 0, f"{name!r} is not found in the file that was written")
        values = self._file.tensor(name)
        return values.view(np.int16 if self._as_bits and values.dtype == np.float16 else self._types[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)
