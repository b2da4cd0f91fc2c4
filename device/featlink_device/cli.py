"""The command line of the camera: `featlink-device`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from featlink_codec.errors import FeatlinkError
from featlink_codec.files import write_whole

from .encoders_cli import encoders
from .model_cli import model

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What runs on a featlink camera: pictures in, a feature-map stream out.",
)


@app.callback()
def _device() -> None:
    """What runs on a featlink camera: pictures in, a feature-map stream out."""


@app.command()
def run(
    extractor: Annotated[
        Path, typer.Option(help="Folder of the extractor, as `featlink-host prepare split` wrote it.")
    ],
    source: Annotated[str, typer.Option(help="Video file, image, folder of images, or V4L2 device (/dev/video0).")],
    out: Annotated[
        str, typer.Option(help="File for the stream (NAME.part until it is whole), or - for standard output.")
    ],
    fps: Annotated[float, typer.Option(min=0.01, help="Pictures a second, of folders and cameras.")] = 10.0,
    paced: Annotated[
        bool, typer.Option("--paced", help="Play a clip at its own pace and drop what comes too fast.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many pictures.")] = None,
    queue: Annotated[int, typer.Option(min=2, max=64, help="Tensors that may wait between two stages.")] = 4,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of the backbone.")] = 1,
    encoder: Annotated[
        str,
        typer.Option(help="auto (the first that works in a trial), libv4l2, v4l2, rkmpp, x265, or BACKEND:/dev/NODE."),
    ] = "auto",
    encoder_timeout: Annotated[
        float, typer.Option(min=0.1, max=600.0, help="Seconds without a picture after which the encoder has stalled.")
    ] = 5.0,
    clip: Annotated[
        bool, typer.Option("--clip", help="Clip NaN and infinities in a map (NaN to level 0) rather than stop.")
    ] = False,
    stats: Annotated[Path | None, typer.Option(help="Write the run's figures to this file, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON lines on standard error.")] = False,
) -> None:
    """Send the feature maps of a source as a feature-map stream.

    Once a second a line on standard error says the rate, the frames a second and how many tensors wait. Ctrl-C ends the
    stream properly. Exit code 0: the stream is whole; 2: it could not be made, and no file is left behind.
    """
    # The heavy libraries are loaded only by the command that needs them.
    from .pipeline import Pipeline
    from .sink import open_sink
    from .source import open_source
    from .stats import RateMeter

    pictures = open_source(source, fps=fps, paced=paced, limit=limit)
    total = len(pictures)
    sink = open_sink(out)
    try:
        pipeline = Pipeline(
            extractor,
            pictures,
            sink,
            queue_depth=queue,
            threads=threads,
            clip=clip,
            encoder=encoder,
            encoder_timeout_s=encoder_timeout,
        )
    except BaseException:
        sink.abort()
        raise
    meter = RateMeter(pipeline.stats)
    console = Console(stderr=True)
    _say(console, as_json, "encoder", pipeline.encoder.facts, pipeline.encoder.text)
    for refused in pipeline.encoder.refused:
        _say(console, as_json, "encoder refused", refused.as_json(), f"not {refused.text}")
    shown = console.is_terminal and not as_json

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        pipeline.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends it at once

    signal.signal(signal.SIGINT, interrupted)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task("maps", total=total or None)

        def every_second() -> None:
            progress.update(task, completed=pipeline.stats.maps)
            waiting = pipeline.queue_depths
            line = {
                **meter.sample(),
                "waiting": waiting,
                "dropped": pipeline.stats.frames_dropped,
                "lost": pipeline.stats.maps_lost,
            }
            _say(console, as_json, "rate", line, _rate_line(line))

        figures = pipeline.run(every_second).summary()
    if stats is not None:
        write_whole(stats, json.dumps(figures, indent=1))
    text = (
        f"{figures['maps']} maps, {figures['bytes']} bytes ({figures['bytes'] / figures['maps']:.0f} a map) in "
        f"{figures['seconds']:.1f} s ({figures['fps']:.1f} fps), {figures['frames_dropped']} frames dropped"
    )
    if figures["frames_lost_by_driver"]:
        text += f", {figures['frames_lost_by_driver']} more lost by the camera's driver"
    if figures["maps_lost"]:
        text += f", {figures['maps_lost']} maps lost by the encoder, the last: {pipeline.stats.last_loss}"
    _say(console, as_json, "done", figures, text)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this board has: instruction set of the integer path, encoder by trial, versions, cameras, clock, space.

    Exit code 0: maps can be sent; 1: something stands in the way.
    """
    from .doctor import FAULT, examine, report

    findings = []
    table = Table(box=None, show_header=False, pad_edge=False)
    colours = {"ok": "green", "warning": "yellow", "fault": "red"}
    for finding in examine():
        findings.append(finding)
        table.add_row(Text(finding.state, style=colours[finding.state]), finding.name, Text(finding.text))
    if as_json:
        sys.stdout.write(json.dumps(report(findings)) + "\n")
    else:
        Console(soft_wrap=True).print(table)
    if any(finding.state == FAULT for finding in findings):
        raise typer.Exit(1)


