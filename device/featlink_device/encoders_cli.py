"""`featlink-device encoders`: the HEVC encoders of this board, each tried, and the limits of one as a file."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from featlink_codec.files import write_whole

if TYPE_CHECKING:
    from .encoders.choose import Trial


def encoders(
    width: Annotated[int, typer.Option(min=1, max=8192, help="Of the trial's pictures.")] = 256,
    height: Annotated[int, typer.Option(min=1, max=8192, help="Of the trial's pictures.")] = 144,
    qp: Annotated[int, typer.Option(min=0, max=51, help="Constant QP to ask for.")] = 30,
    lossless: Annotated[bool, typer.Option("--lossless", help="Ask for lossless coding instead of a QP.")] = False,
    extractor: Annotated[
        Path | None, typer.Option(help="Try what this extractor wants, instead of width, height and QP.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="auto (all), a back end, or BACKEND:/dev/NODE.")] = "auto",
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600.0, help="Seconds without a picture after which an encoder has stalled.")
    ] = 5.0,
    limits: Annotated[
        Path | None,
        typer.Option(help="Write the limits of the first that works here, for `featlink-host prepare plan --limits`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found out, as JSON.")] = False,
) -> None:
    """Try every HEVC encoder of this board: pictures go in, are decoded again, and must be the same.

    Says what each takes, which controls it refused, and how intra pictures are made. Exit code 0: one works; 1: none.
    """
    from .encoders.candidates import candidates
    from .encoders.choose import try_candidate
    from .encoders.session import EncoderSpec

    if extractor is None:
        spec = EncoderSpec(width, height, qp=None if lossless else qp, lossless=lossless, picture_hash=False)
    else:
        from featlink_codec.extractor import ExtractorSettings

        from .encoder_choice import encoder_spec

        settings = ExtractorSettings.load(extractor, parts=())
        spec = encoder_spec(settings.maps[0], settings.video)
    spec = dataclasses.replace(spec, stalled_s=timeout)
    trials = [try_candidate(candidate, spec) for candidate in candidates(encoder)]
    working = next((trial for trial in trials if trial.works), None)
    if as_json:
        sys.stdout.write(json.dumps({"encoders": [trial.as_json() for trial in trials]}) + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        for trial in trials:
            console.print(trial.text, style="green" if trial.works else "red", markup=False)
            for line in _details(trial):
                console.print(f"    {line}", style="dim", markup=False)
    if limits is not None and working is not None and working.limits is not None:
        write_whole(limits, working.limits.as_toml())
    if working is None:
        raise typer.Exit(1)


_INTRA_BY = {
    "gop": "all pictures are intra (GOP_SIZE 1)",
    "force": "intra pictures are asked for by a control",
    "restart": "intra pictures cost a restart of coding",
}


def _details(trial: Trial) -> Iterator[str]:
    """What was agreed on with the driver, and what it refused."""
    if trial.spec is None:
        return
    if trial.candidate.backend != "x265":
        yield _INTRA_BY[trial.spec.intra_by]
    if trial.delay:
        yield f"{trial.delay} pictures are held back until more come"
    for name, value in trial.facts.items():
        if name == "controls":
            yield from (f"{control}: {found}" for control, found in value.items())
        elif name != "node":
            yield f"{name}: {value}"
