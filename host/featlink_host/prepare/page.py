"""A step's report: tables, plots, pictures and text on one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Table:
    """Rows under names of columns; numbers stand right, and what begins a row names it.

    :param chosen: the row that was taken, if one was
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    chosen: int | None = None

    @property
    def left(self) -> list[bool]:
        """Of each column: whether any of it is text."""
        return [any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))]


@dataclass(frozen=True)
class Plot:
    """A plot, SVG as `curves_plot` makes it."""

    title: str
    svg: str
    note: str = ""

    @property
    def markup(self) -> Markup:
        """The SVG as it is."""
        return Markup(self.svg)


@dataclass(frozen=True)
class Text:
    """Paragraphs."""

    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Pair:
    """Two pictures side by side, JPEG, with a line above both and one below each."""

    caption: str
    left: bytes
    left_caption: str
    right: bytes
    right_caption: str

    @property
    def sources(self) -> tuple[str, str]:
        """Both as data URIs."""
        left, right = (base64.b64encode(one).decode() for one in (self.left, self.right))
        return f"data:image/jpeg;base64,{left}", f"data:image/jpeg;base64,{right}"


@dataclass(frozen=True)
class Pictures:
    """Pairs of pictures.

    :param boxes: they have boxes, whose colours are told
    """

    title: str
    pairs: Sequence[Pair]
    note: str = ""
    boxes: bool = True


@dataclass(frozen=True)
class Headline:
    """Large figures: (value, unit, what it is)."""

    figures: Sequence[tuple[str, str, str]]


Section = Table | Plot | Text | Pictures | Headline


def render_page(
    title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], *, now: datetime | None = None
) -> str:
    """The page as HTML text, light and dark, without anything that would have to be loaded.

    :param facts: (name, value) under the title; a `Headline` among the sections stands before them
    :param now: the date that stands on the page
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("featlink_host", "prepare"), PackageLoader("featlink_host", "report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    page = environment.get_template(TEMPLATE).render(
        title=title,
        facts=facts,
        headlines=[one for one in sections if isinstance(one, Headline)],
        sections=[(type(one).__name__, one) for one in sections if not isinstance(one, Headline)],
        made=(now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M %Z").strip(),
    )
    return page + "\n"


def cell(value: object) -> str:
    """A table's cell: integers with their thousands apart, floats with four digits that count."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
