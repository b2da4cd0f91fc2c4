"""The last page of `auto`: what was built, why, and what came of it."""

from __future__ import annotations

import math

from .auto import AutoResult
from .auto_cut import ChosenCut
from .auto_trials import distortion_at
from .build_report import MERITS, build_facts, build_sections
from .curves import Curve, curves_plot
from .page import Headline, Plot, Section, Table, Text, render_page
from .survey_report import ESTIMATE

#: Letters of a tensor's name in a legend.
_NAME = 30


def auto_page(found: AutoResult) -> str:
    """The page as HTML."""
    built = found.built
    headline, verdict, *rest = build_sections(built)
    assert isinstance(headline, Headline)
    near = _near_ms(found)
    figures = list(headline.figures)
    if near is not None:
        figures.insert(2, (f"{near:.1f}", "ms", "the backbone on this machine, one thread"))
    sections: list[Section] = [Headline(figures)]
    if found.pictures is not None:
        sections.append(found.pictures)
    sections.append(verdict)
    if found.integer is not None:
        sections.append(Text("The backbone in integers", found.integer.sentences))
    sections += [*rest[:2], *_cut_sections(found.cut)]
    sections.append(
        Table(
            "Steps",
            ("step", "what", "seconds", "ONNX bytes"),
            [(row.name, row.what, round(row.seconds, 1), row.model_bytes) for row in found.rows],
            "Seconds are those of the run in which a step ended.",
        )
    )
    return render_page(built.settings.extractor.name, build_facts(built), [*sections, *rest[2:]])


def trials_plot(cut: ChosenCut) -> str:
    """Merit against the rate, a curve a cut; lone points are lossless."""
    curves = []
    for number, trial in enumerate(cut.trials, 1):
        some = [one for one in trial.points if one.way.qp is not None]
        if some:
            curves.append(
                Curve(
                    f"{number}: {_ending(trial.tensor)}", [one.kbps for one in some], [one.score.merit for one in some]
                )
            )
    points = [(trial, one) for trial in cut.trials for one in trial.points]
    free = [one for _, one in points if one.way.qp is None]
    numbers = [f"{at} lossless" for at, trial in enumerate(cut.trials, 1) for one in trial.points if one.way.qp is None]
    if free:
        curves.append(Curve("lossless", [one.kbps for one in free], [one.score.merit for one in free], False, numbers))
    best = next((trial.best(cut.target) for trial in cut.trials if trial.tensor == cut.tensor), None)
    merit = MERITS[points[0][1].score.kind]
    return curves_plot(
        curves, "kbit/s", merit, f"{merit} against the rate, a curve for each cut that was tried", log_x=True,
        chosen=None if best is None else (best.kbps, best.score.merit),
    )  # fmt: skip


def _ending(tensor: str) -> str:
    """The end of a name, where names differ."""
    return tensor if len(tensor) <= _NAME else f"…{tensor[-_NAME:]}"


def _cut_sections(cut: ChosenCut) -> list[Section]:
    """Why it was split there: trials, and the survey."""
    sections: list[Section] = []
    if any(trial.points for trial in cut.trials):
        samples = next(point.score.samples for trial in cut.trials for point in trial.points)
        note = (
            f"{cut.why} The maps of {samples} pictures, coded with few settings and no search for a packing: "
            "for comparing cuts; the ring is the chosen cut's best." + _noise(cut)
        )
        sections.append(Plot("Cuts that were tried", trials_plot(cut), note))
    if cut.trials:
        sections.append(_trials(cut))
    if cut.survey["plot"]:
        fps = cut.survey["figures"]["fps"]
        best = cut.survey["choice"].replace("Chosen: ", "The survey's first place (ring): ", 1)
        note = f"The survey's rates are an estimate: {ESTIMATE} x {fps:.4g} pictures a second. {best}"
        sections.append(Plot("Where to split", cut.survey["plot"], note))
    else:
        sections.append(Text("Where to split", [cut.survey["choice"]]))
    return sections


def _noise(cut: ChosenCut) -> str:
    """What a few objects or labels are worth."""
    score = next(point.score for trial in cut.trials for point in trial.points)
    if not score.counted:
        return ""
    return (
        f" There are {score.counted} {score.counted_as}: cuts within a standard error count as equal, and the one "
        "with the least distortion is taken."
    )


def _trials(cut: ChosenCut) -> Table:
    fps = cut.survey["figures"]["fps"]
    rate = cut.target.kbps
    rows = []
    for number, trial in enumerate(cut.trials, 1):
        seen = cut.surveyed(trial.tensor) or {}
        best = trial.best(cut.target)
        shape = " x ".join(str(side) for side in ((seen.get("shapes") or [[]])[0] or [])[1:])
        bits = seen.get("entropy_bits")
        estimate = None if bits is None else round(bits * fps / 1e3, 1)
        macs, ms = seen.get("near_macs"), seen.get("near_ms")
        row: list[object] = [
            f"{number}: {trial.tensor}", shape, None if macs is None else round(macs / 1e6, 1),
            None if ms is None else round(ms, 2), estimate,
        ]  # fmt: skip
        if best is None:
            row += [trial.refusal, None, None, None]
        else:
            met = "" if cut.target.best(trial.points) is not None else ", misses the target"
            row += [f"{best.way}{met}", round(best.kbps, 1), best.score.merit, best.score.distortion]
        if rate is not None:
            there = distortion_at(trial, rate)
            row.append(there if math.isfinite(there) else None)
        rows.append(row)
    chosen = next((at for at, trial in enumerate(cut.trials) if trial.tensor == cut.tensor), None)
    columns = ["cut", "map", "MMACs near", "ms near", "est. kbit/s", "best setting", "kbit/s", "score", "distortion"]
    note = "The best setting of each cut by the target."
    if rate is not None:
        columns.append(f"at {rate:g} kbit/s")
        note += f" Last the distortion at {rate:g} kbit/s, between two QPs as the curve goes."
    return Table("Trials", columns, rows, note, chosen)


def _near_ms(found: AutoResult) -> float | None:
    """Of the backbone that was built."""
    seen = found.integer.figures if found.integer is not None else found.cut.surveyed()
    value: float | None = None if seen is None else seen["near_ms"]
    return value