app.command()(encoders)
app.add_typer(model, name="model")


@app.command()
def selftest(
    as_json: Annotated[bool, typer.Option("--json", help="Print every case with its hashes as JSON.")] = False,
) -> None:
    """Prove that this board's integer path is bit-exact: golden maps and pictures against committed hashes.

    Every element type, quantizer, depth and packing. Exit code 0: all are exact; 1: some are not.
    """
    from featlink_codec import _core
    from featlink_codec.selftest import run as run_cases

    results = list(run_cases())
    wrong = [result.name for result in results if not result.exact]
    if as_json:
        cases = {result.name: {"sha256": result.found, "expected": result.expected} for result in results}
        sys.stdout.write(json.dumps({"path": _core.chosen_path(), "exact": not wrong, "cases": cases}) + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        for name in wrong:
            console.print(f"wrong: {name}", markup=False)
        console.print(f"{len(results) - len(wrong)} of {len(results)} cases are exact ({_core.chosen_path()})")
    if wrong:
        raise typer.Exit(1)


@app.command()
def check(
    stream: Annotated[Path, typer.Argument(metavar="STREAM", help="A feature-map stream, a file.")],
    profile: Annotated[
        str, typer.Option("--profile", metavar="[standard|interface|standard-16]", help="As agreed with the writer.")
    ] = "standard",
    level_scaling: Annotated[bool, typer.Option("--level-scaling", help="Samples carry level * 255 / peak.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read a stream back on the camera, pixels decoded: maps with hashes of their levels, and what is damaged.

    Needs no extractor. Exit code 0: whole; 3: something was lost, the rest is there; 2: the stream is refused.
    """
    from featlink_codec.features import Profile, StreamReader

    from .check import check_stream, read_chunks

    names = [one.value for one in Profile]
    if profile not in names:
        raise typer.BadParameter(f"{profile!r} is none of {', '.join(names)}", param_hint="--profile")
    found = check_stream(StreamReader(Profile(profile), level_scaling), read_chunks(stream))
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        for number, one in enumerate(found["maps"]):
            shape = " x ".join(map(str, one["shape_hwc"]))
            where = f"byte {one['offset']}: type {one['feat_type_id']}, {shape}, {one['bytes']} bytes"
            console.print(f"map {number}: {where}, levels {one['levels_sha256'][:16]}", markup=False)
        for error in found["errors"]:
            console.print(f"byte {error['offset']}: {error['name']}: {error['text']}", markup=False)
        lost = len(found["errors"]) + found["errors_left_out"]
        console.print(f"{len(found['maps'])} maps, {lost} errors", markup=False)
    raise typer.Exit(found["exit_code"])


def _rate_line(line: dict[str, Any]) -> str:
    waiting = "+".join(map(str, line["waiting"]))
    return (
        f"{line['seconds']:6.1f} s  {line['maps']:6.0f} maps  {line['fps']:6.1f} fps  {line['kbps']:8.1f} kbit/s  "
        f"{line['bytes_per_map']:7.0f} B/map  waiting {waiting}  dropped {line['dropped']}"
    ) + (f"  lost {line['lost']}" if line["lost"] else "")


def _say(console: Console, as_json: bool, event: str, figures: dict[str, Any], text: str) -> None:
    if as_json:
        sys.stderr.write(json.dumps({"event": event, **figures}) + "\n")
    else:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; what a user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except FeatlinkError as error:
        sys.stderr.write(f"featlink-device: {error}\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"featlink-device: {error.filename or 'system'}: {error.strerror}\n")
        sys.exit(2)
