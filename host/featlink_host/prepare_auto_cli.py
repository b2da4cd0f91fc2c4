"""`featlink-host prepare auto`: from a network and pictures to an extractor and one page, in one go."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Annotated

import typer

from .prepare_build_cli import (
    Agreement,
    FixShape,
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
from .prepare_options import Anchors, AsJson, Colour, Demo, Force, LabelNames, Labels, ModelOrDemo, Offset, Scale
from .prepare_survey_cli import BudgetMs
from .progress_bar import ProgressBar


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
    tensor: Annotated[str, typer.Option(help="Where to split.  [what the survey chooses]")] = "",
    prune: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="Share of the channels to take out before the split.")
    ] = None,
    low_rank: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Share of the energy that factored layers keep.")
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

    The cut is the one within --budget-ms that sends least; without a budget
    the one whose milliseconds x bits are the least. The page is
    OUT/prepare.html, what was done stands in OUT/prepare.json.

    A stopped run goes on where it was: its notes are in OUT.work.
    """
    from .prepare.auto import AutoArguments, publish, run_auto, work_folder
    from .prepare.auto_report import auto_page
    from .prepare.build_step import write_records
    from .prepare.record import plain

    work = work_folder(out, force)
    arguments = build_arguments(
        model, images, demo, tensor=tensor, labels=labels, anchors=anchors, label_names=label_names, scale=scale,
        offset=offset, colour=colour, target=target, kbps=kbps, agreement=agreement, frames=frames, fps=fps,
        model_qp=model_qp, fix_shape=tuple(fix_shape or ()), keep_whole=True, name=out.absolute().name,
    )  # fmt: skip
    asked = (("prune", prune), ("low_rank", low_rank), ("sparsity", sparsity), ("quantize", quantize))
    steps = tuple((name, value) for name, value in asked if value is not None)
    with ProgressBar() as bar:
        found = run_auto(AutoArguments(arguments, budget_ms, steps), work, bar)
    write_records(work / "built", list(found.records), auto_page(found))
    publish(work, out, force)
    if as_json:
        steps_said = [vars(row) for row in found.rows]
        text = {**plain(found.built.figures()), "folder": str(out), "steps": steps_said}
        sys.stdout.write(json.dumps(text) + "\n")
        return
    tell_built(replace(found.built, folder=out))
    typer.echo(str(out / "prepare.html"))
