"""A step at several strengths: how large the network gets, how good it stays, as curves on the step's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx

from featlink_codec.errors import SettingsError
from featlink_codec.files import write_whole

from ...model.notes import Notes, key_of
from ..curves import Curve, curves_plot
from ..page import Plot, Section, Table, Text, render_page
from ..record import plain, record_of, write_step
from ..scoring import Judge
from .sizes import QP, Size

Progress = Callable[[str, int, int], None]


class Changed(Protocol):
    """What a step makes."""

    @property
    def model(self) -> onnx.ModelProto:
        """The changed network."""

    @property
    def before(self) -> Size:
        """Of the network as it was."""

    @property
    def after(self) -> Size:
        """Of the changed one."""

    def figures(self) -> dict[str, Any]:
        """For JSON."""


@dataclass(frozen=True)
class Trial:
    """One strength.

    :param label: what it is, e.g. "0.5"; "whole": nothing was changed
    :param score: as `Score.figures`; None without images
    :param refused: why there is no result
    """

    label: str
    size: dict[str, Any] | None
    score: dict[str, Any] | None
    refused: str = ""


@dataclass(frozen=True)
class Tried:
    """A step's result, with others beside it.

    :param chosen: what was asked for
    :param trials: the whole network first
    :param at: which of them is what was asked for
    """

    chosen: Changed
    trials: tuple[Trial, ...]
    at: int


def around(value: float, budget: bool) -> tuple[float, ...]:
    """Strengths to look at beside one that was asked for: half as much, and halfway to nothing left."""
    if budget:
        return ((1 + value) / 2, value, value / 2) if value <= 1 else (value,)
    return (value / 2, value, (1 + value) / 2)


def try_out(
    model: onnx.ModelProto,
    judge: Judge | None,
    step: Callable[[float], Changed],
    value: float,
    others: Sequence[float],
    notes: Path | None,
    key: Sequence[object],
    progress: Progress | None = None,
) -> Tried:
    """Do a step as it was asked for, and at other strengths for comparison.

    What was found of the others is kept in a file until all is done: an interrupted run goes on from there.

    :param others: strengths, among them `value`
    :param key: what the results follow from
    """
    kept = Notes(notes, key_of([*key, model.SerializeToString(deterministic=True)]))
    chosen = step(value)
    trials = [Trial("whole", chosen.before.figures(), None if judge is None else judge.score(model).figures())]
    for done, one in enumerate(others):
        if progress:
            progress("strengths", done, len(others))
        label = f"{one:g}"
        found = kept.get(label)
        if found is None or one == value:
            found = _tried(chosen if one == value else None, judge, step, one)
            kept.put(label, found)
        trials.append(Trial(label, **found))
    kept.done()
    if progress:
        progress("strengths", len(others), len(others))
    return Tried(chosen, tuple(trials), 1 + list(others).index(value))


def _tried(known: Changed | None, judge: Judge | None, step: Callable[[float], Changed], one: float) -> dict[str, Any]:
    try:
        found = step(one) if known is None else known
    except SettingsError as error:
        return {"size": None, "score": None, "refused": str(error)}
    score = None if judge is None else judge.score(found.model).figures()
    return {"size": found.after.figures(), "score": score}


def page_of(title: str, what: str, tried: Tried, layers: Table, left: Mapping[str, str], method: Sequence[str]) -> str:
    """The step's page.

    :param what: name of what was varied
    :param layers: each layer before and after
    :param left: what was left whole, and why
    :param method: paragraphs on what was done
    """
    before, after = tried.chosen.before, tried.chosen.after
    facts = [
        (what, tried.trials[tried.at].label),
        ("MACs", f"{before.macs:,} → {after.macs:,} ({after.macs / max(before.macs, 1):.1%})"),
        ("parameters", f"{before.parameters:,} → {after.parameters:,}, {after.zeros:,} of them zero"),
        ("ONNX file", f"{before.file_bytes:,} → {after.file_bytes:,} bytes"),
        (f"model stream at QP {QP}", f"{before.stream_bytes:,} → {after.stream_bytes:,} bytes"),
    ]
    sections: list[Section] = [_table(what, tried)]
    sections += _plots(what, tried)
    sections.append(layers)
    if left:
        sections.append(Table("Left whole", ("layer", "why"), [(name, why) for name, why in left.items()]))
    sections.append(Text("How", method))
    return render_page(title, facts, sections)


def _table(what: str, tried: Tried) -> Table:
    columns = (
        what,
        "MACs",
        "parameters",
        "zeros",
        "file bytes",
        f"stream bytes, QP {QP}",
        "score",
        "distortion",
        *(["note"] if any(one.refused for one in tried.trials) else []),
    )
    keys = ("macs", "parameters", "zeros", "file_bytes", "stream_bytes")
    rows: list[tuple[object, ...]] = []
    for one in tried.trials:
        size, score = one.size or {}, one.score or {}
        numbers = [size.get(key) for key in keys]
        row = (one.label, *numbers, score.get("value"), score.get("distortion"), one.refused)
        rows.append(row[: len(columns)])
    kind = next((one.score["kind"] for one in tried.trials if one.score), "")
    note = {
        "accuracy": "Score: share of right labels.",
        "detections": "Score: recall of the whole network's detections.",
    }
    return Table("Strengths", columns, rows, note.get(kind, "Score: 1 - distortion." if kind else ""), tried.at)


def _plots(what: str, tried: Tried) -> list[Section]:
    known = [one for one in tried.trials if one.size and one.score]
    if len(known) < 2:
        return []
    score = [one.score["value"] for one in known if one.score]
    chosen = next((at for at, one in enumerate(known) if one is tried.trials[tried.at]), None)
    found: list[Section] = []
    for key, label in (("macs", "MACs"), ("stream_bytes", f"bytes of the model stream at QP {QP}")):
        x = [one.size[key] for one in known if one.size]
        if len(set(x)) == 1:
            continue
        title = f"Score against {label}"
        ring = (x[chosen], score[chosen]) if chosen is not None else None
        curve = Curve(what, x, score, text=[one.label for one in known])
        found.append(Plot(title, curves_plot([curve], label, "score", title, chosen=ring)))
    return found


def keep(
    out: Path,
    report: Path | None,
    tried: Tried,
    step: str,
    inputs: Mapping[str, Path | None],
    options: dict[str, Any],
    page: str,
) -> dict[str, Any]:
    """Write the changed network, and the step's page and record.

    :returns: the figures, for JSON
    """
    write_whole(out, tried.chosen.model.SerializeToString())
    trials = [vars(one) for one in tried.trials]
    figures: dict[str, Any] = plain({**tried.chosen.figures(), "trials": trials, "chosen": tried.at})
    if report is not None:
        write_step(report, record_of(step, inputs, options, figures, {"model": out}), page)
    return {"out": str(out), **figures}


def summary(tried: Tried, out: Path) -> list[str]:
    """For a reader."""
    before, after = tried.chosen.before, tried.chosen.after
    lines = [
        f"{out}: {after.macs:,} MACs ({after.macs / max(before.macs, 1):.1%}), {after.parameters:,} parameters, "
        f"{after.zeros:,} zero; {after.file_bytes:,} bytes ({after.file_bytes / before.file_bytes:.1%}), as a model "
        f"stream at QP {QP} {after.stream_bytes:,} instead of {before.stream_bytes:,}"
    ]
    whole, chosen = tried.trials[0].score, tried.trials[tried.at].score
    if whole is not None and chosen is not None:
        far = "infinite" if chosen["distortion"] is None else f"{chosen['distortion']:.3g}"
        lines.append(
            f"{chosen['kind']}: {chosen['value']:.4f}, whole {whole['value']:.4f}, {chosen['samples']} samples; "
            f"distortion {far}"
        )
    return lines
