"""Is this machine's integer path bit-exact? Golden cases through the C core, against hashes by the NumPy definition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.adaptive.adaptive import AdaptiveMap
from ..features.map_target import sample_values
from ..features.packer import MapPacker
from ..features.samples import sample_table
from ..features.unpacker import MapUnpacker
from .cases import Case, cases

GOLDEN = Path(__file__).with_name("golden.json")


@dataclass(frozen=True)
class Result:
    """What became of a case.

    :param name: of the case
    :param found: SHA-256 of what the C core wrote
    :param expected: SHA-256 of what the definition wrote
    """

    name: str
    found: str
    expected: str

    @property
    def exact(self) -> bool:
        """Whether they are the same."""
        return self.found == self.expected


def run() -> Iterator[Result]:
    """Every case in turn.

    :raises FeatlinkError: the C core cannot be loaded
    """
    golden: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    thresholds = {name: np.array(bits, np.uint32).view(np.float32) for name, bits in golden["thresholds"].items()}
    for case in cases():
        wrote = _packed if case.direction == "pack" else _unpacked
        yield Result(case.name, digest(case, thresholds, wrote), golden["sha256"][case.name])


#: Writes a case's output by the C core or by the definition.
Writer = Callable[[Case, dict[str, NDArray[np.float32]]], Iterator[NDArray[np.generic]]]


def digest(case: Case, thresholds: dict[str, NDArray[np.float32]], wrote: Writer) -> str:
    """SHA-256 of all arrays that `wrote` gives for a case, as little-endian bytes in C order."""
    total = hashlib.sha256()
    for array in wrote(case, thresholds):
        total.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()


def _packed(case: Case, thresholds: dict[str, NDArray[np.float32]]) -> Iterator[NDArray[np.generic]]:
    values = case.map(thresholds)
    height, width, _ = values.shape
    how: dict[str, Any] = {"wide": case.bit_depth == 16}
    if isinstance(case.quantizer, AdaptiveMap):
        how["classes"] = case.quantizer.samplings(values.dtype, case.bit_depth, case.level_scaling, None, True)
        how["ids"] = case.quantizer.partition.ids_of(*values.shape)
    elif values.dtype.kind == "f":
        how["thresholds"] = case.thresholds(thresholds)
        how["step"] = 255 // ((1 << case.bit_depth) - 1) if case.level_scaling else 1
    else:
        how["table"] = sample_table(case.bit_depth, case.level_scaling, values.dtype)
    packer = MapPacker(case.packing, height, width, values.dtype, **how)
    for picture in range(case.packing.pictures):
        low, high = np.zeros((2, *case.packing.picture_size(height, width)), np.uint8)
        packer.pack(values, picture, low, high if how["wide"] else None)
        yield from (high, low) if how["wide"] else (low,)


def _unpacked(case: Case, _: dict[str, NDArray[np.float32]]) -> Iterator[NDArray[np.generic]]:
    values = sample_values(case.quantizer, case.bit_depth, case.level_scaling, case.dtype)
    ids = None
    if isinstance(case.quantizer, AdaptiveMap):
        ids = case.quantizer.partition.ids_of(*case.size, case.packing.channels)
    unpacker = MapUnpacker(case.packing, *case.size, values, ids)
    out = np.zeros((*case.size, case.packing.channels), values.dtype)
    wide = case.bit_depth == 16
    for picture, planes in enumerate(case.pictures()):
        unpacker.unpack(planes[0], picture, out, planes[1] if wide else None)
    yield out
