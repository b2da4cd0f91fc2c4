"""An ONNX model, or plain tensors, as a model stream; the updates between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.model import (
    Description,
    EncodedModel,
    EncodeSettings,
    ModelStream,
    TensorSettings,
    encode,
    encode_update,
    version_names,
)
from featlink_codec.model.control_data import DataSet, ModelInfo, Topology
from featlink_codec.model.decoded import TensorContext
from featlink_codec.model.onnx_bytes import FORMAT
from featlink_codec.model.updates import apply_update

from .layers import layers_of
from .onnx_graph import OnnxModel

Tensor = NDArray[Any]


@dataclass(frozen=True)
class Telling:
    """What the control data says beside what is needed.

    :param options: how layers may be processed
    :param model: name, version, training, performance
    """

    options: bool = False
    model: ModelInfo | None = None
    data_set: DataSet | None = None


def description_of(model: OnnxModel, telling: Telling | None = None) -> Description:
    """The control data of a model: graph, layers, types."""
    telling = telling or Telling()
    layers, types = layers_of(model.proto(), model.tensors, telling.options)
    return Description(
        layers=layers,
        parameter_types=types,
        topology=Topology(FORMAT, model.graph),
        model=telling.model,
        data_set=telling.data_set,
    )


def lossless_settings() -> EncodeSettings:
    """Every tensor as it is; see `as_bits`."""
    raw = TensorSettings(raw=True)
    return EncodeSettings(weights=raw, vectors=raw)


def as_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For lossless streams: binary16 as the integers of its bits, which take half of binary32."""
    return {name: values.view(np.int16) if values.dtype == np.float16 else values for name, values in tensors.items()}


def encode_model(
    model: OnnxModel,
    settings: EncodeSettings,
    *,
    lossless: bool = False,
    tensors: Mapping[str, Tensor] | None = None,
    telling: Telling | None = None,
) -> EncodedModel:
    """A model stream.

    :param lossless: of the settings, only `data_formats` counts
    :param tensors: values instead of the model's own
    """
    values = dict(model.tensors if tensors is None else tensors)
    if not values:
        raise SettingsError("the model has no tensors to carry")
    if lossless:
        exact = replace(lossless_settings(), data_formats=settings.data_formats)
        return encode(as_bits(values), exact, description_of(model, telling))
    return encode(values, settings, description_of(model, telling))


@dataclass(frozen=True)
class Base:
    """What the receiver of an update has.

    :param tensors: as decoded
    :param graph: of the model, None where the stream has none
    """

    tensors: dict[str, Tensor]
    model_sha256: str
    contexts: Mapping[str, TensorContext]
    graph: bytes | None


def base_after(stream: ModelStream, updates: Sequence[ModelStream] = ()) -> Base:
    """The model that a stream and the updates after it lead to.

    :raises StreamError: see `apply_update`
    """
    if version_names(stream):
        raise SettingsError("the base holds several versions of a model; updates are for streams of one")
    graph = _graph(stream)
    tensors, sha256 = stream.tensors(), stream.model_sha256()
    contexts: Mapping[str, TensorContext] = {}
    for update in updates:
        done = apply_update(tensors, sha256, update, contexts)
        tensors, sha256, contexts = done.tensors, done.model_sha256, done.contexts
        graph = _graph(update) or graph
    return Base(tensors, sha256, contexts, graph)


def update_to(
    base: Base,
    model: OnnxModel,
    settings: EncodeSettings,
    *,
    original: OnnxModel | None = None,
    standalone: bool = False,
) -> EncodedModel:
    """An update that leads from a base to a model.

    :param original: the model that the base was made of: then only what differs from it is sent, and what the base
        lost in its coding stays lost; without, that is made good as far as the settings reach
    :param standalone: not coded in the light of the updates before, so that a receiver may forget them
    """
    wanted = dict(model.tensors)
    if original is not None:
        wanted = _moved(base.tensors, original.tensors, wanted)
    for name, values in wanted.items():
        have = base.tensors.get(name)
        # The base of a lossless stream.
        if have is not None and values.dtype == np.float16 and have.dtype == np.int16:
            wanted[name] = values.view(np.int16)
    description = Description()
    if model.graph != base.graph:
        description = replace(description, topology=Topology(FORMAT, model.graph))
    contexts = {} if standalone else base.contexts
    return encode_update(
        base.tensors, base.model_sha256, wanted, replace(settings, temporal=not standalone), contexts, description
    )


def _moved(base: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base's tensors, moved by what lies between two others."""
    found = {}
    for name, values in after.items():
        have, old = base.get(name), before.get(name)
        if have is None or old is None or values.dtype.kind != "f" or not have.shape == old.shape == values.shape:
            found[name] = values
            continue
        difference = values.astype(np.float32) - old.astype(np.float32)
        found[name] = (have.astype(np.float32) + difference).astype(values.dtype)
    return found


def _graph(stream: ModelStream) -> bytes | None:
    topology = stream.control.topology if stream.control is not None else None
    return topology.data if topology is not None and topology.format == FORMAT else None
