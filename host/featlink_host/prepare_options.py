"""What the commands of `featlink-host prepare` share: options, the judge that they ask for, how results are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError

if TYPE_CHECKING:
    import onnx

    from .prepare.pipeline import PrepareOptions
    from .prepare.samples import Preprocessing
    from .prepare.scoring import Judge

ModelOrDemo = Annotated[
    Path | None, typer.Argument(metavar="[MODEL]", help="The whole network, an ONNX file; left out with --demo.")
]
Images = Annotated[
    Path | None,
    typer.Option(help="Samples: IDX (.gz), .npz, image, folder of images, or video."),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="Right answers, one a sample: IDX (.gz), .npz, or text with an integer a line."),
]
Anchors = Annotated[Path | None, typer.Option(help="SSD detector: anchors, .npy of [N, 4].")]
LabelNames = Annotated[Path | None, typer.Option(help="SSD detector: one `id name` a line.")]
Scale = Annotated[
    float | None,
    typer.Option(help="A sample x becomes x * scale + offset.  [1/255 for pictures and bytes, 1 for floats]"),
]
Offset = Annotated[float, typer.Option(help="See --scale.")]
Colour = Annotated[str, typer.Option(metavar="[rgb|bgr|gray]", help="Samples that the network wants.  [by its input]")]
Limit = Annotated[
    int | None, typer.Option("--limit", "--frames", min=1, help="Only so many samples, evenly spread.  [all]")
]
FixShape = Annotated[
    list[str] | None, typer.Option(metavar="NAME=1,3,H,W", help="Shape of an input that leaves axes open.")
]
Demo = Annotated[bool, typer.Option("--demo", help="The demo's detector, judged on its street clip.")]
Report = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the step's HTML page and JSON record.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what stands there already.")]

#: Pictures of the demo's clip that its detector is judged on, unless told otherwise.
DEMO_FRAMES = 64


def resolve_model(model: Path | None, demo: bool) -> Path:
    """The network's file: what was given, or the demo's.

    :raises SettingsError: neither or both, or no such file
    """
    if demo:
        if model is not None:
            raise SettingsError(f"{model}: --demo brings its own model: leave one of them out")
        from .demo import demo_model

        return demo_model()
    if model is None:
        raise SettingsError("no model: give an ONNX file, or --demo")
    if not model.is_file():
        what = "found a folder, expected an ONNX file" if model.is_dir() else "no such file"
        raise SettingsError(f"{model}: {what}")
    return model


def preprocessing_of(scale: float | None = None, offset: float = 0.0, colour: str = "") -> Preprocessing | None:
    """What --scale, --offset and --colour say; None where nothing was given."""
    from .prepare.samples import Preprocessing

    if colour not in ("", "rgb", "bgr", "gray"):
        raise SettingsError(f"--colour: found {colour!r}, expected one of rgb, bgr, gray")
    if scale is None and offset == 0.0 and not colour:
        return None
    return Preprocessing(1 / 255 if scale is None else scale, offset, colour)


def detector_options(
    anchors: Path, label_names: Path, scale: float | None = None, offset: float = 0.0, colour: str = ""
) -> PrepareOptions:
    """What an SSD detector's files and preprocessing come to."""
    from featlink_codec.extractor import SsdDetectorTask

    from .prepare.pipeline import PrepareOptions

    return PrepareOptions(
        colour=colour or "rgb",
        scale=1 / 255 if scale is None else scale,
        offset=offset,
        task=SsdDetectorTask(anchors=anchors.name, labels=label_names.name),
        task_files={"anchors": anchors, "labels": label_names},
    )


@dataclass(frozen=True)
class SampleOptions:
    """What a command's options say about samples; see the types above."""

    images: Path | None = None
    labels: Path | None = None
    anchors: Path | None = None
    label_names: Path | None = None
    scale: float | None = None
    offset: float = 0.0
    colour: str = ""
    limit: int | None = None
    demo: bool = False


def judge_if_given(model: Path, given: SampleOptions, proto: onnx.ModelProto | None = None) -> Judge | None:
    """The judge that a command's options ask for: by detections, by labels, else by the outputs; None without images.

    :param model: the uncompressed network
    :param proto: the same in memory, where it is not as in its file
    :raises SettingsError: options that do not go together, or files that do not fit
    """
    from .prepare.graph import load_model
    from .prepare.samples import open_samples
    from .prepare.scoring import demo_judge, detector_judge, labelled_judge, output_judge

    images, labels, anchors, label_names = given.images, given.labels, given.anchors, given.label_names
    scale, offset, colour = given.scale, given.offset, given.colour
    if given.demo:
        if images is not None or labels is not None or anchors is not None or label_names is not None:
            raise SettingsError("--demo brings its own images and labels: leave --images, --labels, --anchors out")
        return demo_judge(given.limit or DEMO_FRAMES)
    if (anchors is None) != (label_names is None):
        raise SettingsError("an SSD detector needs both --anchors and --label-names")
    if images is None:
        if labels is not None:
            raise SettingsError(f"{labels}: labels without images: give --images too")
        if anchors is not None:
            raise SettingsError("a detector without images: give --images too")
        return None
    whole = load_model(model) if proto is None else proto
    if anchors is not None and label_names is not None:
        if labels is not None:
            raise SettingsError("--labels: a detector is judged by what the whole network finds: leave --labels out")
        if not images.exists():
            raise SettingsError(f"{images}: no images: found no such file or folder")
        options = detector_options(anchors, label_names, scale, offset, colour)
        return detector_judge(whole, options, images, given.limit)
    samples = open_samples(images, labels, whole, preprocessing_of(scale, offset, colour))
    make = labelled_judge if samples.labelled else output_judge
    return make(whole, samples, given.limit)


def judge_of(model: Path, given: SampleOptions, proto: onnx.ModelProto | None = None) -> Judge:
    """The same where the step cannot do without (SettingsError: no images)."""
    found = judge_if_given(model, given, proto)
    if found is None:
        raise SettingsError("no images: give --images (IDX, .npz, a folder of images, a video), or --demo")
    return found


def tell(figures: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """Print what came of a step: its figures as JSON, or lines for a reader."""
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line, markup=False)
