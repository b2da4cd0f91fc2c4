"""What a map may inherit from earlier maps of its feat_type_id: independent memories (6.2, heritage_flag)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .adaptive.inherited import AdaptiveParameters
from .packing import Packing
from .quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from .syntax import FeatMapHeader, PreQuantMode, RepackMode


class NotInheritableError(Exception):
    """heritage_flag is set and there is nothing, or nothing fitting, to inherit. The text says which."""


@dataclass(frozen=True, slots=True)
class Repack:
    """Repack parameters as the wire carries them; pads are never inherited."""

    mode: RepackMode
    tile_h: int
    tile_w: int
    channels: int
    order: tuple[int, ...] | None


@dataclass(frozen=True, eq=False, slots=True)
class Resolved:
    """What a header means once heritage is applied."""

    #: None for an integer map, and where `adaptive` is given.
    quantizer: Quantizer | None
    #: None: mode stack without any list yet, so the channels are as many as the pictures.
    repack: Repack | None
    #: Explicit or inherited custom partitions, None in other modes.
    partitions: NDArray[np.float32] | None
    #: pre_quant_mode 3: explicit or inherited parameters, None in other modes.
    adaptive: AdaptiveParameters | None


@dataclass
class Heritage:
    """The memories of all types. Kept by a reader and, as a mirror, by a writer."""

    #: feat_type_id -> float32 [peak]; its length tells the depth.
    partitions: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    adaptive: dict[int, AdaptiveParameters] = field(default_factory=dict)
    repack: dict[int, Repack] = field(default_factory=dict)
    #: After a loss of unknown extent nobody knows whether a list was ever sent.
    lists_may_be_lost: bool = False

    def clear(self) -> None:
        """Forget everything, as after a loss of unknown extent: stale parameters give wrong maps."""
        self.partitions.clear()
        self.adaptive.clear()
        self.repack.clear()
        self.lists_may_be_lost = True

    def resolve(self, header: FeatMapHeader) -> Resolved:
        """Apply heritage to a header; changes nothing.

        :param header: as it was read, or is to be written
        :raises NotInheritableError: nothing to inherit, or it was set for another depth or mode
        """
        partitions, adaptive = self._partitions(header), self._adaptive(header)
        quantizer: Quantizer | None = None
        if not header.feat_integer and adaptive is None:
            if partitions is not None:
                quantizer = CustomQuantizer(partitions, header.bit_depth)
            elif header.pre_quant_mode == PreQuantMode.LOGARITHMIC:
                quantizer = LogQuantizer(header.max_feat_digit, header.bit_depth)
            else:
                quantizer = UniformQuantizer(header.max_feat_digit, header.bit_depth)
        return Resolved(quantizer, self._repack(header), partitions, adaptive)

    def remember(self, header: FeatMapHeader, resolved: Resolved) -> None:
        """Store what a map set explicitly."""
        if resolved.partitions is not None and not header.quant_heritage_flag:
            self.partitions[header.feat_type_id] = resolved.partitions
        if resolved.adaptive is not None and not header.quant_heritage_flag:
            self.adaptive[header.feat_type_id] = resolved.adaptive
        if resolved.repack is not None and not header.repack_heritage_flag:
            self.repack[header.feat_type_id] = resolved.repack

    def _partitions(self, header: FeatMapHeader) -> NDArray[np.float32] | None:
        if header.feat_integer or header.pre_quant_mode != PreQuantMode.CUSTOM:
            return None
        if header.quant_partitions is not None:
            return header.quant_partitions.view(np.float32)
        known = self.partitions.get(header.feat_type_id)
        if known is None:
            raise NotInheritableError(f"type {header.feat_type_id} inherits partitions, none are known")
        if len(known) != header.peak:
            raise NotInheritableError(
                f"type {header.feat_type_id} inherits {len(known)} partition bounds, "
                f"depth {header.bit_depth} needs {header.peak}"
            )
        return known

    def _adaptive(self, header: FeatMapHeader) -> AdaptiveParameters | None:
        if header.feat_integer or header.pre_quant_mode != PreQuantMode.ADAPTIVE:
            return None
        if header.adaptive_quant is not None:
            return AdaptiveParameters.of(header.adaptive_quant, header.side_info_at)
        known = self.adaptive.get(header.feat_type_id)
        if known is None:
            raise NotInheritableError(f"type {header.feat_type_id} inherits classes, none are known")
        if known.deepest > header.bit_depth:
            raise NotInheritableError(
                f"type {header.feat_type_id} inherits a class of depth {known.deepest}, the map has {header.bit_depth}"
            )
        return known

    def _repack(self, header: FeatMapHeader) -> Repack | None:
        mode = RepackMode(header.repack_mode)
        if not header.repack_heritage_flag:
            order = header.repack_order_list
            listed = None if order is None else tuple(order.tolist())
            if mode is RepackMode.STACK:
                assert listed is not None
                return Repack(mode, 1, 1, len(listed), listed)
            channels = header.repack_tile_c if listed is None else len(listed)
            return Repack(mode, header.repack_tile_h, header.repack_tile_w, channels, listed)
        known = self.repack.get(header.feat_type_id)
        if known is None:
            if mode is not RepackMode.STACK:
                raise NotInheritableError(f"type {header.feat_type_id} inherits tiles, none are known")
            if self.lists_may_be_lost:
                raise NotInheritableError(f"type {header.feat_type_id} inherits an order list, it may have been lost")
            return None
        if known.mode is not mode:
            raise NotInheritableError(
                f"type {header.feat_type_id} inherits repack_mode {mode.value} from a map of mode {known.mode.value}"
            )
        return known


def packing_of(header: FeatMapHeader, repack: Repack | None, pictures: int) -> Packing:
    """The packing of a map.

    :param pictures: pictures of one byte plane in the map: gives C where no list was ever sent
    :raises SettingsError: values that no packing has
    """
    if repack is None:
        repack = Repack(RepackMode.STACK, 1, 1, pictures, None)
    return Packing(
        mode=repack.mode,
        channels=repack.channels,
        tile_h=repack.tile_h,
        tile_w=repack.tile_w,
        order=repack.order,
        pad_h=header.feat_map_pad_h,
        pad_w=header.feat_map_pad_w,
    )
