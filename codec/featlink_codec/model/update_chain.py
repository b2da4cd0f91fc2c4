"""A base model and the updates after it, tensor by tensor: no more than a few tensors are in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from . import identity
from .decoded import TensorContext
from .onnx_bytes import FORMAT
from .reader import ModelStream
from .updates import add, context_after


class TensorSource(Protocol):
    """A model: a `ModelStream`, or a file that was decoded from one."""

    def names(self) -> list[str]:
        """Its tensors."""

    def tensor(self, name: str) -> NDArray[Any]:
        """Values of one."""

    def model_sha256(self) -> str:
        """Its identity."""


def graph_of(source: TensorSource) -> bytes | None:
    """The ONNX graph that a stream's control data or a file has; None where there is none."""
    if not isinstance(source, ModelStream):
        graph: bytes | None = getattr(source, "graph", None)
        return graph
    topology = source.control.topology if source.control is not None else None
    return topology.data if topology is not None and topology.format == FORMAT else None


class UpdateChain:
    """What updates, one after the other, make of a base model. What they are for is checked at once, by identities.

    Only updates with control data: others do not say what they are for (`updates.apply_update` takes them).

    :param base: the model before the first update
    :param updates: in order; none gives the base model
    :param labels: what errors call the base and each update
    :raises StreamError: ``not-an-update``; ``wrong-base``: an update is for another model, or out of order
    """

    def __init__(self, base: TensorSource, updates: Sequence[ModelStream], labels: Sequence[str] = ()) -> None:
        self._labels = list(labels) or ["base", *(f"update {number}" for number in range(1, len(updates) + 1))]
        self._base = base
        self._updates = updates
        self._base_names = set(base.names())
        names = dict.fromkeys(base.names())
        found = base.model_sha256() if updates else ""
        for label, update in zip(self._labels[1:], updates, strict=True):
            head = update.control.head if update.control is not None else None
            if head is None or head.base is None or update.control is None:
                raise StreamError(
                    "not-an-update", 0, f"{label}: no update with control data, which says what it is for"
                )
            if head.base != found:
                text = f"{label}: it is for the model {head.base[:16]}..., found {found[:16]}..."
                raise StreamError("wrong-base", 0, text)
            found = identity.updated_sha256(found, head.model)
            for name in update.control.tensors.removed:
                names.pop(name, None)
            names.update(dict.fromkeys(update.names()))
        self._names = list(names)
        self._model_sha256 = found
        self._replaced = [{record.name for record in update.records() if record.replaces} for update in updates]

    def names(self) -> list[str]:
        """Tensors of the updated model."""
        return self._names

    def model_sha256(self) -> str:
        """Identity of the updated model."""
        return self._model_sha256 or self._base.model_sha256()

    @property
    def result_sha256(self) -> str | None:
        """What `identity.values_sha256` of the updated model must come to; None where nothing says so."""
        control = self._updates[-1].control if self._updates else None
        return control.head.result if control is not None else None

    def graph(self) -> bytes | None:
        """The ONNX graph without tensors: the last one that an update brings, else the base's. None: there is none."""
        for stream in reversed(self._updates):
            if (found := graph_of(stream)) is not None:
                return found
        return graph_of(self._base)

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor of the updated model.

        :raises SettingsError: there is no such tensor
        :raises StreamError: what is wrong with a stream; ``wrong-base``: a difference does not go with what it is for
        """
        values: NDArray[Any] | None = None
        contexts: dict[str, TensorContext] = {}
        label = self._labels[0]
        try:
            if name in self._base_names:
                values = self._base.tensor(name)
            for place, update in enumerate(self._updates):
                label = self._labels[place + 1]
                if update.control is not None and name in update.control.tensors.removed:
                    values, contexts = None, {}
                if name in update:
                    values, contexts = self._updated(place, name, values, contexts)
        except StreamError as error:
            raise StreamError(error.name, error.offset, f"{label}: {error.text}") from None
        if values is None:
            raise SettingsError(f"no tensor {name!r} in the model")
        return values

    def _updated(
        self, place: int, name: str, values: NDArray[Any] | None, contexts: dict[str, TensorContext]
    ) -> tuple[NDArray[Any], dict[str, TensorContext]]:
        """A tensor after one update, and what that leaves for the next one."""
        _, decoded, difference = next(iter(self._updates[place].each([name], contexts)))
        if name in self._replaced[place] or not decoded.is_update:
            return difference, {}
        if values is None:
            raise StreamError("wrong-base", decoded.offset, f"a difference for {name!r}, which is not there")
        if values.dtype.kind == "f" and difference.dtype.kind != "f":
            # Exact tensors of fewer than 32 bits go as the integers of their bits.
            values = values.view(f"i{values.itemsize}")
        try:
            values = add(np.asarray(values), difference)
        except SettingsError as error:
            raise StreamError("wrong-base", decoded.offset, f"{name!r}: {error}") from None
        context = context_after(decoded, contexts.get(decoded.name))
        return values, {} if context is None else {decoded.name: context}
