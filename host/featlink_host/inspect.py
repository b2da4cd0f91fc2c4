"""`featlink-host inspect`: a stream as a table, damaged ones too; nothing is decoded."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from featlink_codec.features import PreQuantMode, RepackMode
from featlink_codec.features.adaptive import Distribution, PartitionKind

from .decode import StreamIndex


def render_index(index: StreamIndex, total_bytes: int) -> RenderableType:
    """The stream in the order of its bytes: header, time tags, maps, damage, end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("byte", "element", "bytes", "what"):
        table.add_column(name, justify="right" if name.startswith("byte") else "left", overflow="fold")
    rows: list[tuple[int, str, str, Text]] = []
    if index.stream:
        rows.append((0, "sequence", "5", Text(f"HEVC, feat_extractor_id {index.stream['feat_extractor_id']}")))
    rows += [
        (t["offset"], f"tag {t['index']}", "12" if "universal_time" in t else "6", _tag(t)) for t in index.time_tags
    ]
    rows += [(m["offset"], f"map {m['k']}", str(m["bytes"]), _map(m)) for m in index.maps]
    rows += [(e["offset"], "DAMAGE", "", Text(f"{e['name']}: {e['text']}", style="red")) for e in index.errors]
    if "end_offset" in index.stream:
        rows.append((index.stream["end_offset"], "end", "4", Text("")))
    for offset, element, size, what in sorted(rows, key=lambda row: row[0]):
        table.add_row(str(offset), element, size, what)
    return Group(table, Text(), Text(_summary(index, total_bytes), style="bold"))


def _tag(tag: dict[str, Any]) -> Text:
    if "universal_time" in tag:
        return Text(f"universal time {tag['universal_time']:.6f} s")
    known = "unknown" if tag["time_s"] is None else f"{tag['time_s']:.2f} s"
    return Text(f"interval {tag['interval_s']:.2f} s, time {known}")


def _map(entry: dict[str, Any]) -> Text:
    height, width, channels = entry["shape_hwc"]
    if entry["feat_integer"]:
        kind = f"integers, {entry['bit_depth']} bit"
    else:
        mode = _name(PreQuantMode(entry["pre_quant_mode"]))
        inherited = " inherited" if entry["quant_heritage_flag"] else ""
        kind = f"{mode}{inherited} {entry['bit_depth']} bit, "
        if entry["adaptive"] is None:
            kind += f"max {entry['max_feat_digit']:g}"
        else:
            kind += _classes(entry["adaptive"])
    packing = _name(RepackMode(entry["repack_mode"]))
    if entry["repack_mode"]:
        packing += f" {entry['tile_h']}x{entry['tile_w']}"
    packing += " inherited" if entry["repack_heritage_flag"] else ""
    pads = f", pads {entry['pad_h']},{entry['pad_w']}" if entry["pad_h"] or entry["pad_w"] else ""
    pictures = f"{entry['pictures']} x {entry['picture_w']}x{entry['picture_h']}"
    session = "intra" if entry["starts_session"] else "P"
    hashed = "MD5" if entry["hashed"] else "unhashed"
    return Text(
        f"type {entry['feat_type_id']}: {height}x{width}x{channels}, {kind}; {packing}{pads}; "
        f"{pictures} {session}, {hashed}"
    )


def _classes(found: dict[str, Any]) -> str:
    """How many classes of what, their distributions and depths, and what the class map takes."""
    names = [_name(Distribution(one["distribution"])) + f" {one['bit_depth']}" for one in found["classes"]]
    what = ", ".join(
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    )
    where = _name(PartitionKind(found["partition_kind"]))
    size = "" if not found["side_info_bytes"] else f", class map of {found['side_info_bytes']} bytes"
    return f"{len(names)} by {where} ({what}){size}" if len(names) > 1 else what


def _name(mode: IntEnum) -> str:
    return mode.name.lower().replace("_", " ")


def _summary(index: StreamIndex, total_bytes: int) -> str:
    maps = len(index.maps)
    video = sum(m["video_bytes"] for m in index.maps)
    text = f"{total_bytes} bytes, {len(index.time_tags)} time tags, {maps} maps"
    if maps:
        text += f" ({video} bytes of video, {total_bytes / maps:.0f} bytes a map all in)"
    return text + f", {len(index.errors)} errors"
