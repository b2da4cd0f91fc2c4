"""Adaptive quantizers that can be chosen, and how they are fitted to a map's values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import PackingSettings, QuantizerSettings
from featlink_codec.extractor.adaptive import DISTRIBUTIONS, PARTITIONS, ClassTable, write_class_map
from featlink_codec.extractor.maps import GIVEN_DISTRIBUTION
from featlink_codec.features.adaptive import (
    DECIDERS,
    HOWS,
    BlockClasses,
    ClassSettings,
    Decision,
    Partition,
    PartitionKind,
    Structure,
    Whole,
    decide_classes,
)

from .orders import by_class

#: What channels are classified by; "image" is for regions: the detail of the pictures instead of the map's energy.
FEATURES = {"variance": ("mean", "variance"), "sensitivity": ("given",), "image": ("mean", "variance")}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AdaptiveChoice:
    """Which adaptive quantizers.

    :param distribution: "uniform", "gaussian", "laplace" or "logarithmic", or the name of what decides on it
    :param how: "literal": the source's spread (uniform: minimum to maximum); "least-squares"
    :param depth: bits of a level, 2 to 8; with `bits` at most
    :param partition: "whole", "channel", "region" or "block"
    :param classes: K
    :param bits: of a level on average, given out by what they are worth to classes; None: all have the depth
    :param feature: of channels: "variance" (and mean), or "sensitivity" of the head to noise in them; of regions:
        "variance", by the map's energy, or "image", by the detail of the pictures
    :raises SettingsError: anything else
    """

    distribution: str = "uniform"
    how: str = "literal"
    depth: int = 8
    partition: str = "whole"
    classes: int = 1
    bits: float | None = None
    feature: str = "variance"

    def __post_init__(self) -> None:
        known: dict[str, Sequence[str]] = {"distribution": (*DISTRIBUTIONS, *DECIDERS), "how": HOWS,
                                           "partition": tuple(PARTITIONS), "feature": tuple(FEATURES)}  # fmt: skip
        for key, names in known.items():
            value = getattr(self, key)
            if value not in names:
                raise SettingsError(f"adaptive quantizer: found {value!r}, expected one of {', '.join(names)}")
        if self.feature == "image" and self.partition != "region":
            raise SettingsError(f"classes by the image: found partition {self.partition!r}, expected 'region'")
        if not 2 <= self.depth <= 8:
            raise SettingsError(f"adaptive quantizer: found {self.depth} bits of a level, expected 2 to 8")
        _ = self.settings

    @property
    def settings(self) -> ClassSettings:
        """For `decide_classes`."""
        named = self.distribution in DISTRIBUTIONS
        return ClassSettings(
            kind=PARTITIONS[self.partition],
            classes=self.classes,
            bit_depth=self.depth,
            bits=self.bits,
            decider="histogram" if named else self.distribution,
            distribution=DISTRIBUTIONS[self.distribution] if named else None,
            how=self.how,
            features=FEATURES[self.feature],
        )

    @property
    def on_device(self) -> dict[str, Any]:
        """Of [maps.quantizer]: the same, decided on the device for each intra period.

        :raises SettingsError: it needs more than the map that the device has
        """
        if self.bits is not None:
            raise SettingsError("on the device: found bits on average, expected classes of one depth")
        if self.feature != "variance":
            raise SettingsError(f"on the device: found classes by {self.feature}, which only the host can know")
        decider = self.distribution if self.distribution in DECIDERS else GIVEN_DISTRIBUTION
        return {"on_device": "intra", "decider": decider, "fit": self.how}

    @property
    def map_depth(self) -> int:
        """Of the map: the least one that holds it."""
        return next(depth for depth in (2, 4, 8) if depth >= self.depth)

    def __str__(self) -> str:
        how = "min..max" if self.distribution == "uniform" and self.how == "literal" else self.how
        bits = f"{self.depth} bit" if self.bits is None else f"{self.bits:g} bit on average"
        parts = {"channel": f", {self.classes} channel classes by {self.feature}",
                 "region": f", {self.classes} region classes{' by the image' if self.feature == 'image' else ''}",
                 "block": f", {self.classes} block classes"}  # fmt: skip
        return f"adaptive {self.distribution} {how}{parts.get(self.partition, '')}, {bits}"


class Fitter:
    """Fits adaptive quantizers to maps, each once.

    :param folder: class maps go there
    :param maps: [H, W, C] each
    :param structure: of the network there, for deciders that need it
    :param sensitivity: float64 [C], how much of the head's error a squared error in each channel makes; asked at most
        once
    :param pictures: [rows, columns, colors] each, what the maps are of
    """

    def __init__(
        self,
        folder: Path,
        maps: Sequence[NDArray[Any]],
        structure: Structure | None = None,
        sensitivity: Callable[[], Floats] | None = None,
        pictures: Callable[[], Iterable[NDArray[Any]]] | None = None,
    ) -> None:
        self.folder, self.maps, self.structure = folder, maps, structure
        self._sensitivity, self._pictures = sensitivity, pictures
        self._found: dict[AdaptiveChoice, Decision] = {}
        self._tables: dict[AdaptiveChoice, QuantizerSettings] = {}

    @cached_property
    def sensitivity(self) -> Floats:
        """See the parameter (SettingsError: it was not given)."""
        if self._sensitivity is None:
            raise SettingsError("channel classes by sensitivity need the head, which is not at hand")
        return self._sensitivity()

    def decision(self, choice: AdaptiveChoice) -> Decision:
        """Classes of a choice.

        :raises SettingsError: see `decide_classes`
        """
        if choice not in self._found:
            given = weights = image = None
            if choice.feature == "image":
                if self._pictures is None:
                    raise SettingsError("region classes by the image need the pictures, which are not at hand")
                image = self._pictures()
            if choice.feature == "sensitivity" and choice.partition == "channel":
                weights = self.sensitivity
                # Orders of magnitude apart: their logarithms are what is alike.
                given = np.log2(np.maximum(weights, weights.max() * 1e-6) + np.finfo(np.float64).tiny)
            self._found[choice] = decide_classes(
                self.maps, choice.settings, structure=self.structure, given=given, image=image, weights=weights
            )
        return self._found[choice]

    def table(self, choice: AdaptiveChoice) -> QuantizerSettings:
        """The [maps.quantizer] table; its class map lies in the folder."""
        if choice not in self._tables:
            self._tables[choice] = adaptive_table(self.decision(choice), choice.map_depth, self.folder)
        return self._tables[choice]

    def packing(self, choice: AdaptiveChoice, packing: PackingSettings) -> PackingSettings:
        """A packing in which the channels of a class stand together, in the order that they have already."""
        order = by_class(self.decision(choice).partition, packing.order)
        if order is None:
            return packing
        mode = "stack" if packing.mode == "stack" else "ordered-tile"
        return PackingSettings(mode, packing.tile_h, packing.tile_w, packing.pad_h, packing.pad_w, order)

    def mark(self, choice: AdaptiveChoice) -> str:
        """The same for two choices that come to the same quantizers."""
        found = self.decision(choice)
        parts = [_map_bytes(found.partition), str(found.partition.kind).encode(), str(choice.map_depth).encode()]
        for one in found.classes:
            quantizer = one.quantizer()
            parts += [bytes([one.bit_depth]), quantizer.thresholds.tobytes(), quantizer.level_values.tobytes()]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def adaptive_table(found: Decision, map_depth: int, folder: Path, name: str = "") -> QuantizerSettings:
    """The [maps.quantizer] table of classes; a class map is written.

    :param name: of the class map's file; empty: one of its own
    """
    classes = tuple(ClassTable.of(one) for one in found.classes)
    kind = next(name for name, kind in PARTITIONS.items() if kind is found.partition.kind)
    if found.partition.kind is PartitionKind.WHOLE:
        return QuantizerSettings("adaptive", map_depth, 1.0, partition=kind, classes=classes)
    assert not isinstance(found.partition, Whole)
    marks = hashlib.sha256(_map_bytes(found.partition)).hexdigest()[:12]
    file = name or f"classes-{kind}-{marks}.npy"
    digest = write_class_map(folder / file, found.partition)
    return QuantizerSettings(
        "adaptive", map_depth, 1.0, partition=kind, class_map=file, class_map_sha256=digest, classes=classes
    )


def _map_bytes(partition: Partition) -> bytes:
    """All that tells a class map from another of its kind."""
    if isinstance(partition, Whole):
        return b""
    splits = partition.splits.tobytes() if isinstance(partition, BlockClasses) else b""
    return splits + b"|" + partition.ids.tobytes()
