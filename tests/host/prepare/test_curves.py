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


def test_no_point_is_no_fault() -> None:
    assert "<svg" in curves_plot([], "x", "y", "nothing", log_x=True)
