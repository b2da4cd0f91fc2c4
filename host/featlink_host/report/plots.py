"""The report's plots: matplotlib figures as inline SVG in the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

#: Colours are drawn as these and come out as the page's variables of the same names, so that they follow its scheme.
COLOURS = {
    name: f"#0{number:x}0b0c"
    for number, name in enumerate(
        ("ink", "muted", "grid", "paper", "features", "jpeg", "x265", "plain", "stage-a", "stage-b", "stage-c")
    )
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "featlink",
    "font.size": 10,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.4,
}
#: How each kind of method is drawn: colour, marker, width of its line.
_KINDS = {
    "features": ("features", "o", 2.6),
    "jpeg": ("jpeg", "s", 1.4),
    "x265": ("x265", "^", 1.4),
    "plain": ("plain", "D", 1.4),
}
#: x265 streams differ by their dashes.
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Series:
    """A method's bytes by time."""

    label: str
    #: a key of _KINDS
    kind: str
    times_s: Sequence[float]
    nbytes: Sequence[float]


@dataclass(frozen=True)
class Point:
    """A method in the rate-agreement plot."""

    label: str
    kind: str
    mean_bytes: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bar:
    """Stages, one behind the other."""

    label: str
    #: (name, milliseconds)
    stages: Sequence[tuple[str, float]]


def bytes_plot(series: Sequence[Series], x_label: str, title: str) -> str:
    """Bytes of each picture over time, on a logarithmic axis; SVG."""
    with svg_figure(9.2, 4.4) as (figure, svg):
        axes = figure.add_axes((0.1, 0.11, 0.72, 0.86))
        axes.set_yscale("log")
        x265 = 0
        ends: list[tuple[float, str, str]] = []
        for one in series:
            colour, marker, width = _KINDS[one.kind]
            dash = _DASHES[0]
            if one.kind == "x265":
                dash = _DASHES[x265 % len(_DASHES)]
                x265 += 1
            lone = marker if len(one.times_s) == 1 else None
            axes.plot(one.times_s, one.nbytes, color=COLOURS[colour], linewidth=width, linestyle=dash, marker=lone)
            ends.append((sorted(one.nbytes)[len(one.nbytes) // 2], one.label, colour))
        axes.margins(x=0.01)
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.3, high * 1.6)
        axes.set_xlabel(x_label)
        axes.set_ylabel("bytes a picture")
        axes.grid(False, axis="x")
        axes.yaxis.set_major_formatter(_bytes_text)
        axes.minorticks_off()
        _end_labels(axes, ends)
        return svg(title, "bytes")


def agreement_plot(points: Sequence[Point], title: str) -> str:
    """Recall and F1 against mean bytes of a picture; SVG."""
    with svg_figure(9.2, 4.0) as (figure, svg):
        both = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.06, right=0.98, bottom=0.14, top=0.90, wspace=0.08)
        values = [value for point in points for value in (point.recall, point.f1)]
        low = min(0.9, *values) if values else 0.0
        panels: list[tuple[Any, str, Callable[[Point], float]]] = [
            (both[0], "recall", lambda point: point.recall),
            (both[1], "F1 (recall and precision)", lambda point: point.f1),
        ]
        for axes, name, value_of in panels:
            axes.set_xscale("log")
            axes.set_title(name, fontsize=10.5, loc="left")
            axes.set_xlabel("mean bytes a picture")
            line = [point for point in points if point.kind == "x265"]
            axes.plot(
                [point.mean_bytes for point in line],
                [value_of(point) for point in line],
                color=COLOURS["x265"],
                linewidth=1.2,
            )
            for point in points:
                colour, marker, _ = _KINDS[point.kind]
                size = 10 if point.kind == "features" else 7
                axes.plot(point.mean_bytes, value_of(point), marker, color=COLOURS[colour], markersize=size)
            axes.set_ylim(low - (1 - low) * 0.12, 1 + (1 - low) * 0.14)
            _wide(axes, [point.mean_bytes for point in points])
            axes.xaxis.set_major_formatter(_bytes_text)
            axes.minorticks_off()
            _point_labels(axes, points, value_of)
        return svg(title, "agreement")


def stages_plot(bars: Sequence[Bar], title: str) -> str:
    """Stacked horizontal bars of milliseconds; SVG."""
    with svg_figure(9.2, 0.75 + 0.72 * max(len(bars), 1)) as (figure, svg):
        low = 0.52 / figure.get_figheight()
        axes = figure.add_axes((0.17, low, 0.79, 0.97 - low))
        longest = max((sum(ms for _, ms in bar.stages) for bar in bars), default=0) or 1.0
        for row, bar in enumerate(bars):
            left = 0.0
            for number, (name, ms) in enumerate(bar.stages):
                colour = COLOURS[("stage-a", "stage-b", "stage-c")[number % 3]]
                axes.barh(row, ms, left=left, height=0.62, color=colour, edgecolor=COLOURS["paper"], linewidth=1)
                # 0.0125: about one letter's share of the axis
                if ms / longest > 0.0135 * (len(name) + 1):
                    axes.text(left + ms / 2, row, name, ha="center", va="center", fontsize=10, color=COLOURS["paper"])
                left += ms
            axes.text(left + longest * 0.008, row, f"{left:.1f} ms", ha="left", va="center", fontsize=10)
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, longest * 1.12)
        axes.set_xlabel("milliseconds a picture (medians)")
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return svg(title, "stages")


