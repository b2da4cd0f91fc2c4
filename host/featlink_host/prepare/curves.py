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
#: Of a plot's width and height: texts that begin nearer to each other would overlap.
_APART = (0.06, 0.05)
#: Letters of a legend's row.
_LEGEND = 120


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
        labels = [one.label for one in curves]
        columns = max(1, min(4, len(labels), _LEGEND // (max(map(len, labels), default=0) + 6)))
        # Of the legend two rows fit above.
        lower = 0.05 * max(0, -(-len(labels) // columns) - 2)
        axes = figure.add_axes((0.115, 0.13, 0.865, 0.76 - lower))
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        texts: list[tuple[float, float, str]] = []
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
                texts += zip(one.x, one.y, one.text, strict=True)
        if chosen is not None:
            axes.plot(*chosen, "o", markersize=15, markerfacecolor="none", markeredgewidth=2, color=COLOURS["ink"])
        axes.margins(x=0.05, y=0.09)
        _annotate(axes, texts)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        for axis, is_log, ends in ((axes.xaxis, log_x, axes.get_xlim()), (axes.yaxis, log_y, axes.get_ylim())):
            if is_log:
                axis.set_major_formatter(_plain_numbers())
                axis.set_minor_formatter(_plain_numbers())
            elif max(ends) >= 1000:
                axis.set_major_formatter(_large_numbers(max(ends)))
        if len(curves) > 1 or (curves and curves[0].label):
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2)
        # Several plots on one page must not share ids.
        mark = hashlib.sha256(repr((curves, x_label, y_label, title)).encode()).hexdigest()[:10]
        return svg(title, f"c{mark}")


def _annotate(axes: Any, texts: Sequence[tuple[float, float, str]]) -> None:
    """Texts above their points; below where the one to the left would be written over."""
    # Where points stand is known once the axes' ends are.
    axes.autoscale_view()
    placed: list[tuple[float, float, bool]] = []
    for x, y, text in sorted(texts, key=lambda one: one[:2]):
        right, up = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        near = any(above and right - a < _APART[0] and abs(up - b) < _APART[1] for a, b, above in placed)
        placed.append((right, up, not near))
        axes.annotate(text, (x, y), (5, -12 if near else 4), textcoords="offset points", fontsize=8.5)


def _large_numbers(most: float) -> Any:
    """Thousands apart, or millions; for all ticks of an axis alike."""
    from matplotlib.ticker import FuncFormatter

    if most >= 2e6:
        return FuncFormatter(lambda value, _: f"{value / 1e6:,g} M" if value else "0")
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def _plain_numbers() -> Any:
    """Numbers as people write them, at those ticks of a logarithmic axis that matplotlib finds room for."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            if not super().__call__(x, pos):
                return ""
            return f"{x:,.0f}" if x >= 1000 else f"{x:g}"

    return Plain()
