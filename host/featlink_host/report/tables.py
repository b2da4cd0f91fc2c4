"""Rows of the report's tables: bytes and agreement by method, time by stage, figures by map."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featlink_codec.extractor import ExtractorSettings

from ..detector import Agreement
from ..run import MapRecord
from .comparison import FEATURES, ByteCounts, Comparison, f1_score, p95


@dataclass(frozen=True)
class MethodRow(ByteCounts):
    """A method, over the same pictures as the others."""

    label: str
    #: "features", "plain", "jpeg" or "x265"
    kind: str
    how: str
    nbytes: tuple[int, ...]
    #: None where it was not measured
    agreement: Agreement | None
    #: what stands where agreement was not measured
    why_not: str = ""

    @property
    def f1(self) -> float | None:
        """F1, None where it was not measured."""
        return None if self.agreement is None else f1_score(self.agreement)


@dataclass(frozen=True)
class StageRow:
    """Time of a stage, in milliseconds."""

    name: str
    median_ms: float
    p95_ms: float
    count: int


def method_rows(settings: ExtractorSettings, records: Sequence[MapRecord], found: Comparison | None) -> list[MethodRow]:
    """Features, the same map uncoded and through zlib, and the rivals; empty where no map came."""
    if found is not None:
        by_k = {record.k: record for record in records}
        records = [by_k[picture.k] for picture in found.pictures]
    if not records:
        return []
    ours = None if found is None else found.features.agreement
    missing = f"not measured: {'no source to compare with' if found is None else 'the extractor has no task'}"
    rows = [
        MethodRow(
            "features",
            "features",
            "the stream as it came: video, headers, time tags",
            tuple(record.stream_bytes for record in records),
            ours,
            missing,
        )
    ]
    depth = settings.maps[0].quantizer.bit_depth
    if all(record.zlib_bytes for record in records):
        rows.append(
            MethodRow(
                f"{depth} bit + zlib",
                "plain",
                "the levels that the head got, through zlib at its default level; the agreement is the features' own",
                tuple(record.zlib_bytes for record in records),
                ours,
                missing,
            )
        )
    rows.append(
        MethodRow(
            "raw float32",
            "plain",
            "the map as the backbone gives it, four bytes a value",
            tuple(record.raw_bytes for record in records),
            None,
            "not measured: nothing is lost before the quantizer" if found is not None else missing,
        )
    )
    if found is not None:
        rows += [
            MethodRow(one.label, one.key.split("-")[0], one.how, one.nbytes, one.agreement, missing)
            for one in found.methods
            if one.key != FEATURES
        ]
    return rows


def verdict(rows: Sequence[MethodRow]) -> str:
    """What the hardest rival needs, and the best x265 in any case; empty where no rival was measured."""
    rivals = [row for row in rows if row.kind in ("jpeg", "x265") and row.f1 is not None]
    if not rivals or rows[0].f1 is None:
        return ""
    ours = rows[0]
    as_good = [row for row in rivals if (row.f1 or 0) >= rows[0].f1]
    if as_good:
        best = min(as_good, key=lambda row: row.mean_bytes)
        text = (
            "The cheapest rival measured here that agrees with the whole network at least as well as the features "
            f"(F1 {ours.f1:.3f}) is {_brief(best, ours)}."
        )
    else:
        best = max(rivals, key=_by_agreement)
        text = (
            f"No rival measured here agrees with the whole network as well as the features do (F1 {ours.f1:.3f}). "
            f"The nearest is {_brief(best, ours)}."
        )
    x265 = [row for row in rivals if row.kind == "x265"]
    if x265 and best.kind != "x265":
        text += f" Of x265 it is {_brief(max(x265, key=_by_agreement), ours)}."
    return text


def _by_agreement(row: MethodRow) -> tuple[float, float]:
    return row.f1 or 0.0, -row.mean_bytes


def _brief(row: MethodRow, ours: MethodRow) -> str:
    share = 100 * row.mean_bytes / ours.mean_bytes
    return f"{row.label}: F1 {row.f1:.3f} with {row.mean_bytes:,.0f} bytes a picture, {share:.3g} % of the features’"


def host_rows(records: Sequence[MapRecord]) -> list[StageRow]:
    """The host's stages, in the order in which they come."""
    names = list(dict.fromkeys(name for record in records for name in record.stages_ms))
    spent = {name: [record.stages_ms[name] for record in records if name in record.stages_ms] for name in names}
    return [StageRow(name, statistics.median(ms), p95(ms), len(ms)) for name, ms in spent.items()]


def whole_row(found: Comparison | None) -> StageRow | None:
    """The network before it was split; None where it was not measured."""
    if found is None or not found.whole_ms:
        return None
    return StageRow("not split", statistics.median(found.whole_ms), p95(found.whole_ms), len(found.whole_ms))


def device_rows(stats: dict[str, Any] | None) -> tuple[list[StageRow], str]:
    """The camera's stages, or what to say instead of them."""
    if stats is None:
        return [], "Not measured: the run was given no statistics of the camera."
    stages = stats.get("stages")
    if not isinstance(stages, dict) or not stages:
        return [], "The camera's statistics were given, but they hold no stages."
    rows: list[StageRow] = []
    for name, stage in stages.items():
        values = [stage.get(key) if isinstance(stage, dict) else None for key in ("median_ms", "p95_ms", "count")]
        if not all(_is_number(value) for value in values):
            return [], f"The camera's statistics were given, but stage {str(name)!r} holds no median_ms, p95_ms, count."
        median_ms, p95_ms, count = (float(value or 0) for value in values)
        rows.append(StageRow(str(name), median_ms, p95_ms, int(count)))
    return rows, ""


def device_counters(stats: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What else the camera's statistics say, where they do."""
    names = {
        "maps": ("maps sent", "{:,.0f}"),
        "frames_dropped": ("pictures dropped", "{:,.0f}"),
        "fps": ("maps a second", "{:.1f}"),
        "seconds": ("seconds in all", "{:.1f}"),
    }
    found = stats or {}
    return [(text, form.format(found[key])) for key, (text, form) in names.items() if _is_number(found.get(key))]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
