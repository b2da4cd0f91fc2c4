"""Writes golden.json: `python -m featlink_codec.selftest.definition`. By the NumPy definition; no C takes part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.adaptive.adaptive import AdaptiveMap
from ..features.quantizers import LogQuantizer, as_levels
from ..features.samples import level_table, samples_of
from ..files import write_whole
from . import GOLDEN, digest
from .cases import Case, cases


def golden() -> dict[str, Any]:
    """Thresholds to keep, by mode and depth, as binary32 bits, and the SHA-256 of each case."""
    kept = {f"logarithmic-{depth}": LogQuantizer(3.25, depth).thresholds for depth in (2, 4, 8)}
    hashes = {
        case.name: digest(case, kept, _packed if case.direction == "pack" else _unpacked) for case in cases()
    }  # fmt: skip
    return {"thresholds": {name: bounds.view(np.uint32).tolist() for name, bounds in kept.items()}, "sha256": hashes}


def _packed(case: Case, stored: dict[str, NDArray[np.float32]]) -> Iterator[NDArray[np.generic]]:
    values = case.map(stored)
    integers: NDArray[np.generic] = values
    if isinstance(case.quantizer, AdaptiveMap):
        levels = case.quantizer.quantize(values.astype(np.float32))
        yield from _pictures(case, [case.quantizer.samples(levels, case.level_scaling)])
        return
    if values.dtype.kind == "f":
        integers = np.searchsorted(case.thresholds(stored), values.astype(np.float32), side="right")
    levels = as_levels(integers, case.bit_depth)
    yield from _pictures(case, samples_of(levels, case.bit_depth, case.level_scaling))


def _pictures(case: Case, planes: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    for picture in range(case.packing.pictures):
        for plane in planes:
            out = np.zeros(case.packing.picture_size(*case.size), np.uint8)
            case.packing.pack(plane, picture, out)
            yield out


def _unpacked(case: Case, _: dict[str, NDArray[np.float32]]) -> Iterator[NDArray[np.generic]]:
    planes = np.zeros((2, case.packing.channels, *case.size), np.uint8)
    for picture, both in enumerate(case.pictures()):
        for k in range(2):
            case.packing.unpack(both[k], picture, planes[k])
    low, high = planes
    if isinstance(case.quantizer, AdaptiveMap):
        pixels = low.transpose(1, 2, 0)
        ids = np.broadcast_to(case.quantizer.partition.ids_of(*pixels.shape), pixels.shape)
        found = case.quantizer.levels_of_samples(case.level_scaling)[ids, pixels]
        yield case.quantizer.dequantize(found).astype(case.dtype)
        return
    if case.bit_depth == 16:
        levels = low.astype(np.uint16) | high.astype(np.uint16) << np.uint16(8)
    else:
        table = level_table(case.bit_depth, case.level_scaling)
        levels = table[low].astype(np.uint16)
    values = levels if case.quantizer is None else case.quantizer.level_values[levels]
    with np.errstate(over="ignore"):
        yield values.astype(case.dtype).transpose(1, 2, 0)


if __name__ == "__main__":
    write_whole(GOLDEN, json.dumps(golden(), indent=1) + "\n")
