"""`featlink-host prepare quantize`: weights of 1 to 32 bits, inputs of 8 to 32, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .prepare_files import check_outputs, network_of
from .prepare_options import (
    Anchors,
    AsJson,
    Colour,
    Demo,
    FixShape,
    Force,
    Images,
    LabelNames,
    Labels,
    Limit,
    ModelOrDemo,
    Offset,
    Report,
    SampleOptions,
    Scale,
    judge_if_given,
    preprocessing_of,
    resolve_model,
    tell,
)
from .progress_bar import ProgressBar

#: Layers that are listed one by one.
TOLD = 5


def quantize(
    model: ModelOrDemo = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The quantized network, an ONNX file.")] = None,
    weights: Annotated[int, typer.Option(metavar="BITS", help="Bits of a weight, 1 to 32.")] = 8,
    inputs: Annotated[
        int, typer.Option(metavar="BITS", help="Bits of what goes into every layer but the first, 8 to 32 (float).")
    ] = 32,
    values: Annotated[
        str, typer.Option(metavar="[uniform|fixed-point|power-of-two|logarithmic|codebook]", help="Values of weights.")
    ] = "uniform",
    groups: Annotated[
        str, typer.Option(metavar="[tensor|channel|N]", help="What shares a scale; N: so many inputs of an output.")
    ] = "channel",
    refine: Annotated[
        str, typer.Option(metavar="[auto|always|never]", help="Scales and weights by turns; auto: below 8 bits.")
    ] = "auto",
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Fit weights and biases to the layers' outputs, without labels.")
    ] = False,
    tune_images: Annotated[
        Path | None, typer.Option(help="Samples to calibrate and fine-tune with, instead of --images.")
    ] = None,
    tune_samples: Annotated[int, typer.Option(min=1, help="How many of them to fine-tune with.")] = 256,
    portable: Annotated[
        bool, typer.Option("--portable", help="Integers of 8 bits within -64..63: the same results on every machine.")
    ] = False,
    layer: Annotated[
        list[str] | None, typer.Option(metavar="NAME=BITS", help="Bits of one layer's weights; may be given again.")
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="[minmax|percentile|kl|mse]", help="Where inputs are cut off.")
    ] = "mse",
    samples: Annotated[int, typer.Option(min=1, help="Samples to calibrate inputs with.")] = 64,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score weights of 1, 2, 3, 4, 5, 6, 8 bits, too.")] = False,
    stream: Annotated[Path | None, typer.Option(help="The network as a model stream, nothing lost.")] = None,
    images: Images = None,
    labels: Labels = None,
    anchors: Anchors = None,
    label_names: LabelNames = None,
    scale: Scale = None,
    offset: Offset = 0.0,
    colour: Colour = "",
    limit: Limit = None,
    fix_shape: FixShape = None,
    demo: Demo = False,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Quantize the weights of all convolutions and fully connected layers, and where asked for their inputs.

    Weights become the nearest of a set of values times their group's scale:
    all integers of so many bits; the same with scales that are powers of two;
    powers of two; values even in the logarithm; or a codebook learned from them.
    With images the network is scored before and after. A score says more where
    those that it is fine-tuned with, --tune-images, are others; labels are for
    --images alone.
    """
    from featlink_codec.files import write_whole

    from .prepare.quantization.step import QuantizeOptions
    from .prepare.quantization.step import quantize as run_quantize
    from .prepare.quantization.step_report import quantize_page
    from .prepare.quantization.weights import WeightOptions
    from .prepare.record import plain, record_of, write_step
    from .prepare.samples import open_samples
    from .prepare.scoring import output_judge

    path = resolve_model(model, demo)
    check_outputs((out, stream), (path, images, labels, tune_images), report, force)
    options = QuantizeOptions(
        WeightOptions(
            bits=weights,
            values=values,  # type: ignore[arg-type]  # checked there
            groups=_groups(groups),  # type: ignore[arg-type]
            refine=refine,  # type: ignore[arg-type]
            fine_tune=fine_tune,
            portable=portable,
            layer_bits=dict(map(_layer, layer or ())),
            samples=tune_samples,
        ),
        inputs=inputs,
        method=method,
        samples=samples,
        sweep=sweep,
    )
    proto, tuning = network_of(path, fix_shape), None
    given = SampleOptions(images, labels, anchors, label_names, scale, offset, colour, limit, demo)
    judge = judge_if_given(path, given, proto)
    if tune_images is not None:
        tuning = output_judge(proto, open_samples(tune_images, None, proto, preprocessing_of(scale, offset, colour)))
    with ProgressBar() as bar:
        found = run_quantize(proto, judge, options, bar, tuning)
    for file, data in ((out, found.model.SerializeToString()), (stream, found.stream.data)):
        if file is not None:
            write_whole(file, data)
    figures = plain(found.figures())
    if report is not None:
        files = {"model": path, "images": images, "labels": labels, "tune_images": tune_images}
        used = {**vars(options), "weights": options.weights.figures(), "scale": scale, "offset": offset,
                "colour": colour, "limit": limit, "fix_shape": list(fix_shape or ()), "demo": demo}  # fmt: skip
        record = record_of("quantize", files, used, figures, {"model": out, "stream": stream})
        write_step(report, record, quantize_page(path.name, found))
    tell(figures, lines(figures), as_json)


def lines(figures: dict[str, object]) -> list[str]:
    """What the command tells."""

    def sentence(word: str, score: object) -> str:
        assert isinstance(score, dict)
        more = f", precision {score['precision']:.4f}" if score["precision"] is not None else ""
        return f"{word}: {score['kind']} {score['value']:.4f}{more} ({score['samples']} samples)"

    found = [
        f"{figures['weights']} weights, {figures['bits']} bits: {figures['float_bytes']} bytes -> "
        f"{figures['plain_bytes']} packed ({figures['ratio']:.1f}x), {figures['stream_bytes']} as a model stream"
    ]
    found += [sentence(word, figures[word]) for word in ("before", "after") if figures[word] is not None]
    untuned = figures["untuned"]
    assert isinstance(untuned, dict)
    found += told_untuned(untuned)
    trials = figures["sweep"]
    assert isinstance(trials, list)
    for one in trials:
        found.append(
            f"  {one['bits']} bits: {one['value']:.4f}, {one['plain_bytes']} bytes packed, "
            f"{one['stream_bytes']} as a stream"
        )
    return found


def told_untuned(untuned: dict[str, str]) -> list[str]:
    """Lines on layers that were not fine-tuned: the first few, and how many more."""
    lines = [f"  not fine-tuned: {name}: {why}" for name, why in list(untuned.items())[:TOLD]]
    return lines + ([f"  ... and {len(untuned) - TOLD} more, see --json"] if len(untuned) > TOLD else [])


def _groups(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _layer(text: str) -> tuple[str, int]:
    from featlink_codec.errors import SettingsError

    name, _, bits = text.rpartition("=")
    if not name or not bits.isdecimal():
        raise SettingsError(f"--layer {text}: expected NAME=BITS")
    return name, int(bits)
