"""Versions of a model in one stream: a base, enhancements over it, and parts that compensate for it (aspect 10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import SettingsError, StreamError
from .reader import ModelStream, Tensor
from .tensor_level import Part, Rule, Version
from .updates import add


@dataclass(frozen=True)
class Composed:
    """One version.

    :param tensors: of the model
    :param compensations: for a tensor's name, the tensor of a layer that runs beside that tensor's layer: the outputs
        of both are added
    """

    tensors: dict[str, Tensor]
    compensations: dict[str, Tensor]


def version_names(stream: ModelStream) -> list[str]:
    """The versions that a stream holds, simplest first; none where it holds just a model."""
    return [version.name for version in stream.control.tensors.versions] if stream.control is not None else []


def compose(stream: ModelStream, name: str | None = None) -> Composed:
    """A version, of which only the parts are decoded that it needs.

    :param name: the first version where left out; the whole model where the stream has no versions
    :raises SettingsError: no such version
    :raises StreamError: see `ModelStream.each`, for the parts of all versions in the chain together;
        ``bad-version``: a part does not go with what it extends
    """
    versions = {version.name: version for version in stream.control.tensors.versions} if stream.control else {}
    if not versions and name is None:
        return Composed(stream.tensors(), {})
    name = next(iter(versions)) if name is None else name
    if name not in versions:
        raise SettingsError(f"no version {name!r} in the stream; there are {', '.join(versions) or 'none'}")
    chain: list[Version] = []
    while name is not None:
        chain.append(versions[name])
        name = versions[name].extends
    tensors: dict[str, Tensor] = {}
    compensations: dict[str, Tensor] = {}
    total = 0
    for version in reversed(chain):
        parts = {part.source: part for part in version.parts}
        for source, decoded, values in stream.each(list(parts)):
            part = parts[source]
            total += values.size
            stream.budget.check_total(total, source, decoded.offset)
            if part.rule is Rule.COMPENSATION:
                compensations[part.tensor] = values
                continue
            try:
                tensors[part.tensor] = _made(part, tensors.get(part.tensor), values)
            except SettingsError as error:
                text = f"version {version.name!r}, tensor {part.tensor!r}: {error}"
                raise StreamError("bad-version", decoded.offset, text) from None
    return Composed(tensors, compensations)


def _made(part: Part, before: Tensor | None, values: Tensor) -> Tensor:
    if part.rule is Rule.WHOLE:
        return values
    if before is None:
        raise SettingsError("there is nothing to add to")
    if part.rule is Rule.DIFFERENCE:
        return add(before, values)
    if before.ndim != values.ndim or any(old > new for old, new in zip(before.shape, values.shape, strict=True)):
        raise SettingsError(f"shape {list(before.shape)} does not grow to {list(values.shape)}")
    grown = np.zeros(values.shape, before.dtype)
    grown[tuple(slice(0, old) for old in before.shape)] = before
    return add(grown, values)
