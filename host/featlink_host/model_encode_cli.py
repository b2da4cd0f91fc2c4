"""`featlink-host model encode`: an ONNX model, or tensors, as a model stream."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError

from .progress_bar import ProgressBar


def encode(
    source: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model, or tensors as .npz.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The stream to write: whole, or not at all.")],
    qp: Annotated[
        int | None, typer.Option(min=-128, max=64, help="Quantization parameter; 4 more double the step.  [-32]")
    ] = None,
    target_size: Annotated[
        str | None, typer.Option(metavar="BYTES|P%", help="At most so many bytes, or of those of the tensors.")
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Smallest stream that still reaches it on the labels.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Inputs as .npz: steps are chosen by what each tensor does to the outputs."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Their labels as .npz: the array `labels`.")] = None,
    vector_qp: Annotated[
        int | None, typer.Option(help="Of tensors of one dimension.  [-75, or by what they do to the outputs]")
    ] = None,
    rate_weight: Annotated[
        float | None,
        typer.Option("--lambda", min=0.0, help="Of rate-distortion optimised quantization, in steps squared a bit."),
    ] = None,
    feedback: Annotated[
        bool | None,
        typer.Option(
            "--feedback/--no-feedback",
            help="With --images: errors of rounding are made good by other weights of the layer. Else both are tried.",
        ),
    ] = None,
    dq: Annotated[bool, typer.Option("--dq/--urq", help="Dependent or uniform quantization.")] = True,
    lossless: Annotated[bool, typer.Option("--lossless", help="Every tensor as it is.")] = False,
    enhance: Annotated[
        int | None, typer.Option(metavar="QP", help="Also a version `enhanced`: differences of this QP over the base.")
    ] = None,
    compensate: Annotated[
        int | None, typer.Option(metavar="QP", help="Also a version `compensated`: layers beside the base's own.")
    ] = None,
    supplement: Annotated[
        list[str] | None,
        typer.Option(metavar="[relevance|robustness]", help="Beside the model, by --images; may be given again."),
    ] = None,
    options: Annotated[bool, typer.Option("--options", help="Also how layers may be processed.")] = False,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="A layer's weight, bias and batch normalization share a unit.")
    ] = False,
    data_formats: Annotated[
        bool, typer.Option("--data-formats", help="Also tell in each unit which type its tensors have.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the model, for the control data.")] = "",
    release: Annotated[str, typer.Option(help="Version of the model, for the control data.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a model as a model stream: an NNC bitstream that any decoder of ISO/IEC 15938-17 reads.

    The graph travels in the stream's control data, so that `model decode` makes an ONNX file again. Integers and what
    has no other syntax are exact.

    With --images, the model is run: the step of each tensor follows from what noise on it does to the outputs, and
    rounding with error feedback and several lambdas are tried out. A search keeps what it has found in OUT.search, and
    goes on there when it was interrupted.
    """
    from featlink_codec.files import write_whole

    from .model.job import Job, run_job

    if sum(one is not None for one in (qp, target_size, target_accuracy)) + lossless > 1:
        raise SettingsError("--qp, --target-size, --target-accuracy and --lossless exclude each other")
    job = Job(
        source=source,
        out=out,
        qp=-32 if qp is None else qp,
        target_size=_bytes(target_size),
        target_accuracy=target_accuracy,
        images=images,
        labels=labels,
        vector_qp=vector_qp,
        rate_weight=rate_weight,
        feedback=feedback,
        dq=dq,
        lossless=lossless,
        enhance=enhance,
        compensate=compensate,
        supplements=tuple(supplement or ()),
        options=options,
        blocks=blocks,
        data_formats=data_formats,
        name=name,
        release=release,
    )
    with ProgressBar() as bar:
        done = run_job(job, bar)
    write_whole(out, done.made.data)
    done.notes.done()
    if as_json:
        sys.stdout.write(json.dumps(done.figures()) + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        for line in done.lines():
            console.print(line, markup=False)


def _bytes(text: str | None) -> tuple[float, bool] | None:
    """A number, and whether it is a share in percent."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r}: expected bytes, or percent such as 5%", param_hint="--target-size")
    return float(found[1]), bool(found[2])
