"""`featlink-host prepare integer`: a backbone whose map is integers, the same bits on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    judge_of,
    resolve_model,
    tell,
)
from .prepare_quantize_cli import told_untuned
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .prepare.quantization.integer import IntegerBackbone


def integer(
    out: Annotated[Path, typer.Option("-o", "--out", help="The backbone, an ONNX file.")],
    model: ModelOrDemo = None,
    tensor: Annotated[
        str, typer.Option(help="Where to split it; `prepare cuts` lists what is possible.  [the demo's]")
    ] = "",
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
    head: Annotated[Path | None, typer.Option(help="Where the other half goes, which takes the levels.")] = None,
    extractor: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An extractor split there: one with the levels goes to --into.")
    ] = None,
    into: Annotated[Path | None, typer.Option(metavar="DIR", help="See --extractor.")] = None,
    method: Annotated[
        str, typer.Option(metavar="[minmax|percentile|kl|mse]", help="Where values are cut off.")
    ] = "mse",
    steps: Annotated[
        str,
        typer.Option(metavar="[power-of-two|activations|free]", help="Whose steps are powers of two: all, none, ..."),
    ] = "power-of-two",
    wide_share: Annotated[
        float,
        typer.Option(
            help="Tensors with more of the whole loss than this have 11 bits, and weights up to 12, computed as exact "
            "floats.  1: none."
        ),
    ] = 0.005,
    equalize: Annotated[bool, typer.Option(help="Make small channels larger before they share a quantizer.")] = True,
    fine_tune: Annotated[bool, typer.Option(help="Fit weights and biases to the levels, layer by layer.")] = True,
    full: Annotated[bool, typer.Option("--full", help="Weights -127..127: not for x86 with AVX2 and no VNNI.")] = False,
    percent: Annotated[float, typer.Option(help="Of the values that stay, for --method percentile.")] = 99.99,
    samples: Annotated[int, typer.Option(min=1, help="Samples to calibrate with.")] = 32,
    tune_samples: Annotated[int, typer.Option(min=1, help="Samples to fine-tune with.")] = 12,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make the first half of a network integers: the map is its last levels, uint8.

    All between QuantizeLinear and DequantizeLinear (QDQ), weights within -64..63.
    With power-of-two steps every sum is exact, in integers and as float32, so
    that any machine and any setting of onnxruntime gives the same levels. They
    are computed with several settings and hashed.
    """
    from featlink_codec.errors import SettingsError
    from featlink_codec.files import write_whole

    from .prepare.folder import check_free
    from .prepare.quantization.integer import IntegerOptions, integer_backbone
    from .prepare.quantization.integer_extractor import check_split, integer_extractor
    from .prepare.quantization.integer_report import integer_page
    from .prepare.record import plain, record_of, write_step

    path = resolve_model(model, demo)
    if not tensor:
        if not demo:
            raise SettingsError("no --tensor: say where to split the network; `prepare cuts` lists what is possible")
        from .demo import RELU_TENSOR

        tensor = RELU_TENSOR
    if (extractor is None) != (into is None):
        raise SettingsError("--extractor and --into go together")
    check_outputs((out, head), (path, images, labels), report, force)
    if extractor is not None and into is not None:
        check_split(extractor, tensor)
        check_free(into, force)
    options = IntegerOptions(
        method=method,
        scale_steps=steps,
        wide_share=wide_share,
        equalize=equalize,
        fine_tune=fine_tune,
        full=full,
        percent=percent,
        samples=samples,
        tune_samples=tune_samples,
    )
    proto = network_of(path, fix_shape)
    given = SampleOptions(images, labels, anchors, label_names, scale, offset, colour, limit, demo)
    judge = judge_of(path, given, proto)
    with ProgressBar() as bar:
        found = integer_backbone(proto, tensor, judge, options, bar)
    write_whole(out, found.backbone.SerializeToString())
    if head is not None:
        write_whole(head, found.head.SerializeToString())
    if extractor is not None and into is not None:
        integer_extractor(extractor, found, into, force=force)
    figures = plain(found.figures())
    if report is not None:
        used = {**vars(options), "tensor": tensor, "scale": scale, "offset": offset, "colour": colour,
                "fix_shape": list(fix_shape or ()), "demo": demo}  # fmt: skip
        files = {"model": path, "images": images}
        record = record_of("integer", files, used, figures, {"backbone": out, "head": head})
        write_step(report, record, integer_page(path.name, found))
    tell(figures, _lines(out, found), as_json)


def _lines(out: Path, found: IntegerBackbone) -> list[str]:
    """What the command tells."""
    doubts = found.network.doubts
    return [
        f"{out}: {found.tensor}, uint8, step {found.affine.scale:g}; {found.score}",
        f"golden hashes hold with {len(found.golden.equal)} settings of onnxruntime",
        *(
            f"  not with {name}: up to {most} levels apart, {part:.3%} of them"
            for name, (most, part) in found.golden.differing.items()
        ),
        *(f"  {doubt}" for doubt in doubts[:5]),
        *([f"  ... and {len(doubts) - 5} more, see --json"] if len(doubts) > 5 else []),
        *told_untuned(_untuned(found)),
    ]


def _untuned(found: IntegerBackbone) -> dict[str, str]:
    """Weights that were not fitted to the levels although others were, and why."""
    from .prepare.quantization.inner_inputs import why_untuned

    shapes = {name: one.integers.shape for name, one in found.network.weights.items()}
    layers = found.network.places.layers if found.tuned else {}
    rest = [name for name in layers if name in shapes and name not in found.tuned]
    return {name: why_untuned(layers[name], shapes[name]) for name in rest}
