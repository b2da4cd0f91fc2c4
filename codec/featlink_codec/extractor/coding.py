"""From the tables of extractor.toml to what the feature-map stream is written and read with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..features.map_encoder import MapCoding
from ..features.packing import Packing
from ..features.quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from ..features.syntax import Profile, RepackMode
from ..video.x265_settings import X265Settings
from .maps import MapSettings
from .settings import VideoSettings

_REPACK_MODES = {"stack": RepackMode.STACK, "tile": RepackMode.TILE, "ordered-tile": RepackMode.ORDERED_TILE}


def quantizer_of(settings: MapSettings) -> Quantizer | None:
    """The quantizer of a [[maps]] table; None for a map of integers."""
    table = settings.quantizer
    if settings.integer:
        return None
    if table.partitions is not None:
        return CustomQuantizer(np.array(table.partitions, np.float32), table.bit_depth)
    kind = LogQuantizer if table.mode == "logarithmic" else UniformQuantizer
    return kind(table.max_feat_digit, table.bit_depth)


def packing_of(settings: MapSettings) -> Packing:
    """The packing of a [[maps]] table."""
    table = settings.packing
    return Packing(
        mode=_REPACK_MODES[table.mode],
        channels=settings.channels,
        tile_h=table.tile_h or 1,
        tile_w=table.tile_w or 1,
        order=table.order,
        pad_h=table.pad_h,
        pad_w=table.pad_w,
    )


def map_coding(settings: MapSettings, video: VideoSettings, thresholds: NDArray[np.float32] | None = None) -> MapCoding:
    """How the maps of a [[maps]] table are coded under a [video] table.

    :param thresholds: what `thresholds_of` gives for the extractor's folder: float32 [peak], or None
    """
    return MapCoding(
        feat_type_id=settings.feat_type_id,
        bit_depth=settings.quantizer.bit_depth,
        quantizer=quantizer_of(settings),
        packing=packing_of(settings),
        profile=Profile(video.profile),
        level_scaling=video.level_scaling,
        continuous=video.session == "continuous",
        refresh_s=video.refresh_s,
        thresholds=thresholds,
    )


def x265_settings(video: VideoSettings, width: int, height: int) -> X265Settings:
    """The libx265 session of a [video] table for pictures of width x height."""
    return X265Settings(
        width=width,
        height=height,
        lossless=video.lossless,
        qp=video.qp,
        crf=video.crf,
        preset=video.preset,
        picture_hash=video.picture_hash,
        chroma="400" if video.chroma == "400" else "420",
    )
