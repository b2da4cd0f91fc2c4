"""A network in a later opset, where operators are needed that its own does not have."""

from __future__ import annotations

import onnx
from onnx import version_converter

from featlink_codec.errors import SettingsError

from ...inference import one_line


def raised(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """The same network in an opset of at least that number; itself where it has one.

    :raises SettingsError: it cannot be raised
    """
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if version >= least:
        return model
    try:
        return version_converter.convert_version(model, least)
    except Exception as error:  # onnx's converter raises RuntimeError, its own kinds and C++ ones
        raise SettingsError(f"opset {version} cannot be raised to {least}: {one_line(error)}") from None
