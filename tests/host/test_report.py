"""The report: everything in one page, nothing believed that came from outside, and what is missing is said."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from chromium import Browser
from PIL import Image

from featlink_codec.extractor import (
    ClassTable,
    ExtractorSettings,
    Identity,
    InputSettings,
    MapSettings,
    ModelFiles,
    NoTask,
    PackingSettings,
    QuantizerSettings,
    SourceModel,
    SsdDetectorTask,
    VideoSettings,
)
from featlink_host.detector import Agreement, Detection, agreement
from featlink_host.report import render
from featlink_host.report.boxes import AGREED_COLOUR, ALONE_COLOUR, draw_boxes
from featlink_host.report.comparison import FEATURES, ComparedPicture, Comparison, Method, ShownPicture
from featlink_host.report.plots import Bar, Series, bytes_plot, stages_plot
from featlink_host.report.render import quantizer_text, render_report
from featlink_host.report.tables import MethodRow, verdict
from featlink_host.run import MapRecord, RunResult

HOSTILE = '<script>alert("1")</script>&amp;\'x'
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
EPOCH_S = 1.75e9
MAPS = 12


def settings(**changes: Any) -> ExtractorSettings:
    tables: dict[str, Any] = {
        "extractor": Identity("street", 1),
        "source_model": SourceModel("net.onnx", "0" * 64, "block/relu"),
        "input": InputSettings("image", 300, 300),
        "maps": (
            MapSettings(
                0, "block/relu", 19, 19, 12, QuantizerSettings("uniform", 8, 6.0), PackingSettings("tile", 3, 4)
            ),
        ),
        "video": VideoSettings(),
        "models": ModelFiles("b.onnx", "1" * 64, "h.onnx", "2" * 64),
        "task": SsdDetectorTask(anchors="a.npy", labels="l.txt"),
    }
    return ExtractorSettings(**{**tables, **changes})


def box(label: str, score: float, x: float, label_id: int = 1) -> Detection:
    return Detection(label_id, label, score, x, 0.2, x + 0.3, 0.8)


def result(label: str = "car") -> RunResult:
    records = [
        MapRecord(
            k=k,
            time_s=EPOCH_S + k / 25,
            stream_bytes=2000 + 10 * k,
            starts_session=k == 0,
            hashed=True,
            detections=[box(label, 0.9, 0.1)],
            stages_ms={"decode": 2.0 + k, "head": 11.0, "detect": 1.0},
            raw_bytes=19 * 19 * 12 * 4,
            zlib_bytes=3000,
        )
        for k in range(MAPS)
    ]
    run = RunResult(records=records, stream_bytes=sum(record.stream_bytes for record in records) + 4)
    run.tile = np.arange(57 * 76, dtype=np.uint8).reshape(57, 76)
    run.maps = MAPS
    return run


def jpeg(width: int = 480, height: int = 200) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(file, "JPEG")
    return file.getvalue()


def comparison(label: str = "car", **changes: Any) -> Comparison:
    """Twelve pictures: in the third the split network missed one of two objects and found one too many."""
    right, wrong = Agreement(1, 0, 0), Agreement(1, 1, 1)
    ours = tuple(wrong if k == 2 else right for k in range(MAPS))
    nbytes = tuple(2000 + 10 * k for k in range(MAPS))
    poor = (Agreement(0, 1, 0),) * MAPS
    reference = (box(label, 0.9, 0.1), box(label, 0.8, 0.6))
    found = (box(label, 0.85, 0.11), box("dog", 0.5, 0.35, label_id=2), box(label, 0.1, 0.6))
    assert agreement(reference, found) == wrong
    fields: dict[str, Any] = {
        "source": "street.mp4",
        "source_size": (640, 272),
        "fps": 25.0,
        "score": 0.4,
        "iou": 0.5,
        "pictures": tuple(ComparedPicture(k, k / 25, k) for k in range(MAPS)),
        "methods": (
            Method(FEATURES, "features", "as it came", nbytes, ours),
            Method("jpeg-85", "JPEG q85", "libjpeg", (9000,) * MAPS, ours),
            Method("plain", "raw 4:2:0", "raw", (135000,) * MAPS, ours),
            Method("x265-23", "x265 CRF 23", "x265", (1500,) * MAPS, (right,) * MAPS),
            Method("x265-38", "x265 CRF 38", "x265", (300,) * MAPS, poor),
        ),
        "whole_ms": tuple(20.0 + k for k in range(MAPS)),
        "unmatched": 0,
        "shown": (
            ShownPicture(0, 0.0, 0, "rich", reference[:1], found[:1], jpeg()),
            ShownPicture(2, 0.08, 2, "worst", reference, found, jpeg()),
        ),
    }
    return Comparison(**{**fields, **changes})


def device_stats(name: str = "backbone") -> dict[str, Any]:
    stage = {"median_ms": 12.5, "p95_ms": 15.0, "total_s": 1.5, "count": MAPS}
    return {"maps": MAPS, "fps": 40.0, "frames_dropped": 3, "stages": {"capture": stage, name: stage}}


def page(**changes: Any) -> str:
    given: dict[str, Any] = {
        "result": result(),
        "settings": settings(),
        "source_name": "/home/somebody/street.mp4",
        "comparison": comparison(),
        "device_stats": device_stats(),
        "now": NOW,
        **changes,
    }
    return render_report(given.pop("result"), given.pop("settings"), **given)


class Page(HTMLParser):
    """What a page consists of."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def section(html: str, name: str) -> str:
    """The words of one section."""
    found = re.search(rf'<section id="{name}">(.*?)</section>', html, re.DOTALL)
    assert found is not None
    return Page(found.group(1)).text


