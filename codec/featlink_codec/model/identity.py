"""Identities of tensors, layers, models and updated models: each SHA-256 follows from the ones below (aspect 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import layers_by_name


def layer_sha256(tensors: Iterable[tuple[str, str]]) -> str:
    """Of a layer, from its tensors' names and hashes, in order."""
    return _of("layer", [part for pair in tensors for part in pair])


def model_sha256(layers: Iterable[tuple[str, str]]) -> str:
    """Of a model, from its layers' names and hashes, in order."""
    return _of("model", [part for pair in layers for part in pair])


def sha256_of_tensors(hashes: Mapping[str, str]) -> str:
    """Of a model whose layers nobody has named, from its tensors' hashes by name, in order."""
    layers = layers_by_name(list(hashes))
    return model_sha256(
        (layer, layer_sha256((name, hashes[name]) for name in names)) for layer, names in layers.items()
    )


def updated_sha256(base: str, update: str) -> str:
    """Of what a base model becomes, from its own identity and that of the update."""
    return _of("updated", [base, update])


def values_sha256(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Of the tensors' values as they are used, sorted by name: types, shapes and little-endian bytes."""
    parts = []
    for name in sorted(tensors):
        tensor = np.asarray(tensors[name])
        little = np.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False))
        shape = "x".join(map(str, tensor.shape))
        parts += [name, f"{tensor.dtype.name} {shape}", hashlib.sha256(little.reshape(-1).data).hexdigest()]
    return _of("values", parts)


def _of(kind: str, parts: list[str]) -> str:
    found = hashlib.sha256(f"featlink {kind}\n".encode())
    for part in parts:
        raw = part.encode()
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()
