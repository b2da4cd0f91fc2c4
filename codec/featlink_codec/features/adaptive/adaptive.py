"""A map with several quantizers: which class each element is of, and each class's levels. The C core does the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...errors import SettingsError
from ..quantizers import Levels, Quantizer
from ..samples import Sampling, integer_levels, level_table, scaling_table
from .parameters import ClassParameters
from .partition import Partition, check_classes
from .quantizers import AdaptiveQuantizer
from .syntax import AdaptiveQuant, ClassFields

#: Depth of a map at most: its samples are bytes.
MAX_DEPTH = 8


@dataclass(frozen=True, eq=False)
class AdaptiveMap:
    """A partition and the quantizer of each of its classes.

    Levels of a class are 0 .. its own peak. Samples are the levels themselves, so that a class of smaller depth weighs
    less against what a lossy encoder adds; under level_scaling they are floor(level * 255 / peak + 0.5) with the
    class's own peak, so that each class's range weighs the same. Decoded samples above the peak are the peak; under
    level_scaling a sample is level floor(sample * peak / 255 + 0.5).

    :param partition: class ids
    :param classes: of each id, depth 8 at most
    :raises SettingsError: fewer classes than ids, or one that is too deep
    """

    partition: Partition
    classes: tuple[ClassParameters, ...]
    quantizers: tuple[AdaptiveQuantizer, ...] = field(init=False, repr=False)
    #: class maps as coded, by shape
    _side_info: dict[tuple[int, int, int], bytes] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.partition.class_count > len(self.classes):
            raise SettingsError(
                f"class id {self.partition.class_count - 1} where there are {len(self.classes)} classes"
            )
        deepest = max(one.bit_depth for one in self.classes)
        if deepest > MAX_DEPTH:
            raise SettingsError(f"a class of depth {deepest}, expected at most {MAX_DEPTH}")
        object.__setattr__(self, "quantizers", tuple(one.quantizer() for one in self.classes))

    def check(self, height: int, width: int, channels: int, bit_depth: int) -> None:
        """:raises SettingsError: the class map does not cover a map of this shape, or a class is deeper than it."""
        check_classes(self.partition, self.classes, height, width, channels, bit_depth)

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """float32 [classes, highest peak]: those of each class, then +inf."""
        peak = max(one.peak for one in self.quantizers)
        found = np.full((len(self.classes), peak), np.inf, np.float32)
        for row, one in zip(found, self.quantizers, strict=True):
            row[: one.peak] = one.thresholds
        return found

    def quantize(self, values: NDArray[np.generic]) -> Levels:
        """uint8 levels of a map.

        :param values: [H, W, C], float32 or float16
        :raises SettingsError: as `Quantizer.quantize`, or a map that the classes do not cover
        """
        ids = self._ids_of(values)
        levels = np.zeros(values.shape, np.uint8)
        for number, quantizer in enumerate(self.quantizers):
            here = ids == number
            levels[here] = quantizer.quantize(values[here])
        return levels

    def dequantize(self, levels: Levels) -> NDArray[np.float32]:
        """float32 values of levels [H, W, C].

        :raises SettingsError: a level above its class's peak, or a map that the classes do not cover
        """
        ids = self._ids_of(levels)
        values = np.zeros(levels.shape, np.float32)
        for number, quantizer in enumerate(self.quantizers):
            here = ids == number
            values[here] = quantizer.dequantize(levels[here])
        return values

    def samples(self, levels: Levels, level_scaling: bool) -> NDArray[np.uint8]:
        """uint8 [H, W, C]: what the picture carries of each level."""
        ids, samples = self._ids_of(levels), np.zeros(levels.shape, np.uint8)
        for number, quantizer in enumerate(self.quantizers):
            here = ids == number
            samples[here] = sample_of_level(quantizer.bit_depth, level_scaling)[levels[here]]
        return samples

    def levels_of_samples(self, level_scaling: bool) -> NDArray[np.uint8]:
        """uint8 [classes, 256]: the level of each decoded sample."""
        return np.stack([level_table(one.bit_depth, level_scaling) for one in self.quantizers])

    def samplings(
        self,
        dtype: DTypeLike,
        bit_depth: int,
        level_scaling: bool,
        thresholds: NDArray[np.float32] | None = None,
        integer_values: bool = False,
    ) -> list[Sampling]:
        """What the C core packs each class with.

        :param dtype: of the map's elements
        :param bit_depth: of the map
        :param thresholds: float32 [classes, peak] as stored with the extractor; None: the quantizers' own
        :param integer_values: integers are values to be quantized; else they are levels already, and those above the
            class's peak are the peak
        """
        kind = np.dtype(dtype)
        found = []
        for number, quantizer in enumerate(self.quantizers):
            bounds = quantizer.thresholds if thresholds is None else thresholds[number, : quantizer.peak]
            depth = quantizer.bit_depth
            if kind.kind == "f":
                found.append(Sampling(thresholds=bounds, step=0 if level_scaling else 1))
                continue
            table = integer_levels(kind, bounds if integer_values else None, quantizer.peak)
            limit = None if integer_values else (1 << bit_depth) - 1
            found.append(Sampling(table=sample_of_level(depth, level_scaling)[table].astype(np.uint16), limit=limit))
        return found

    def syntax(self, height: int, width: int, channels: int, bit_depth: int) -> AdaptiveQuant:
        """adaptive_quant() of a map of that shape and depth.

        :raises SettingsError: the class map does not cover it, or a class is deeper
        """
        shape = (height, width, channels)
        self.check(*shape, bit_depth)
        if self._side_info.get(shape) is None:
            from .side_info import write_side_info  # the model stream's coder is needed only here

            self._side_info[shape] = write_side_info(self.partition, shape, len(self.classes))
        classes = [ClassFields.of(one) for one in self.classes]
        return AdaptiveQuant(self.partition.kind, classes, side_info=self._side_info[shape])

    def _ids_of(self, array: NDArray[np.generic]) -> NDArray[np.uint8]:
        height, width, channels = array.shape
        return np.broadcast_to(self.partition.ids_of(height, width, channels), array.shape)


def sample_of_level(bit_depth: int, level_scaling: bool) -> NDArray[np.uint8]:
    """uint8 [peak + 1]: the sample of each level of a class."""
    return scaling_table(bit_depth) if level_scaling else np.arange(1 << bit_depth).astype(np.uint8)


#: What a map is quantized with: one quantizer, or one for each of its classes.
AnyQuantizer = Quantizer | AdaptiveMap
