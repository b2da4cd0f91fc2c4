"""`featlink-host prepare survey`: every place to split a network, what it costs, and what would be sent."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from .prepare_options import (
    Anchors,
    AsJson,
    Colour,
    Demo,
    FixShape,
    Images,
    LabelNames,
    Labels,
    ModelOrDemo,
    Offset,
    Report,
    SampleOptions,
    Scale,
    judge_if_given,
    resolve_model,
)
from .progress_bar import ProgressBar

#: A table of fourteen columns is not folded for a file or a pipe.
_WIDTH = 190

BudgetMs = Annotated[
    float | None, typer.Option(help="Most milliseconds of the backbone, measured on this machine with one thread.")
]
StandardOnly = Annotated[
    bool,
    typer.Option(
        "--standard-only",
        help="Only the standard's quantizers: no maps with values below 0, which need adaptive ones.",
    ),
]
Fps = Annotated[float, typer.Option(help="Pictures a second, for rates.")]


def survey(
    model: ModelOrDemo = None,
    images: Images = None,
    labels: Labels = None,
    anchors: Anchors = None,
    label_names: LabelNames = None,
    scale: Scale = None,
    offset: Offset = 0.0,
    colour: Colour = "",
    limit: Annotated[int, typer.Option("--limit", "--frames", min=1, help="Samples whose values are looked at.")] = 16,
    demo: Demo = False,
    budget_ms: BudgetMs = None,
    budget_kbps: Annotated[
        float | None,
        typer.Option(help="Most kilobits a second by the estimate: zeroth-order entropy of 8-bit levels x fps."),
    ] = None,
    fps: Fps = 10.0,
    largest_set: Annotated[int, typer.Option("--sets", min=1, max=4, help="Most tensors of a set; 1: no sets.")] = 3,
    standard_only: StandardOnly = False,
    runs: Annotated[int, typer.Option(min=0, help="Runs of each half, for the median; 0: no times.")] = 5,
    fix_shape: FixShape = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """List every place to split a network: what each half costs, what the map looks like, what would be sent.

    Places are single tensors that carry everything, and small sets of tensors
    that do so together. Of each: shape, what makes and reads it, range, zeros,
    the distribution of its values, MACs and milliseconds of both halves, bits
    at 8 bits a value, and an estimate of its rate: the zeroth-order entropy of
    8-bit levels x fps. Video coding with loss takes less.

    `prepare cuts` is the quick list, without running anything.
    """
    from .prepare.graph import load_model
    from .prepare.record import plain, record_of, write_step
    from .prepare.shapes import parse_shapes
    from .prepare.survey import SurveyOptions
    from .prepare.survey import survey as run_survey
    from .prepare.survey_report import explain_choice, survey_columns, survey_page

    path = resolve_model(model, demo)
    options = SurveyOptions(
        budget_ms=budget_ms,
        budget_kbps=budget_kbps,
        fps=fps,
        largest_set=largest_set,
        samples=limit,
        runs=runs,
        fixed_shapes=parse_shapes(fix_shape or ()),
        standard_only=standard_only,
    )
    proto = load_model(path)
    if options.fixed_shapes:
        from .prepare.shapes import fix_shapes

        proto = fix_shapes(proto, options.fixed_shapes)
    given = SampleOptions(images, labels, anchors, label_names, scale, offset, colour, limit, demo)
    judge = judge_if_given(path, given, proto)
    with ProgressBar() as bar:
        found = run_survey(proto, judge, options, bar)
    if report is not None:
        used = {**vars(options), "scale": scale, "offset": offset, "colour": colour, "demo": demo}
        record = record_of("survey", {"model": path, "images": images}, used, found.figures(), {})
        write_step(report, record, survey_page(path.name, found))
    if as_json:
        sys.stdout.write(json.dumps(plain(found.figures())) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(_WIDTH, console.width))
    console.print(survey_columns(found))
    console.print()
    console.print(explain_choice(found), markup=False, soft_wrap=True)