# --- structure and figures


def test_the_page_is_whole_and_loads_nothing() -> None:
    html = page()
    found = Page(html)
    assert html.startswith("<!doctype html>")
    assert found.tags["svg"] == 3
    assert found.tags["img"] == 1 + 2 * 2
    assert found.tags["script"] == found.tags["iframe"] == found.tags["object"] == 0
    links = found.values("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    assert all(link.startswith(("data:image/", "data:,", "#")) for link in links)
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    assert set(re.findall(r"https?://[^\"' ]*", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    # whatever a plot refers to is in it
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(ids)
    assert all(found.values("alt"))


def test_the_figures_are_those_of_the_run() -> None:
    html = page()
    text = Page(html).text
    mean = sum(2000 + 10 * k for k in range(MAPS)) / MAPS
    assert f"{mean:,.0f} B a picture, mean (median 2,055 B)" in text
    assert f"{mean * 8 * 25 / 1e3:,.0f} kbit/s at 25 pictures a second" in text
    assert f"{12 / 13:.3f} recall" in text
    assert f"{12 / 13:.3f} precision" in text
    assert "0 damaged places" in text
    assert "Made 2026-01-02 03:04 UTC" in text
    assert "block/relu" in text
    assert "12 channels of 19 x 19" in text
    assert "uniform, largest 6, 8 bit" in text
    assert "tile, 3 rows of 4; 1 picture(s) of 76 x 57 a map" in text
    assert "street.mp4, 640 x 272, 25 pictures a second" in text
    assert "somebody" not in text
    bytes_ = section(html, "bytes")
    assert "x265 CRF 38 300 300 60 0.000 1.000 0.000" in bytes_
    assert "8 bit + zlib 3,000 3,000 600" in bytes_
    assert "raw float32 17,328 17,328 3,466 not measured" in bytes_
    times = section(html, "time")
    assert "decode 7.50 12.00 12" in times
    assert "backbone 12.50 15.00 12" in times
    assert "not split 25.50 30.00 12" in times
    assert "pictures dropped: 3" in times
    pictures = section(html, "pictures")
    assert "Picture 2 , 0.08 s, differs most : 1 matched, 1 missed, 1 extra; 2,020 bytes" in pictures
    assert "None: every picture carried an MD5 hash, and it held." in section(html, "damage")
    assert section(html, "maps").count(" yes ") == 1


def test_the_pictures_are_the_tile_and_frames_of_their_size() -> None:
    sources = Page(page()).values("src")
    images = [Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) for source in sources]
    assert [image.size for image in images] == [(480, 200)] * 4 + [(76, 57)]
    assert (np.asarray(images[-1]) == result().tile).all()


def test_lossy_continuous_settings_are_told() -> None:
    video = VideoSettings(session="continuous", lossless=False, crf=20.5, preset="fast", refresh_s=1.5)
    text = Page(page(settings=settings(video=video))).text
    assert "HEVC CRF 20.5, x265 fast, continuous, intra every 1.5 s" in text
    assert "samples as decoded" in text
    assert "samples as the camera’s encoder got them" not in text


def test_the_same_run_gives_the_same_page() -> None:
    assert page() == page()


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(render.__file__).parent / render.TEMPLATE).is_file()


# --- what came from outside


def test_names_from_outside_stay_text() -> None:
    run = result(HOSTILE)
    run.index.errors = [{"name": HOSTILE, "offset": 77, "text": HOSTILE, "map_offset": 70}]
    given = settings(
        extractor=Identity(HOSTILE, 1), source_model=SourceModel("net.onnx", "0" * 64, f"{HOSTILE}$\\frac{{")
    )
    stats = device_stats(f"{HOSTILE}$\\frac{{")
    found = Page(
        page(result=run, settings=given, source_name=HOSTILE, comparison=comparison(HOSTILE), device_stats=stats)
    )
    assert found.tags["script"] == 0
    assert found.tags["section"] == 8
    assert found.text.count(HOSTILE) >= 6
    # all attributes are the template's or matplotlib's own
    assert not any(name.startswith("on") for _, name, _ in found.attributes)


@pytest.mark.parametrize(
    ("stats", "said"),
    [
        ({}, "they hold no stages"),
        ({"stages": []}, "they hold no stages"),
        ({"stages": {"encode": 3}}, "stage 'encode' holds no median_ms"),
        ({"stages": {"encode": {"median_ms": "3", "p95_ms": 1, "count": 1}}}, "stage 'encode' holds no median_ms"),
        ({"stages": {"encode": {"median_ms": float("nan"), "p95_ms": 1, "count": 1}}}, "stage 'encode' holds no"),
    ],
)
def test_statistics_that_are_none_are_named_as_such(stats: dict[str, Any], said: str) -> None:
    html = page(device_stats=stats)
    assert said in section(html, "time")
    assert Page(html).tags["svg"] == 3


# --- what is missing


def test_without_a_source_the_report_says_so_in_each_place() -> None:
    html = page(comparison=None, source_name=None)
    found = Page(html)
    assert found.tags["svg"] == 2
    assert found.tags["img"] == 1
    assert found.text.count("no source to compare with") >= 7
    assert "Source not given" in found.text
    for name in ("pictures", "bytes", "agreement", "time"):
        assert "no source to compare with" in section(html, name)
    assert "at 25 maps a second, by the stream’s times" in found.text
    assert "No rival" not in found.text


def test_without_statistics_of_the_camera_the_report_says_so() -> None:
    html = page(device_stats=None)
    assert "Not measured: the run was given no statistics of the camera." in section(html, "time")
    assert Page(html).tags["svg"] == 3


def test_without_a_task_bytes_are_told_and_agreement_is_not() -> None:
    found = comparison()
    methods = tuple(replace(method, agreements=()) for method in found.methods)
    html = page(settings=settings(task=NoTask()), comparison=replace(found, methods=methods, whole_ms=(), shown=()))
    text = Page(html).text
    assert Page(html).tags["svg"] == 2
    assert "recall: the extractor has no task" in text
    assert "x265 CRF 38 300 300 60 not measured: the extractor has no task" in section(html, "bytes")
    for name in ("pictures", "agreement", "time"):
        assert "the extractor has no task" in section(html, name)


def test_without_a_single_map_there_is_still_a_page() -> None:
    run = RunResult(stream_bytes=15)
    run.index.errors = [{"name": "truncated", "offset": 12, "text": "the end"}]
    html = page(result=run, comparison=None, device_stats=None)
    found = Page(html)
    assert found.tags["svg"] == found.tags["img"] == 0
    assert "no map came" in found.text
    assert "truncated" in section(html, "damage")
    assert "1 damaged place in the stream" in found.text


def test_maps_without_times_are_counted_on_the_axis() -> None:
    run = result()
    run.records = [replace(record, time_s=None) for record in run.records]
    text = Page(page(result=run, comparison=None)).text
    assert "kbit/s: the maps carry no times" in text
    assert "time not known" in text


def test_damage_and_unhashed_pictures_are_told() -> None:
    run = result()
    unhashed = settings(video=VideoSettings(picture_hash=False))
    assert "some may have passed unseen" in section(page(settings=unhashed), "damage")
    run.index.errors = [{"name": "bad-order", "offset": 1234, "text": "twice", "map_offset": 1200}] * 2
    html = page(result=run)
    assert "1,234 bad-order twice 1,200" in section(html, "damage")
    assert "2 damaged places in the stream" in Page(html).text
    run.index.errors_left_out = 3000
    html = page(result=run)
    assert "3,002 places" in section(html, "damage")
    assert "3,002 damaged places in the stream" in Page(html).text


def test_long_runs_are_cut_and_thinned_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "MAX_ROWS", 5)
    monkeypatch.setattr(render, "MAX_POINTS", 4)
    html = page()
    assert "5 maps, the first of 12" in section(html, "maps")
    assert "median of 3 pictures in a row" in section(html, "bytes")
    run = result()
    run.maps = MAPS + 1000
    text = Page(page(result=run)).text
    assert "its first 12 maps, 1,000 more came" in text
    assert "Maps 1,012 in " in text


