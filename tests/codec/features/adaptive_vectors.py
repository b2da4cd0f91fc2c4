"""The streams of tests/vectors/adaptive: `python -m codec.features.adaptive_vectors` in tests/ writes them anew.

One good stream for each kind of partition, three maps each: the first explicit, the second inherits, the third is
explicit again. And damaged ones: index.json says which error, at which byte, and what is delivered all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from codec.features.test_class_kernels import tree
from streams import lossless

from featlink_codec.features import MapCoding, MapEncoder, Packing, Profile, RepackMode, StreamWriter, TimeTag
from featlink_codec.features.adaptive import (
    BlockClasses,
    ChannelClasses,
    ClassParameters,
    Distribution,
    Partition,
    RegionClasses,
    Whole,
)
from featlink_codec.features.adaptive.adaptive import AdaptiveMap
from featlink_codec.features.adaptive.side_info import write_side_info
from featlink_codec.features.adaptive.syntax import AdaptiveQuant, ClassFields

FOLDER = Path(__file__).parents[2] / "vectors" / "adaptive"
SHAPE = (6, 7, 6)
#: Bits from a map's start code to partition_kind, and of a class.
KIND_AT, CLASS_BITS = 79, 134
CLASSES = (
    ClassParameters(Distribution.GAUSSIAN, 8, 0.25, 2.0),
    ClassParameters(Distribution.UNIFORM, 5, -3.0, 6.5),
    ClassParameters(Distribution.LAPLACE, 3, 0.0, 1.5, 1.0, 0.25),
    ClassParameters(Distribution.LOGARITHMIC, 6, -0.5, 2.5),
)


def partitions() -> dict[str, Partition]:
    """One of each kind."""
    rng = np.random.default_rng(4)
    splits = tree(SHAPE, 11, 12)
    return {
        "whole": Whole(),
        "channel": ChannelClasses(np.array([0, 3, 1, 2, 0, 1], np.uint8)),
        "region": RegionClasses(rng.integers(0, 4, SHAPE[:2]).astype(np.uint8)),
        "block": BlockClasses(splits, rng.integers(0, 4, int((splits == 0).sum())).astype(np.uint8)),
    }


def adaptive(kind: str) -> AdaptiveMap:
    """With the classes above, or the first of them."""
    return AdaptiveMap(partitions()[kind], CLASSES[: 1 if kind == "whole" else 4])


def coding(kind: str, **changes: Any) -> MapCoding:
    """6 channels in 3 x 3 tiles."""
    settings = MapCoding(1, 8, adaptive(kind), Packing(RepackMode.TILE, 6, 3, 3), Profile.ADAPTIVE, refresh_s=0.07)
    return replace(settings, **changes)


def maps(count: int = 3, shape: tuple[int, int, int] = SHAPE) -> list[np.ndarray]:
    """Signed maps, multiples of 2^-10 so that they are the same everywhere."""
    rng = np.random.default_rng(6)
    return [(rng.integers(-5000, 5000, shape) / 1024).astype(np.float32) for _ in range(count)]


@dataclass
class Stream:
    """Bytes, and where each map begins."""

    data: bytearray
    maps: list[int]


def stream(
    settings: MapCoding, values: list[np.ndarray], change: Callable[[int, Any], None] = lambda k, header: None
) -> Stream:
    """A stream by the project's writer; `change` may change the header of map k before it is written."""
    encoder, writer = MapEncoder(settings, lossless), StreamWriter(settings.profile, 3)
    made = Stream(bytearray(writer.start()), [])
    for k, one in enumerate(values):
        made.data += writer.time_tag(TimeTag.universal(1.7e9) if k == 0 else TimeTag(interval_time=4))
        (coded,) = encoder.encode(one, k * 0.04)
        change(k, coded.header)
        made.maps.append(len(made.data))
        made.data += writer.feat_map(coded.header, coded.access_units)
    made.data += writer.end()
    encoder.close()
    return made


def patched(made: Stream, number: int, bit: int, bits: int, value: int) -> bytes:
    """Other bits in the header of a map, counted from its start code."""
    size = len(made.data)
    whole = int.from_bytes(made.data, "big")
    shift = 8 * size - (8 * made.maps[number] + bit + bits)
    mask = ((1 << bits) - 1) << shift
    return ((whole & ~mask) | value << shift).to_bytes(size, "big")


def class_bit(number: int, field: str) -> int:
    """Where a field of a class begins."""
    inside = {"distribution": 0, "class_depth_minus1": 2, "center": 6, "spread": 38, "step": 70, "offset": 102}
    return KIND_AT + 10 + CLASS_BITS * number + inside[field]


