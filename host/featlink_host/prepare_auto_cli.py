"""`featlink-host prepare auto`: from a network and pictures to an extractor and one page, in one go."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .prepare_build_cli import (
    Agreement,
    FpsOption,
    Frames,
    Images,
    Kbps,
    ModelQp,
    Out,
    Target,
    build_arguments,
    tell_built,
)
from .prepare_options import (
    Anchors,
    AsJson,
    Colour,
    Demo,
    FixShape,
    Force,
    LabelNames,
    Labels,
    ModelOrDemo,
    Offset,
    Scale,
)
from .prepare_survey_cli import BudgetMs, StandardOnly
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .prepare.auto import AutoArguments


def auto(
    out: Out,
    model: ModelOrDemo = None,
    images: Images = None,
    labels: Labels = None,
    anchors: Anchors = None,
    label_names: LabelNames = None,
    scale: Scale = None,
    offset: Offset = 0.0,
    colour: Colour = "",
    demo: Demo = False,
    target: Target = None,
    kbps: Kbps = None,
    agreement: Agreement = None,
    budget_ms: BudgetMs = None,
    tensor: Annotated[str, typer.Option(help="Where to split.  [what survey and trials choose]")] = "",
    candidates: Annotated[
        int, typer.Option(min=1, help="Places that are coded for a trial; 1: the survey's best is taken.")
    ] = 3,
    standard_only: StandardOnly = False,
    integer: Annotated[
        bool, typer.Option("--integer", help="Make the backbone one of integers: the same map on every machine.")
    ] = False,
    prune: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="Share of the channels to take out before the split.")
    ] = None,
    low_rank: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Share of the MACs that factorized layers leave."),
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Share of the weights to set to zero before the split.")
    ] = None,
    quantize: Annotated[
        int | None, typer.Option(min=1, max=32, help="Bits of the weights, quantized before the split.")
    ] = None,
    frames: Frames = 48,
    fps: FpsOption = None,
    model_qp: ModelQp = None,
    fix_shape: FixShape = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Do all of it: survey the network, choose where to split it, build the extractor, and write one page.

    The survey ranks the places: within --budget-ms by what they send, without
    a budget by MACs x bits. The best few (--candidates) are coded for a trial,
    and the one that serves --kbps or --agreement best is built. The page is
    OUT/prepare.html, what was done stands in OUT/prepare.json.

    A stopped run goes on where it was: its notes are in OUT.work.
    """
    from .prepare.auto import AutoArguments

    arguments = build_arguments(
        model, images, demo, tensor=tensor, labels=labels, anchors=anchors, label_names=label_names, scale=scale,
        offset=offset, colour=colour, target=target, kbps=kbps, agreement=agreement, frames=frames, fps=fps,
        model_qp=model_qp, fix_shape=tuple(fix_shape or ()), keep_whole=True, name=out.absolute().name,
        standard_only=standard_only,
    )  # fmt: skip
    asked = (("prune", prune), ("low_rank", low_rank), ("sparsity", sparsity), ("quantize", quantize))
    steps = tuple((name, value) for name, value in asked if value is not None)
    asked_for = AutoArguments(arguments, budget_ms, steps, candidates=candidates, integer=integer)
    make_all(asked_for, out, force, as_json)


def make_all(arguments: AutoArguments, out: Path, force: bool, as_json: bool, recorded: str = "") -> None:
    """Run it, and tell.

    :param recorded: the cut that was chosen when it was done first
    """
    from .prepare.auto import publish, run_auto, work_folder
    from .prepare.auto_report import auto_page
    from .prepare.build_step import write_records
    from .prepare.record import plain

    work = work_folder(out, force)
    with ProgressBar() as bar:
        found = run_auto(arguments, work, bar, recorded)
    write_records(work / "built", list(found.records), auto_page(found))
    publish(work, out, force)
    if as_json:
        steps_said = [vars(row) for row in found.rows]
        cut = {"tensor": found.cut.tensor, "why": found.cut.why}
        text = {**plain(found.built.figures()), "folder": str(out), "cut": cut, "steps": steps_said}
        sys.stdout.write(json.dumps(text) + "\n")
        return
    tell_built(replace(found.built, folder=out))
    typer.echo(found.cut.why)
    typer.echo(str(out / "prepare.html"))
