"""What dropping small activations does, for people: a page, and a table for the terminal."""

from __future__ import annotations

from rich.table import Table as Columns

from featlink_codec.extractor import MapSettings

from .curves import Curve, curves_plot
from .page import Plot, Section, Table, Text, render_page
from .sparsify import Sparsified
from .sparsify_points import DropPoint

#: What run-length coding is there for, wherever it stands.
RIVAL = (
    "Zero run-length coding is a rival to compare with: the stream carries HEVC only, nothing of it is ever sent. "
    "All sizes are means of a map."
)


def explain_drop(found: Sparsified) -> str:
    """A sentence or two."""
    first, chosen = found.points[0], found.chosen
    if chosen is first:
        return f"Nothing is dropped: {first.zeros:.1%} of the levels are 0 already, {first.map_bytes:.0f} bytes a map."
    change = chosen.map_bytes / first.map_bytes - 1
    return (
        f"Below {chosen.threshold:.4g} everything becomes 0: {first.zeros:.1%} zeros become {chosen.zeros:.1%}, "
        f"{first.map_bytes:.0f} bytes a map at {found.coding} become {chosen.map_bytes:.0f} ({change:+.1%}); "
        f"agreement {chosen.score.merit:.4f}, {first.score.merit:.4f} with nothing dropped."
    )


def sparsify_page(name: str, feature: MapSettings, found: Sparsified) -> str:
    """The page as HTML."""
    facts = [
        ("Extractor", name),
        ("Map", f"{feature.tensor}, {feature.channels} x {feature.height} x {feature.width}"),
        ("Quantizer", f"{feature.quantizer.mode}, {feature.quantizer.bit_depth} bits"),
        ("Coding", found.coding),
        ("Measured on", f"{found.chosen.score.samples} maps"),
    ]
    return render_page(f"Small activations of {name}", facts, sparsify_sections(found))


def sparsify_sections(found: Sparsified) -> list[Section]:
    """What stands on the page."""
    sections: list[Section] = [Text("Choice", [explain_drop(found)])]
    points = found.points
    if len(points) > 2:
        t = [point.threshold for point in points]
        shares = [
            Curve("zeros", t, [point.zeros for point in points]),
            Curve("agreement", t, [point.score.merit for point in points]),
            Curve("bytes to those of nothing dropped", t, [p.map_bytes / points[0].map_bytes for p in points]),
        ]
        svg = curves_plot(
            shares,
            "threshold",
            "share",
            "Zeros, agreement and bytes against the threshold",
            chosen=(found.chosen.threshold, found.chosen.score.merit),
        )
        sections.append(Plot("Threshold", svg, "A ring marks the chosen one."))
    rows = [_numbers(point) for point in points]
    chosen = points.index(found.chosen)
    sections.append(Table("What was measured", _names(points[0], found.coding), rows, RIVAL, chosen))
    return sections


def sparsify_columns(found: Sparsified) -> Columns:
    """For the terminal."""
    table = Columns(box=None, pad_edge=False, header_style="bold")
    for name in _names(found.points[0], found.coding):
        table.add_column(name, justify="right")
    for point in found.points:
        table.add_row(*map(str, _row(point)), style="bold" if point is found.chosen else None)
    return table


def _names(point: DropPoint, coding: str) -> list[str]:
    codings = [f"HEVC {coding}", *(f"HEVC {name}" for name in point.also_bytes)]
    return ["threshold", "zeros", *codings, "run-length", "and Huffman", "entropy", "agreement", "distortion"]


def _row(point: DropPoint) -> list[object]:
    """For the terminal: as text that lines up."""
    threshold, zeros, *sizes, merit, distortion = _numbers(point)
    return [f"{threshold:.4g}", f"{zeros:.1%}", *sizes, f"{merit:.4f}", f"{distortion:.3g}"]


def _numbers(point: DropPoint) -> list[float]:
    """For the page, which has its own way with numbers."""
    sizes = [point.map_bytes, *point.also_bytes.values(), point.run_bytes, point.run_entropy_bytes, point.entropy_bytes]
    return [point.threshold, point.zeros, *(round(size) for size in sizes), point.score.merit, point.score.distortion]
