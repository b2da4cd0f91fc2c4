"""From the tables of extractor.toml to what the feature-map stream is written and read with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..features.adaptive.adaptive import AnyQuantizer
from ..features.map_coding import MapCoding
from ..features.packing import Packing
from ..features.quantizers import CustomQuantizer, LogQuantizer, UniformQuantizer
from ..features.syntax import Profile, RepackMode
from ..video.x265_settings import X265Settings
from .adaptive import adaptive_of, decider_of
from .maps import MapSettings
from .settings import VideoSettings

_REPACK_MODES = {"stack": RepackMode.STACK, "tile": RepackMode.TILE, "ordered-tile": RepackMode.ORDERED_TILE}


def quantizer_of(settings: MapSettings, folder: Path | str | None = None) -> AnyQuantizer | None:
    """The quantizer of a [[maps]] table, or those of its classes; None for a map of integers.

    :param folder: of the extractor: needed where there is a class map
    """
    table = settings.quantizer
    if settings.integer:
        return None
    if table.mode == "adaptive":
        return adaptive_of(settings, folder)
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


def map_coding(
    settings: MapSettings,
    video: VideoSettings,
    thresholds: NDArray[np.float32] | None = None,
    folder: Path | str | None = None,
) -> MapCoding:
    """How the maps of a [[maps]] table are coded under a [video] table.

    :param thresholds: what `thresholds_of` gives for the extractor's folder: float32 [peak], [classes, peak], or None
    :param folder: of the extractor: needed where there is a class map
    """
    return MapCoding(
        feat_type_id=settings.feat_type_id,
        bit_depth=settings.quantizer.bit_depth,
        quantizer=quantizer_of(settings, folder),
        packing=packing_of(settings),
        profile=Profile(video.profile),
        level_scaling=video.level_scaling,
        continuous=video.session == "continuous",
        refresh_s=video.refresh_s,
        thresholds=thresholds,
        decide=decider_of(settings),
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
