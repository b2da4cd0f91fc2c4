"""Writes model streams and updates: tensors in, bytes out, control data in front (sans I/O)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from . import control_document, identity
from .block_encoder import BlockEncoder
from .budget import Budget
from .control_data import DataSet, LayerLevel, LayerRecord, ModelInfo, Topology
from .core import PayloadCore, default_core
from .decoded import TensorContext
from .fields import FieldError, packed
from .layers import layer_type, layers_by_name
from .processing import ProcessingOption
from .reader import ModelStream
from .settings import EncodeSettings
from .syntax import ModelParameterSet
from .tensor_encoder import EncodedTensor, Node, TensorEncoder
from .tensor_level import Supplement, TensorLevel, TensorRecord, Version
from .tensor_values import unit_name
from .units import StreamWriter
from .updates import add, context_after


@dataclass(frozen=True)
class Layer:
    """A layer as the caller knows it; see `LayerRecord`."""

    name: str
    layer_type: str
    tensors: tuple[str, ...]
    options: tuple[ProcessingOption, ...] = ()


@dataclass(frozen=True)
class Description:
    """What goes into the control data beside the tensors. Nothing of it is needed.

    :param layers: tensors that none of them has go to the layer that their name begins with
    :param versions: made of tensors by name
    :param supplements: which of the tensors are no part of the model
    :param options: processing options of single tensors, by name
    :param parameter_types: where the name does not tell, by tensor
    """

    layers: tuple[Layer, ...] = ()
    topology: Topology | None = None
    model: ModelInfo | None = None
    data_set: DataSet | None = None
    versions: tuple[Version, ...] = ()
    supplements: tuple[Supplement, ...] = ()
    options: Mapping[str, tuple[ProcessingOption, ...]] = field(default_factory=dict)
    parameter_types: Mapping[str, str] = field(default_factory=dict)


#: Of a stream that was written here, nothing is too large to be read here.
_ANY_SIZE = Budget(*[1 << 62] * len(fields(Budget)))


@dataclass(frozen=True)
class EncodedModel:
    """A stream, and what its reader will have.

    :param data: the stream
    :param model_sha256: the model's identity; of an update: that of the updated model
    :param updated: of an update: the updated model's values
    :param contexts: of an update: for the next one
    """

    data: bytes
    model_sha256: str
    updated: Mapping[str, NDArray[Any]] | None = None
    contexts: Mapping[str, TensorContext] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Values as decoded, in the order of the stream; of an update: of the updated model.

        A model's are decoded when they are asked for, and kept: who only sends the stream does not hold them.
        """
        if self.updated is not None:
            return dict(self.updated)
        with ModelStream(self.data, _ANY_SIZE) as stream:
            return stream.tensors(stream.names(supplements=True))


def encode(
    tensors: Mapping[str, NDArray[Any]],
    settings: EncodeSettings | None = None,
    description: Description | None = None,
    core: PayloadCore | None = None,
) -> EncodedModel:
    """A model stream.

    Tensors of a block come together, where their weight stands.

    :param tensors: by name, in the order of the model; each is looked at once
    :raises SettingsError: a tensor that cannot be coded, or a description that does not go with the tensors
    """
    settings, description = settings or EncodeSettings(), description or Description()
    mps = ModelParameterSet(mps_qp_density=settings.qp_density, mps_quantization_parameter=settings.weights.qp)
    writer = StreamWriter(mps)
    encoder = TensorEncoder(settings, writer, core or default_core())
    blocks = BlockEncoder(settings, encoder, writer, core or default_core())
    block_of = {block.weight: block for block in settings.blocks}
    beside = {name for block in settings.blocks for name in block.names[1:]}
    missing = [name for name in block_of if name not in tensors]
    if missing:
        raise SettingsError(f"block of {missing[0]!r}: there is no such tensor")
    encoded: list[EncodedTensor] = []
    for name in tensors:
        node = Node(len(encoded))
        if name in block_of:
            made = blocks.encode(block_of[name], tensors, node)
            encoded += [one.without_levels() for one in made]
        elif name not in beside:
            encoded.append(encoder.encode(name, np.asarray(tensors[name]), node).without_levels())
    return _assembled(writer, settings, description, encoded)


