"""Packing with classes beside packing with one standard quantizer: `python -m bench.adaptive_pack`.

Each case takes turns with the standard path of its kind on a map of the same size, type, packing and layout: lines with
a uniform quantizer of 8 bits on non-negative numbers, logarithmic classes with the standard's logarithmic one, integers
with one table. Ratios are of medians; below 1 the case is slower. Maps are signed; classes are dealt to channels at
random, or lie side by side as a packing order by class has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec import _core
from featlink_codec.features.adaptive import (
    ChannelClasses,
    ClassParameters,
    Distribution,
    Partition,
    RegionClasses,
    Whole,
)
from featlink_codec.features.adaptive.adaptive import AdaptiveMap
from featlink_codec.features.packer import MapPacker, Saw
from featlink_codec.features.packing import Packing
from featlink_codec.features.samples import integer_levels
from featlink_codec.features.syntax import RepackMode

from .cases import SEED, Size, empty_map, fill, logarithmic, packing_of, uniform
from .measure import FULL, QUICK, Budget, Call, aligned, alternate, in_turn

SIZES = (Size(64, 19, 19), Size(192, 19, 19), Size(64, 76, 76), Size(256, 38, 38), Size(128, 128, 128))
CLASSES = 4
AIM = 0.9
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a map with classes is like.

    :param by: "whole", "channel" or "region"
    :param ordered: classes lie side by side in the picture
    :param depths: of the classes; of which not all are 8: levels are scaled
    :param aimed: the aim counts: within a tenth of the standard path
    """

    by: str
    distribution: Distribution = Distribution.GAUSSIAN
    dtype: str = "float32"
    ordered: bool = False
    depths: tuple[int, ...] = (8, 8, 8, 8)
    aimed: bool = True

    @property
    def scaled(self) -> bool:
        """Whether samples are not the levels."""
        return min(self.depths) < max(self.depths)


MIXED_DEPTHS = (8, 6, 5, 3)
KINDS = {
    "whole": Kind("whole"),
    "whole, logarithmic": Kind("whole", Distribution.LOGARITHMIC),
    "whole, int8": Kind("whole", dtype="int8"),
    "channel": Kind("channel"),
    "channel, in order": Kind("channel", ordered=True),
    "channel, depths scaled": Kind("channel", depths=MIXED_DEPTHS),
    "channel, logarithmic": Kind("channel", Distribution.LOGARITHMIC),
    "channel, float16": Kind("channel", dtype="float16"),
    "channel, int8": Kind("channel", dtype="int8"),
    "channel, int16": Kind("channel", dtype="int16"),
    "region": Kind("region", aimed=False),
}


