"""The hashes of the control data among each other: layers' of tensors', the model's of layers'."""

from __future__ import annotations

from ..errors import StreamError
from . import identity
from .control_document import ControlDocument


def check_hashes(control: ControlDocument, offset: int) -> None:
    """Check what the control data says of itself; tensors are not looked at.

    :param offset: in the stream, of what is behind the control data
    :raises StreamError: ``hash-mismatch``, ``bad-control``: at the first layer, or the model
    """
    level = control.tensors
    hashes = {record.name: record.sha256 for record in level.tensors}
    layers = control.layers.layers
    if not layers:
        beside = {supplement.source for supplement in level.supplements}
        model = identity.sha256_of_tensors({name: hashes[name] for name in hashes if name not in beside})
    else:
        model = identity.model_sha256((layer.name, layer.sha256) for layer in layers)
    for layer in layers:
        missing = [name for name in layer.tensors if name not in hashes]
        if missing:
            raise StreamError("bad-control", offset, f"layer {layer.name!r} has {missing[0]!r}, which is not there")
        if identity.layer_sha256((name, hashes[name]) for name in layer.tensors) != layer.sha256:
            raise StreamError("hash-mismatch", offset, f"layer {layer.name!r} does not come to its hash")
    if model != control.head.model:
        raise StreamError("hash-mismatch", offset, "the hashes of layers or tensors do not come to the model's")