def test_maps_that_belong_to_no_picture_are_left_out_and_counted() -> None:
    found = comparison()
    methods = tuple(
        replace(method, nbytes=method.nbytes[1:], agreements=method.agreements[1:]) for method in found.methods
    )
    html = page(comparison=replace(found, pictures=found.pictures[1:], methods=methods, unmatched=1, shown=()))
    assert "All over the same 11 pictures" in section(html, "bytes")
    assert "1 maps belong to no picture" in section(html, "bytes")


# --- the verdict


def row(kind: str, mean: int, total: Agreement | None) -> MethodRow:
    return MethodRow(f"{kind} {mean}", kind, "", (mean,), total)


def test_the_verdict_names_the_hardest_rival() -> None:
    ours = row("features", 1000, Agreement(8, 1, 1))
    good, poor = Agreement(9, 1, 0), Agreement(5, 5, 0)
    text = verdict(
        [ours, row("x265", 700, good), row("x265", 300, good), row("x265", 100, poor), row("jpeg", 200, poor)]
    )
    assert "is x265 300: F1 0.947 with 300 bytes a picture, 30 % of the features’." in text
    text = verdict([ours, row("jpeg", 2500, Agreement(8, 2, 1)), row("x265", 100, poor)])
    assert text.startswith("No rival measured here agrees")
    assert "The nearest is jpeg 2500: F1 0.842 with 2,500 bytes a picture, 250 % of the features’." in text
    assert "Of x265 it is x265 100: F1 0.667 with 100 bytes a picture, 10 % of the features’." in text
    assert verdict([ours]) == verdict([]) == ""
    assert verdict([row("features", 1, None), row("jpeg", 2, None)]) == ""


