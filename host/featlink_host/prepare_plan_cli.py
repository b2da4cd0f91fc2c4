"""`featlink-host prepare plan`: measure packings of an extractor's map, choose one, say why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError
from featlink_codec.tables import parse_json, read_text

from .progress_bar import ProgressBar

#: A table of ten columns is not folded for a file or a pipe.
_WIDTH = 120


def plan(
    extractor: Annotated[Path, typer.Option(help="Folder of the extractor.")],
    source: Annotated[Path, typer.Option(help="Pictures to measure with: video, image, or folder of images.")],
    frames: Annotated[int, typer.Option(min=1, help="Pictures, in runs of 8 consecutive ones evenly spread.")] = 32,
    qp: Annotated[int | None, typer.Option(min=0, max=51, help="Instead of the extractor's own coding.")] = None,
    limits: Annotated[
        str, typer.Option(metavar="[x265|FILE]", help="What the camera's encoder takes: TOML, or a camera's JSON.")
    ] = "x265",
    encoder: Annotated[
        str | None, typer.Option(metavar="BACKEND[:NODE]", help="Which one of a camera's JSON. The first that works.")
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[identity|descending-difference|similarity|classes|given]",
            help="Orders of channels to try beside their own; may be given again. All that fit where left out. "
            "classes: the channels of a class of an adaptive quantizer stand together.",
        ),
    ] = None,
    order_file: Annotated[
        Path | None, typer.Option(help="The order `given`: a JSON list. Else the extractor's present one.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the best into extractor.toml; its comments are not kept.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure how many bytes a map takes in each packing, choose the best, and say why.

    Maps of real pictures are coded by libx265 with the extractor's own video
    settings, whatever encoder --limits are for, at one QP for all. Bytes are
    those of feat_map_data, headers and order lists included.

    The pictures come in runs of 8 consecutive ones, so that P pictures have
    what they need. Each run begins with a refresh; in the mean, refreshes have
    the weight that refresh_s gives them at the source's picture rate.

    Not everything is measured. First grids, all in the channels' own order: the
    quick choice by geometry alone (as in `prepare split`), the six best with
    the fewest pictures (squarest, least unused), the best two with more, mode
    stack, and what extractor.toml says. Then orders, on the best three of them.

    A file of limits holds what the camera's encoder takes, e.g.:

        name = "wave5"
        formats = ["NV12"]
        min_width = 256
        min_height = 128
        multiple_of_width = 32

    So does what `featlink-device encoders --json` or `doctor --json` printed on
    the camera.
    """
    from featlink_codec.video.clip import open_source
    from featlink_codec.video.limits import EncoderLimits

    from .prepare.apply import apply_packing
    from .prepare.plan_report import explain, plan_dict, render_plan
    from .prepare.planner import plan_extractor

    given = _read_order(order_file)
    if limits == "x265" and encoder is not None:
        raise SettingsError(f"--encoder {encoder}: expected --limits with the JSON that has it")
    target = None if limits == "x265" else EncoderLimits.load(limits, encoder)
    with ProgressBar() as bar:
        found = plan_extractor(
            extractor,
            open_source(source),
            frames=frames,
            qp=qp,
            limits=target,
            orders=order,
            given=given,
            progress=bar,
        )
    written = apply and apply_packing(extractor, found.best.packing)
    if as_json:
        sys.stdout.write(json.dumps({**plan_dict(found), "applied": written}) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(_WIDTH, console.width))
    console.print(render_plan(found))
    console.print()
    for sentence in explain(found):
        console.print(sentence, markup=False, soft_wrap=True)
    if apply:
        done = "now has this packing" if written else "had this packing already"
        console.print(f"{extractor / 'extractor.toml'} {done}.", markup=False, soft_wrap=True)


def _read_order(path: Path | None) -> tuple[int, ...] | None:
    """The channel numbers in a file."""
    if path is None:
        return None
    found = parse_json(read_text(path), path, "a list of channel numbers")
    if not isinstance(found, list) or not all(type(one) is int for one in found):
        raise SettingsError(f"{path}: found no list of integers, expected a list of channel numbers")
    return tuple(found)
