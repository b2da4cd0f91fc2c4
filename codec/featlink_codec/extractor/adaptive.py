"""mode "adaptive" of [maps.quantizer]: its classes, its class map's file, and what decides on them on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..features.adaptive import (
    BlockClasses,
    ChannelClasses,
    ClassParameters,
    Distribution,
    Partition,
    PartitionKind,
    RegionClasses,
    Split,
    Whole,
)
from ..features.adaptive.adaptive import AdaptiveMap
from .arrays import array_bytes, read_array
from .fields import Choice, FieldError, Integer, Number, check_fields, refuse

if TYPE_CHECKING:
    from .maps import MapSettings

#: partition by name: partition_kind of the stream
PARTITIONS = {kind.name.lower(): kind for kind in PartitionKind}
DISTRIBUTIONS = {kind.name.lower(): kind for kind in Distribution}


@dataclass(frozen=True)
class ClassTable:
    """[[maps.quantizer.classes]]: the quantizer of one class."""

    TABLE: ClassVar[str] = "maps.quantizer.classes"

    distribution: Annotated[str, Choice(*DISTRIBUTIONS)]
    #: bits of a level, at most those of the map
    bit_depth: Annotated[int, Integer(1, 8)]
    #: uniform: the minimum; gaussian: the mean; laplace, logarithmic: where both sides begin
    center: Annotated[float, Number(single=True)]
    #: uniform: maximum - minimum; otherwise what M levels away from the center are
    spread: Annotated[float, Number(above=0, single=True)]
    step: Annotated[float, Number(above=0, single=True)] = 1.0
    offset: Annotated[float, Number(single=True)] = 0.5

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        try:
            _ = self.parameters
        except SettingsError as error:
            raise refuse(self, "spread", str(error)) from None

    @property
    def parameters(self) -> ClassParameters:
        """The class as the stream carries it."""
        kind = DISTRIBUTIONS[self.distribution]
        return ClassParameters(kind, self.bit_depth, self.center, self.spread, self.step, self.offset)

    @classmethod
    def of(cls, one: ClassParameters) -> ClassTable:
        """The table that holds a class."""
        return cls(one.distribution.name.lower(), one.bit_depth, one.center, one.spread, one.step, one.offset)


def write_class_map(path: Path, partition: Partition) -> str:
    """Write a class map: .npy 1.0, uint8 [C], [H, W], or of blocks the splits in preorder and then the leaves' ids.

    :returns: the SHA-256 of the file, in hexadecimal
    :raises SettingsError: a whole map has none, or the file cannot be written
    """
    if isinstance(partition, Whole):
        raise SettingsError(f"{path}: a map that is one class has no class map")
    ids = partition.ids
    if isinstance(partition, BlockClasses):
        ids = np.concatenate([partition.splits, ids])
    data = array_bytes(ids)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    return hashlib.sha256(data).hexdigest()


def partition_of(settings: MapSettings, folder: Path | str | None) -> Partition:
    """The partition of a [[maps]] table in mode "adaptive".

    :param folder: of the extractor, for the class map
    :raises SettingsError: no folder where one is needed, no such file, another one, or a class map that does not cover
        the map
    """
    table = settings.quantizer
    kind = PARTITIONS[table.partition or "whole"]
    if table.class_map is None or table.class_map_sha256 is None:
        return Whole()
    if folder is None:
        raise SettingsError(f"{table.class_map}: the extractor's folder is needed for the class map")
    path = Path(folder) / table.class_map
    shape = (settings.height, settings.width, settings.channels)
    ids = read_array(
        path, "class ids", table.class_map_sha256, "|u1", most=2 * settings.height * settings.width * settings.channels
    )
    try:
        partition: Partition
        if kind is PartitionKind.BLOCK:
            nodes = _nodes(ids)
            partition = BlockClasses(ids[:nodes], ids[nodes:])
        else:
            partition = (ChannelClasses if kind is PartitionKind.CHANNEL else RegionClasses)(ids)
        partition.check(*shape, len(table.classes or ()))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return partition


def adaptive_of(settings: MapSettings, folder: Path | str | None) -> AdaptiveMap:
    """The quantizers of a [[maps]] table in mode "adaptive".

    :raises SettingsError: see `partition_of`
    """
    classes = tuple(one.parameters for one in settings.quantizer.classes or ())
    return AdaptiveMap(partition_of(settings, folder), classes)


def decider_of(settings: MapSettings) -> Callable[[NDArray[np.generic]], AdaptiveMap] | None:
    """What decides on classes on the device; None where that is not asked for.

    As many classes as the table has, of its partition, each as deep as its deepest. Beside the map it takes 128 KiB a
    class and, for blocks, 16 + 4 * classes bytes an element; time grows with the elements, and by one fit a class.
    """
    table = settings.quantizer
    if table.on_device != "intra":
        return None
    from ..features.adaptive import ClassSettings, decide_classes  # needed only here

    kind = PARTITIONS[table.partition or "whole"]
    given = table.classes or ()
    by_values = table.decider in (None, "histogram")
    how = ClassSettings(
        kind=kind,
        classes=len(given),
        bit_depth=max(one.bit_depth for one in given),
        distribution=None if by_values else DISTRIBUTIONS[given[0].distribution],
        how=table.fit or "least-squares",
    )

    def decide(values: NDArray[np.generic]) -> AdaptiveMap:
        found = decide_classes([values], how)
        return AdaptiveMap(found.partition, found.classes)

    return decide


def check_adaptive(classes: tuple[ClassTable, ...] | None, bit_depth: int) -> None:
    """:raises FieldError: no classes, or one that is deeper than the map."""
    if not classes:
        raise FieldError("maps.quantizer", "classes", "none", "at least one such table in mode 'adaptive'")
    for number, one in enumerate(classes):
        if one.bit_depth > bit_depth:
            found, expected = str(one.bit_depth), f"at most the map's {bit_depth}"
            raise FieldError(f"maps.quantizer.classes[{number}]", "bit_depth", found, expected)


def _nodes(values: NDArray[np.uint8]) -> int:
    """How many of a block map's numbers are splits: until the tree is whole."""
    open_nodes = 1
    parts = [split.parts for split in Split]
    for place, value in enumerate(values.ravel().tolist()):
        if value >= len(parts):
            break
        open_nodes += parts[value] - 1
        if not open_nodes:
            return place + 1
    raise SettingsError("no tree of splits")
