"""What a reader makes of a map's pictures: levels, the head's input tensor, or both, each in one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .adaptive.adaptive import AdaptiveMap, AnyQuantizer
from .packing import Packing
from .quantizers import Levels, level_dtype
from .samples import level_table
from .unpacker import MapUnpacker


@dataclass(frozen=True)
class Wanted:
    """What `FeatureMap` shall hold of a decoded map.

    :param levels: `FeatureMap.levels`
    :param tensor: `FeatureMap.tensor`, of this type: "float32" or "float16", for maps of integers also "uint8",
        "int8", "uint16", "int16". None: no tensor
    :param channels_first: the tensor is [1, C, H, W], else [1, H, W, C]
    """

    levels: bool = True
    tensor: str | None = None
    channels_first: bool = True

    def __post_init__(self) -> None:
        known = ("float32", "float16", "uint8", "int8", "uint16", "int16")
        if self.tensor is not None and self.tensor not in known:
            raise SettingsError(f"a tensor of {self.tensor}, expected one of {', '.join(known)}")


def sample_values(
    quantizer: AnyQuantizer | None, bit_depth: int, level_scaling: bool, dtype: str
) -> NDArray[np.generic]:
    """[256] or, at depth 16, [65536]: the value that each sample of a picture stands for; with classes [classes, 256].

    :raises SettingsError: a type that does not hold them: an integer one under a quantizer, or too small a one
    """
    if isinstance(quantizer, AdaptiveMap):
        levels: NDArray[np.generic] = quantizer.levels_of_samples(level_scaling)
        pairs = zip(quantizer.quantizers, levels, strict=True)
        values: NDArray[np.generic] = np.stack([one.level_values[row] for one, row in pairs])
    else:
        levels = np.arange(65536) if bit_depth == 16 else _levels_of_samples(bit_depth, level_scaling)
        values = levels if quantizer is None else quantizer.level_values[levels]
    if np.dtype(dtype).kind in "ui" and (quantizer is not None or values.max() > np.iinfo(dtype).max):
        raise SettingsError(f"{dtype} does not hold the values of this map")
    with np.errstate(over="ignore"):  # beyond binary16 lies its infinity
        return values.astype(dtype)


def _levels_of_samples(bit_depth: int, level_scaling: bool) -> NDArray[np.generic]:
    return np.arange(256) if bit_depth == 8 else level_table(bit_depth, level_scaling)


class MapTarget:
    """The arrays of one map, and where its pictures go.

    :param levels: [H, W, C], a view of planes; None where they are not wanted
    :param tensor: [1, ...]; likewise
    """

    def __init__(
        self, unpackers: list[tuple[MapUnpacker, NDArray[np.generic]]], levels: Levels | None,
        tensor: NDArray[np.generic] | None,
    ) -> None:  # fmt: skip
        self.levels = levels
        self.tensor = tensor
        self._unpackers = unpackers
        self._high: deque[NDArray[np.uint8]] = deque()
        self._index = 0

    def take(self, picture: NDArray[np.uint8]) -> None:
        """Unpack the low bytes, or the only ones, of the next picture."""
        high = self._high.popleft() if self._high else None
        for unpacker, out in self._unpackers:
            unpacker.unpack(picture, self._index, out, high)
        self._index += 1

    def keep_high(self, picture: NDArray[np.uint8]) -> None:
        """Keep the high bytes until the low ones come."""
        self._high.append(picture.copy())


def unpacking(
    packing: Packing,
    size: tuple[int, int],
    bit_depth: int,
    level_scaling: bool,
    quantizer: AnyQuantizer | None,
    wanted: Wanted,
) -> Callable[[], MapTarget]:
    """Prepare for maps of one kind.

    :returns: makes the arrays of one map
    :raises SettingsError: the wanted type does not hold the map's values
    """
    height, width = size
    for_levels: MapUnpacker | None = None
    for_tensor: MapUnpacker | None = None
    classes = quantizer if isinstance(quantizer, AdaptiveMap) else None
    ids = None if classes is None else classes.partition.ids_of(height, width, packing.channels)
    if wanted.levels:
        if classes is None:
            integers = sample_values(None, bit_depth, level_scaling, np.dtype(level_dtype(bit_depth)).name)
        else:
            integers = classes.levels_of_samples(level_scaling)
        for_levels = MapUnpacker(packing, height, width, integers, ids)
    if wanted.tensor is not None:
        values = sample_values(quantizer, bit_depth, level_scaling, wanted.tensor)
        for_tensor = MapUnpacker(packing, height, width, values, ids)

    def new_target() -> MapTarget:
        unpackers: list[tuple[MapUnpacker, NDArray[np.generic]]] = []
        levels: Levels | None = None
        tensor: NDArray[np.generic] | None = None
        shape = (packing.channels, height, width)
        if for_levels is not None:
            planes = np.empty(shape, np.uint16) if bit_depth == 16 else np.empty(shape, np.uint8)
            levels = planes.transpose(1, 2, 0)
            unpackers.append((for_levels, levels))
        if for_tensor is not None:
            first = wanted.channels_first
            tensor = np.empty((1, *(shape if first else (height, width, packing.channels))), wanted.tensor)
            unpackers.append((for_tensor, tensor[0].transpose(1, 2, 0) if first else tensor[0]))
        return MapTarget(unpackers, levels, tensor)

    return new_target
