"""Quantized weights as a model stream: integers and scales as they are, entropy-coded, and nothing lost."""

from __future__ import annotations

from featlink_codec.model import EncodedModel

from ...model.encoding import Telling, encode_model, lossless_settings
from ...model.onnx_graph import from_proto
from .weights import WeightsResult
from .weights_stored import to_stored


def to_stream(result: WeightsResult, telling: Telling | None = None) -> EncodedModel:
    """A stream of the network as `to_stored` stores it, with codes for tables.

    Indices are INT tensors of the stream, arithmetically coded; scales, tables and all that was not quantized are as
    they were, bit for bit. What a device decodes is an ONNX file that runs as it is, its weights exactly
    `QuantizedTensor.values`.
    """
    return encode_model(from_proto(to_stored(result, codes=True)), lossless_settings(), lossless=True, telling=telling)
