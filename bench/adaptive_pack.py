"""Packing with classes beside packing with one standard quantizer: `python -m bench.adaptive_pack`.

Each case takes turns with the standard path on a map of the same size, packing and layout: a uniform quantizer of 8
bits on non-negative float32. Ratios are of medians; below 1 the case is slower. Maps are signed; classes are dealt to
channels at random, or lie side by side as a packing order by class has them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
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
from featlink_codec.features.packer import MapPacker
from featlink_codec.features.packing import Packing
from featlink_codec.features.syntax import RepackMode

from .cases import SEED, Size, empty_map, fill, packing_of, uniform
from .measure import FULL, QUICK, Budget, Call, aligned, alternate, in_turn

SIZES = (Size(64, 19, 19), Size(192, 19, 19), Size(64, 76, 76), Size(256, 38, 38), Size(128, 128, 128))
CLASSES = 4
#: Kinds of partitions, and whether the aim counts for them: within a tenth of the standard path.
KINDS = {
    "whole": True,
    "channel": True,
    "channel, in order": True,
    "channel, depths scaled": True,
    "channel, logarithmic": False,
    "region": False,
}
AIM = 0.9
Row = dict[str, Any]


def adaptive_of(kind: str, size: Size) -> AdaptiveMap:
    """Four Gaussian classes of a signed map, or one."""
    rng = np.random.default_rng(SEED)
    distribution = Distribution.LOGARITHMIC if "logarithmic" in kind else Distribution.GAUSSIAN
    count = 1 if kind == "whole" else CLASSES
    depths = [8, 6, 5, 3] if "scaled" in kind else [8] * CLASSES
    classes = tuple(ClassParameters.rounded(distribution, depths[k], 0.1 * k, 2.0 + k / 3) for k in range(count))
    ids = rng.integers(0, CLASSES, size.channels).astype(np.uint8)
    partition: Partition = ChannelClasses(np.sort(ids) if "order" in kind else ids)
    if kind == "whole":
        partition = Whole()
    elif kind == "region":
        coarse = rng.integers(0, CLASSES, (-(-size.height // 5), -(-size.width // 5)))
        region = coarse.repeat(5, 0).repeat(5, 1)[: size.height, : size.width]
        partition = RegionClasses(np.ascontiguousarray(region).astype(np.uint8))
    return AdaptiveMap(partition, classes)


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


def compare(kind: str, size: Size, layout: str, budget: Budget) -> Row:
    """One case beside the standard path."""
    packing = packing_of("tile", size)
    values, signed = empty_map(size, layout, "float32"), empty_map(size, layout, "float32")
    fill(values)
    signed[...] = np.random.default_rng(SEED).normal(0, 1.5, signed.shape)
    standard = MapPacker(packing, size.height, size.width, "float32", thresholds=uniform().thresholds)
    adaptive = adaptive_of(kind, size)
    ids = adaptive.partition.ids_of(size.height, size.width, size.channels)
    samplings = adaptive.samplings("float32", 8, "scaled" in kind)
    where = by_class(packing, adaptive.partition) if "order" in kind else packing
    with_classes = MapPacker(where, size.height, size.width, "float32", classes=samplings, ids=ids)
    pair = alternate(
        prepared(with_classes, where, signed, size), prepared(standard, packing, values, size), budget
    )  # fmt: skip
    return {
        "path": _core.chosen_path(),
        "kind": kind,
        "size": str(size),
        "layout": layout,
        "ratio": pair.ratio,
        "adaptive_us": pair.one_ns[1] / 1000,
        "standard_us": pair.other_ns[1] / 1000,
        "rounds": pair.rounds,
    }


def measure(budget: Budget) -> Iterator[Row]:
    """Every case on every instruction set of this machine."""
    before = _core.chosen_path()
    for path in _core.paths():
        _core.choose_path(path)
        for layout in ("CHW", "HWC"):
            for kind in KINDS:
                for size in SIZES:
                    yield compare(kind, size, layout, budget)
    _core.choose_path(before)


def main() -> None:
    """Measure, print a table, and write the rows where told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it runs")
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()
    rows = []
    for row in measure(QUICK if options.quick else replace(FULL, seconds=0.3)):
        rows.append(row)
        aimed = KINDS[row["kind"]] and row["ratio"] < AIM
        words = f"{row['path']:9} {row['layout']} {row['kind']:24} {row['size']:12}"
        times = f"{row['adaptive_us']:9.1f} us, standard {row['standard_us']:9.1f} us, ratio {row['ratio']:.2f}"
        print(words, times, "BELOW THE AIM" if aimed else "", flush=True)  # noqa: T201 (a command line)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
