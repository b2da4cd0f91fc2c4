"""`featlink-host decode`: every map of a stream as .npy files, with an index; needs no extractor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, RefusedError
from featlink_codec.features import (
    AdaptiveMap,
    Damage,
    Event,
    FeatureMap,
    SequenceEnd,
    SequenceStart,
    StreamReader,
    Tag,
)
from featlink_codec.features.adaptive import BlockClasses, Whole
from featlink_codec.files import whole_file, write_whole

#: Exit codes of `decode` and `inspect`.
EXIT_WHOLE = 0
EXIT_REFUSED = 2
EXIT_LOST = 3
#: Errors that an index lists; a hostile stream could make one out of every few bytes.
MAX_ERRORS = 10_000
#: Samples converted at a time: an int32 or float32 copy of a whole map could be a gigabyte.
_BLOCK = 1 << 20


class StreamIndex:
    """index.json in the making: what a stream holds and what of it was lost.

    :param errors_only: keep no list of tags and maps: for streams that may go on for months
    """

    def __init__(self, *, errors_only: bool = False) -> None:
        self._errors_only = errors_only
        #: Damage beyond MAX_ERRORS is counted only.
        self.errors_left_out = 0
        self.stream: dict[str, Any] = {}
        self.time_tags: list[dict[str, Any]] = []
        self.maps: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.refusal: RefusedError | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Take in the next events."""
        for event in events:
            self._add(event)

    def _add(self, event: Event) -> None:
        match event:
            case SequenceStart():
                self.stream["applied_video_codec"] = int(event.header.applied_video_codec)
                self.stream["feat_extractor_id"] = event.header.feat_extractor_id
            case Tag() if not self._errors_only:
                self.time_tags.append(_describe_tag(event))
            case FeatureMap() if not self._errors_only:
                self.maps.append({"k": len(self.maps), **_describe_map(event)})
            case Damage():
                error = event.error
                entry: dict[str, Any] = {"name": error.name, "offset": error.offset, "text": error.text}
                if event.map_offset is not None:
                    entry["map_offset"] = event.map_offset
                self._blame(entry)
            case SequenceEnd():
                self.stream["end_offset"] = event.offset

    def refuse(self, error: RefusedError) -> None:
        """The stream as a whole cannot be read."""
        self.refusal = error
        self.errors.append({"name": error.name, "offset": error.offset, "text": error.text})

    def _blame(self, entry: dict[str, Any]) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(entry)
        else:
            self.errors_left_out += 1

    @property
    def exit_code(self) -> int:
        """0 whole, 3 something was lost, 2 refused."""
        return EXIT_REFUSED if self.refusal else EXIT_LOST if self.errors else EXIT_WHOLE

    def as_dict(self) -> dict[str, Any]:
        """The content of index.json."""
        return {
            "exit_code": self.exit_code,
            "stream": self.stream,
            "time_tags": self.time_tags,
            "maps": self.maps,
            "errors": self.errors,
            "errors_left_out": self.errors_left_out,
        }


def _describe_tag(event: Tag) -> dict[str, Any]:
    tag = event.tag
    kind: dict[str, Any] = {"interval_time": tag.interval_time, "interval_s": tag.interval_time / 100}
    if tag.universal_time_flag:
        kind = {"universal_time": tag.universal_time_s, "universal_time_bits": f"{tag.universal_time:016x}"}
    return {"index": event.index, "offset": event.offset, "time_s": event.time_s, **kind}


