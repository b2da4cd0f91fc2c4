"""Drop small activations: raise a quantizer's first thresholds, so that what lies below becomes level 0.

A quantizer is its table of thresholds, so that is all there is to it: the camera does what it did, with another table,
and whoever reads the stream sees an ordinary map with more zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import (
    SETTINGS_FILE,
    ExtractorSettings,
    MapSettings,
    VideoSettings,
    thresholds_of,
    write_thresholds,
)
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.files import write_whole

from .calibrate import Progress
from .sparsify_points import DropPoint, MapBench

Thresholds = NDArray[np.float32]


def drop_below(thresholds: Thresholds, t: float) -> Thresholds:
    """The thresholds of the quantizer that gives level 0 below t, and at t and above what it gave before.

    :param thresholds: float32 [peak], not decreasing, the first one above 0
    :param t: a binary32, 0 to the last finite threshold; 0 changes nothing
    :returns: float32 [peak]
    :raises SettingsError: a t that would drop everything that is below the highest level, or negative thresholds
    """
    least = np.float32(t)
    if float(least) != t:
        raise SettingsError(f"threshold: found {t!r}, which is no binary32; the nearest one is {float(least)!r}")
    if not thresholds.size or thresholds[0] <= 0:
        raise SettingsError(
            "thresholds: found one that is not above 0: only maps that are not negative have small values"
        )
    last = thresholds[np.isfinite(thresholds)][-1]
    if not 0 <= t <= last:
        raise SettingsError(f"threshold: found {t:g}, expected 0 to {last:g}, where the highest level begins")
    return np.maximum(thresholds, least)


def undropped(folder: Path | str, feature: MapSettings) -> Thresholds:
    """The thresholds that an extractor's map had before anything was dropped.

    :raises SettingsError: a map of integers, or a file of thresholds that does not fit
    """
    quantizer = quantizer_of(feature)
    if quantizer is None:
        raise SettingsError(f"{folder}: tensor {feature.tensor!r} is a map of integers: it has no thresholds to raise")
    stored, own = thresholds_of(folder, feature), quantizer.thresholds
    if stored is None or np.array_equal(stored, np.maximum(own, stored[0])):
        return own
    return stored


def threshold_of_sparsity(values: NDArray[np.float32], sparsity: float) -> float:
    """The least t below which lies at least that share of the values; 0 where so many are 0 already. Exact.

    Two passes over a histogram: floats that are not negative are ordered as their bits are. Takes no more memory for
    more values.

    :param values: float32 [N, ...], not negative; may lie in a file
    :param sparsity: 0 to 1
    :raises SettingsError: another share, or values that are negative or not numbers
    """
    if not 0 <= sparsity <= 1:
        raise SettingsError(f"sparsity: found {sparsity:g}, expected 0..1")
    wanted = ceil(sparsity * values.size)
    high = np.zeros(1 << 15, np.int64)
    for one in values:
        if not (one >= 0).all():  # a NaN is not either
            raise SettingsError("sparsity: found values that are negative or not numbers")
        # -0.0 counts as 0
        high += np.bincount(np.abs(one).view(np.uint32).reshape(-1) >> 16, minlength=1 << 15)
    if not wanted:
        return 0.0
    top = int(np.searchsorted(np.cumsum(high), wanted))
    low = np.zeros(1 << 16, np.int64)
    for one in values:
        bits = np.abs(one).view(np.uint32).reshape(-1)
        low += np.bincount(bits[bits >> 16 == top] & 0xFFFF, minlength=1 << 16)
    rest = wanted - int(high[:top].sum())
    bits = (top << 16) + int(np.searchsorted(np.cumsum(low), rest))
    # The wanted-th smallest value itself has to lie below t.
    return float(np.nextafter(np.uint32(bits).view(np.float32), np.float32(np.inf))) if bits else 0.0


@dataclass(frozen=True)
class SparsifyOptions:
    """What is wanted: exactly one of the first three.

    :param threshold: drop what is below, rounded to binary32
    :param sparsity: least share of level 0, 0..1
    :param agreement: least score of the head on what comes back, 0..1
    :param frames: pictures, in runs of consecutive ones
    :param qp: instead of the extractor's own coding
    """

    threshold: float | None = None
    sparsity: float | None = None
    agreement: float | None = None
    frames: int = 32
    qp: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("threshold", "sparsity", "agreement") if getattr(self, name) is not None]
        if len(given) != 1:
            raise SettingsError(
                f"found {' and '.join(given) or 'none'}, expected one of threshold, sparsity, agreement"
            )
        for name in ("sparsity", "agreement"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise SettingsError(f"{name}: found {value:g}, expected 0..1")
        if self.threshold is not None and not 0 <= self.threshold < float("inf"):
            raise SettingsError(f"threshold: found {self.threshold:g}, expected a number of at least 0")
        if self.frames < 1:
            raise SettingsError(f"frames: found {self.frames}, expected at least 1")

    def video(self, own: VideoSettings) -> VideoSettings:
        """How maps are coded for the measurement."""
        return own if self.qp is None else replace(own, lossless=False, qp=self.qp, crf=None)


@dataclass(frozen=True)
class Sparsified:
    """What was found.

    :param chosen: of points
    :param points: what was measured, from the least threshold to the greatest; the first one drops nothing
    :param thresholds: of the chosen one, float32 [peak]
    :param coding: how maps were coded, in words
    """

    chosen: DropPoint
    points: tuple[DropPoint, ...]
    thresholds: Thresholds
    coding: str

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "coding": self.coding,
            "chosen": self.chosen.figures(),
            "points": [point.figures() for point in self.points],
        }


def sparsify(
    bench: MapBench, base: Thresholds, options: SparsifyOptions, progress: Progress | None = None
) -> Sparsified:
    """Find the threshold that is asked for, and measure what it does.

    An agreement is searched for among the quantizer's own thresholds, by halving: the greatest one found that still
    reaches it. Scores do not always fall from one threshold to the next, so there may be a greater one.

    :param base: thresholds before anything is dropped, float32 [peak]
    :param progress: called with ("measure", points measured, points in all)
    :raises SettingsError: a sparsity or agreement that is out of reach
    """
    found: dict[float, DropPoint] = {}
    steps = 2 if options.agreement is None else 2 + int(base.size).bit_length()

    def look(t: float) -> DropPoint:
        if t not in found:
            found[t] = bench.measure(t, drop_below(base, t))
            if progress:
                progress("measure", len(found), max(steps, len(found)))
        return found[t]

    look(0.0)
    if options.threshold is not None:
        chosen = look(float(np.float32(options.threshold)))
    elif options.sparsity is not None:
        chosen = look(_of_sparsity(bench, base, options.sparsity))
    else:
        chosen = _of_agreement(look, base, options.agreement or 0.0)
    points = tuple(found[t] for t in sorted(found))
    return Sparsified(chosen, points, drop_below(base, chosen.threshold), bench.coding)


def _of_sparsity(bench: MapBench, base: Thresholds, sparsity: float) -> float:
    t = threshold_of_sparsity(bench.maps.values, sparsity)
    if t <= base[0]:
        return 0.0  # the quantizer drops so many by itself
    last = base[np.isfinite(base)][-1]
    if t > last:
        raise SettingsError(
            f"sparsity: {sparsity:g} would take a threshold of {t:g}, but the highest level begins at {last:g} already"
        )
    return t


def _of_agreement(look: Any, base: Thresholds, agreement: float) -> DropPoint:
    first: DropPoint = look(0.0)
    if first.score.merit < agreement:
        raise SettingsError(
            f"agreement: found {first.score.merit:.4f} with nothing dropped, expected {agreement:g}: "
            "another coding or quantizer is needed, see `prepare build`"
        )
    steps = _steps(base)
    low, high = -1, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        if look(steps[middle]).score.merit >= agreement:
            low = middle
        else:
            high = middle
    return first if low < 0 else look(steps[low])


def _steps(base: Thresholds) -> Sequence[float]:
    """Thresholds that drop one level more each; the first one of them drops nothing that is not level 0 already."""
    return [float(t) for t in np.unique(base[np.isfinite(base)])[1:]]


def apply_thresholds(folder: Path | str, thresholds: Thresholds) -> bool:
    """Write a map's thresholds into its extractor: a new file, then extractor.toml, then the old file goes.

    Whatever stops it, the folder is the old extractor or the new one. Comments of extractor.toml are not kept.

    :returns: False: they were there already, nothing was written
    :raises SettingsError: the extractor has not one map, or the thresholds do not fit it
    :raises FeatlinkError: it cannot be written
    """
    folder = Path(folder)
    file = folder / SETTINGS_FILE
    settings = ExtractorSettings.load(folder, parts=("backbone",))
    (feature,) = one_map(folder, settings)
    stored = thresholds_of(folder, feature)
    if stored is not None and np.array_equal(stored, thresholds):
        return False
    table = feature.quantizer
    plain, other = f"thresholds-{feature.feat_type_id}.npy", f"thresholds-{feature.feat_type_id}-dropped.npy"
    # Two names in turn: the file that extractor.toml speaks of is never overwritten.
    name = other if table.thresholds == plain else plain
    digest = write_thresholds(folder / name, thresholds)
    changed = replace(
        settings, maps=(replace(feature, quantizer=replace(table, thresholds=name, thresholds_sha256=digest)),)
    )  # fmt: skip
    if ExtractorSettings.from_dict(changed.to_dict(), file) != changed:
        raise SettingsError(f"{file}: would not read back as it is to be written")
    thresholds_of(folder, changed.maps[0])
    write_whole(file, tomli_w.dumps(changed.to_dict()))
    if table.thresholds is not None and table.thresholds != name:
        (folder / table.thresholds).unlink(missing_ok=True)
    return True


def one_map(folder: Path | str, settings: ExtractorSettings) -> tuple[MapSettings]:
    """The extractor's only map (SettingsError: it has several)."""
    if len(settings.maps) != 1:
        raise SettingsError(f"{folder}: {len(settings.maps)} maps, one is handled")
    return (settings.maps[0],)
