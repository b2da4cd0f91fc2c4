"""The [[maps]] tables of extractor.toml: one feature map's shape, its quantizer and its packing into pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ..features.adaptive import DECIDERS, HOWS
from ..features.quantizers import LOGARITHMIC_LIMIT
from ..features.syntax import MAX_MAP_SAMPLES
from ..video.sps import MAX_PIXELS, MAX_SIDE
from .adaptive import PARTITIONS, ClassTable, check_adaptive
from .fields import (
    FILE_NAME,
    SHA256,
    Choice,
    FieldError,
    Flag,
    Integer,
    Many,
    Number,
    Text,
    check_fields,
    read_table,
    refuse,
)

#: In place of a decider on the device.
GIVEN_DISTRIBUTION = "given"


@dataclass(frozen=True)
class QuantizerSettings:
    """[maps.quantizer]: how float32 values become levels 0..peak (T/AI part 4, 7.2.1)."""

    TABLE: ClassVar[str] = "maps.quantizer"

    #: pre_quant_mode by name; an integer map has no quantizer and says "uniform" here
    mode: Annotated[str, Choice("uniform", "logarithmic", "custom", "adaptive")]
    #: bits of a level: depth = 2^(bit_depth_compact + 1)
    bit_depth: Annotated[int, Choice(2, 4, 8, 16)]
    #: largest value, in mode logarithmic after log2(x + 1); rounded to binary32; 1.0 in mode adaptive
    max_feat_digit: Annotated[float, Number(above=0, single=True)]
    #: mode custom only: the 2^bit_depth - 1 bounds between levels, ascending, rounded to binary32
    partitions: Annotated[tuple[float, ...] | None, Many(Number(single=True), 3, 65535)] = None
    #: .npy, float32 [peak]: what the quantizer is from then on (see thresholds.py); None: derived when loaded
    thresholds: Annotated[str | None, FILE_NAME] = None
    thresholds_sha256: Annotated[str | None, SHA256] = None
    #: mode adaptive only, as is all that follows: which elements are of a class
    partition: Annotated[str | None, Choice(*PARTITIONS)] = None
    #: .npy, uint8: the class map, see `write_class_map`; in all partitions but "whole"
    class_map: Annotated[str | None, FILE_NAME] = None
    class_map_sha256: Annotated[str | None, SHA256] = None
    #: where classes are decided on: in "prepare", or on the device for each intra period, as many as there are here
    on_device: Annotated[str | None, Choice("none", "intra")] = None
    #: on the device: how a class's spread is found ("least-squares"), and its distribution: by its "histogram"; what
    #: `classes` say stays where it is "given", or follows from the network alone, as the other deciders have it
    decider: Annotated[str | None, Choice(*DECIDERS, GIVEN_DISTRIBUTION)] = None
    fit: Annotated[str | None, Choice(*HOWS)] = None
    #: [[maps.quantizer.classes]], in the order of their ids
    classes: tuple[ClassTable, ...] | None = None

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        if self.mode == "logarithmic" and self.max_feat_digit >= LOGARITHMIC_LIMIT:
            raise refuse(self, "max_feat_digit", f"less than {LOGARITHMIC_LIMIT:g} in mode 'logarithmic'")
        if (self.partitions is None) == (self.mode == "custom"):
            raise refuse(self, "partitions", "a list in mode 'custom' and nothing in the other modes")
        if self.partitions is not None:
            if len(self.partitions) != self.peak:
                raise FieldError(
                    self.TABLE,
                    "partitions",
                    f"{len(self.partitions)} bounds",
                    f"{self.peak} at bit_depth {self.bit_depth}",
                )
            if any(a >= b for a, b in zip(self.partitions, self.partitions[1:], strict=False)):
                raise refuse(self, "partitions", "each bound above the one before it, as binary32")
        for file in ("thresholds", "class_map"):
            missing, given = file, f"{file}_sha256"
            if getattr(self, given) is None:
                missing, given = given, missing
            if getattr(self, missing) is None and getattr(self, given) is not None:
                raise refuse(self, missing, f"one beside {given}")
        self._check_adaptive()

    def _check_adaptive(self) -> None:
        adaptive = self.mode == "adaptive"
        for key in ("partition", "classes", "class_map", "on_device", "decider", "fit"):
            if not adaptive and getattr(self, key) is not None:
                raise refuse(self, key, "nothing but in mode 'adaptive'")
        if not adaptive:
            return
        if self.bit_depth > 8:
            raise refuse(self, "bit_depth", "2, 4 or 8 in mode 'adaptive'")
        if self.partition is None:
            raise refuse(self, "partition", "one in mode 'adaptive'")
        check_adaptive(self.classes, self.bit_depth)
        if (self.class_map is None) != (self.partition == "whole"):
            raise refuse(self, "class_map", "a file, but in partition 'whole'")
        if self.partition == "whole" and len(self.classes or ()) != 1:
            raise FieldError(self.TABLE, "classes", str(len(self.classes or ())), "1 in partition 'whole'")

    @property
    def peak(self) -> int:
        """The highest level."""
        return int(2**self.bit_depth - 1)


@dataclass(frozen=True)
class PackingSettings:
    """[maps.packing]: how channels become pictures (T/AI part 4, 7.2.2)."""

    TABLE: ClassVar[str] = "maps.packing"

    #: repack_mode by name: stack 0, tile 1, ordered-tile 2
    mode: Annotated[str, Choice("stack", "tile", "ordered-tile")]
    #: channels down and across one picture; modes tile and ordered-tile only
    tile_h: Annotated[int | None, Integer(1, 4095)] = None
    tile_w: Annotated[int | None, Integer(1, 4095)] = None
    #: rows at the bottom and columns at the right that carry nothing
    pad_h: Annotated[int, Integer(0, 7)] = 0
    pad_w: Annotated[int, Integer(0, 7)] = 0
    #: place c carries channel order[c]; modes stack (where nothing means as they are) and ordered-tile
    order: Annotated[tuple[int, ...] | None, Many(Integer(0, 65534), 1, 65535)] = None

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        for key in ("tile_h", "tile_w"):
            if (getattr(self, key) is None) != (self.mode == "stack"):
                wanted = "nothing" if self.mode == "stack" else "an integer 1..4095"
                raise refuse(self, key, f"{wanted} in mode {self.mode!r}")
        if self.mode == "tile" and self.order is not None:
            raise refuse(self, "order", "nothing in mode 'tile'")
        if self.mode == "ordered-tile" and self.order is None:
            raise refuse(self, "order", "a list in mode 'ordered-tile'")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise refuse(self, "order", f"each channel 0..{len(self.order) - 1} exactly once")


@dataclass(frozen=True)
class MapSettings:
    """[[maps]]: one feature map, [height, width, channels], and how it travels."""

    TABLE: ClassVar[str] = "maps"

    #: feat_type_id on the wire, one map each
    feat_type_id: Annotated[int, Integer(0, 255)]
    #: name of the backbone's output and of the head's input
    tensor: Annotated[str, Text()]
    #: size of the map
    height: Annotated[int, Integer(1, MAX_SIDE)]
    width: Annotated[int, Integer(1, MAX_SIDE)]
    channels: Annotated[int, Integer(1, 65535)]
    quantizer: QuantizerSettings
    packing: PackingSettings
    #: axes of the tensor, the batch axis being 1
    layout: Annotated[str, Choice("NCHW", "NHWC")] = "NCHW"
    #: feat_integer: the tensor holds levels already
    integer: Annotated[bool, Flag()] = False

    def __post_init__(self) -> None:
        """:raises FieldError: a field that does not fit."""
        check_fields(self)
        if self.integer and self.quantizer.mode != "uniform":
            raise FieldError(
                self.TABLE + ".quantizer",
                "mode",
                repr(self.quantizer.mode),
                "'uniform', since integer maps are not quantized",
            )
        if self.integer and self.quantizer.thresholds is not None:
            raise FieldError(
                self.TABLE + ".quantizer",
                "thresholds",
                repr(self.quantizer.thresholds),
                "nothing, since integer maps are not quantized",
            )
        order = self.packing.order
        if order is not None and len(order) != self.channels:
            raise FieldError(
                self.TABLE + ".packing", "order", f"{len(order)} channels", f"all {self.channels} channels of the map"
            )
        if self.height * self.width * self.channels > MAX_MAP_SAMPLES:
            found = f"{self.height} x {self.width} x {self.channels}"
            raise FieldError(self.TABLE, "channels", found, f"at most {MAX_MAP_SAMPLES} samples in a map")
        height, width = self.picture_size
        if height > MAX_SIDE or width > MAX_SIDE or height * width > MAX_PIXELS:
            raise FieldError(
                self.TABLE,
                "packing",
                f"pictures of {width} x {height}",
                f"sides of at most {MAX_SIDE} and at most {MAX_PIXELS} samples",
            )

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) in samples of the pictures that carry this map, pads included."""
        packing = self.packing
        return (
            self.height * (packing.tile_h or 1) + packing.pad_h,
            self.width * (packing.tile_w or 1) + packing.pad_w,
        )

    @property
    def picture_count(self) -> int:
        """How many pictures carry one map; depth 16 takes two for each frame (profile standard-16)."""
        frames = -(-self.channels // ((self.packing.tile_h or 1) * (self.packing.tile_w or 1)))
        return frames * (2 if self.quantizer.bit_depth == 16 else 1)


def read_map(data: object, table: str) -> MapSettings:
    """One [[maps]] table; `table` is its name for messages (FieldError)."""
    if not isinstance(data, Mapping):
        raise FieldError("", table, repr(data), "a table")
    more: dict[str, Any] = {}
    for key, cls in (("quantizer", QuantizerSettings), ("packing", PackingSettings)):
        if key in data:
            inside: dict[str, Any] = {}
            tables = data[key].get("classes") if isinstance(data[key], Mapping) else None
            if isinstance(tables, (list, tuple)):
                where = f"{table}.{key}.classes"
                inside["classes"] = tuple(read_table(ClassTable, one, f"{where}[{k}]") for k, one in enumerate(tables))
            more[key] = read_table(cls, data[key], f"{table}.{key}", inside)
    return read_table(MapSettings, data, table, more)