# --- drawings


def colours(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image, int)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - colour).sum(-1) < 90


def test_agreed_boxes_are_whole_lines_and_lone_ones_are_dashed() -> None:
    both, alone = box("car", 0.9, 0.1), box("dog", 0.5, 0.6)
    pixels = colours(draw_boxes(jpeg(), [both, alone], [both], "missed"))
    y = round(0.8 * 199)
    whole = near(pixels[y - 1 : y + 1, 60:180], AGREED_COLOUR).any(0)
    dashed = near(pixels[y - 1 : y + 2, 300:420], ALONE_COLOUR).any(0)
    assert whole.mean() > 0.98
    assert 0.3 < dashed.mean() < 0.8
    assert np.count_nonzero(np.diff(dashed)) >= 10


def test_labels_at_the_edges_stay_in_the_picture() -> None:
    corners = [
        Detection(1, "a very long name of an object that is wider than its box", 0.9, x, y, x + 0.05, y + 0.05)
        for x in (0.0, 0.95)
        for y in (0.0, 0.95)
    ]
    assert colours(draw_boxes(jpeg(120, 60), corners, [], "extra")).shape == (60, 120, 3)
    assert colours(draw_boxes(jpeg(1, 1), corners, corners, "extra")).shape == (1, 1, 3)
    assert colours(draw_boxes(jpeg(), [Detection(1, "面 ✓ é", 0.5, 0.5, 0.5, 0.5, 0.5)], [], "extra")).size


# --- plots


def test_plots_are_the_same_every_time_and_leave_the_library_alone() -> None:
    before = dict(matplotlib.rcParams)
    one, two = (bytes_plot([Series("a", "features", [0, 1], [10, 20])], "s", "t") for _ in range(2))
    assert one == two
    assert dict(matplotlib.rcParams) == before


def test_plots_take_the_colours_of_the_page() -> None:
    svg = bytes_plot([Series("a", "features", [0.0], [10]), Series("b", "x265", [0.0], [2])], "s", "t")
    assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
    used = set(re.findall(r"var\(--([\w-]+)\)", svg))
    assert {"ink", "grid", "features", "x265"} <= used
    defined = set(re.findall(r"--([\w-]+):", (Path(render.__file__).parent / "style.css").read_text("utf-8")))
    assert used <= defined


def test_texts_are_not_taken_for_formulas() -> None:
    assert "$x_1$ &lt;b&gt;" in stages_plot([Bar("$x_1$ <b>", [("$\\frac{$", 3.0)])], "<t>")


