"""The survey for people: its page, its plot, and a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table as Columns

from .curves import Curve, curves_plot
from .page import Plot, Section, Table, Text, render_page
from .survey import Survey, SurveyedCut

#: What the rate is, wherever it stands.
ESTIMATE = "zeroth-order entropy of 8-bit levels"


def survey_page(name: str, found: Survey) -> str:
    """The page as HTML."""
    options = found.options
    sets = sum(len(cut.tensors) > 1 for cut in found.cuts)
    times = f"medians of {options.runs} runs, onnxruntime, one thread of this machine" if options.runs else "none"
    rates = f"an estimate: {ESTIMATE} x {options.fps:g} pictures a second; video coding with loss takes less"
    facts = [
        ("Network", name),
        ("Cuts", f"{len(found.cuts) - sets} of one tensor, {sets} sets"),
        ("Values", f"of {found.samples} samples" if found.samples else "no images were given"),
        ("Times", times),
        ("Rates", rates),
    ]
    if options.budget_ms is not None:
        facts.append(("Budget", f"{options.budget_ms:g} ms of the backbone on this machine"))
    if options.budget_kbps is not None:
        facts.append(("Budget", f"{options.budget_kbps:g} kbit/s by the estimate"))
    return render_page(f"Survey of {name}", facts, survey_sections(found))


def survey_sections(found: Survey) -> list[Section]:
    """What stands on the page: why, the plot, the tables."""
    single = [cut for cut in found.cuts if len(cut.tensors) == 1]
    sets = [cut for cut in found.cuts if len(cut.tensors) > 1]
    sections: list[Section] = [Text("Choice", [explain_choice(found)])]
    plot = survey_plot(found)
    if plot:
        sections.append(Plot("Cost against rate", plot, "A ring marks the chosen cut. Down and left is better."))
    sections.append(_table("Cuts of one tensor", single, found))
    if sets:
        note = "" if found.complete else "The search was bounded: there are more sets."
        sections.append(_table("Sets of tensors", sets, found, note))
    troubled = [(cut.name, "; ".join(cut.troubles)) for cut in found.cuts if cut.troubles]
    noted = [(cut.name, "; ".join(cut.remarks)) for cut in found.cuts if cut.remarks and cut.usable]
    if noted:
        sections.append(Table("Adaptive quantizers only", ("tensor", "why"), noted))
    if troubled:
        sections.append(Table("What stands in the way", ("tensor", "why it cannot be built as it is"), troubled))
    return sections


def explain_choice(found: Survey) -> str:
    """One sentence or two."""
    options, chosen = found.options, found.chosen
    if chosen is None:
        near = found.nearest
        if near is None:
            return "No cut can be built as it is; `prepare survey` says what is in the way of each."
        return f"No cut that can be built is within the budgets; the nearest is {_short(near, options.fps)}."
    if options.budget_ms is not None:
        why = "it sends least of those within the budget"
    elif (chosen.near_macs is not None or chosen.near_ms is not None) and chosen.entropy_bits is not None:
        cost = "MACs" if chosen.near_macs is not None else "milliseconds"
        why = (
            f"its {cost} x its bits are the least of those that send less than the raw picture "
            "(no budget says what the backbone's work is worth)"
        )
    else:
        why = "it sends least"
    signed = " It has values below 0: adaptive quantizers only." if chosen.remarks else ""
    return f"Chosen: {_short(chosen, options.fps)}: {why}.{signed}"


def survey_plot(found: Survey) -> str:
    """Cost of the backbone against the estimated rate; empty where either is unknown."""
    known = [cut for cut in found.cuts if cut.entropy_bits and (cut.near_ms is not None or cut.near_macs is not None)]
    if not known:
        return ""
    timed = all(cut.near_ms is not None for cut in known)

    def at(cut: SurveyedCut) -> tuple[float, float]:
        cost = cut.near_ms if timed else (cut.near_macs or 0) / 1e6
        return float(cost or 0), float(cut.kbps(found.options.fps) or 0)

    groups = [
        ("can be built", [cut for cut in known if cut.usable and not cut.remarks]),
        ("adaptive quantizers only", [cut for cut in known if cut.usable and cut.remarks]),
        ("cannot be built as it is", [cut for cut in known if not cut.usable and len(cut.tensors) == 1]),
        ("sets of tensors", [cut for cut in known if len(cut.tensors) > 1]),
    ]
    curves = []
    for label, cuts in groups:
        points = [at(cut) for cut in cuts]
        if points:
            curves.append(Curve(label, [x for x, _ in points], [y for _, y in points], line=False))
    chosen = found.chosen if found.chosen in known else None
    return curves_plot(
        curves,
        "milliseconds of the backbone (this machine)" if timed else "million MACs of the backbone",
        f"kbit/s at {found.options.fps:g} pictures a second (estimate)",
        "Cost of the backbone against the estimated rate of its map",
        log_y=True,
        chosen=at(chosen) if chosen is not None else None,
    )


def survey_columns(found: Survey) -> Columns:
    """For the terminal."""
    table = Columns(box=None, pad_edge=False, header_style="bold")
    for name in _NAMES:
        numeric = name not in ("tensor", "shape", "made by", "read by", "values like")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    table.add_column("")
    for cut in found.cuts:
        cells = [str(_plain(value)) for value in _row(cut, found.options.fps)]
        taken = "adaptive" if cut.remarks else ""
        mark = "chosen" if cut is found.chosen else taken if cut.usable and cut.within else "no"
        table.add_row(*cells, mark, style="bold" if cut is found.chosen else None if cut.usable else "dim")
    return table


_NAMES = (
    "tensor", "shape", "made by", "read by", "range", "zeros", "values like", "MMACs near", "far", "ms near", "far",
    "raw kbit", "est. kbit", "est. kbit/s",
)  # fmt: skip


def _row(cut: SurveyedCut, fps: float) -> tuple[object, ...]:
    looks = cut.looks or ()
    return (
        cut.name,
        " + ".join("x".join("?" if side is None else str(side) for side in shape or ()) or "?" for shape in cut.shapes),
        " + ".join(cut.producers),
        " + ".join(_readers(one) for one in cut.consumers),
        " + ".join(f"{one.minimum:.3g}..{one.maximum:.3g}" for one in looks) or None,
        " + ".join(f"{one.zeros:.0%}" for one in looks) or None,
        " + ".join(one.distribution.kind for one in looks) or None,
        None if cut.near_macs is None else round(cut.near_macs / 1e6, 2),
        None if cut.far_macs is None else round(cut.far_macs / 1e6, 2),
        None if cut.near_ms is None else round(cut.near_ms, 2),
        None if cut.far_ms is None else round(cut.far_ms, 2),
        None if cut.raw_bits is None else round(cut.raw_bits / 1e3, 1),
        None if cut.entropy_bits is None else round(cut.entropy_bits / 1e3, 1),
        None if cut.entropy_bits is None else round(cut.kbps(fps) or 0.0, 1),
    )


def _readers(names: Sequence[str]) -> str:
    """Operators, the same ones counted."""
    return ", ".join(f"{names.count(one)} {one}" if names.count(one) > 1 else one for one in dict.fromkeys(names))


def _table(title: str, cuts: Sequence[SurveyedCut], found: Survey, note: str = "") -> Table:
    rows = [_row(cut, found.options.fps) for cut in cuts]
    chosen = next((at for at, cut in enumerate(cuts) if cut is found.chosen), None)
    estimate = f"Estimated rates: {ESTIMATE} x {found.options.fps:g} pictures a second."
    return Table(title, _NAMES, rows, f"{estimate} {note}".strip(), chosen)


def _short(cut: SurveyedCut, fps: float) -> str:
    near = "" if cut.near_ms is None else f", {cut.near_ms:.2f} ms near"
    rate = "" if cut.entropy_bits is None else f", about {cut.kbps(fps):.0f} kbit/s by {ESTIMATE} x {fps:g}"
    return f"{cut.name}{near}{rate}"


def _plain(value: object) -> object:
    return "–" if value is None else value
