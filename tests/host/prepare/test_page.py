"""A step's page: everything in it, nothing to be loaded, nothing of what it says runs."""

from __future__ import annotations

import re

from featlink_host.prepare.curves import Curve, curves_plot
from featlink_host.prepare.page import Headline, Pair, Pictures, Plot, Table, Text, cell, render_page

HOSTILE = '<script>alert("1")</script>'


def test_all_kinds_of_sections_stand_on_one_page_that_loads_nothing() -> None:
    page = render_page(
        HOSTILE,
        [("Model", HOSTILE)],
        [
            Text("Words", [HOSTILE, "second"]),
            Table("Figures", ("step", "ms"), [("one", 1.23456), ("two", None)], note="Medians.", chosen=1),
            Plot("Curve", curves_plot([Curve("a", [1, 2], [3, 4])], "x", "y", "t"), note="Of two."),
            Pictures("Seen", [Pair("first", b"left", "whole", b"right", "split")]),
            Headline([("12", "kbit/s", "rate")]),
        ],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4  # the page's title twice, the fact, the paragraph
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    for text in ("1.235", "Medians.", "Of two.", 'class="ours"', "data:image/jpeg;base64,bGVmdA==", "kbit/s"):
        assert text in page
    assert page.count("<h2>") == 4


def test_cells_are_short() -> None:
    found = [cell(value) for value in (1234567, 0.000123456, 98765.4, None, True, "text")]
    assert found == ["1,234,567", "0.0001235", "98,765", "–", "yes", "text"]


def test_columns_of_text_stand_left() -> None:
    assert Table("t", ("a", "b"), [("x", 1), ("y", 2.0)]).left == [True, False]
