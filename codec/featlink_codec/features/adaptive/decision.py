"""From maps to a partition and its classes: what `prepare` does once, or a camera for each intra period."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError
from .blocks import BlockSettings, classify_blocks
from .channel_features import FEATURES, ChannelFeatures
from .classes import allocate_depths, merge_and_split
from .deciders import DeciderOptions, decide
from .fitting import expected_error, fit
from .histogram import Histogram, Summary
from .kmeans import kmeans
from .parameters import DECIDERS, HOWS, ClassParameters, Distribution
from .partition import MAX_CLASSES, ChannelClasses, Partition, PartitionKind, RegionClasses, Whole
from .regions import classify_regions, image_energy, map_energy
from .structure import Structure

#: Tasks, and whether their maps are quantized in parts: where a network says where things are, yes ([0222], [0223]).
TASKS = {
    "classification": False,
    "detection": True,
    "localisation": True,
    "tracking": True,
}

#: Elements of a map that are sorted by class at a time.
_BAND = 1 << 16


def use_partial(user: bool | None = None, task: str | None = None) -> bool:
    """Whether a map is quantized in parts: as the user says, or else by the network's task; without either, no.

    :param task: one of `TASKS`
    :raises SettingsError: no such task
    """
    if task is not None and task not in TASKS:
        raise SettingsError(f"task {task!r}, expected one of {', '.join(TASKS)}")
    if user is not None:
        return user
    return task is not None and TASKS[task]


@dataclass(frozen=True)
class ClassSettings:
    """How classes are made.

    :param kind: of the partition
    :param classes: K; 1 for whole maps
    :param bit_depth: of the map, and of classes at most
    :param bits: for an element on average, at most the depth: below it classes get depths by what bits are worth to
        them, see `allocate_depths`. None: every class has the map's depth
    :param least_depth: of a class, 2 or above
    :param decider: of each class's distribution, one of `DECIDERS`
    :param decider_options: what it is told
    :param distribution: of every class, instead of what the decider says
    :param how: "least-squares" or "literal", see `fit`
    :param features: of channels, some of `FEATURES`
    :param minimum: members of a class at least: channels or positions
    :param maximum: and at most; None: any number
    :param blocks: how blocks are made
    :raises SettingsError: anything out of range
    """

    kind: PartitionKind
    classes: int = 4
    bit_depth: int = 8
    bits: float | None = None
    least_depth: int = 2
    decider: str = "histogram"
    decider_options: DeciderOptions = field(default_factory=DeciderOptions)
    distribution: Distribution | None = None
    how: str = "least-squares"
    features: tuple[str, ...] = ("mean", "variance")
    minimum: int = 1
    maximum: int | None = None
    blocks: BlockSettings = field(default_factory=BlockSettings)

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= MAX_CLASSES:
            raise SettingsError(f"K is {self.classes}, expected 1 to {MAX_CLASSES}")
        if self.kind is PartitionKind.WHOLE and self.classes != 1:
            raise SettingsError(f"K is {self.classes} for a map that is one class, expected 1")
        if not 2 <= self.least_depth <= self.bit_depth <= 16:
            raise SettingsError(f"class depths of {self.least_depth} to {self.bit_depth}, expected 2 to 16, in order")
        if self.bits is not None and not self.least_depth <= self.bits <= self.bit_depth:
            raise SettingsError(f"{self.bits} bits an element, expected {self.least_depth} to {self.bit_depth}")
        for name, value, known in (("decider", self.decider, DECIDERS), ("fit", self.how, HOWS)):
            if value not in known:
                raise SettingsError(f"{name} {value!r}, expected one of {', '.join(known)}")
        if unknown := set(self.features) - set(FEATURES):
            raise SettingsError(f"channel feature {min(unknown)!r}, expected one of {', '.join(FEATURES)}")


@dataclass(frozen=True, eq=False)
class Decision:
    """A partition and the parameters of its classes, in the order of their ids."""

    partition: Partition
    classes: tuple[ClassParameters, ...]


def decide_classes(
    maps: Sequence[NDArray[np.generic]],
    settings: ClassSettings,
    *,
    structure: Structure | None = None,
    given: NDArray[np.generic] | None = None,
    image: NDArray[np.generic] | Iterable[NDArray[np.generic]] | None = None,
    weights: NDArray[np.generic] | None = None,
) -> Decision:
    """Classify, and fit a quantizer to each class.

    Each map is read twice and never copied as a whole. Memory beside the maps is bounded by one map's shape and K:
    128 KiB a class for histograms; some rows of a map; the positions for regions; 16 + 4 K bytes an
    element of one map, and 24 more for a moment, for blocks. Time grows with the elements, and by one fit a class, or
    where `bits` are given by one for each depth up to the one that it gets and the next.

    :param maps: [H, W, C] each, of one shape: float32, float16 or integers of up to 16 bits
    :param structure: for deciders that need it
    :param given: channel features from elsewhere, see `ChannelFeatures.vectors`
    :param image: regions: of the input instead of the maps' energy; of several the energies are added
    :param weights: [C], channel classes: what a squared error in each channel counts when depths are given; None: 1
    :raises SettingsError: no maps, other shapes, K above what there is to classify, or values that are not finite
    """
    if not maps or maps[0].ndim != 3 or any(one.shape != maps[0].shape for one in maps):
        found = sorted({str(list(one.shape)) for one in maps})
        raise SettingsError(f"maps {', '.join(found) or 'none'}, expected at least one, all [height, width, channels]")
    partition = _partition(maps, settings, given, image)
    fits = _Fits([one.summary() for one in _histograms(maps, partition)], settings, structure)
    depths = [settings.bit_depth] * partition.class_count
    if settings.bits is not None:
        counts = [one.count // len(maps) for one in fits.summaries]
        budget = int(settings.bits * sum(counts))
        counted = _class_weights(partition, weights, maps[0].shape[2])

        def error_of(place: int, depth: int) -> float:
            return counted[place] * fits.error_of(place, depth)

        depths = allocate_depths(error_of, counts, budget, settings.least_depth, settings.bit_depth)
    return Decision(partition, tuple(fits.at(place, depth) for place, depth in enumerate(depths)))


class _Fits:
    """Classes at the depths that somebody asks for, each fitted once."""

    def __init__(self, summaries: list[Summary], settings: ClassSettings, structure: Structure | None) -> None:
        self.summaries = summaries
        self._how = settings.how
        self._distributions = [
            decide(settings.decider, one, structure, settings.decider_options)
            if settings.distribution is None
            else settings.distribution
            for one in summaries
        ]
        self._known: dict[tuple[int, int], ClassParameters] = {}

    def at(self, place: int, depth: int) -> ClassParameters:
        """The class at a depth."""
        if (place, depth) not in self._known:
            found = fit(self.summaries[place], self._distributions[place], depth, self._how)
            self._known[place, depth] = found
        return self._known[place, depth]

    def error_of(self, place: int, depth: int) -> float:
        """Its mean squared error."""
        return expected_error(self.summaries[place], self.at(place, depth))


def _class_weights(partition: Partition, weights: NDArray[np.generic] | None, channels: int) -> list[float]:
    """The mean weight of each class's channels."""
    if weights is None:
        return [1.0] * partition.class_count
    table = np.asarray(weights, np.float64)
    if not isinstance(partition, ChannelClasses):
        raise SettingsError("weights of channels need classes of channels")
    if table.shape != (channels,) or not np.isfinite(table).all() or (table < 0).any():
        raise SettingsError(f"weights {list(table.shape)}, expected finite numbers from 0, [{channels}]")
    return [float(table[partition.ids == k].mean()) for k in range(partition.class_count)]


