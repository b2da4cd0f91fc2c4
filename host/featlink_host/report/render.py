"""From a run's figures to the report: one HTML page with everything in it."""

from __future__ import annotations

import base64
import io
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from featlink_codec.extractor import ExtractorSettings, MapSettings, SsdDetectorTask

from ..detector import match
from ..run import MapRecord, RunResult
from .boxes import draw_boxes
from .comparison import Comparison, ShownPicture
from .plots import Bar, Point, Series, agreement_plot, bytes_plot, stages_plot
from .tables import MethodRow, StageRow, device_counters, device_rows, host_rows, method_rows, verdict, whole_row

TEMPLATE = "report.html.j2"
#: Longer tables and lines are cut and thinned, and say so.
MAX_ROWS = 2000
MAX_POINTS = 1000

_DISTRIBUTIONS = ("featlink-host", "featlink-codec", "onnxruntime", "av", "numpy", "pillow", "matplotlib")


def render_report(
    result: RunResult,
    settings: ExtractorSettings,
    *,
    source_name: str | None,
    comparison: Comparison | None,
    device_stats: dict[str, Any] | None,
    now: datetime | None = None,
) -> str:
    """The report as HTML text, without anything that would have to be loaded.

    :param source_name: what the camera saw; of a path only the end is shown. None where nobody knows
    :param comparison: None: the report says that there was none
    :param device_stats: what `featlink-device run --stats` wrote; None: the report says that there were none
    :param now: the date that stands in the report
    """
    environment = Environment(
        loader=PackageLoader("featlink_host", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    rows = method_rows(settings, result.records, comparison)
    fps = _fps(result.records, comparison)
    device, device_missing = device_rows(device_stats)
    host = host_rows(result.records)
    whole = whole_row(comparison)
    page = environment.get_template(TEMPLATE).render(
        settings=settings,
        map=settings.maps[0],
        facts=_facts(result, settings, source_name, comparison),
        comparison=comparison,
        has_task=isinstance(settings.task, SsdDetectorTask),
        result=result,
        rows=rows,
        kbps={row.label: None if fps is None else row.mean_bytes * 8 * fps / 1e3 for row in rows},
        fps=fps,
        verdict=verdict(rows),
        shown=[_shown(one, comparison) for one in comparison.shown] if comparison is not None else [],
        tile=None if result.tile is None else _png(result.tile),
        bytes_svg=_bytes_svg(rows, result.records, comparison),
        thinned=-(-len(result.records) // MAX_POINTS) if len(result.records) > MAX_POINTS else 0,
        agreement_svg=_agreement_svg(rows),
        stages_svg=_stages_svg(device, host, whole),
        device=device,
        device_missing=device_missing,
        device_counters=device_counters(device_stats),
        host=host,
        whole=whole,
        maps=_map_rows(result.records, comparison),
        max_rows=MAX_ROWS,
        damaged=len(result.index.errors) + result.index.errors_left_out,
        left_out=max(0, result.maps - len(result.records)),
        versions=[(name, _version(name)) for name in _DISTRIBUTIONS],
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        made=(now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M %Z").strip(),
    )
    return page + "\n"


def _facts(
    result: RunResult, settings: ExtractorSettings, source_name: str | None, comparison: Comparison | None
) -> list[tuple[str, str]]:
    """What was run, as (name, value)."""
    feature, video, image = settings.maps[0], settings.video, settings.input
    packing = feature.packing.mode
    if feature.packing.tile_h:
        packing += f", {feature.packing.tile_h} rows of {feature.packing.tile_w}"
    height, width = feature.picture_size
    rate = "lossless" if video.lossless else f"QP {video.qp}" if video.qp is not None else f"CRF {video.crf:g}"
    every = f", intra every {video.refresh_s:g} s" if video.session == "continuous" else ", each map on its own"
    source = PurePath(source_name).name or source_name if source_name else "not given"
    if comparison is not None:
        source += f", {comparison.source_size[0]} x {comparison.source_size[1]}, {comparison.fps:.4g} pictures a second"
    times = [record.time_s for record in result.records if record.time_s is not None]
    return [
        ("Network", f"{settings.source_model.file}, input {image.width} x {image.height} {image.colour}"),
        ("Split at", settings.source_model.split_tensor),
        ("Feature map", f"{feature.channels} channels of {feature.width} x {feature.height} (width x height)"),
        ("Quantizer", quantizer_text(feature)),
        ("Packing", f"{packing}; {feature.picture_count} picture(s) of {width} x {height} a map"),
        ("Video", f"HEVC {rate}, x265 {video.preset}, {video.session}{every}, profile {video.profile}"),
        ("Source", source),
        ("Maps", f"{max(result.maps, len(result.records)):,} in {result.stream_bytes:,} bytes"),
        ("First map", _date(min(times)) if times else "time not known"),
    ]


def quantizer_text(feature: MapSettings) -> str:
    """What turns a map's values into levels, in words."""
    table = feature.quantizer
    if feature.integer:
        return f"none, a map of integers, {table.bit_depth} bit"
    if table.classes is None:
        return f"{table.mode}, largest {table.max_feat_digit:g}, {table.bit_depth} bit"
    kinds = dict.fromkeys(f"{one.distribution} {one.bit_depth} bit" for one in table.classes)
    several = f", {len(table.classes)} classes by {table.partition}" if len(table.classes) > 1 else ""
    return f"{table.mode}{several}: {', '.join(kinds)}"


def _date(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # the stream may say any time
        return f"{time_s:g} s since 1970"


def _fps(records: Sequence[MapRecord], comparison: Comparison | None) -> float | None:
    """Pictures a second of the source, else maps a second by the stream's own times; None where neither is known."""
    if comparison is not None:
        return comparison.fps
    times = [record.time_s for record in records if record.time_s is not None]
    span_s = max(times) - min(times) if times else 0.0
    return (len(times) - 1) / span_s if span_s > 0 else None


def _shown(one: ShownPicture, comparison: Comparison) -> dict[str, Any]:
    """A picture with the boxes of both networks."""
    pairs, missed, extra = match(one.reference, one.found, comparison.score, comparison.iou)
    reference = [box for box in one.reference if box.score >= comparison.score]
    found = [box for box in one.found if box.score >= comparison.score]
    return {
        "number": one.number,
        "time_s": one.time_s,
        "worst": one.why == "worst",
        "matched": len(pairs),
        "missed": len(missed),
        "extra": len(extra),
        "nbytes": comparison.features.nbytes[[picture.k for picture in comparison.pictures].index(one.k)],
        "left": _uri("jpeg", draw_boxes(one.jpeg, reference, [a for a, _ in pairs], "missed")),
        "right": _uri("jpeg", draw_boxes(one.jpeg, found, [b for _, b in pairs], "extra")),
    }


def _bytes_svg(rows: Sequence[MethodRow], records: Sequence[MapRecord], comparison: Comparison | None) -> Markup | None:
    if not rows:
        return None
    if comparison is not None:
        times, label = [picture.time_s for picture in comparison.pictures], "seconds of the source"
    elif all(record.time_s is not None for record in records):
        first_s = records[0].time_s or 0.0
        times, label = [(record.time_s or 0.0) - first_s for record in records], "seconds since the first map"
    else:
        times, label = [float(record.k) for record in records], "map"
    series = [Series(row.label, row.kind, _thin(times), _thin(row.nbytes)) for row in rows]
    return Markup(bytes_plot(series, label, "Bytes a picture over time, by method"))


def _agreement_svg(rows: Sequence[MethodRow]) -> Markup | None:
    points = [
        Point(row.label, row.kind, row.mean_bytes, row.agreement.recall, row.f1 or 0.0)
        for row in rows
        if row.agreement is not None
    ]
    return Markup(agreement_plot(points, "Recall and F1 against bytes a picture")) if points else None


def _stages_svg(device: Sequence[StageRow], host: Sequence[StageRow], whole: StageRow | None) -> Markup | None:
    parts = (("camera", device), ("host", host), ("whole network", [whole] if whole is not None else []))
    bars = [Bar(name, [(row.name, row.median_ms) for row in rows]) for name, rows in parts if rows]
    return Markup(stages_plot(bars, "Milliseconds a picture, by stage")) if bars else None


def _map_rows(records: Sequence[MapRecord], comparison: Comparison | None) -> list[dict[str, Any]]:
    """The first MAX_ROWS maps, each with its picture and agreement where there are such."""
    found: dict[int, dict[str, Any]] = {}
    if comparison is not None:
        agreements: Iterable[Any] = comparison.features.agreements or [None] * len(comparison.pictures)
        for picture, agreement in zip(comparison.pictures, agreements, strict=True):
            found[picture.k] = {"picture": picture.number, "agreement": agreement}
    first_s = min((record.time_s for record in records if record.time_s is not None), default=0.0)
    return [
        {
            "record": record,
            "since_s": None if record.time_s is None else record.time_s - first_s,
            "picture": None,
            "agreement": None,
            **found.get(record.k, {}),
        }
        for record in records[:MAX_ROWS]
    ]


def _thin(values: Sequence[float]) -> list[float]:
    """At most MAX_POINTS values: medians of as many in a row as it takes."""
    step = -(-len(values) // MAX_POINTS)
    return [statistics.median(values[at : at + step]) for at in range(0, len(values), step)]


def _png(picture: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return _uri("png", file.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a distribution"
