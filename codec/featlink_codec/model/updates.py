"""Applies updates: differences against a base model that both ends know by its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from . import identity
from .decoded import DecodedTensor, TensorContext
from .reader import ModelStream, Tensor


@dataclass(frozen=True)
class Updated:
    """What an update leads to.

    :param tensors: of the updated model; those that did not change are the base's own arrays
    :param model_sha256: its identity: the base of the next update
    :param contexts: for the next update
    """

    tensors: dict[str, Tensor]
    model_sha256: str
    contexts: Mapping[str, TensorContext]


def apply_update(
    base: Mapping[str, Tensor],
    base_sha256: str,
    update: ModelStream,
    contexts: Mapping[str, TensorContext] | None = None,
) -> Updated:
    """A model, updated. The base is left as it is; tensors that the update does not hold stay.

    :param base: the tensors of the base model
    :param base_sha256: its identity: `ModelStream.model_sha256`, or `Updated.model_sha256` after an update
    :param contexts: what the update before this one left; nothing for the first one after a base model
    :raises StreamError: ``wrong-base``: the update is for another model; ``not-an-update``; ``missing-context``: an
        update before this one is missing; whatever is wrong with the stream
    """
    head = update.control.head if update.control is not None else None
    if not update.parameters.mps.mps_parent_signalling_enabled_flag:
        raise StreamError("not-an-update", 0, "the stream holds a model, not an update")
    if head is not None and head.base != base_sha256:
        raise StreamError("wrong-base", 0, f"the update is for the model {head.base}, found {base_sha256}")
    contexts = contexts or {}
    tensors, next_contexts, hashes = dict(base), dict(contexts), dict[str, str]()
    replaces = {record.name for record in update.records() if record.replaces}
    for name, decoded, values in update.each(contexts=contexts):
        if name in replaces or not decoded.is_update:
            tensors[name] = values
            next_contexts.pop(decoded.name, None)
        else:
            tensors[name] = _added_to(base, name, decoded, values)
            if (context := context_after(decoded, contexts.get(decoded.name))) is not None:
                next_contexts[decoded.name] = context
        if head is None:
            hashes[name] = decoded.sha256().hex()
    if update.control is not None:
        for name in update.control.tensors.removed:
            if tensors.pop(name, None) is None:
                raise StreamError("wrong-base", 0, f"the update removes {name!r}, which the base does not have")
    if head is not None and head.result is not None and identity.values_sha256(tensors) != head.result:
        raise StreamError("wrong-base", 0, "base and update together do not come to the update's hash of the result")
    own = head.model if head is not None else identity.sha256_of_tensors(hashes)
    return Updated(tensors, identity.updated_sha256(base_sha256, own), next_contexts)


def _added_to(base: Mapping[str, Tensor], name: str, decoded: DecodedTensor, difference: Tensor) -> Tensor:
    if name not in base:
        raise StreamError("wrong-base", decoded.offset, f"a difference for {name!r}, which the base does not have")
    try:
        return add(np.asarray(base[name]), difference)
    except SettingsError as error:
        raise StreamError("wrong-base", decoded.offset, f"{name!r}: {error}") from None


def add(base: NDArray[Any], difference: NDArray[Any]) -> NDArray[Any]:
    """A tensor and a difference: floating-point numbers in binary32, rounded once; integers exactly.

    :raises SettingsError: they do not go together, or the sum leaves the integers of the base's type
    """
    # A single number has the shape [1] on the wire.
    if base.shape != difference.shape and (base.shape, difference.shape) != ((), (1,)):
        raise SettingsError(f"shape {list(difference.shape)}, the base has {list(base.shape)}")
    difference = difference.reshape(base.shape)
    if (base.dtype.kind == "f") != (difference.dtype.kind == "f"):
        raise SettingsError(f"{difference.dtype}, the base has {base.dtype}")
    if base.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            return (base.astype(np.float32) + difference.astype(np.float32)).astype(base.dtype)
    total = base.astype(np.int64) + difference.astype(np.int64)
    low, high = (0, 1) if base.dtype.kind == "b" else (np.iinfo(base.dtype).min, np.iinfo(base.dtype).max)
    if total.size and (int(total.min()) < low or int(total.max()) > high):
        raise SettingsError(f"the sum leaves the range of {base.dtype}")
    return total.astype(base.dtype)


def context_after(tensor: DecodedTensor, before: TensorContext | None) -> TensorContext | None:
    """What an update of a tensor leaves for the next one; None where it has no levels."""
    if tensor.levels is None:
        return before
    history = tensor.levels != 0
    if before is not None and before.history.shape == history.shape:
        history |= before.history
    return TensorContext(tensor.levels, history, *tensor.node)
