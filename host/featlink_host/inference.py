"""onnxruntime on the host: one way to open a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from featlink_codec.errors import SettingsError

if TYPE_CHECKING:
    import onnx


def open_session(model: Path | str | onnx.ModelProto) -> ort.InferenceSession:
    """An onnxruntime session on the CPU with one thread: more were slower for networks this small.

    :param model: a file, or a model in memory
    :raises SettingsError: the model cannot be opened
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about its own optimizer
    given = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
    name = "the model" if isinstance(given, bytes) else given
    try:
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise SettingsError(f"{name}: onnxruntime cannot open it: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, cut after 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
