"""`featlink-host prepare prune`: weights to zero, or whole channels out of the graph."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from featlink_codec.errors import SettingsError

from .prepare_options import (
    Anchors,
    AsJson,
    Colour,
    Demo,
    Force,
    Images,
    LabelNames,
    Labels,
    Limit,
    ModelOrDemo,
    Offset,
    Report,
    Scale,
    judge_if_given,
    resolve_model,
)
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .prepare.page import Table
    from .prepare.pruning.trials import Changed

Out = Annotated[Path, typer.Option("--out", "-o", help="The changed network, an ONNX file: whole, or not at all.")]
FitImages = Annotated[
    Path | None,
    typer.Option(help="Samples to fit with, so that --images are only for the score.  [--images]"),
]
Calibration = Annotated[int, typer.Option(min=1, help="Samples to fit with, evenly spread.")]
Refit = Annotated[
    bool, typer.Option("--refit/--no-refit", help="Fit the layers behind anew by least squares on the images.")
]
Keep = Annotated[list[str] | None, typer.Option(metavar="LAYER", help="Leave a layer whole; may be given again.")]
CurvePoints = Annotated[
    bool, typer.Option("--curve/--no-curve", help="With --report: also half as strong and stronger, for the plots.")
]


def prune(
    out: Out,
    model: ModelOrDemo = None,
    sparsity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of weights that becomes zero; the graph stays.")
    ] = None,
    channels: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of channels that goes, of every group of layers.")
    ] = None,
    budget_macs: Annotated[
        float | None, typer.Option(help="MACs that are left, a share up to 1 or a number: channels of any layers go.")
    ] = None,
    scope: Annotated[
        str, typer.Option(metavar="[global|tensor]", help="--sparsity: one threshold for all tensors, or for each.")
    ] = "global",
    importance: Annotated[
        str,
        typer.Option(
            metavar="[l1|l2|activation|contribution|sensitivity]",
            help="Which channels go first.  [contribution with images, else l2]",
        ),
    ] = "",
    multiple: Annotated[int, typer.Option(min=1, help="Channels that are left are a multiple, e.g. 8.")] = 1,
    most: Annotated[float, typer.Option(help="--budget-macs: share of a group that may go.")] = 0.75,
    refit: Refit = True,
    keep: Keep = None,
    images: Images = None,
    labels: Labels = None,
    anchors: Anchors = None,
    label_names: LabelNames = None,
    scale: Scale = None,
    offset: Offset = 0.0,
    colour: Colour = "",
    limit: Limit = None,
    fit_images: FitImages = None,
    calibration: Calibration = 512,
    demo: Demo = False,
    curve: CurvePoints = True,
    report: Report = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Prune a network: --sparsity sets weights to zero, --channels and --budget-macs take whole channels out.

    Weights of zero make the model stream smaller, nothing faster. Channels make
    the network smaller and faster. They are followed through convolutions,
    depthwise ones among them, normalisations, activations, pooling, sums,
    concatenations and flattening; what cannot be followed is left whole, and
    named. The result is checked against the network with those channels zero.

    There is no training here. With images, the weights behind are fitted by
    least squares to put out what they did before (--refit), layer by layer.
    Fit and judge on different images: --fit-images.
    """
    from .prepare.graph import load_model
    from .prepare.page import Table
    from .prepare.pruning.structured import ChannelOptions, PrunedChannels, prune_channels
    from .prepare.pruning.trials import around, page_of, summary, try_out
    from .prepare.pruning.trials import keep as write
    from .prepare.pruning.unstructured import PrunedWeights, WeightOptions, prune_weights

    asked = {"sparsity": sparsity, "channels": channels, "budget_macs": budget_macs}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise SettingsError("expected one of --sparsity, --channels and --budget-macs")
    what = given[0]
    value = asked[what]
    assert value is not None
    path = resolve_model(model, demo)
    check_free(out, path, force)
    common: dict[str, Any] = {"refit": refit, "keep": tuple(keep or ()), "calibration": calibration}
    options: WeightOptions | ChannelOptions
    if sparsity is not None:
        options = WeightOptions(sparsity, scope, **common)
    else:
        options = ChannelOptions(channels, budget_macs, importance, multiple=multiple, most=most, **common)
    samples: dict[str, Any] = {"anchors": anchors, "label_names": label_names, "scale": scale, "offset": offset}
    samples["colour"] = colour
    judge = judge_if_given(path, images=images, labels=labels, limit=limit, demo=demo, **samples)
    fitting = judge if fit_images is None else judge_if_given(path, images=fit_images, limit=calibration, **samples)
    proto = load_model(path)
    with ProgressBar() as bar:

        def step(strength: float) -> Changed:
            if isinstance(options, WeightOptions):
                return prune_weights(proto, fitting, replace(options, sparsity=strength), bar)
            changed: Any = {what: strength}
            return prune_channels(proto, fitting, replace(options, **changed), bar)

        others = around(value, what == "budget_macs") if report is not None and curve else (value,)
        key = ("prune", options, images, fit_images, limit)
        tried = try_out(proto, judge, step, value, others, out.with_name(f"{out.name}.search"), key, bar)
    found = tried.chosen
    if isinstance(found, PrunedChannels):
        rows: list[tuple[object, ...]] = [
            (one.name, one.operator, _shape(one.shape_before), _shape(one.shape_after), one.macs_before, one.macs_after)
            for one in found.layers
        ]
        layers: Table = Table("Layers", ("layer", "operator", "weights", "now", "MACs", "now "), rows)
        left = dict(found.whole)
        method = [
            f"Importance: {found.importance}. Channels that are tied by sums and depthwise convolutions go together.",
            "Before the refit the outputs differ from those of the network with these channels zero by "
            f"{found.deviation:.2g} of their peak at most."
            if found.deviation is not None
            else "No images: not compared.",
        ]
    else:
        assert isinstance(found, PrunedWeights)
        layers = Table(
            "Layers", ("layer", "weights", "zero", "share"), [(n, s, z, z / s) for n, (s, z) in found.layers.items()]
        )
        left, method = {}, [f"The smallest weights are zero, {scope} threshold."]
    if found.refit is not None:
        left.update((f"{name} (refit)", why) for name, why in found.refit.left.items())
        method.append(f"{len(found.refit.fitted)} layers were fitted anew on {calibration} samples at most.")
    page = page_of(f"Pruning of {path.name}", what.replace("_", " "), tried, layers, left, method)
    inputs = {
        "model": path,
        **({"images": images} if images else {}),
        **({"fit_images": fit_images} if fit_images else {}),
    }
    record = {**asdict(options), **samples, "limit": limit, "demo": demo}
    tell(write(out, report, tried, "prune", inputs, record, page), summary(tried, out), as_json)


def check_free(out: Path, model: Path, force: bool) -> None:
    """SettingsError: a file stands there already, or it is the network itself."""
    if out.exists() and (not force or out.resolve() == model.resolve()):
        raise SettingsError(f"{out}: stands there already: --force replaces it, unless it is the network itself")


def tell(figures: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print what came of a step."""
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line, markup=False)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "–"
