"""What a comparison of quantizers found, for people: its page and its plots."""

from __future__ import annotations

from collections.abc import Iterable

from .build_points import Way
from .build_report import MERITS
from .curves import Curve, curves_plot
from .page import Headline, Plot, Section, Table, Text, render_page
from .quantizer_cut import QuantizerPoint
from .quantizer_run import CutPoints, Quantized


def quantizers_page(found: Quantized) -> str:
    """The page as HTML."""
    facts = [
        ("Cuts", ", ".join(cut.tensor for cut in found.cuts)),
        ("Wanted", wanted(found)),
        ("Chosen on", f"{found.chosen.chosen_on.score.samples} pictures, which quantizers are fitted to as well"),
        ("Figures of", f"{found.chosen.reported_on.score.samples} other pictures, at {found.fps:.4g} a second"),
    ]
    chosen, merit = found.chosen.reported_on, MERITS[found.chosen.reported_on.score.kind]
    sections: list[Section] = [
        Headline(
            [
                (f"{chosen.map_bytes:,.0f}", "bytes", "a map in a running stream"),
                (f"{chosen.score.merit:.3f}", "", merit),
                (str(found.chosen.way), "", f"the chosen setting, at {found.cut.tensor}"),
            ]
        ),
        Text("Why", [found.reason]),
        Plot(
            f"Rate and {merit}",
            frontier_plot(found, distortion=False),
            "Of each cut what no other setting of its beats.",
        ),
        Plot("Rate and distortion", frontier_plot(found, distortion=True),
             "Mean squared error of the outputs over their variance: less noisy than a few objects. Down and left is "
             "better."),
    ]  # fmt: skip
    for cut in found.cuts:
        sections += [
            Plot(
                f"{cut.tensor}: rate and distortion", cut_plot(cut, found), "Lone points are lossless, at equal bits."
            ),
            points_table(cut, found.chosen),
        ]
    return render_page(f"Quantizers at {len(found.cuts)} cuts", facts, sections)


def wanted(found: Quantized) -> str:
    """The target in words."""
    target = found.options.target
    return f"at most {target.kbps:g} kbit/s" if target.kbps is not None else f"at least {target.agreement:g}"


def frontier_plot(found: Quantized, distortion: bool) -> str:
    """The best of each cut, its adaptive and its standard quantizers apart."""
    curves = []
    for cut in found.cuts:
        for adaptive in (True, False):
            some = frontier(one for one in cut.points if (one.way.adaptive is not None) == adaptive)
            if some:
                label = f"{cut.tensor}, {'adaptive' if adaptive else 'standard'}"
                xs = [one.reported_on.map_bytes for one in some]
                curves.append(Curve(label, xs, [height(one, distortion) for one in some]))
    chosen = (found.chosen.reported_on.map_bytes, height(found.chosen, distortion))
    merit = "distortion" if distortion else MERITS[found.chosen.reported_on.score.kind]
    return curves_plot(
        curves, "bytes a map", merit, f"{merit} against bytes a map, by cut", log_x=True, log_y=distortion,
        chosen=chosen,
    )  # fmt: skip


def cut_plot(cut: CutPoints, found: Quantized) -> str:
    """All quantizers of a cut."""
    curves = []
    free: dict[str, list[QuantizerPoint]] = {}
    for kind in dict.fromkeys(one.way.kind for one in cut.points):
        some = [one for one in cut.points if one.way.kind == kind and one.way.qp is not None]
        if some:
            xs = [one.reported_on.map_bytes for one in some]
            curves.append(Curve(f"{kind.name}, QPs", xs, [height(one, True) for one in some]))
    for one in cut.points:
        if one.way.qp is None:
            free.setdefault(group_of(one.way), []).append(one)
    for label, some in free.items():
        xs, ys = [one.reported_on.map_bytes for one in some], [height(one, True) for one in some]
        curves.append(Curve(f"{label}, lossless", xs, ys, False))
    chosen = (found.chosen.reported_on.map_bytes, height(found.chosen, True)) if cut is found.cut else None
    title = f"distortion of the outputs against bytes a map, at {cut.tensor}"
    return curves_plot(curves, "bytes a map", "distortion of the outputs", title, log_x=True, log_y=True, chosen=chosen)


def group_of(way: Way) -> str:
    """Quantizers that look alike in a plot."""
    if way.adaptive is None:
        return "standard"
    return {"whole": "one class", "channel": "channel classes"}.get(way.adaptive.partition, "regions and blocks")


def frontier(points: Iterable[QuantizerPoint]) -> list[QuantizerPoint]:
    """Those that no other of them beats in both bytes and distortion, where things are chosen."""
    best: list[QuantizerPoint] = []
    for one in sorted(points, key=lambda point: (point.chosen_on.map_bytes, point.chosen_on.score.distortion)):
        if not best or one.chosen_on.score.distortion < best[-1].chosen_on.score.distortion:
            best.append(one)
    return best


def height(point: QuantizerPoint, distortion: bool) -> float:
    """Where a point stands."""
    score = point.reported_on.score
    return max(score.distortion, 1e-9) if distortion else score.merit


def points_table(cut: CutPoints, chosen: QuantizerPoint | None = None) -> Table:
    """All that was measured at a cut."""
    detector = cut.points[0].reported_on.score.f1 is not None
    names = ("F1", "recall", "precision") if detector else ("score",)
    columns = ("setting", "bytes a map", "header", *names, "distortion", "where chosen: bytes", "merit")
    rows = []
    for one in cut.points:
        mine, other = one.chosen_on, one.reported_on
        scores = (other.score.f1, other.score.value, other.score.precision) if detector else (other.score.value,)
        rows.append(
            (str(one.way), round(other.map_bytes), one.header_bytes, *scores, other.score.distortion,
             round(mine.map_bytes), mine.score.merit)
        )  # fmt: skip
    channels, rows_, columns_ = cut.shape
    score = cut.uncoded[-1]
    note = (
        f"{channels} channels of {rows_} x {columns_}, {cut.minimum:.4g} to {cut.maximum:.4g}, {cut.zeros:.0%} zeros; "
        f"maps that are not coded give {score.merit:.3f}. Header: of a map that begins an intra period."
    )
    place = next((at for at, one in enumerate(cut.points) if one is chosen), None)
    return Table(cut.tensor, columns, rows, note, place)
