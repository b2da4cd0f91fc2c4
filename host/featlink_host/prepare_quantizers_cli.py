"""`featlink-host prepare quantizers`: which quantizer at which cut, and the extractor that has it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlink_codec.errors import SettingsError

from .prepare_options import Anchors, AsJson, Colour, Demo, Force, LabelNames, ModelOrDemo, Offset, Report, Scale, tell
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .prepare.pipeline import PrepareOptions

Source = Annotated[Path | None, typer.Option(help="Pictures: video, image, or folder of images.")]
Kbps = Annotated[float | None, typer.Option(help="Most kilobits a second: the best agreement within it.")]
Agreement = Annotated[
    float | None, typer.Option(help="Least F1 of detections, or 1 - distortion: the least rate that has it.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the extractor with the winner; none without it.")
]
Frames = Annotated[int, typer.Option("--frames", min=16, help="Pictures, in runs of 8; every other run chooses.")]


def quantizers(
    tensors: Annotated[str, typer.Option(metavar="A,B,C", help="Cuts; `prepare cuts` lists what is possible.")],
    model: ModelOrDemo = None,
    source: Source = None,
    anchors: Anchors = None,
    label_names: LabelNames = None,
    scale: Scale = None,
    offset: Offset = 0.0,
    colour: Colour = "",
    demo: Demo = False,
    kbps: Kbps = None,
    agreement: Agreement = None,
    frames: Frames = 96,
    fps: Annotated[float | None, typer.Option(help="Pictures a second of the stream.  [the source's]")] = None,
    bits: Annotated[str, typer.Option(metavar="N,...", help="Bits of a level that quantizers compare at.")] = "6,5",
    keep_whole: Annotated[bool, typer.Option("--keep-whole", help="Keep a copy of the network, to compare.")] = False,
    out: Out = None,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare the standard's and adaptive quantizers at one or more cuts.

    Quantizers are fitted and chosen on every other run of consecutive
    pictures, and the figures are of the runs between: adaptive ones of one
    class (uniform, Gaussian, Laplace, logarithmic, by the source's spread or by
    least squares, and the four deciders), of channel classes by variance or by
    the head's sensitivity, of regions and of blocks, at equal bits without
    loss and at several QPs; where the map has no values below 0 the
    standard's, too.

    A stopped run goes on where it was: its notes are in OUT.work, or
    DIR/quantizers.work without OUT.
    """
    from featlink_codec.video.clip import open_source

    from .model.notes import Notes
    from .prepare.build_search import Target
    from .prepare.build_step import write_records
    from .prepare.folder import check_free, replace_folder
    from .prepare.quantizer_report import quantizers_page
    from .prepare.quantizer_run import QuantizerOptions, compare_quantizers
    from .prepare.record import StepRecord, digest_of, package_version, plain, step_key, write_step
    from .prepare_options import resolve_model

    if out is None and report is None:
        raise SettingsError("nothing to write: give -o, --report, or both")
    if out is not None:
        check_free(out, force)
    path = resolve_model(model, demo)
    pictures, prepare = _inputs(demo, source, anchors, label_names, scale, offset, colour)
    options = QuantizerOptions(
        tensors=tuple(one.strip() for one in tensors.split(",") if one.strip()),
        target=Target(kbps, agreement),
        prepare=replace(prepare, keep_whole=keep_whole, name=out.absolute().name if out is not None else ""),
        frames=frames,
        fps=fps,
        bits=_bits(bits),
    )
    work = out.absolute().with_name(f"{out.absolute().name}.work") if out is not None else None
    if work is None:
        assert report is not None
        work = report / "quantizers.work"
    work.mkdir(parents=True, exist_ok=True)
    files = {"model": path, "source": pictures, **prepare.task_files}
    digests = {name: digest_of(file) for name, file in files.items()}
    given = plain({"tensors": options.tensors, "kbps": kbps, "agreement": agreement, "frames": frames, "fps": fps,
                   "bits": options.bits, "scale": prepare.scale, "offset": prepare.offset, "colour": prepare.colour,
                   "files": files})  # fmt: skip
    built = work / "built" if out is not None else None
    # What was measured does not depend on what is wanted, or on which other cuts there are.
    measured = {key: given[key] for key in ("frames", "fps", "scale", "offset", "colour")}
    notes = Notes(work / "notes.json", step_key("quantizers", digests, measured))
    with ProgressBar() as bar:
        found = compare_quantizers(
            path, open_source(pictures), options, work, out=built, notes=notes, force=True, progress=bar
        )
    outputs = {file.name: digest_of(file) for file in sorted(built.iterdir())} if built is not None else {}
    record = StepRecord("quantizers", package_version(), digests, given, plain(found.figures()), outputs)
    page = quantizers_page(found)
    if out is not None and built is not None:
        write_records(built, [record], page)
        replace_folder(built, out, force)
    if report is not None:
        write_step(report, record, page)
    shutil.rmtree(work, ignore_errors=True)
    tell(plain(found.figures()), [found.reason], as_json)


def _inputs(
    demo: bool,
    source: Path | None,
    anchors: Path | None,
    label_names: Path | None,
    scale: float | None,
    offset: float,
    colour: str,
) -> tuple[Path, PrepareOptions]:
    """Pictures, and what the model does not say itself.

    :raises SettingsError: options that do not go together
    """
    from .prepare.pipeline import PrepareOptions
    from .prepare_options import detector_options

    if (anchors is None) != (label_names is None):
        raise SettingsError("an SSD detector needs both --anchors and --label-names")
    if demo:
        from .demo import demo_options, demo_source_clip

        if anchors is not None:
            raise SettingsError("--demo brings its own anchors and names: leave --anchors and --label-names out")
        return source or demo_source_clip(), demo_options()
    if source is None:
        raise SettingsError("no pictures: give --source (a video, an image, a folder of images), or --demo")
    if not source.exists():
        raise SettingsError(f"{source}: no pictures: found no such file or folder")
    if anchors is not None and label_names is not None:
        return source, detector_options(anchors, label_names, scale, offset, colour)
    factor = 1 / 255 if scale is None else scale
    return source, PrepareOptions(colour=colour or "rgb", scale=factor, offset=offset)


def _bits(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(one) for one in text.split(",")))
    except ValueError:
        raise SettingsError(f"--bits: found {text!r}, expected numbers with commas between") from None
