"""Models on the camera: streams and updates applied and verified with codec and NumPy alone, in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featlink_codec.errors import SettingsError
from featlink_codec.model import ModelStream, version_names
from featlink_codec.model.onnx_file import write_onnx
from featlink_codec.model.stream_files import blaming, opened, source


@dataclass(frozen=True)
class Applied:
    """What was written.

    :param model: its identity
    :param bytes: of the file
    """

    out: str
    model: str
    bytes: int
    updates: int

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def apply_updates(base: Path, updates: Sequence[Path], out: Path) -> Applied:
    """The ONNX file of a base and the updates after it. The base may be the very file that is written.

    :param base: a model stream, or an ONNX file that was made of one
    :raises FeatlinkError: nothing was written; the text says which file is wrong, where and why
    """
    labels = [str(path) for path in (base, *updates)]
    with source(base) as begin, opened(*updates) as streams:
        if isinstance(begin, ModelStream) and version_names(begin):
            raise SettingsError(f"{base}: several versions of a model; `featlink-host model decode` chooses one")
        identity = write_onnx(out, begin, streams, labels=labels)
    return Applied(str(out), identity, out.stat().st_size, len(streams))


def verify_file(path: Path) -> dict[str, Any]:
    """Everything that a file says of itself, checked.

    :raises FeatlinkError: the first thing that is wrong
    """
    size = path.stat().st_size
    with source(path) as found:
        if not isinstance(found, ModelStream):
            return {"model": found.model_sha256(), "base": None, "tensors": len(found.names()), "bytes": size}
        with blaming(path):
            found.verify()
        head = found.control.head if found.control is not None else None
        base = head.base if head is not None else None
        return {"model": found.model_sha256(), "base": base, "tensors": len(found.names()), "bytes": size}
