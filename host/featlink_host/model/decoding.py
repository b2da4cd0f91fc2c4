"""Model streams back to ONNX files, and any NNC stream's tensors to .npz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.files import whole_file
from featlink_codec.model import ModelStream, compose, version_names
from featlink_codec.model.decoded import TensorContext
from featlink_codec.model.onnx_file import write_onnx
from featlink_codec.model.updates import context_after

from .npz import write_npz
from .onnx_graph import check_onnx
from .versions import composed_onnx

Tensor = NDArray[Any]
Progress = Callable[[str, int, int], None]


def decode_onnx(stream: ModelStream, out: Path, version: str | None = None, progress: Progress | None = None) -> int:
    """The model of a stream as an ONNX file; returns how many tensors it has.

    :param version: of a stream that holds several; the first one where left out
    :raises StreamError: what is wrong with the stream; ``no-graph``: it holds none
    """
    if stream.parameters.mps.mps_parent_signalling_enabled_flag:
        raise SettingsError("the stream is an update; `model apply` makes a model of it and its base")
    if not version_names(stream):
        if version is not None:
            raise SettingsError(f"no version {version!r}: the stream holds just a model")
        write_onnx(out, stream, check=check_onnx, progress=progress)
        return len(stream.names())
    found = compose(stream, version)
    with whole_file(out) as file:
        file.write(composed_onnx(stream, found))
        file.flush()
        check_onnx(Path(file.name))
    return len(found.tensors) + len(found.compensations)


def decode_npz(
    stream: ModelStream,
    out: Path,
    version: str | None = None,
    supplements: bool = False,
    progress: Progress | None = None,
    before: Sequence[ModelStream] = (),
) -> int:
    """The tensors of any stream, one at a time; returns how many. Of a version: compensations too, by ``NAME+``.

    :param before: updates that an update is coded in the light of, in order
    :raises StreamError: what is wrong with the stream
    """
    if version is not None or (version_names(stream) and not supplements):
        found = compose(stream, version)
        beside = {f"{name}+": values for name, values in found.compensations.items()}
        return write_npz(out, (found.tensors | beside).items())
    names = stream.names(supplements)
    contexts: dict[str, TensorContext] = {}
    for update in before:
        for _, decoded, _ in update.each(contexts=contexts):
            if (context := context_after(decoded, contexts.get(decoded.name))) is not None:
                contexts[decoded.name] = context

    def told() -> Iterator[tuple[str, Tensor]]:
        for number, (name, _, values) in enumerate(stream.each(names, contexts), 1):
            yield name, values
            if progress is not None:
                progress("tensors", number, len(names))

    return write_npz(out, told())
