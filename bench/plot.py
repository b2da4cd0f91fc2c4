"""The plot of time against size, as an SVG file that stands alone."""

from __future__ import annotations

import io
from typing import Any

#: Fixed, so that equal figures give equal files; text stays text.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "featlink",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#687787",
    "axes.labelcolor": "#1b2733",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dfe5ea",
    "grid.linewidth": 0.8,
    "text.color": "#1b2733",
    "text.parse_math": False,
    "xtick.color": "#687787",
    "ytick.color": "#687787",
    "xtick.labelcolor": "#1b2733",
    "ytick.labelcolor": "#1b2733",
}
#: What is drawn: direction, colour, marker.
_LINES = (("pack", "#0b6bb3", "o"), ("unpack", "#b3560b", "s"))
_PANELS = (
    ("uint8", {"pack": "uint8, identity", "unpack": "uint8, levels"}),
    ("float32", {"pack": "float32, uniform", "unpack": "float32, uniform"}),
)


def growth_svg(growth: dict[str, Any]) -> str:
    """Microseconds a map by its elements, both on logarithmic axes, with memcpy of as many bytes beside it."""
    file = io.StringIO()
    draw(growth, file, "svg")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def draw(growth: dict[str, Any], file: Any, kind: str) -> None:
    """The same in any format of matplotlib's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(9.2, 4.0))
        panels = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.08, right=0.985, bottom=0.13, top=0.92, wspace=0.06)
        for axes, (title, kinds) in zip(panels, _PANELS, strict=True):
            _panel(axes, title, kinds, growth)
        panels[0].set_ylabel("microseconds a map (medians)")
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else None
        figure.savefig(file, format=kind, metadata=metadata)


def _panel(axes: Any, title: str, kinds: dict[str, str], growth: dict[str, Any]) -> None:
    slopes = {(one["direction"], one["kind"]): one for one in growth["slopes"]}
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(f"{title} maps, 64 channels, tiles, one thread", fontsize=10.5, loc="left")
    axes.set_xlabel("elements of the map")
    for direction, colour, marker in _LINES:
        rows = _rows(growth, direction, kinds[direction])
        x, y = [row["elements"] for row in rows], [row["core_ns"][1] / 1000 for row in rows]
        label = f"{direction}{_slope(slopes[direction, kinds[direction]]['core'])}"
        axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=label, zorder=3)
    rows = _rows(growth, "pack", kinds["pack"])
    x, y = [row["elements"] for row in rows], [row["memcpy_ns"][1] / 1000 for row in rows]
    label = f"memcpy of as many bytes{_slope(slopes['pack', kinds['pack']]['memcpy'])}"
    axes.plot(x, y, color="#44586c", linestyle=(0, (4, 2)), linewidth=1.6, label=label, zorder=2)
    axes.xaxis.set_major_formatter(_number)
    axes.yaxis.set_major_formatter(_number)
    axes.minorticks_off()
    axes.legend(frameon=False, loc="upper left")


def _number(value: float, _: int | None = None) -> str:
    """A power of ten on an axis."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def _slope(slope: float | None) -> str:
    return "" if slope is None else f", slope {slope:.2f}"


def _rows(growth: dict[str, Any], direction: str, kind: str) -> list[dict[str, Any]]:
    return [row for row in growth["rows"] if (row["direction"], row["kind"]) == (direction, kind)]
