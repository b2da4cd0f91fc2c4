"""`featlink-device model`: model streams and updates become the ONNX file that the camera runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

model = typer.Typer(no_args_is_help=True, help="Models that come over the link as model streams (NNC).")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@model.command()
def apply(
    base: Annotated[
        Path, typer.Argument(metavar="BASE", help="A model stream, or the ONNX file that was made of one here.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The ONNX file to write: whole and verified, or not at all.")
    ],
    updates: Annotated[list[Path] | None, typer.Argument(metavar="[UPDATE.nnc]...", help="In order.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the ONNX file of a model stream, or of what updates make of it.

    Needs NumPy and no ONNX package. Tensors are decoded one after the other into the file; a tensor that does not come
    to its hash, an update for another base or out of order is refused, and the file stays as it was.
    """
    from .model import apply_updates

    found = apply_updates(base, updates or [], out)
    _tell(as_json, f"model {found.model[:16]}..., {found.bytes} bytes -> {out}", found.figures())


@model.command()
def verify(
    stream: Annotated[Path, typer.Argument(metavar="FILE", help="A model stream, or an ONNX file made of one.")],
    as_json: AsJson = False,
) -> None:
    """Decode everything in a stream and check every hash, from tensors over layers to the model; say what it is.

    Of an ONNX file: that it can be taken apart, and which model it holds. Exit code 2: something is wrong.
    """
    from .model import verify_file

    found = verify_file(stream)
    kind = f"update for {found['base'][:16]}..." if found.get("base") else "model"
    _tell(as_json, f"{kind} {found['model'][:16]}..., {found['tensors']} tensors, {found['bytes']} bytes: whole", found)


def _tell(as_json: bool, text: str, figures: dict[str, object]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