def test_a_bar_of_nothing_can_be_drawn() -> None:
    assert "0.0 ms" in stages_plot([Bar("camera", [("capture", 0.0)])], "t")


def test_the_command_line_starts_without_the_plots() -> None:
    heavy = {"matplotlib", "PIL", "jinja2"}
    code = f"import sys, featlink_host.cli, featlink_host.run; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


# --- in a real browser


def test_the_browser_notices_what_the_other_tests_rely_on(browser: Browser, opened: Callable[[str], Any]) -> None:
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:\">"
    assert opened("<!doctype html><script>console.error('x')</script>")
    assert opened("<!doctype html><script>throw Error('x')</script>")
    assert opened(f"<!doctype html>{policy}<script src='other.js'></script>")
    assert opened("<!doctype html><link rel=stylesheet href='other.css'>")


def test_the_page_shows_whole_in_a_browser(browser: Browser, opened: Callable[[str], Any]) -> None:
    assert opened(page()) == []
    assert browser.evaluate("[...document.images].map(image => image.naturalWidth)") == [480] * 4 + [76]
    sizes = browser.evaluate(
        "[...document.querySelectorAll('svg')].map(svg => { const b = svg.getBBox(), r = svg.getBoundingClientRect();"
        " return [b.width, b.height, r.width, r.height]; })"
    )
    assert len(sizes) == 3
    assert all(min(size) > 50 for size in sizes)
    # the plots' texts lie within the plots
    outside = browser.evaluate(
        "[...document.querySelectorAll('svg text')].filter(text => { const t = text.getBoundingClientRect(),"
        " s = text.ownerSVGElement.getBoundingClientRect();"
        " return t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 1 || t.bottom > s.bottom + 1; })"
        ".map(text => text.textContent)"
    )
    assert outside == []


def test_hostile_names_do_nothing_in_a_browser(browser: Browser, opened: Callable[[str], Any]) -> None:
    stats = device_stats('</text></svg><img src=x onerror="alert(1)">')
    html = page(
        result=result(HOSTILE),
        settings=settings(extractor=Identity(f"</title>{HOSTILE}", 1)),
        source_name='"><img src=x onerror=alert(1)>',
        comparison=comparison(HOSTILE),
        device_stats=stats,
    )
    assert opened(html) == []
    assert browser.evaluate("document.querySelectorAll('script, img:not([src^=\"data:image/\"])').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent") == f"</title>{HOSTILE}"


def test_a_page_with_much_missing_shows_too(browser: Browser, opened: Callable[[str], Any]) -> None:
    assert opened(page(result=RunResult(), comparison=None, device_stats=None, source_name=None)) == []
    assert opened(page(comparison=None, device_stats=None)) == []
    assert browser.evaluate("document.querySelectorAll('svg').length") == 2


def test_a_telephone_scrolls_only_downwards(browser: Browser, opened: Callable[[str], Any]) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        opened(page(settings=settings(extractor=Identity("a" * 60, 1))))
        browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.evaluate("innerWidth") == 360
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= 360
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_the_page_follows_the_dark_scheme(browser: Browser, opened: Callable[[str], Any]) -> None:
    opened(page())
    shown = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    seen = {}
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 / 255 for colour in browser.evaluate(shown)]
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert seen["light"][0] > 0.9 > 0.2 > seen["light"][1]
    assert seen["dark"][0] < 0.2 < 0.8 < seen["dark"][1]


def test_maps_without_hashes_are_said():
    found = result()
    assert "no picture hash" not in page(result=found)
    found.unhashed = 2
    assert "2 maps carry no picture hash" in " ".join(page(result=found).split())


def test_a_quantizer_of_classes_is_told_by_its_classes_and_not_by_a_range_that_it_has_not():
    one = ClassTable("uniform", 6, -3.0, 8.0)
    table = QuantizerSettings("adaptive", 8, 1.0, partition="whole", classes=(one,))
    feature = replace(settings().maps[0], quantizer=table)
    assert quantizer_text(feature) == "adaptive: uniform 6 bit"
    other = ClassTable("laplace", 8, 0.0, 2.0)
    table = replace(table, partition="channel", classes=(one, other), class_map="c.npy", class_map_sha256="0" * 64)
    assert quantizer_text(replace(feature, quantizer=table)) == (
        "adaptive, 2 classes by channel: uniform 6 bit, laplace 8 bit"
    )
    assert quantizer_text(settings().maps[0]) == "uniform, largest 6, 8 bit"
