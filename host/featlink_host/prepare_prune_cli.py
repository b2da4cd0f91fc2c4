"""`featlink-host prepare prune`: weights to zero, or whole channels out of the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlink_codec.errors import SettingsError

from .prepare_files import check_outputs
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
    resolve_model,
)
from .prepare_trial_options import Calibration, CurvePoints, FitImages, Keep, Out, Refit, Trials

if TYPE_CHECKING:
    import onnx

    from .prepare.pruning.trials import Changed, Progress
    from .prepare.scoring import Judge


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
    fix_shape: FixShape = None,
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
    from .prepare.page import Table
    from .prepare.pruning.structured import ChannelOptions, PrunedChannels, prune_channels
    from .prepare.pruning.trials import around
    from .prepare.pruning.unstructured import PrunedWeights, WeightOptions, prune_weights

    asked = {"sparsity": sparsity, "channels": channels, "budget_macs": budget_macs}
    named = [name for name, value in asked.items() if value is not None]
    if len(named) != 1:
        raise SettingsError("expected one of --sparsity, --channels and --budget-macs")
    what = named[0]
    value = asked[what]
    assert value is not None
    path = resolve_model(model, demo)
    check_outputs((out,), (path, images, labels, fit_images), report, force)
    common: dict[str, Any] = {"refit": refit, "keep": tuple(keep or ()), "calibration": calibration}
    options: WeightOptions | ChannelOptions
    if sparsity is not None:
        options = WeightOptions(sparsity, scope, **common)
    else:
        options = ChannelOptions(channels, budget_macs, importance, multiple=multiple, most=most, **common)
    given = SampleOptions(images, labels, anchors, label_names, scale, offset, colour, limit, demo)
    trials = Trials("prune", "Pruning", what, path, out, options, given, fit_images, calibration, fix_shape)

    def change(proto: onnx.ModelProto, fitting: Judge | None, strength: float, progress: Progress) -> Changed:
        if isinstance(options, WeightOptions):
            return prune_weights(proto, fitting, replace(options, sparsity=strength), progress)
        changed: Any = {what: strength}
        return prune_channels(proto, fitting, replace(options, **changed), progress)

    others = around(value, what == "budget_macs") if report is not None and curve else (value,)
    tried, _ = trials.run(change, value, others)
    found = tried.chosen
    if isinstance(found, PrunedChannels):
        rows: list[tuple[object, ...]] = [
            (one.name, one.operator, _shape(one.shape_before), _shape(one.shape_after), one.macs_before, one.macs_after)
            for one in found.layers
        ]
        layers: Table = Table("Layers", ("layer", "operator", "weights", "now", "MACs", "now "), rows)
        whole = found.whole
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
        whole, method = {}, [f"The smallest weights are zero, {scope} threshold."]
    trials.finish(tried, layers, whole, found.refit, method, report, as_json)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "–"
