"""The adaptive parameters of a map as the wire gave them, kept for maps that inherit them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .adaptive import AdaptiveMap
from .parameters import ClassParameters
from .partition import Partition, PartitionKind
from .syntax import AdaptiveQuant

if TYPE_CHECKING:
    from .side_info import Shape


@dataclass(eq=False, slots=True)
class AdaptiveParameters:
    """Explicit parameters of a map. Its class map is read once the map's shape is known.

    :param kind: of the partition
    :param classes: in the order of their ids
    :param side_info: the class map as coded
    :param offset: of its first byte in the stream
    """

    kind: PartitionKind
    classes: tuple[ClassParameters, ...]
    side_info: bytes
    offset: int
    _partition: Partition | None = None
    _maps: dict[Shape, AdaptiveMap] = field(default_factory=dict)

    @classmethod
    def of(cls, syntax: AdaptiveQuant, offset: int) -> AdaptiveParameters:
        """What a header holds.

        :param offset: of side_info in the stream
        """
        return cls(PartitionKind(syntax.partition_kind), syntax.parameters, syntax.side_info, offset)

    @property
    def deepest(self) -> int:
        """The greatest depth among the classes."""
        return max(one.bit_depth for one in self.classes)

    def map_of(self, shape: Shape) -> AdaptiveMap:
        """The quantizers of a map [H, W, C]; the same object for as long as the shape stays.

        :raises StreamError: see `read_side_info`
        :raises SettingsError: the class map was for a map of another shape
        """
        found = self._maps.get(shape)
        if found is None:
            if self._partition is None:
                from .side_info import read_side_info  # the model stream's coder is needed only here

                self._partition = read_side_info(self.kind, self.side_info, shape, len(self.classes), self.offset)
            self._partition.check(*shape, len(self.classes))
            found = AdaptiveMap(self._partition, self.classes)
            self._maps.clear()
            self._maps[shape] = found
        return found
