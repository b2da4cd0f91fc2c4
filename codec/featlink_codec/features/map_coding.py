"""How the maps of one feat_type_id are coded: checked settings, and the headers and packers that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..bits import float_bits
from ..errors import SettingsError
from .adaptive.adaptive import AdaptiveMap, AnyQuantizer
from .packer import MapPacker, Saw
from .packing import Packing
from .quantizers import CustomQuantizer, LogQuantizer, UniformQuantizer
from .samples import integer_levels, sample_table
from .syntax import FeatMapHeader, PreQuantMode, Profile, RepackMode

#: Writers repeat parameter sets, an intra picture and explicit lists at least this often, or one loss is for ever.
DEFAULT_REFRESH_S = 2.0


@dataclass(frozen=True, eq=False)
class MapCoding:
    """How the maps of one feat_type_id are coded.

    :param feat_type_id: 0 to 255
    :param bit_depth: 2, 4, 8, or 16 (profile standard-16, and a lossless encoder)
    :param quantizer: of that depth; None for maps of integers; in profile `adaptive` also one with classes
    :param packing: for all maps of the type
    :param continuous: P pictures may build on earlier maps; else every map starts with an intra picture
    :param refresh_s: seconds between intra pictures and explicit parameters
    :param thresholds: float32 [peak], or [classes, highest peak], stored with the extractor; None: the quantizer's own
    :param integer_values: integers that are given under a quantizer are values; else they are levels already
    :param decide: profile `adaptive`: the classes of a map [H, W, C] that begins an intra period; None: `quantizer`'s
    """

    feat_type_id: int
    bit_depth: int
    quantizer: AnyQuantizer | None
    packing: Packing
    profile: Profile = Profile.STANDARD
    level_scaling: bool = False
    continuous: bool = True
    refresh_s: float = DEFAULT_REFRESH_S
    thresholds: NDArray[np.float32] | None = None
    integer_values: bool = False
    decide: Callable[[NDArray[np.generic]], AdaptiveMap] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.feat_type_id <= 255:
            raise SettingsError(f"feat_type_id {self.feat_type_id} is not within 0..255")
        depths = (2, 4, 8, 16) if self.profile is Profile.STANDARD_16 else (2, 4, 8)
        if self.bit_depth not in depths:
            raise SettingsError(f"depth {self.bit_depth} is not in profile {self.profile.value}: {depths}")
        if isinstance(self.quantizer, AdaptiveMap):
            self._check_classes(self.quantizer)
        elif self.decide is not None:
            raise SettingsError("classes are decided on, but the quantizer has none")
        elif self.quantizer is not None and self.quantizer.bit_depth != self.bit_depth:
            raise SettingsError(f"the quantizer is for depth {self.quantizer.bit_depth}, the map has {self.bit_depth}")
        if self.profile is Profile.INTERFACE:
            if isinstance(self.quantizer, CustomQuantizer):
                raise SettingsError("profile interface has no custom partitions")
            if self.packing.mode is RepackMode.TILE and self.packing.channels > 4095:
                raise SettingsError(f"profile interface holds 4095 tiled channels, found {self.packing.channels}")
        if not self.refresh_s > 0:
            raise SettingsError(f"refresh_s is {self.refresh_s}, expected above 0")

    def _check_classes(self, quantizer: AdaptiveMap) -> None:
        if self.profile is not Profile.ADAPTIVE:
            raise SettingsError(f"classes need profile adaptive, the profile is {self.profile.value}")
        deepest = max(one.bit_depth for one in quantizer.classes)
        if deepest > self.bit_depth:
            raise SettingsError(f"a class of depth {deepest} in a map of depth {self.bit_depth}")

    def decided(self, values: NDArray[np.generic]) -> AdaptiveMap:
        """The classes of a map that begins an intra period.

        :raises SettingsError: what was decided on does not fit the settings
        """
        assert self.decide is not None
        quantizer = self.decide(values)
        self._check_classes(quantizer)
        return quantizer

    def packer(self, values: NDArray[np.generic], quantizer: AnyQuantizer | None, refuse: Saw) -> MapPacker:
        """What packs maps like this one.

        :param quantizer: as for `header`
        :param refuse: what a map must not hold
        :raises SettingsError: the map does not fit the packing or the quantizer
        """
        if values.ndim != 3 or values.shape[2] != self.packing.channels:
            raise SettingsError(f"a map is [H, W, {self.packing.channels}], found {list(values.shape)}")
        height, width, channels = values.shape
        wide = self.bit_depth == 16
        make = partial(MapPacker, self.packing, height, width, values.dtype, wide=wide, refuse=refuse)
        # Thresholds that are stored belong to the quantizer of the settings.
        stored = self.thresholds if quantizer is self.quantizer else None
        if isinstance(quantizer, AdaptiveMap):
            quantizer.check(height, width, channels, self.bit_depth)
            samplings = quantizer.samplings(
                values.dtype, self.bit_depth, self.level_scaling, stored, self.integer_values
            )
            return make(classes=samplings, ids=quantizer.partition.ids_of(height, width, channels))
        thresholds = stored if quantizer is None or stored is not None else quantizer.thresholds
        if values.dtype.kind == "f":
            if quantizer is None:
                raise SettingsError(f"a map of integers is {values.dtype}")
            step = 255 // quantizer.peak if self.level_scaling and not wide else 1
            return make(thresholds=thresholds, step=step)
        table = sample_table(self.bit_depth, self.level_scaling, values.dtype)
        if quantizer is not None and self.integer_values:
            return make(table=table[integer_levels(values.dtype, thresholds, quantizer.peak)])
        return make(table=table, limit=(1 << self.bit_depth) - 1)

    def header(self, quantizer: AnyQuantizer | None, shape: tuple[int, ...], *, explicit: bool) -> FeatMapHeader:
        """The header of a map.

        :param quantizer: `quantizer`, or what was decided on for the map's intra period
        :param shape: (H, W, C)
        :param explicit: with all parameters; else it inherits what can be
        :raises SettingsError: classes that do not cover the map
        """
        packing = self.packing
        header = FeatMapHeader(
            profile=self.profile,
            feat_type_id=self.feat_type_id,
            feat_integer=int(quantizer is None),
            bit_depth_compact=self.bit_depth.bit_length() - 2,
            repack_mode=packing.mode,
            feat_map_pad_h=packing.pad_h,
            feat_map_pad_w=packing.pad_w,
            repack_heritage_flag=int(not explicit),
            repack_tile_h=packing.tile_h,
            repack_tile_w=packing.tile_w,
            repack_tile_c=packing.channels,
        )
        if explicit and packing.mode is not RepackMode.TILE:
            # A stack in its own order would need no list, but after a loss a reader cannot know that none was sent.
            order = range(packing.channels) if packing.order is None else packing.order
            header.repack_order_list = np.array(order, np.uint32)
        if isinstance(quantizer, CustomQuantizer):
            header.pre_quant_mode = PreQuantMode.CUSTOM
            header.quant_heritage_flag = int(not explicit)
            if explicit:
                header.quant_partitions = quantizer.partitions.view(np.uint32)
        elif isinstance(quantizer, AdaptiveMap):
            header.pre_quant_mode = PreQuantMode.ADAPTIVE
            header.quant_heritage_flag = int(not explicit)
            if explicit:
                height, width, channels = shape
                header.adaptive_quant = quantizer.syntax(height, width, channels, self.bit_depth)
        elif isinstance(quantizer, LogQuantizer | UniformQuantizer):
            logarithmic = isinstance(quantizer, LogQuantizer)
            header.pre_quant_mode = PreQuantMode.LOGARITHMIC if logarithmic else PreQuantMode.UNIFORM
            header.max_feat_digit_bits = float_bits(quantizer.max_feat_digit)
        return header
