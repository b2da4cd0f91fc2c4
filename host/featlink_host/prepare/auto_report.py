"""The last page of `auto`: what was built, why, and what came of it."""

from __future__ import annotations

from .auto import AutoResult
from .build_report import build_facts, build_sections
from .page import Headline, Pictures, Plot, Section, Table, Text, render_page
from .survey_report import ESTIMATE


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
    if found.pairs:
        note = "Left the whole network on the picture, right the split network on the map that went over the link."
        sections.append(Pictures("What the two networks see", found.pairs, note))
    sections.append(verdict)
    sections += rest[:2]
    if found.survey["plot"]:
        fps = found.survey["figures"]["fps"]
        note = f"The survey's rates are an estimate: {ESTIMATE} x {fps:.4g} pictures a second. {found.survey['choice']}"
        sections.append(Plot("Where to split", found.survey["plot"], note))
    else:
        sections.append(Text("Where to split", [found.survey["choice"]]))
    sections.append(
        Table(
            "Steps",
            ("step", "what", "seconds", "ONNX bytes"),
            [(row.name, row.what, round(row.seconds, 1), row.model_bytes) for row in found.rows],
            "Seconds are those of the run in which a step ended.",
        )
    )
    return render_page(built.settings.extractor.name, build_facts(built), [*sections, *rest[2:]])


def _near_ms(found: AutoResult) -> float | None:
    """What the survey measured of the backbone at the cut that was built."""
    for cut in found.survey["figures"]["cuts"]:
        if cut["tensors"] == [found.built.options.tensor]:
            value: float | None = cut["near_ms"]
            return value
    return None
