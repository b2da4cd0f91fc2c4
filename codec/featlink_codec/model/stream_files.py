"""Model streams in files, opened so that an error says which file it is about."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import FeatlinkError, SettingsError, StreamError
from .onnx_file import OnnxFile
from .reader import ModelStream
from .update_chain import TensorSource

#: How a model stream begins: with a unit of 4 bytes. No protobuf message begins with a field of number 0.
STREAM_MAGIC = bytes((0, 4))


def mapped(path: Path) -> mmap.mmap:
    """A file's bytes without reading them all.

    :raises OSError: it cannot be read
    :raises SettingsError: it is empty
    """
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise SettingsError(f"{path}: the file is empty") from None


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Errors from within say the file."""
    try:
        yield
    except StreamError as error:
        raise FeatlinkError(f"{path}: {error}") from None


@contextmanager
def opened(*paths: Path, threads: int = 1) -> Iterator[list[ModelStream]]:
    """Model streams, mapped.

    :param threads: for tensors with entry points
    :raises FeatlinkError: a file is not a model stream
    """
    with ExitStack() as stack:
        streams = []
        for path in paths:
            data = mapped(path)
            if data[: len(STREAM_MAGIC)] != STREAM_MAGIC:
                raise SettingsError(f"{path}: not a model stream")
            with blaming(path):
                streams.append(stack.enter_context(ModelStream(data, threads=threads)))
        yield streams


@contextmanager
def source(path: Path) -> Iterator[TensorSource]:
    """A model stream, or an ONNX file that was decoded from one.

    :raises FeatlinkError: it is neither
    """
    data = mapped(path)
    with ExitStack() as stack:
        with blaming(path):
            if data[: len(STREAM_MAGIC)] == STREAM_MAGIC:
                found: TensorSource = stack.enter_context(ModelStream(data))
            else:
                found = OnnxFile(data)
        yield found
