"""`featlink-host prepare ...`: from a whole network to an extractor."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .prepare_auto_cli import auto
from .prepare_build_cli import build, repeat
from .prepare_distill_cli import distill
from .prepare_factorize_cli import factorize
from .prepare_integer_cli import integer
from .prepare_plan_cli import plan
from .prepare_prune_cli import prune
from .prepare_quantize_cli import quantize
from .prepare_quantizers_cli import quantizers
from .prepare_sparsify_cli import sparsify
from .prepare_survey_cli import survey
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from featlink_codec.extractor import QuantizerSettings

    from .prepare.pipeline import Prepared

prepare = typer.Typer(no_args_is_help=True, help="From a trained ONNX model to what runs on both ends of the link.")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Source = Annotated[Path, typer.Option(help="Pictures to calibrate with: video, image, or folder of images.")]
Out = Annotated[Path, typer.Option(help="Folder of the extractor; it appears when everything is done.")]
Frames = Annotated[int, typer.Option(min=1, help="Pictures to calibrate with, evenly spread.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="Code the pictures without loss.")]
Qp = Annotated[int | None, typer.Option(min=0, max=51, help="Constant QP of lossy coding.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an extractor that stands there already.")]


@prepare.callback()
def _prepare() -> None:
    """From a trained ONNX model to what runs on both ends of the link."""


@prepare.command()
def cuts(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The whole network, an ONNX file.")],
    as_json: AsJson = False,
) -> None:
    """List the tensors at which a network can be split in two."""
    from .prepare.split import single_tensor_cuts

    found = single_tensor_cuts(model)
    if as_json:
        keys = ("name", "shape", "dtype", "operator", "non_negative")
        sys.stdout.write(json.dumps([{key: getattr(cut, key) for key in keys} for cut in found]) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False)
    for cut in found:
        console.print(f"{cut}{'' if cut.non_negative else '  (may be negative)'}", markup=False)


@prepare.command()
def split(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The whole network, an ONNX file.")],
    tensor: Annotated[str, typer.Option(help="Where to split it; `prepare cuts` lists what is possible.")],
    source: Source,
    out: Out,
    name: Annotated[str, typer.Option(help="Name for people; the folder's where left out.")] = "",
    feat_extractor_id: Annotated[int, typer.Option(min=0, max=7, help="Its number on the wire.")] = 0,
    feat_type_id: Annotated[int, typer.Option(min=0, max=255, help="The map's type on the wire.")] = 0,
    colour: Annotated[str, typer.Option(metavar="[rgb|bgr|gray]", help="Samples that the network wants.")] = "rgb",
    scale: Annotated[float, typer.Option(help="A sample x becomes x * scale + offset.")] = 1 / 255,
    offset: Annotated[float, typer.Option(help="See --scale.")] = 0.0,
    input_size: Annotated[
        tuple[int, int] | None, typer.Option(metavar="W H", help="Only where the model leaves it open.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="[uniform|logarithmic|adaptive]",
            help="The quantizer; values below 0 need adaptive, as --distribution.",
        ),
    ] = "uniform",
    bit_depth: Annotated[int, typer.Option(metavar="[2|4|8|16]", help="Bits of a level; adaptive: 2 to 8.")] = 8,
    distribution: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Adaptive: uniform, gaussian, laplace, logarithmic, or a decider: histogram, "
            "next-layer, structure, structure-or-uniform.",
        ),
    ] = "uniform",
    fit: Annotated[str, typer.Option(metavar="[literal|least-squares]", help="Adaptive: the spread.")] = "literal",
    partition: Annotated[
        str, typer.Option(metavar="[whole|channel|region|block]", help="Adaptive: what has a class.")
    ] = "whole",
    classes: Annotated[int, typer.Option(min=1, help="Adaptive: how many.")] = 1,
    classes_by: Annotated[
        str,
        typer.Option(
            metavar="[variance|sensitivity|image]",
            help="Adaptive: channels alike in it are of a class; image: regions, by the detail of the pictures.",
        ),
    ] = "variance",
    bits: Annotated[float | None, typer.Option(help="Adaptive: bits of a level on average over classes.")] = None,
    on_device: Annotated[
        bool, typer.Option("--on-device", help="Adaptive: the camera fits them anew for each intra period.")
    ] = False,
    profile: Annotated[
        str, typer.Option(metavar="[standard|interface|standard-16|adaptive]", help="Of the stream.")
    ] = "standard",
    session: Annotated[
        str, typer.Option(metavar="[continuous|self-contained]", help="May a map build on earlier ones?")
    ] = "continuous",
    lossless: Lossless = False,
    qp: Qp = None,
    crf: Annotated[float | None, typer.Option(min=0, max=51, help="Constant rate factor of lossy coding.")] = None,
    preset: Annotated[str, typer.Option(help="Of x265: ultrafast to veryslow.")] = "superfast",
    refresh_s: Annotated[float, typer.Option(min=0.01, help="Seconds between intra pictures.")] = 2.0,
    anchors: Annotated[Path | None, typer.Option(help="SSD detector: anchors, .npy of [N, 4].")] = None,
    labels: Annotated[Path | None, typer.Option(help="SSD detector: one `id name` a line.")] = None,
    frames: Frames = 16,
    keep_whole: Annotated[bool, typer.Option("--keep-whole", help="Keep a copy of the network, to compare.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Split a network at a tensor, calibrate the quantizer, and write the extractor's folder.

    The folder holds extractor.toml, backbone.onnx for the camera and head.onnx for the host. With --anchors and
    --labels the head is an SSD detector; else its outputs are given as they are.
    """
    from featlink_codec.errors import SettingsError
    from featlink_codec.extractor import NoTask, SsdDetectorTask, VideoSettings

    from .prepare.pipeline import PrepareOptions, prepare_split
    from .prepare.quantizer_fits import AdaptiveChoice

    if (anchors is None) != (labels is None):
        raise SettingsError("an SSD detector needs both --anchors and --labels")
    task: NoTask | SsdDetectorTask = NoTask()
    files: dict[str, Path] = {}
    if anchors is not None and labels is not None:
        task = SsdDetectorTask(anchors=anchors.name, labels=labels.name)
        files = {"anchors": anchors, "labels": labels}
    video = VideoSettings(
        profile=profile,
        session=session,
        preset=preset,
        refresh_s=refresh_s,
        **_coding(lossless, qp, crf, VideoSettings()),
    )
    options = PrepareOptions(
        name=name,
        feat_extractor_id=feat_extractor_id,
        feat_type_id=feat_type_id,
        colour=colour,
        scale=scale,
        offset=offset,
        input_size=input_size,
        mode=mode,
        bit_depth=bit_depth,
        quantizer=AdaptiveChoice(distribution, fit, bit_depth, partition, classes, bits, classes_by)
        if mode == "adaptive"
        else None,
        on_device=on_device,
        video=video,
        task=task,
        task_files=files,
        frames=frames,
        keep_whole=keep_whole,
    )
    with ProgressBar() as bar:
        prepared = prepare_split(model, tensor, source, out, options, force=force, progress=bar)
    _tell(prepared, as_json)