def encode_update(
    base: Mapping[str, NDArray[Any]],
    base_sha256: str,
    tensors: Mapping[str, NDArray[Any]],
    settings: EncodeSettings | None = None,
    contexts: Mapping[str, TensorContext] | None = None,
    description: Description | None = None,
    core: PayloadCore | None = None,
) -> EncodedModel:
    """An update that leads from a base model to (nearly) other tensors; what does not change is not sent.

    :param base: the tensors as the receiver has them: as decoded, not as they were before coding
    :param base_sha256: their identity
    :param tensors: where to go; tensors of the base that are not here are removed. After further training give the
        base plus what training changed: to send the base's own quantization error along takes several times the bytes
    :param contexts: what the update before this one left
    :raises SettingsError: see `encode`
    """
    if not re.fullmatch("[0-9a-f]{64}", base_sha256):
        raise SettingsError(f"base_sha256 is {base_sha256!r}, expected 64 hexadecimal digits")
    settings, description, contexts = settings or EncodeSettings(), description or Description(), contexts or {}
    mps = ModelParameterSet(
        mps_parent_signalling_enabled_flag=1,
        nnr_pre_flag=1,
        mps_qp_density=settings.qp_density,
        mps_quantization_parameter=settings.weights.qp,
    )
    writer = StreamWriter(mps)
    encoder = TensorEncoder(settings, writer, core or default_core())
    places = {name: number for number, name in enumerate([*base, *(name for name in tensors if name not in base)])}
    sent: list[EncodedTensor] = []
    result, after = {name: np.asarray(base[name]) for name in base if name in tensors}, dict(contexts)
    for name, wanted in tensors.items():
        wanted = np.asarray(wanted)
        difference = _difference(base.get(name), wanted)
        if difference is None:
            one = encoder.encode(name, wanted, Node(places[name]))
            sent.append(replace(one, record=replace(one.record, replaces=True)))
            result[name] = one.values()
            after.pop(one.decoded.name, None)
            continue
        if not difference.any():
            continue
        context = contexts.get(unit_name(name))
        depth = context.put_node_depth + 1 if context is not None else 1
        node = Node(context.parameter_id if context is not None else places[name], depth, True, context)
        one = encoder.encode(name, difference, node, arrange=False)
        if one.is_zero:
            continue
        sent.append(one)
        result[name] = add(np.asarray(base[name]), one.values())
        if (left := context_after(one.decoded, context)) is not None:
            after[one.decoded.name] = left
    removed = tuple(name for name in base if name not in tensors)
    made = _assembled(writer, settings, description, sent, base_sha256, result, removed)
    return replace(made, updated=result, contexts=after)


def _difference(base: NDArray[Any] | None, wanted: NDArray[Any]) -> NDArray[Any] | None:
    """What is added to the base; None where the tensor has to be replaced."""
    if base is None or np.shape(base) != wanted.shape or np.asarray(base).dtype != wanted.dtype:
        return None
    base = np.asarray(base)
    if wanted.dtype.kind == "f":
        if not (np.isfinite(wanted).all() and np.isfinite(base).all()):
            return None if base.tobytes() != wanted.tobytes() else np.zeros(wanted.shape, np.float32)
        with np.errstate(over="ignore"):
            difference = wanted.astype(np.float32) - base.astype(np.float32)
        return difference if np.isfinite(difference).all() else None
    exact = wanted.astype(np.int64) - base.astype(np.int64)
    if exact.size and max(int(exact.max()), -int(exact.min()) - 1) >= 1 << 31:
        return None
    return exact.astype(np.int32)


def _assembled(
    writer: StreamWriter,
    settings: EncodeSettings,
    description: Description,
    encoded: list[EncodedTensor],
    base: str | None = None,
    result: Mapping[str, NDArray[Any]] | None = None,
    removed: tuple[str, ...] = (),
) -> EncodedModel:
    """The stream of encoded tensors."""
    records: list[TensorRecord] = []
    offset = end = 0
    for one in encoded:
        if one.unit:
            offset, end = end, end + len(one.unit)
        record = replace(
            one.record,
            offset=offset,
            options=tuple(description.options.get(one.record.name, ())),
            parameter_type=description.parameter_types.get(one.record.name, one.record.parameter_type),
        )
        records.append(record)
    level = TensorLevel(tuple(records), description.versions, description.supplements, removed)
    try:
        level.check()
    except FieldError as error:
        raise SettingsError(f"the description does not go with the tensors: {error}") from None
    layers = _layers(description, records, {one.record.name: one.shape for one in encoded})
    model = identity.model_sha256((layer.name, layer.sha256) for layer in layers)
    parts = [writer.start(control_document.MODEL_ID + packed(base or model) if settings.control_data else None)]
    if settings.control_data:
        text = control_document.write(
            level,
            # What names tell again is not sent again with every update.
            LayerLevel(layers) if base is None or description.layers else None,
            model,
            result=identity.values_sha256(result) if result is not None else None,
            topology=description.topology,
            info=description.model,
            data_set=description.data_set,
        )
        parts.append(writer.text(text))
    elif needing := [record.name for record in records if record.needs_control_data]:
        raise SettingsError(f"{needing[0]!r}: its name, shape, type or order needs the control data, which is left out")
    parts += [one.unit for one in encoded]
    if base is not None:
        model = identity.updated_sha256(base, model)
    return EncodedModel(b"".join(parts), model)


def _layers(
    description: Description, records: list[TensorRecord], shapes: dict[str, tuple[int, ...]]
) -> tuple[LayerRecord, ...]:
    """Layers of all tensors that are part of the model: the caller's, then by name."""
    hashes = {record.name: record.sha256 for record in records}
    beside = {supplement.source for supplement in description.supplements}
    taken = {name for layer in description.layers for name in layer.tensors}
    rest = layers_by_name([name for name in hashes if name not in taken and name not in beside])
    # Tensors that nobody named go to the layer of their name, the caller's where there is one.
    known = [replace(layer, tensors=(*layer.tensors, *rest.pop(layer.name, ()))) for layer in description.layers]
    known += [Layer(name, layer_type([shapes[one] for one in own]), tuple(own)) for name, own in rest.items()]
    found = []
    for layer in known:
        missing = [name for name in layer.tensors if name not in hashes]
        if missing:
            raise SettingsError(f"layer {layer.name!r} has the tensor {missing[0]!r}, which is not there")
        sha256 = identity.layer_sha256((name, hashes[name]) for name in layer.tensors)
        found.append(LayerRecord(layer.name, layer.layer_type, layer.tensors, sha256, layer.options))
    if len({layer.name for layer in found}) < len(found):
        raise SettingsError("two layers have the same name")
    return tuple(found)
