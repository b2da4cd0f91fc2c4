"""Plots of curves and points, as SVG in the colours of the page they stand on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..report.plots import COLOURS, svg_figure

#: In turn: colour, dashes, marker.
_LOOKS: tuple[tuple[str, Any, str], ...] = (
    ("features", "-", "o"),
    ("jpeg", "-", "s"),
    ("x265", "-", "^"),
    ("stage-b", (0, (5, 1.5)), "D"),
    ("features", (0, (5, 1.5)), "v"),
    ("jpeg", (0, (3, 1.5)), "P"),
    ("x265", (0, (3, 1.5)), "X"),
    ("plain", "-", "*"),
)
#: More points of one curve stand without their texts.
_TEXTS = 40


@dataclass(frozen=True)
class Curve:
    """Points that belong together.

    :param line: join them, in the order of x
    :param text: beside each point
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    line: bool = True
    text: Sequence[str] | None = None


def curves_plot(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    title: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    chosen: tuple[float, float] | None = None,
) -> str:
    """SVG of curves over common axes.

    :param title: for those who cannot see it
    :param chosen: a point with a ring around it
    """
    with svg_figure(9.2, 4.6) as (figure, svg):
        axes = figure.add_axes((0.115, 0.13, 0.865, 0.76))
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        for number, one in enumerate(curves):
            colour, dash, marker = _LOOKS[number % len(_LOOKS)]
            points = sorted(zip(one.x, one.y, strict=True)) if one.line else list(zip(one.x, one.y, strict=True))
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(
                xs,
                ys,
                color=COLOURS[colour],
                linestyle=dash if one.line else "none",
                marker=marker,
                markersize=5 if one.line else 6,
                label=one.label,
            )
            if one.text is not None and len(one.text) <= _TEXTS:
                for x, y, text in zip(one.x, one.y, one.text, strict=True):
                    axes.annotate(text, (x, y), (5, 4), textcoords="offset points", fontsize=8.5)
        if chosen is not None:
            axes.plot(*chosen, "o", markersize=15, markerfacecolor="none", markeredgewidth=2, color=COLOURS["ink"])
        axes.margins(x=0.05, y=0.09)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        plain = _plain_numbers()
        if log_x:
            axes.xaxis.set_major_formatter(plain)
        if log_y:
            axes.yaxis.set_major_formatter(plain)
        if len(curves) > 1 or (curves and curves[0].label):
            columns = min(4, max(1, len(curves)))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2)
        # Several plots on one page must not share ids.
        mark = hashlib.sha256(repr((curves, x_label, y_label, title)).encode()).hexdigest()[:10]
        return svg(title, f"c{mark}")


def _plain_numbers() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
