"""The packing planner: measure what each packing of a map costs at equal quality, and choose."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.extractor import (
    SETTINGS_FILE,
    ExtractorSettings,
    MapSettings,
    PackingSettings,
    VideoSettings,
)
from featlink_codec.extractor.coding import map_coding, x265_settings
from featlink_codec.features.map_encoder import MapEncoder
from featlink_codec.video.clip import Clip
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits
from featlink_codec.video.x265 import X265Encoder

from .calibrate import Progress
from .calibration_maps import CalibrationMaps, calibration_maps
from .orders import CLASSES, GIVEN, ORDERS, PRESENT, Order, class_order, order_names
from .packing import Grid, best_grids, grid_of

#: Pictures to measure with, unless told otherwise, and grids on which orders are tried.
DEFAULT_FRAMES = 32
ORDERED_GRIDS = 3


@dataclass(frozen=True)
class Measured:
    """What one packing costs.

    :param packing: the [maps.packing] table
    :param grid: its geometry
    :param order: name of the channels' order
    :param refresh_bytes: mean of maps with explicit parameters and an intra picture, headers included
    :param following_bytes: mean of the others; None: there was none
    :param header_bytes: header of a map with explicit parameters, the order list in it
    :param bytes_per_map: both means, weighted as they come up in a running stream
    :param encode_ms: mean time to pack and encode a map, on this machine
    """

    packing: PackingSettings
    grid: Grid
    order: str
    refresh_bytes: float
    following_bytes: float | None
    header_bytes: int
    bytes_per_map: float
    encode_ms: float

    @property
    def rank(self) -> tuple[Any, ...]:
        """The best is the least: fewest bytes; of equals the simplest."""
        mode = ("tile", "ordered-tile", "stack").index(self.packing.mode)
        return self.bytes_per_map, mode, self.grid.pictures, self.grid.elongation, self.grid.tile_h


@dataclass(frozen=True)
class Plan:
    """What was measured.

    :param rows: the quick choice by geometry alone first, then as they were measured
    :param best: of rows
    :param present: of rows the extractor's present packing; None: the limits forbid it
    :param obstacle: the limit that forbids it
    :param coding: how all of them were coded, in words
    :param limits: the encoder that the packing is for
    :param maps: measured on how many maps
    :param runs: in how many runs
    :param refresh_every: maps from refresh to refresh in a running stream
    """

    rows: tuple[Measured, ...]
    best: Measured
    present: Measured | None
    obstacle: str | None
    coding: str
    limits: EncoderLimits
    maps: int
    runs: int
    refresh_every: int


def plan_extractor(
    folder: Path | str,
    source: Clip,
    *,
    frames: int = DEFAULT_FRAMES,
    qp: int | None = None,
    limits: EncoderLimits | None = None,
    orders: Sequence[str] | None = None,
    given: Order | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Measure packings for an extractor's map on real pictures.

    :param folder: the extractor
    :param source: pictures for its backbone
    :param frames: how many pictures, in runs of consecutive ones
    :param qp: instead of the extractor's own coding
    :param limits: of the encoder that will be used; None: libx265's
    :param orders: names of orders to try, of ORDERS, CLASSES and GIVEN; None: all that can be
    :param given: the order named GIVEN; None: the extractor's present one
    :param progress: called with ("maps" | "grids" | "orders", steps done, steps in all)
    :raises SettingsError: the extractor, a limit, an order; no packing fits: says which limit stands in the way
    :raises FeatlinkError: the source cannot be read
    """
    folder = Path(folder)
    settings = ExtractorSettings.load(folder, parts=("backbone",))
    if len(settings.maps) != 1:
        raise SettingsError(f"{folder}: {len(settings.maps)} maps, one is planned for")
    if qp is not None:
        settings = replace(settings, video=replace(settings.video, lossless=False, qp=qp, crf=None))
    if settings.video.crf is not None:
        raise SettingsError(
            f"{folder / SETTINGS_FILE}: [video] crf: found {settings.video.crf:g}, but bytes compare at equal QP only: "
            "give a QP to plan with"
        )
    limits = limits or X265_LIMITS[settings.video.chroma]
    (feature,) = settings.maps
    # Before the long work: whatever does not fit.
    grids = planned_grids(feature, settings.video, limits)
    known = {CLASSES: class_order(feature, folder), GIVEN: given or feature.packing.order}
    named = {name: order for name, order in known.items() if order is not None}
    names = order_names(feature, orders, named)
    maps = calibration_maps(folder, settings, source, frames, progress)
    return plan(feature, settings.video, maps, grids, limits, names, named, progress, folder)


def planned_grids(feature: MapSettings, video: VideoSettings, limits: EncoderLimits) -> list[Grid]:
    """The grids worth measuring: within the limits of the target, and of libx265, which stands in for it.

    :raises SettingsError: no packing fits, or the target does not take the extractor's chroma
    """
    if not limits.takes(video.chroma):
        raise SettingsError(
            f"encoder limits {limits.name!r}: formats: found {', '.join(limits.formats)}, expected one that carries "
            f"the extractor's [video] chroma {video.chroma!r}"
        )
    within = limits.narrowed(X265_LIMITS[video.chroma])
    return best_grids(feature.channels, feature.height, feature.width, within)


