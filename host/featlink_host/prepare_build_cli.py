"""`featlink-host prepare build` and `repeat`: the extractor for a rate or an agreement."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError

from .prepare_options import (
    Anchors,
    AsJson,
    Colour,
    Demo,
    FixShape,
    Force,
    LabelNames,
    Labels,
    ModelOrDemo,
    Offset,
    Report,
    Scale,
)
from .prepare_survey_cli import StandardOnly
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .prepare.build import Built
    from .prepare.build_step import BuildArguments

Images = Annotated[Path | None, typer.Option(help="Pictures: folder, video, image, or IDX (.gz) and .npz of bytes.")]
Target = Annotated[
    Path | None,
    typer.Option(help="Folder with target.toml, or a file of limits: what the camera's encoder takes.  [x265]"),
]
Kbps = Annotated[float | None, typer.Option(help="Most kilobits a second: the best agreement within it.")]
Agreement = Annotated[
    float | None,
    typer.Option(help="Least F1 of detections, share of right labels, or 1 - distortion: the least rate that has it."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the extractor; it appears when everything is done.")]
Frames = Annotated[int, typer.Option("--frames", "--limit", min=1, help="Pictures, in runs of 8 consecutive ones.")]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Pictures a second of the stream.  [the source's]")]
ModelQp = Annotated[
    int | None,
    typer.Option(
        min=-128, max=64, help="QP of the backbone's model stream; the backbone is what it decodes to.  [lossless]"
    ),
]


def build(
    out: Out,
    tensor: Annotated[str, typer.Option(help="Where to split; `prepare survey` compares the places.")],
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
    frames: Frames = 48,
    fps: FpsOption = None,
    model_qp: ModelQp = None,
    fix_shape: FixShape = None,
    keep_whole: Annotated[bool, typer.Option("--keep-whole", help="Keep a copy of the network, to compare.")] = False,
    standard_only: StandardOnly = False,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the extractor whose packing, quantizer and video settings suit a rate or an agreement best.

    Maps of runs of consecutive pictures are coded as a camera would code them
    and decoded as the host would: uniform and logarithmic quantizers of 2, 4
    and 8 bits, lossless and at several QPs, the packing and the order of
    channels by the planner. Beside it x265 of the pictures in the network's
    size, as a rival.

    A stopped build goes on where it was: its notes are in OUT.work.
    """
    arguments = build_arguments(
        model, images, demo, tensor=tensor, labels=labels, anchors=anchors, label_names=label_names, scale=scale,
        offset=offset, colour=colour, target=target, kbps=kbps, agreement=agreement, frames=frames, fps=fps,
        model_qp=model_qp, fix_shape=tuple(fix_shape or ()), keep_whole=keep_whole, name=out.absolute().name,
        standard_only=standard_only,
    )  # fmt: skip
    _run(arguments, out, report, force, as_json)


def repeat(
    record: Annotated[Path, typer.Argument(metavar="EXTRACTOR/prepare.json", help="The record of an extractor.")],
    out: Out,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Do all again as an extractor's record says, from the same files; others are refused.

    Of `auto` every step is done again; what was measured in milliseconds does
    not matter, since the cut that was chosen then is taken.
    """
    from .prepare.auto import read_auto
    from .prepare.build_step import RECORD_FILE, read_build
    from .prepare_auto_cli import make_all

    path = record / RECORD_FILE if record.is_dir() else record
    whole = read_auto(path)
    if whole is not None:
        everything, digests, cut = whole
        _check_same(path, everything.build, digests)
        make_all(everything, out, force, as_json, cut)
        return
    arguments, digests = read_build(path)
    _check_same(path, arguments, digests)
    _run(arguments, out, None, force, as_json)


def _check_same(path: Path, arguments: BuildArguments, digests: Mapping[str, str]) -> None:
    """SettingsError: a file is another one than it was."""
    for name, found in arguments.digests().items():
        if digests.get(name) not in (None, found):
            raise SettingsError(f"{path}: {name}: {arguments.files[name]} is another file than it was then")


def build_arguments(
    model: Path | None, images: Path | None, demo: bool, *, tensor: str, **given: object
) -> BuildArguments:
    """What a command's options come to; the demo brings what it has.

    :raises SettingsError: options that do not go together
    """
    from .prepare.build_step import BuildArguments
    from .prepare_options import resolve_model

    path = resolve_model(model, demo)
    values = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    if demo:
        from .demo import ANCHORS, LABELS, demo_options, demo_source_clip

        options = demo_options()
        images = images or demo_source_clip()
        values |= {"anchors": str(ANCHORS), "label_names": str(LABELS), "scale": options.scale,
                   "offset": options.offset, "colour": options.colour}  # fmt: skip
    if images is None:
        raise SettingsError("no images: give --images (a folder of images, a video, IDX or .npz), or --demo")
    return BuildArguments(model=str(path), tensor=tensor, images=str(images), **values)  # type: ignore[arg-type]


def _run(arguments: BuildArguments, out: Path, report: Path | None, force: bool, as_json: bool) -> None:
    from .prepare.build_report import build_page
    from .prepare.build_search import Target
    from .prepare.build_step import run_build, write_records
    from .prepare.folder import check_free, replace_folder
    from .prepare.record import plain, write_step

    Target(arguments.kbps, arguments.agreement)
    check_free(out, force)
    work = out.absolute().with_name(f"{out.absolute().name}.work")
    built_in = work / "built"
    with ProgressBar() as bar:
        built, record = run_build(arguments, built_in, work, progress=bar)
    page = build_page(built)
    write_records(built_in, [record], page)
    replace_folder(built_in, out, force)
    if report is not None:
        write_step(report, record, page)
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        sys.stdout.write(json.dumps({**plain(built.figures()), "folder": str(out)}) + "\n")
        return
    tell_built(replace(built, folder=out))


def tell_built(built: Built) -> None:
    """A few lines on what was built."""
    from .prepare.build_report import verdict

    console = Console(soft_wrap=True, highlight=False)
    chosen = built.chosen
    console.print(
        f"{built.folder}: split at {built.options.tensor}; {chosen.way}, order {built.plan.best.order}: "
        f"{chosen.kbps:.0f} kbit/s at {built.fps:.4g} pictures a second, {chosen.score}; "
        f"model stream {built.stream_bytes} bytes",
        markup=False,
    )
    for sentence in verdict(built):
        console.print(sentence, markup=False)