def _describe_map(event: FeatureMap) -> dict[str, Any]:
    header, packing = event.header, event.packing
    fields: dict[str, Any] = {
        "offset": event.offset,
        "bytes": event.nbytes,
        "video_bytes": len(event.video),
        "tag": event.tag_index,
        "time_s": event.time_s,
        "feat_type_id": header.feat_type_id,
        "feat_integer": header.feat_integer,
        "bit_depth": header.bit_depth,
        "shape_hwc": list(event.shape),
        "pre_quant_mode": None if header.feat_integer else int(header.pre_quant_mode),
        "max_feat_digit": None if header.feat_integer else header.max_feat_digit,
        "quant_heritage_flag": header.quant_heritage_flag,
        "partitions": None if event.partitions is None else [float(q) for q in event.partitions],
        "adaptive": _describe_classes(event),
        "repack_mode": int(header.repack_mode),
        "repack_heritage_flag": header.repack_heritage_flag,
        "tile_h": packing.tile_h,
        "tile_w": packing.tile_w,
        "pad_h": packing.pad_h,
        "pad_w": packing.pad_w,
        "order": None if packing.order is None else list(packing.order),
        "pictures": event.pictures,
        "picture_h": event.picture_size[0],
        "picture_w": event.picture_size[1],
        "starts_session": event.starts_session,
        "hashed": event.hashed,
    }
    return fields


def _describe_classes(event: FeatureMap) -> dict[str, Any] | None:
    """pre_quant_mode 3: partition, classes in force, and the class map, also where they are inherited."""
    if not isinstance(event.quantizer, AdaptiveMap):
        return None
    partition, syntax = event.quantizer.partition, event.header.adaptive_quant
    fields: dict[str, Any] = {
        "partition_kind": int(partition.kind),
        "side_info_bytes": None if syntax is None else len(syntax.side_info),
        "classes": [
            {
                "distribution": int(one.distribution),
                "bit_depth": one.bit_depth,
                "center": one.center,
                "spread": one.spread,
                "step": one.step,
                "offset": one.offset,
            }
            for one in event.quantizer.classes
        ],
    }
    if isinstance(partition, BlockClasses):
        fields["splits"] = partition.splits.tolist()
    if not isinstance(partition, Whole):
        fields["ids"] = partition.ids.tolist()
    return fields


def follow(reader: StreamReader, chunks: Iterable[bytes], index: StreamIndex) -> Iterator[list[Event]]:
    """The events of each chunk as it comes, noted in the index; a refusal ends them and is noted too."""
    try:
        for chunk in chunks:
            events = reader.feed(chunk)
            index.add(events)
            yield events
        events = reader.close()
        index.add(events)
        yield events
    except RefusedError as error:
        index.refuse(error)


def decode_stream(reader: StreamReader, chunks: Iterable[bytes], out: Path) -> StreamIndex:
    """Write per delivered map k `k_levels.npy` (int32 [H, W, C]) and `k_values.npy` (float32), and `index.json` last.

    :param out: folder, made if it is not there; maps of an earlier decode in it are removed first
    :raises FeatlinkError: it cannot be written
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in (*out.glob("[0-9]*_levels.npy"), *out.glob("[0-9]*_values.npy"), out / "index.json"):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise FeatlinkError(f"{out}: {error.strerror}") from None
    index = StreamIndex()
    k = 0
    for events in follow(reader, chunks, index):
        for event in events:
            if isinstance(event, FeatureMap):
                assert event.levels is not None
                _save(out / f"{k:05d}_levels.npy", event.levels, np.dtype(np.int32), None)
                if isinstance(event.quantizer, AdaptiveMap):
                    _save(out / f"{k:05d}_values.npy", event.values(), np.dtype(np.float32), None)
                else:
                    table = None if event.quantizer is None else event.quantizer.level_values
                    _save(out / f"{k:05d}_values.npy", event.levels, np.dtype(np.float32), table)
                k += 1
    write_whole(out / "index.json", json.dumps(index.as_dict(), indent=1) + "\n")
    return index


def _save(path: Path, levels: NDArray[Any], dtype: np.dtype[Any], table: NDArray[np.float32] | None) -> None:
    """An .npy file of `levels`, through `table` if given, a block of rows at a time."""
    rows = max(1, _BLOCK // max(1, levels[0].size))
    with whole_file(path) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": levels.shape}
        )
        for row in range(0, len(levels), rows):
            block = levels[row : row + rows]
            file.write(np.ascontiguousarray(block if table is None else table[block], dtype).tobytes())
