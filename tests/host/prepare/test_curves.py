"""Plots are SVG in the page's own colours, with a title, and ids of their own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from featlink_host.prepare.curves import Curve, curves_plot


@pytest.mark.parametrize("log", [False, True])
def test_a_plot_is_svg_with_what_it_was_told(log: bool) -> None:
    curves = [
        Curve("first", [10, 1, 100], [0.2, 0.1, 0.3], text=["b", "a", "c"]),
        Curve("second & last", [5], [0.2], line=False),
    ]
    svg = curves_plot(curves, "bytes", "recall", "Recall <by> bytes", log_x=log, log_y=log, chosen=(10, 0.2))
    tree = ElementTree.fromstring(svg)
    texts = {"".join(one.itertext()) for one in tree.iter() if one.tag.endswith("text")}
    assert {"first", "second & last", "bytes", "recall", "a", "b", "c"} <= texts
    assert "Recall &lt;by&gt; bytes" in svg
    assert "var(--features)" in svg
    assert "var(--ink)" in svg


def test_plots_of_one_page_share_no_ids_and_are_the_same_again() -> None:
    one, two = (curves_plot([Curve("a", [1], [y])], "x", "y", "t") for y in (1.0, 2.0))
    assert not set(re.findall(r'id="([^"]+)"', one)) & set(re.findall(r'id="([^"]+)"', two))
    assert one == curves_plot([Curve("a", [1], [1.0])], "x", "y", "t")


@pytest.mark.parametrize("x", [[3000, 4000, 7000], [0.02, 0.05, 0.3], [3, 40, 70000]])
def test_ticks_of_a_logarithmic_axis_are_numbers_as_people_write_them(x: list[float]) -> None:
    svg = curves_plot([Curve("a", x, [1, 2, 3])], "bytes", "y", "t", log_x=True)
    assert "mathdefault" not in svg
    texts = [text.replace(",", "") for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg)]
    ticks = [float(text) for text in texts[: texts.index("bytes")]]
    assert sum(min(x) <= tick <= max(x) for tick in ticks) >= 2


def test_texts_of_points_side_by_side_do_not_overlap() -> None:
    """Those of the second one stand below it."""
    svg = curves_plot([Curve("a", [1, 99, 100], [2, 1, 1], text=["far", "one", "two"])], "x", "y", "t")
    heights = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>(one|two)</text>', svg)}
    assert heights["two"] > heights["one"] + 8


@pytest.mark.parametrize(("most", "tick"), [(8e6, "4 M"), (8000, "4,000"), (8, "4")])
def test_large_numbers_of_an_axis_can_be_read(most: float, tick: str) -> None:
    svg = curves_plot([Curve("a", [0, most], [1, 2])], "MACs", "y", "t")
    assert tick in re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert "1e6" not in svg


def test_no_point_is_no_fault() -> None:
    assert "<svg" in curves_plot([], "x", "y", "nothing", log_x=True)