prepare.command()(survey)
prepare.command()(plan)
prepare.command()(prune)
prepare.command()(factorize)
prepare.command()(distill)
prepare.command()(sparsify)
prepare.command()(quantize)
prepare.command()(integer)
prepare.command()(quantizers)
prepare.command()(build)
prepare.command()(repeat)
prepare.command()(auto)


@prepare.command()
def demo(
    out: Out,
    source: Annotated[Path | None, typer.Option(help="Pictures to calibrate with; the demo's street clip.")] = None,
    lossless: Lossless = False,
    qp: Qp = None,
    frames: Frames = 16,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Prepare the demo's detector: COCO-SSD, split at a bottleneck where the map is 64 channels of 19 x 19."""
    from .demo import SPLIT_TENSOR, demo_model, demo_options, demo_source_clip
    from .prepare.pipeline import prepare_split
    from .prepare.quantizer_fits import AdaptiveChoice

    options = replace(demo_options(), frames=frames, keep_whole=True)
    if lossless or qp is not None:
        # A QP needs levels that it can spread its error over.
        choice = options.quantizer if qp is None else AdaptiveChoice()
        video = replace(options.video, **_coding(lossless, qp, None, options.video))
        options = replace(options, quantizer=choice, video=video)
    with ProgressBar() as bar:
        prepared = prepare_split(
            demo_model(), SPLIT_TENSOR, source or demo_source_clip(), out, options, force=force, progress=bar
        )
    _tell(prepared, as_json)


def _quantizer(table: QuantizerSettings) -> str:
    """In words."""
    if table.classes is None:
        return f"{table.mode} {table.bit_depth} bit, max {table.max_feat_digit:g}"
    some = dict.fromkeys(f"{one.distribution} {one.bit_depth} bit" for one in table.classes)
    return f"{table.mode}, {table.partition}: {', '.join(some)}"


def _coding(lossless: bool, qp: int | None, crf: float | None, default: Any) -> dict[str, Any]:
    """The one of lossless, qp, crf that was asked for; several are for the settings to refuse."""
    if not lossless and qp is None and crf is None:
        return {key: getattr(default, key) for key in ("lossless", "qp", "crf")}
    return {"lossless": lossless, "qp": qp, "crf": crf}


def _tell(prepared: Prepared, as_json: bool) -> None:
    settings, found = prepared.settings, prepared.calibration
    map_ = settings.maps[0]
    if as_json:
        sys.stdout.write(json.dumps({"folder": str(prepared.folder), "settings": settings.to_dict()}) + "\n")
        return
    height, width = map_.picture_size
    Console(soft_wrap=True, highlight=False).print(
        f"{prepared.folder}: split at {map_.tensor}, {map_.channels} x {map_.height} x {map_.width}, "
        f"{found.minimum:g}..{found.maximum:g}, {found.zeros:.0%} zeros over {found.frames} pictures; "
        f"{_quantizer(map_.quantizer)}; "
        f"pictures of {width} x {height}",
        markup=False,
    )
