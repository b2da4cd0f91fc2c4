"""The command line of the far end: `featlink-host`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from featlink_codec.errors import FeatlinkError, RefusedError

from .model_cli import model
from .prepare_cli import prepare

if TYPE_CHECKING:
    from .decode import StreamIndex
    from .run import MapRecord, RunResult

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The far end of featlink: decode feature-map streams, run the head, prepare models for cameras.",
)
app.add_typer(prepare, name="prepare")
app.add_typer(model, name="model")

StreamName = Annotated[str, typer.Argument(metavar="IN", help="A feature-map stream, or - for standard input.")]
ProfileName = Annotated[
    str, typer.Option("--profile", metavar="[standard|interface|standard-16]", help="As agreed with the writer.")
]
LevelScaling = Annotated[bool, typer.Option("--level-scaling", help="Samples carry level * 255 / peak.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_EXIT_CODES = "Exit code 0: whole; 3: something was lost, the rest is there; 2: the stream is refused."


@app.command(epilog=_EXIT_CODES)
def decode(
    stream: StreamName,
    out: Annotated[Path, typer.Option(help="Folder for the maps and index.json.")],
    profile: ProfileName = "standard",
    level_scaling: LevelScaling = False,
    as_json: AsJson = False,
) -> None:
    """Write every map of a stream as k_levels.npy (int32 [H, W, C]) and k_values.npy (float32), and index.json.

    Works on any stream, without an extractor. Maps are numbered in the order of delivery, with five digits.
    """
    from featlink_codec.features import StreamReader

    from .decode import decode_stream
    from .streams import read_chunks

    chunks = _existing(read_chunks(stream))
    index = decode_stream(StreamReader(_profile(profile), level_scaling), chunks, out)
    if as_json:
        sys.stdout.write(json.dumps(index.as_dict()) + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"{len(index.maps)} maps under {len(index.time_tags)} time tags -> {out}", markup=False)
        _complain_of(index)
    raise typer.Exit(index.exit_code)


@app.command(epilog=_EXIT_CODES)
def inspect(
    stream: StreamName,
    profile: ProfileName = "standard",
    level_scaling: LevelScaling = False,
    as_json: AsJson = False,
) -> None:
    """Show a stream as a table: header, time tags, maps, sizes, damage. Pixels are not decoded."""
    from featlink_codec.features import StreamReader

    from .decode import StreamIndex, follow
    from .inspect import render_index
    from .streams import read_chunks

    index = StreamIndex()
    total = 0

    def counted() -> Iterator[bytes]:
        nonlocal total
        for chunk in read_chunks(stream):
            total += len(chunk)
            yield chunk

    for _ in follow(StreamReader(_profile(profile), level_scaling, decode=False), counted(), index):
        pass
    if as_json:
        sys.stdout.write(json.dumps({"bytes": total, **index.as_dict()}) + "\n")
    else:
        Console().print(render_index(index, total))
    raise typer.Exit(index.exit_code)


@app.command(epilog=_EXIT_CODES)
def run(
    stream: StreamName,
    extractor: Annotated[Path, typer.Option(help="Folder of the extractor, the same as on the camera.")],
    out: Annotated[Path, typer.Option(help="Folder for detections.jsonl and report.html.")],
    compare: Annotated[
        str | None, typer.Option(help="The source that the camera saw: compare with the whole network, JPEG and x265.")
    ] = None,
    device_stats: Annotated[Path | None, typer.Option(help="What `featlink-device run --stats` wrote.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Read a file while it is still being written.")] = False,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for more of a followed file.")] = 10.0,
    crf: Annotated[list[int], typer.Option(help="CRFs of the rival x265; may be given again.")] = [8, 13, 18, 23, 28],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Decode a stream as it comes, run the head, write detections as JSON lines and a report as one HTML page."""
    from featlink_codec.files import write_whole

    from .report.compare import compare as compare_with
    from .report.render import render_report
    from .run import HostRun
    from .streams import read_chunks

    host = HostRun(extractor, measure=True)
    chunks = _existing(read_chunks(stream, follow=follow, patience_s=patience))
    console = Console(stderr=True)
    with console.status("waiting for the stream", spinner="line") as status:

        def on_map(record: MapRecord) -> None:
            status.update(f"{record.k + 1} maps, {len(record.detections)} objects in the last")

        result = host.run(chunks, out, on_map)
        comparison = None
        if compare is not None and result.records:

            def on_picture(done: int, total: int) -> None:
                status.update(f"comparing: picture {done} of {total}")

            comparison = compare_with(
                host.settings,
                extractor,
                Path(compare),
                result.records,
                crfs=tuple(crf),
                start_s=result.start_s,
                progress=on_picture,
            )
        stats = _read_stats(device_stats)
        html = render_report(result, host.settings, source_name=compare, comparison=comparison, device_stats=stats)
    write_whole(out / "report.html", html)
    summary = _summary(result, out)
    if comparison is not None:
        summary["comparison"] = comparison.as_dict()
        write_whole(out / "comparison.json", json.dumps(summary["comparison"], indent=1) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        text = f"{summary['maps']} maps, {summary['bytes_per_map']:.0f} bytes a map -> {out / 'report.html'}"
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
        if result.unhashed:
            _complain(f"{result.unhashed} maps carry no picture hash: damage may have passed unseen")
        _complain_of(result.index)
    raise typer.Exit(result.index.exit_code)


def _summary(result: RunResult, out: Path) -> dict[str, Any]:
    maps = result.maps
    return {
        "maps": maps,
        "unhashed": result.unhashed,
        "bytes": result.stream_bytes,
        "bytes_per_map": result.stream_bytes / max(maps, 1),
        "errors": result.index.errors,
        "detections": str(out / "detections.jsonl"),
        "report": str(out / "report.html"),
    }


def _read_stats(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeatlinkError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise FeatlinkError(f"{path}: not JSON") from None
    if not isinstance(stats, dict) or "stages" not in stats:
        raise FeatlinkError(f"{path}: not what `featlink-device run --stats` writes")
    return stats


def _profile(name: str) -> Any:
    from featlink_codec.features import Profile

    names = [profile.value for profile in Profile]
    if name not in names:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="--profile")
    return Profile(name)


def _existing(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks; what cannot be opened is found out now, before anything is made for it."""
    first = next(chunks, b"")

    def again() -> Iterator[bytes]:
        yield first
        yield from chunks

    return again()


def _complain_of(index: StreamIndex) -> None:
    for error in index.errors:
        _complain(f"byte {error['offset']}: {error['name']}: {error['text']}")


def _complain(text: str) -> None:
    sys.stderr.write(f"featlink-host: {text}\n")


def main() -> None:
    """Run the command line; what a user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except RefusedError as error:
        _complain(f"refused: {error}")
        sys.exit(2)
    except FeatlinkError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:
        _complain(f"{error.filename or 'system'}: {error.strerror}")
        sys.exit(2)
