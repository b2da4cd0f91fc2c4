"""`featlink-host prepare sparsify`: drop small activations of an extractor's map, and say what that does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .prepare_files import check_outputs
from .prepare_options import AsJson, Report
from .progress_bar import ProgressBar

#: A table of ten columns is not folded for a file or a pipe.
_WIDTH = 140


def sparsify(
    extractor: Annotated[Path, typer.Argument(metavar="EXTRACTOR", help="Folder of the extractor.")],
    source: Annotated[Path, typer.Option(help="Pictures to measure with: video, image, or folder of images.")],
    threshold: Annotated[float | None, typer.Option(help="Drop what is below.")] = None,
    sparsity: Annotated[float | None, typer.Option(help="Least share of zeros, 0..1.")] = None,
    agreement: Annotated[
        float | None, typer.Option(help="Least agreement of the head with itself on the maps as they were, 0..1.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Pictures, in runs of 8 consecutive ones evenly spread.")] = 32,
    qp: Annotated[int | None, typer.Option(min=0, max=51, help="Instead of the extractor's own coding.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the thresholds into the extractor; comments are not kept.")
    ] = False,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Drop small activations: values below a threshold become level 0.

    The quantizer's first thresholds are raised, nothing else: the camera gets
    another table, and the stream stays what it is. --threshold 0 --apply puts
    back what was dropped.

    Give exactly one of --threshold, --sparsity, --agreement. Agreement is F1 of
    the detections where the task is a detector, else 1 - distortion of the
    head's outputs; it is measured with the extractor's own video coding, on
    maps that were coded and decoded again.

    Zero run-length coding is measured beside, as a rival: the stream carries
    HEVC only.
    """
    from featlink_codec.errors import SettingsError
    from featlink_codec.video.clip import open_source

    from .prepare.record import StepRecord, digest_of, package_version, plain, write_step
    from .prepare.sparsify import SparsifyOptions, apply_thresholds
    from .prepare.sparsify_report import explain_drop, sparsify_columns, sparsify_page
    from .prepare.sparsify_run import sparsify_extractor

    options = SparsifyOptions(threshold, sparsity, agreement, frames, qp)
    if not extractor.is_dir():
        raise SettingsError(
            f"{extractor}: found {'a file' if extractor.exists() else 'nothing'}, expected an extractor"
        )
    check_outputs((), (), report)
    given = {"extractor": digest_of(extractor), "source": digest_of(source)} if report is not None else {}
    with ProgressBar() as bar:
        feature, found = sparsify_extractor(extractor, open_source(source), options, bar)
    written = apply and apply_thresholds(extractor, found.thresholds)
    if report is not None:
        record = StepRecord(
            "sparsify",
            package_version(),
            given,
            plain({**vars(options), "apply": apply}),
            plain(found.figures()),
            {"extractor": digest_of(extractor)} if apply else {},
        )
        write_step(report, record, sparsify_page(extractor.name, feature, found))
    if as_json:
        sys.stdout.write(json.dumps(plain({**found.figures(), "applied": written})) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(_WIDTH, console.width))
    console.print(sparsify_columns(found))
    console.print()
    console.print(explain_drop(found), markup=False, soft_wrap=True)
    if apply:
        done = "now has these thresholds" if written else "had these thresholds already"
        console.print(f"{extractor / 'extractor.toml'} {done}.", markup=False, soft_wrap=True)