def side_info_at(classes: int) -> int:
    """Bytes from a map's start code to side_info_length."""
    return -(-(KIND_AT + 10 + CLASS_BITS * classes) // 8)


def damaged() -> Iterator[tuple[str, str, bytes, str, int, list[int]]]:
    """Name, what is wrong, bytes, error, byte, and which of the three maps must come all the same."""
    values = maps()
    channel, region, whole = (stream(coding(kind), values) for kind in ("channel", "region", "whole"))
    last = channel.maps[2]

    def at(bit: int) -> int:
        return last + bit // 8

    for name, field, bits, value, error in (
        ("spread_zero", "spread", 32, 0, "bad-class"),
        ("spread_negative", "spread", 32, 0xBF800000, "bad-class"),
        ("spread_infinite", "spread", 32, 0x7F800000, "bad-class"),
        ("step_zero", "step", 32, 0, "bad-class"),
        ("center_nan", "center", 32, 0x7FC00000, "bad-class"),
        ("offset_infinite", "offset", 32, 0xFF800000, "bad-class"),
        ("class_too_deep", "class_depth_minus1", 4, 15, "bad-class-depth"),
        ("gaussian_of_depth_1", "class_depth_minus1", 4, 0, "bad-class-depth"),
    ):
        number = 0 if name == "gaussian_of_depth_1" else 1
        bit = class_bit(number, field)
        blamed = class_bit(number, "distribution") if "depth" in error else bit
        what = f"{field} of class {number} in map 2"
        yield name, what, patched(channel, 2, bit, bits, value), error, at(blamed), [0, 1]
    bad, place = patched(channel, 2, class_bit(0, "spread"), 32, 0x7F7FFFFF), at(class_bit(0, "offset"))
    yield "values_overflow", "class 0 of map 2 takes its levels beyond binary32", bad, "bad-class", place, [0, 1]
    bad = patched(whole, 2, KIND_AT + 2, 8, 1)
    yield "whole_with_two_classes", "map 2", bad, "bad-class-map", whole.maps[2] + KIND_AT // 8, [0, 1]
    length = 8 * side_info_at(4)
    for name, value in (("class_map_empty", 0), ("class_map_huge", 0x7FFFFFFF), ("class_map_over_budget", 1 << 19)):
        bad = patched(channel, 2, length, 32, value)
        yield name, "side_info_length of map 2", bad, "bad-side-info", at(length), [0, 1]
    for name, cut in (("class_map_short", -1), ("class_map_long", 1)):

        def change(k: int, header: Any, cut: int = cut) -> None:
            if k == 2:
                old = header.adaptive_quant
                info = old.side_info[:cut] if cut < 0 else old.side_info + b"\0"
                header.adaptive_quant = replace(old, side_info=info)

        made = stream(coding("region"), values, change)
        yield name, "side_info of map 2", bytes(made.data), "bad-side-info", 0, [0, 1]
    bad = patched(region, 2, 8 * side_info_at(4) + 32, 8, 0xFF)
    yield "class_map_garbled", "first byte of side_info of map 2", bad, "bad-side-info", 0, [0, 1]

    def crowded(k: int, header: Any) -> None:
        many = ChannelClasses(np.arange(8, dtype=np.uint8))
        if k == 2:
            fields = [ClassFields.of(CLASSES[0]) for _ in range(8)]
            header.adaptive_quant = AdaptiveQuant(1, fields, side_info=write_side_info(many, (6, 7, 8), 8))

    made = stream(coding("channel"), values, crowded)
    place = made.maps[2] + side_info_at(8) + 4
    what = "8 classes of 6 channels in map 2"
    yield "more_classes_than_channels", what, bytes(made.data), "bad-class-map", place, [0, 1]
    tag = channel.maps[1] - 6
    gone = tag - channel.maps[0]
    bad = bytes(channel.data[: channel.maps[0]] + channel.data[tag:])
    yield "inherit_from_nothing", "map 0 is missing", bad, "no-inherit", channel.maps[1] - gone, [2]
    bad = patched(channel, 1, 41, 2, 1)
    what = "map 1 has depth 4 and inherits a class of depth 8"
    yield "inherit_too_deep", what, bad, "no-inherit", channel.maps[1], [0, 2]


def index() -> tuple[dict[str, Any], dict[str, bytes]]:
    """What index.json holds, and the files."""
    files: dict[str, bytes] = {}
    good, bad = [], []
    for kind in partitions():
        made = stream(coding(kind), maps())
        files[f"{kind}.bin"] = bytes(made.data)
        quantizer = adaptive(kind)
        arrays = [quantizer.quantize(one) for one in maps()]
        levels = [hashlib.sha256(one.tobytes()).hexdigest() for one in arrays]
        values = [hashlib.sha256(quantizer.dequantize(one).tobytes()).hexdigest() for one in arrays]
        good.append({"name": kind, "levels_sha256": levels, "values_sha256": values})
    for name, what, data, error, offset, delivered in damaged():
        files[f"{name}.bin"] = data
        bad.append({"name": name, "what": what, "error": error, "offset": offset, "must_deliver": delivered})
    return {"good": good, "malformed": bad}, files


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    found, files = index()
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
    (FOLDER / "index.json").write_text(json.dumps(found, indent=1) + "\n")