def _partition(
    maps: Sequence[NDArray[np.generic]],
    settings: ClassSettings,
    given: NDArray[np.generic] | None,
    image: NDArray[np.generic] | Iterable[NDArray[np.generic]] | None,
) -> Partition:
    height, width, channels = maps[0].shape
    if settings.kind is PartitionKind.WHOLE:
        return Whole()
    if settings.kind is PartitionKind.CHANNEL:
        features = ChannelFeatures(channels)
        for one in maps:
            features.add(one)
        vectors = features.vectors(settings.features, given)
        ids = kmeans(vectors, settings.classes, "channels")
        return ChannelClasses(merge_and_split(vectors, ids, settings.minimum, settings.maximum).astype(np.uint8))
    if settings.kind is PartitionKind.REGION:
        energy = np.zeros((height, width))
        if image is None:
            for one in maps:
                energy += map_energy(one)
        else:
            for one in [image] if isinstance(image, np.ndarray) else image:
                energy += image_energy(one, height, width)
        return RegionClasses(classify_regions(energy, settings.classes, settings.minimum, settings.maximum))
    sums, squares = np.zeros(maps[0].shape), np.zeros(maps[0].shape)
    for one in maps:
        for row in range(height):
            x = np.asarray(one[row], np.float64)
            sums[row] += x
            squares[row] += x * x
    sums /= len(maps)
    squares /= len(maps)
    return classify_blocks(sums, squares, settings.classes, settings.blocks)


def _histograms(maps: Sequence[NDArray[np.generic]], partition: Partition) -> list[Histogram]:
    found = [Histogram() for _ in range(partition.class_count)]
    ids = partition.ids_of(*maps[0].shape)
    height, width, channels = maps[0].shape
    rows = max(1, _BAND // (width * channels))
    for one in maps:
        for top in range(0, height, rows):
            values = one[top : top + rows]
            of_values = np.broadcast_to(ids if len(ids) == 1 else ids[top : top + rows], values.shape)
            for place, histogram in enumerate(found):
                histogram.add(values[of_values == place])
    return found
