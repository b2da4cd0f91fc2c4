"""The picture beside the page of `prepare_tables`: recall of the detector by MACs, and by the bytes of its weights."""

from __future__ import annotations

import io
from typing import Any

from .plot import STYLE

Row = dict[str, Any]
#: Curve of the JSON, its name in the picture, colour, marker.
BY_MACS = (
    ("SVD, data-aware, refit", "SVD, fitted to the data", "#0b6bb3", "o"),
    ("SVD, plain, no refit", "SVD of the weights alone", "#7fb3da", "o"),
    ("channels by budget, contribution, refit", "channels, refitted", "#b3560b", "s"),
    ("channels by budget, contribution, no refit", "channels, as they are", "#e0a877", "s"),
)
BY_BYTES = (
    (("uniform", "fine-tuned"), "uniform, fine-tuned", "#0b6bb3", "o"),
    (("uniform", "direct"), "uniform", "#7fb3da", "o"),
    (("logarithmic", "direct"), "logarithmic", "#b3560b", "s"),
    (("power-of-two", "direct"), "powers of two", "#e0a877", "s"),
    (("codebook", "direct"), "codebook (k-means)", "#3d7a4a", "^"),
)


def agreement_svg(pruning: Row, weights: Row) -> str:
    """Two panels."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(9.2, 4.0))
        left, right = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.07, right=0.985, bottom=0.13, top=0.93, wspace=0.06)
        network = next((one for one in pruning.get("networks", ()) if "detector" in one["name"]), None)
        if network is not None:
            whole = network["whole"]["size"]["macs"]
            for curve, name, colour, marker in BY_MACS:
                points = sorted(
                    (one["size"]["macs"] / whole, one["score"]["value"]) for one in network["curves"].get(curve, ())
                )
                _draw(left, [(100 * x, y) for x, y in points] + [(100.0, 1.0)], name, colour, marker)
        cases = weights.get("detector", {}).get("cases", {}).values()
        for (values, way), name, colour, marker in BY_BYTES:
            weighed = sorted(
                (one["stream_bytes"] / 1e6, one["value"], one["bits"])
                for one in cases
                if (one["values"], one["way"], one["groups"]) == (values, way, "channel") and not one["portable"]
            )
            _draw(right, [(x, y) for x, y, _ in weighed], name, colour, marker)
            for x, y, bits in weighed:
                right.annotate(str(bits), (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7, color=colour)
        left.set_xlabel("MACs, % of the whole network")
        left.set_ylabel("recall of the uncompressed detections")
        left.set_title("channels taken out, layers of low rank", fontsize=10)
        right.set_xlabel("MB of weights in the model stream (at the points: bits)")
        right.set_title("weights of fewer bits", fontsize=10)
        for axes in (left, right):
            axes.set_ylim(-0.03, 1.05)
            axes.legend(frameon=False, fontsize=8, loc="lower right" if axes is left else "upper left")
        file = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=metadata)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _draw(axes: Any, points: list[tuple[float, float]], name: str, colour: str, marker: str) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
