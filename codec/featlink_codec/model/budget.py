"""How much a stream from the wire may ask for before it is refused."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NoReturn, Protocol

from ..errors import SettingsError, StreamError


class _Refuses(Protocol):
    def refuse(self, name: str, text: str, at: int | None = None) -> NoReturn: ...


@dataclass(frozen=True)
class Budget:
    """Bounds that are checked before anything is allocated. A stream that asks for more is refused: ``over-budget``.

    :param max_tensor_elements: of one tensor
    :param max_total_elements: of all tensors that one call decodes
    :param max_units: in a stream
    :param max_strings: names in one unit
    :param max_dimensions: of a tensor
    :param max_codebook: entries of a codebook
    :param max_entry_points: block rows of a tensor, less one
    :param max_control_bytes: of a topology unit, which holds the control data
    :param max_topology_bytes: of the graph, decompressed
    """

    max_tensor_elements: int = 1 << 28
    max_total_elements: int = 1 << 29
    max_units: int = 1 << 16
    max_strings: int = 64
    max_dimensions: int = 16
    max_codebook: int = 1 << 16
    max_entry_points: int = 1 << 16
    max_control_bytes: int = 1 << 26
    max_topology_bytes: int = 1 << 27

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise SettingsError(f"budget: {field.name} is {getattr(self, field.name)}, expected at least 1")

    def check(self, io: _Refuses, field: str, value: int, what: str, at: int | None = None) -> None:
        """Refuse a value above the field of that name.

        :raises StreamError: ``over-budget``
        """
        limit: int = getattr(self, field)
        if value > limit:
            io.refuse("over-budget", f"{what}: {value}, the budget's {field} is {limit}", at)

    def check_total(self, elements: int, name: str, offset: int) -> None:
        """Refuse more elements than `max_total_elements`.

        :param elements: of all tensors up to the one of this name
        :param offset: of the unit that holds it
        :raises StreamError: ``over-budget``
        """
        if elements > self.max_total_elements:
            limit = self.max_total_elements
            text = f"{elements} elements up to {name!r}, the budget's max_total_elements is {limit}"
            raise StreamError("over-budget", offset, text)