def plan(
    feature: MapSettings,
    video: VideoSettings,
    maps: CalibrationMaps,
    grids: Sequence[Grid],
    limits: EncoderLimits,
    orders: Sequence[str] = (),
    known: Mapping[str, Order] = MappingProxyType({}),
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Plan:
    """Measure grids with the channels in their own order, then orders on the best few of them.

    :param feature: the [[maps]] table; its present packing is measured too, where the limits allow it
    :param video: how to code
    :param maps: levels of real pictures
    :param grids: the first is what the others are compared with
    :param orders: names, of ORDERS and of known
    :param known: orders that need no maps to be found, by their names
    :param folder: where the map's class map lies, if it has one
    """
    tell = progress or (lambda stage, done, total: None)
    every = refresh_every(video, maps.interval_s)
    rows: list[Measured] = []

    refusals: list[EncoderError] = []

    def measure(grid: Grid, name: str, order: Order | None) -> None:
        packing = grid.settings(order)
        try:
            rows.append(_measure(replace(feature, packing=packing), video, maps, grid, name, every, folder))
        except EncoderError as error:  # libx265 refuses some large pictures that no limit rules out
            refusals.append(error)

    stands = grid_of(feature.packing, feature.channels, feature.height, feature.width)
    obstacle = limits.narrowed(X265_LIMITS[video.chroma]).broken_by(stands.width, stands.height)
    grids = [*grids, *([stands] if obstacle is None and stands not in grids else [])]
    for done, grid in enumerate(grids):
        measure(grid, "identity", None)
        tell("grids", done + 1, len(grids))
    if not rows:
        raise refusals[0]
    named = [(name, known[name] if name in known else ORDERS[name](maps.levels)) for name in orders]
    # An order that is none, or that another name has found already, is not measured again.
    distinct = {order: name for name, order in reversed(named)}
    distinct.pop(tuple(range(feature.channels)), None)
    few = [row.grid for row in sorted(rows, key=lambda row: row.rank)[:ORDERED_GRIDS]]
    steps = [(grid, name, order) for grid in few for name, order in named if distinct.get(order) == name]
    own = feature.packing.order
    if obstacle is None and own and feature.packing not in [row.packing for row in rows]:
        own_step = (stands, distinct.get(own, PRESENT), own)
        steps += [own_step] if own_step not in steps else []
    for done, (grid, name, order) in enumerate(steps):
        measure(grid, name, order)
        tell("orders", done + 1, len(steps))
    return Plan(
        rows=tuple(rows),
        best=min(rows, key=lambda row: row.rank),
        present=next((row for row in rows if row.packing == feature.packing), None),
        obstacle=obstacle,
        coding="lossless" if video.lossless else f"QP {video.qp}",
        limits=limits,
        maps=len(maps.times_s),
        runs=len(maps.runs),
        refresh_every=every,
    )


def refresh_every(video: VideoSettings, step_s: float | None) -> int:
    """Maps from one refresh to the next in a stream that has one every so many seconds (None: one alone)."""
    return max(1, math.ceil(video.refresh_s / step_s - 1e-6)) if step_s else 1


def running_mean(refreshes: Sequence[float], following: Sequence[float], every: int) -> float:
    """Mean bytes of a map in a running stream: one in `every` is a refresh, however many of those measured were."""
    refresh = fmean(refreshes)
    rest = fmean(following) if following else refresh
    return (refresh + (every - 1) * rest) / every


def _measure(
    settings: MapSettings,
    video: VideoSettings,
    maps: CalibrationMaps,
    grid: Grid,
    order: str,
    every: int,
    folder: Path | None,
) -> Measured:
    coding = map_coding(settings, video, folder=folder)
    encoder = MapEncoder(coding, lambda width, height: X265Encoder(x265_settings(video, width, height)))
    refreshes: list[int] = []
    following: list[int] = []
    header_bytes, spent_s, at, shift_s, last_s = 0, 0.0, 0, 0.0, 0.0
    try:
        for length in maps.runs:
            # A run begins with a refresh: the time jumps over the rest of the interval.
            shift_s = last_s + 2 * video.refresh_s - maps.times_s[at]
            for k in range(at, at + length):
                last_s = maps.times_s[k] + shift_s
                begun = time.perf_counter()
                (coded,) = encoder.encode(maps.levels[k], last_s)
                spent_s += time.perf_counter() - begun
                head, units = len(bytes(coded.header)), len(coded.access_units)
                if coded.refresh:
                    header_bytes = head
                    refreshes.append(head + units)
                else:
                    following.append(head + units)
            at += length
    finally:
        encoder.close()
    refresh_bytes, following_bytes = fmean(refreshes), fmean(following) if following else None
    return Measured(
        packing=settings.packing,
        grid=grid,
        order=order,
        refresh_bytes=refresh_bytes,
        following_bytes=following_bytes,
        header_bytes=header_bytes,
        bytes_per_map=running_mean(refreshes, following, every),
        encode_ms=1e3 * spent_s / at,
    )