def adaptive_of(kind: Kind, size: Size) -> AdaptiveMap:
    """Four classes of a signed map, or one; of integers a range that they fill."""
    rng = np.random.default_rng(SEED)
    unit = 1.0 if kind.dtype.startswith("float") else np.iinfo(kind.dtype).max / 4
    classes = tuple(
        ClassParameters.rounded(kind.distribution, kind.depths[k], 0.1 * k * unit, (2.0 + k / 3) * unit)
        for k in range(1 if kind.by == "whole" else CLASSES)
    )
    ids = rng.integers(0, CLASSES, size.channels).astype(np.uint8)
    partition: Partition = ChannelClasses(np.sort(ids) if kind.ordered else ids)
    if kind.by == "whole":
        partition = Whole()
    elif kind.by == "region":
        coarse = rng.integers(0, CLASSES, (-(-size.height // 5), -(-size.width // 5)))
        region = coarse.repeat(5, 0).repeat(5, 1)[: size.height, : size.width]
        partition = RegionClasses(np.ascontiguousarray(region).astype(np.uint8))
    return AdaptiveMap(partition, classes)


def signed_map(kind: Kind, size: Size, layout: str) -> NDArray[Any]:
    """Normally distributed numbers."""
    values, numbers = empty_map(size, layout, kind.dtype), np.random.default_rng(SEED)
    if values.dtype.kind == "f":
        values[...] = numbers.normal(0, 1.5, values.shape)
    else:
        ends = np.iinfo(kind.dtype)
        values[...] = np.clip(numbers.normal(0, ends.max * 0.4, values.shape), ends.min, ends.max)
    return values


def standard_of(kind: Kind, packing: Packing, size: Size) -> MapPacker:
    """One quantizer of 8 bits, of the same kind."""
    shape = (size.height, size.width)
    if kind.dtype.startswith("float"):
        one = logarithmic() if kind.distribution is Distribution.LOGARITHMIC else uniform()
        return MapPacker(packing, *shape, kind.dtype, thresholds=one.thresholds)
    bounds = (uniform().thresholds * np.float32(np.iinfo(kind.dtype).max / 6)).astype(np.float32)
    table = integer_levels(np.dtype(kind.dtype), bounds, 255).astype(np.uint16)
    return MapPacker(packing, *shape, kind.dtype, table=table, refuse=Saw(0))


def by_class(packing: Packing, partition: Partition) -> Packing:
    """The same tiles in the order of their classes, where these are the channels'."""
    if not isinstance(partition, ChannelClasses):
        return packing
    order = tuple(int(k) for k in np.argsort(partition.ids, kind="stable"))
    return replace(packing, mode=RepackMode.ORDERED_TILE, order=order)


def prepared(packer: MapPacker, packing: Packing, values: NDArray[Any], size: Size) -> Call:
    """One call that packs all pictures."""
    shape = packing.picture_size(size.height, size.width)
    planes = [aligned(shape, np.uint8) for _ in range(packing.pictures)]
    return in_turn([packer.bind(values, k, plane) for k, plane in enumerate(planes)])


def compare(name: str, size: Size, layout: str, budget: Budget) -> Row:
    """One case beside the standard path."""
    kind = KINDS[name]
    packing = packing_of("tile", size)
    signed = signed_map(kind, size, layout)
    values = empty_map(size, layout, kind.dtype)
    if values.dtype.kind == "f":
        fill(values)
    else:
        values[...] = np.maximum(signed, 0)
    adaptive = adaptive_of(kind, size)
    ids = adaptive.partition.ids_of(size.height, size.width, size.channels)
    samplings = adaptive.samplings(kind.dtype, 8, kind.scaled, integer_values=True)
    where = by_class(packing, adaptive.partition) if kind.ordered else packing
    with_classes = MapPacker(where, size.height, size.width, kind.dtype, classes=samplings, ids=ids)
    standard = standard_of(kind, packing, size)
    pair = alternate(
        prepared(with_classes, where, signed, size), prepared(standard, packing, values, size), budget
    )  # fmt: skip
    return {
        "path": _core.chosen_path(),
        "kind": name,
        "kernels": f"{with_classes.kernel} beside {standard.kernel}",
        "size": str(size),
        "layout": layout,
        "ratio": pair.ratio,
        "adaptive_us": pair.one_ns[1] / 1000,
        "standard_us": pair.other_ns[1] / 1000,
        "rounds": pair.rounds,
    }


def measure(budget: Budget, paths: list[str], kinds: list[str]) -> Iterator[Row]:
    """Every case on instruction sets of this machine."""
    before = _core.chosen_path()
    for path in paths:
        _core.choose_path(path)
        for layout in ("CHW", "HWC"):
            for kind in kinds:
                for size in SIZES:
                    yield compare(kind, size, layout, budget)
    _core.choose_path(before)


def main() -> None:
    """Measure, print a table, and write the rows where told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it runs")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--path", action="append", help="only this instruction set")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only maps of this kind")
    options = parser.parse_args()
    rows = []
    budget = QUICK if options.quick else replace(FULL, seconds=0.3)
    for row in measure(budget, options.path or _core.paths(), options.kind or list(KINDS)):
        rows.append(row)
        below = KINDS[row["kind"]].aimed and row["ratio"] < AIM
        words = f"{row['path']:9} {row['layout']} {row['kind']:24} {row['size']:12}"
        times = f"{row['adaptive_us']:9.1f} us, standard {row['standard_us']:9.1f} us, ratio {row['ratio']:.2f}"
        print(words, times, "BELOW THE AIM" if below else "", flush=True)  # noqa: T201 (a command line)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
