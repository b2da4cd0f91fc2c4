"""`featlink-host model`: models to model streams and back, updates between them, what a stream holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError

from .model_encode_cli import encode
from .progress_bar import ProgressBar

model = typer.Typer(
    no_args_is_help=True, help="Model streams (NNC, ISO/IEC 15938-17): compress models for cameras, and update them."
)
model.command()(encode)

Stream = Annotated[Path, typer.Argument(metavar="STREAM.nnc", help="A model stream.")]
Updates = Annotated[list[Path] | None, typer.Argument(metavar="[UPDATE.nnc]...", help="Updates, in order.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="File to write: whole, or not at all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@model.command()
def decode(
    stream: Stream,
    out: Annotated[Path, typer.Option("--out", "-o", help="A file .onnx or .npz: whole, or not at all.")],
    version: Annotated[str | None, typer.Option(help="Of a stream that holds several; the simplest.")] = None,
    supplements: Annotated[
        bool, typer.Option("--supplements", help="In an .npz: also what inference does not need.")
    ] = False,
    after: Annotated[
        list[Path] | None, typer.Option(help="Of an update: one before it; may be given again. For an .npz.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="That decode.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write a stream's model as ONNX, or the tensors of any NNC stream as NumPy's .npz.

    ONNX needs the graph, which only streams of `model encode` hold; the result passes ONNX's checker. An .npz can be
    had of any stream; that of an update has the differences.
    """
    from featlink_codec.model.stream_files import blaming, opened

    from .model.decoding import decode_npz, decode_onnx

    form = _form(out, ".onnx", ".npz")
    with opened(stream, *(after or ()), threads=threads) as (found, *before), ProgressBar() as bar, blaming(stream):
        if form == ".npz":
            count = decode_npz(found, out, version, supplements, bar, before)
        else:
            if supplements or before:
                raise SettingsError("--supplements and --after go with an .npz")
            count = decode_onnx(found, out, version, bar)
    _tell(as_json, f"{count} tensors -> {out}", tensors=count, out=str(out))


@model.command()
def update(
    base: Annotated[Path, typer.Argument(metavar="BASE.nnc", help="The stream that the receiver has.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.onnx", help="The model to lead it to.")],
    out: Out,
    after: Annotated[
        list[Path] | None, typer.Option(help="An update that the receiver has applied since; may be given again.")
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(help="What BASE.nnc was made of: send what changed since, not what its coding lost."),
    ] = None,
    qp: Annotated[int, typer.Option(help="Of the differences; 4 more double the step.")] = -35,
    vector_qp: Annotated[int | None, typer.Option(help="Of tensors of one dimension.  [12 below --qp]")] = None,
    rate_weight: Annotated[
        float, typer.Option("--lambda", min=0.0, help="Of rate-distortion optimised quantization; 0: least distortion.")
    ] = 0.0,
    dq: Annotated[bool, typer.Option("--dq/--urq", help="Dependent or uniform quantization.")] = True,
    lossless: Annotated[bool, typer.Option("--lossless", help="Tensors that changed are sent as they are.")] = False,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="For receivers that keep the model, not the updates before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write an update: what leads from a base stream to another model, refused by receivers of any other base."""
    from featlink_codec.files import write_whole
    from featlink_codec.model import EncodeSettings, TensorSettings
    from featlink_codec.model.stream_files import opened

    from .model.encoding import base_after, lossless_settings, update_to
    from .model.onnx_graph import read_onnx

    weights = TensorSettings(qp=qp, rate_weight=rate_weight, dq=dq)
    vectors = TensorSettings(qp=qp - 12 if vector_qp is None else vector_qp, rate_weight=rate_weight, dq=dq)
    settings = lossless_settings() if lossless else EncodeSettings(weights=weights, vectors=vectors)
    goal = read_onnx(new)
    before = read_onnx(original) if original is not None else None
    with opened(base, *(after or ())) as streams:
        have = base_after(streams[0], streams[1:])
        made = update_to(have, goal, settings, original=before, standalone=standalone)
    write_whole(out, made.data)
    size = sum(values.nbytes for values in goal.tensors.values())
    text = f"{len(made.data)} bytes, {len(made.data) / size:.2%} of the model's tensors -> {out}"
    _tell(as_json, text, bytes=len(made.data), share=len(made.data) / size, model=made.model_sha256, out=str(out))


@model.command()
def apply(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="A model stream, or an ONNX file decoded from one.")],
    updates: Annotated[list[Path], typer.Argument(metavar="UPDATE.nnc...", help="Updates, in order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write: whole, or not at all.")],
    as_json: AsJson = False,
) -> None:
    """Write the ONNX model that updates make of a base. Updates for another base, or out of order, are refused."""
    from featlink_codec.model.onnx_file import write_onnx
    from featlink_codec.model.stream_files import opened, source

    from .model.onnx_graph import check_onnx

    _form(out, ".onnx")
    with source(base) as begin, opened(*updates) as streams, ProgressBar() as bar:
        identity = write_onnx(
            out, begin, streams, labels=[str(path) for path in (base, *updates)], check=check_onnx, progress=bar
        )
    _tell(as_json, f"model {identity[:16]}... -> {out}", model=identity, out=str(out))


@model.command()
def inspect(
    stream: Stream,
    verify: Annotated[
        bool, typer.Option("--verify", help="Decode everything: quantization parameters, and every hash checked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a stream as a table: units, tensors, bytes, coding, hashes, levels of the control data.

    Payloads are not decoded, unless --verify. Exit code 2: something is wrong; the line says what and where. Tensors of
    an update that are coded against the one before it cannot be decoded here, and are named.
    """
    from featlink_codec.model.stream_files import blaming, opened

    from .model.inspect import describe, render

    with opened(stream) as (found,), blaming(stream):
        unchecked = found.verify(partly=True) if verify else None
        shown = describe(found, stream.stat().st_size, decode=verify) | {"unchecked": unchecked}
    if as_json:
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(render(shown))


def _form(out: Path, *known: str) -> str:
    if out.suffix not in known:
        raise typer.BadParameter(f"{out}: expected a name that ends in {' or '.join(known)}", param_hint="--out")
    return out.suffix


def _tell(as_json: bool, text: str, **figures: Any) -> None:
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