def _bytes_text(value: float, _: int | None = None) -> str:
    """Bytes on an axis."""
    for factor, unit in ((1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g} B"


def _wide(axes: Any, values: Sequence[float]) -> None:
    """Room left and right of the points on a logarithmic axis, for their labels."""
    if values:
        axes.set_xlim(min(values) / 1.6, max(max(values) * 6, min(values) * 10))


def _end_labels(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the lines, as near to the height of each as their own height allows."""
    to_axes = axes.transData + axes.transAxes.inverted()
    gap = 0.052
    places: list[float] = []
    ordered = sorted(ends)
    for value, _, _ in ordered:
        here = float(to_axes.transform((1.0, value))[1])
        places.append(max(here, places[-1] + gap) if places else here)
    if places and places[-1] > 0.98:  # too many at the top: push them down from there
        places[-1] = 0.98
        for k in range(len(places) - 2, -1, -1):
            places[k] = min(places[k], places[k + 1] - gap)
    for (value, label, colour), place in zip(ordered, places, strict=True):
        here = float(to_axes.transform((1.0, value))[1])
        axes.plot([1.005, 1.03], [here, place], transform=axes.transAxes, color=COLOURS[colour], lw=0.8, clip_on=False)
        weight = "bold" if colour == "features" else "normal"
        axes.text(1.035, place, label, transform=axes.transAxes, va="center", fontsize=10, fontweight=weight)


def _point_labels(axes: Any, points: Sequence[Point], value_of: Callable[[Point], float]) -> None:
    """A name beside each point, where no other name or point is if there is such a place."""
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = [tuple(map(float, to_axes.transform((point.mean_bytes, value_of(point))))) for point in points]
    marks = [(x - 0.022, y - 0.027, x + 0.022, y + 0.027) for x, y in spots]
    tall = 0.05
    choices: list[Sequence[tuple[float, ...]]] = []
    for (x, y), point in zip(spots, points, strict=True):
        long = 0.0195 * len(point.label)
        boxes = [
            (left, y + up - tall / 2, left + long, y + up + tall / 2)
            for up in (0, -0.06, 0.06, -0.105, 0.105)
            for left in ((x + 0.03, x - 0.03 - long) if up == 0 else (x + 0.015, x - long / 2, x - long - 0.015))
        ]
        within = [box for box in boxes if box[0] >= 0 and box[2] <= 1.02 and box[1] >= 0 and box[3] <= 1.02]
        choices.append(within or boxes)
    chosen = [boxes[0] for boxes in choices]
    # Each in turn takes its best place among the others' present ones; after a few rounds nothing moves any more.
    for k in list(range(len(points))) * 4:
        taken = [*marks, *chosen[:k], *chosen[k + 1 :]]
        chosen[k] = min(choices[k], key=lambda box: sum(_touch(box, other) for other in taken))
    for box, point in zip(chosen, points, strict=True):
        weight = "bold" if point.kind == "features" else "normal"
        axes.text(box[0], (box[1] + box[3]) / 2, point.label, transform=axes.transAxes, va="center", fontweight=weight)


def _touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@contextmanager
def svg_figure(width: float, height: float) -> Iterator[tuple[Any, Callable[[str, str], str]]]:
    """A figure in inches, and what makes SVG of it (title, prefix of ids); the library's settings are put back."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height))
        figure.patch.set_alpha(0)

        def svg(title: str, prefix: str) -> str:
            for axes in figure.axes:
                axes.patch.set_alpha(0)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
            return _inline(file.getvalue(), title, prefix)

        yield figure, svg


def _inline(svg: str, title: str, prefix: str) -> str:
    """An SVG file made fit to stand in a page: ids of its own, the page's colours, a title, no fixed size.

    The page's style sheet sets the font of its texts.
    """
    body = svg[svg.index("<svg") :]
    root, _, rest = body.partition(">")
    view = re.search(r'viewBox="[^"]*"', root)
    assert view is not None
    rest = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", rest, count=1, flags=re.DOTALL)
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, count=1, flags=re.DOTALL)
    rest = re.sub(r'\bid="', f'id="{prefix}-', rest)
    rest = rest.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for name, colour in COLOURS.items():
        rest = rest.replace(colour, f"var(--{name})")
    label = escape(title)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} {view.group()} role="img" aria-label="{label}"><title>{label}</title>{rest}'
