"""`featlink-host prepare factorize`: layers as two thinner ones each, by singular value decomposition."""

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


def factorize(
    out: Out,
    model: ModelOrDemo = None,
    energy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of each layer's energy that is kept.")
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(metavar="N|LAYER=N", help="One rank for all layers, or ranks of layers; may be given again."),
    ] = None,
    budget_macs: Annotated[
        float | None, typer.Option(help="MACs that are left, a share of all up to 1, or a number.")
    ] = None,
    data_aware: Annotated[
        bool,
        typer.Option("--data-aware/--weights-only", help="Energy of what layers put out on the images, or of weights."),
    ] = True,
    spatial: Annotated[
        bool, typer.Option("--spatial", help="Larger kernels than 1x1 too, as few filters and a 1x1 convolution.")
    ] = False,
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
    """Make two thinner layers of one, y = W x as U (S V^T) x, where that saves: t (u + v) MACs instead of u v.

    Fully connected layers and 1x1 convolutions; with --spatial larger kernels,
    too. --energy and --rank decide layer by layer; --budget-macs chooses ranks
    so that all layers together lose least of their energy.

    With images, energy is the variance of what a layer puts out, and the layers
    behind are fitted anew by least squares (--refit). Fit and judge on
    different images: --fit-images.
    """
    from .prepare.factorization.step import Factorized, FactorOptions
    from .prepare.factorization.step import factorize as run
    from .prepare.page import Table
    from .prepare.pruning.trials import around

    if (energy is not None) + bool(rank) + (budget_macs is not None) != 1:
        raise SettingsError("expected one of --energy, --rank and --budget-macs")
    ranks = _ranks(rank or [])
    path = resolve_model(model, demo)
    check_outputs((out,), (path, images, labels, fit_images), report, force)
    options = FactorOptions(energy, ranks, budget_macs, data_aware, refit, spatial, tuple(keep or ()), calibration)
    what = "energy" if energy is not None else "rank" if ranks is not None else "budget_macs"
    value = float(energy or budget_macs or (ranks if isinstance(ranks, int) else 0))
    given = SampleOptions(images, labels, anchors, label_names, scale, offset, colour, limit, demo)
    trials = Trials("factorize", "Factorization", what, path, out, options, given, fit_images, calibration, fix_shape)

    def change(proto: onnx.ModelProto, fitting: Judge | None, strength: float, progress: Progress) -> Changed:
        changed: Any = {} if what == "rank" else {what: strength}
        return run(proto, fitting, replace(options, **changed), progress)

    wanted = report is not None and curve and what != "rank"
    tried, fitted = trials.run(change, value, around(value, budget=True) if wanted else (value,))
    found = tried.chosen
    assert isinstance(found, Factorized)
    rows = [(name, v, u, t, lost, t * (u + v) / (u * v)) for name, (v, u, t, lost) in found.ranks.items()]
    columns = ("layer", "outputs v", "inputs u", "rank t", "energy lost", "cost t(u+v)/uv")
    method = ["Energy: variance of outputs." if data_aware and fitted else "Energy: squares of the singular values."]
    trials.finish(tried, Table("Layers", columns, rows), found.whole, found.refit, method, report, as_json)


def _ranks(given: list[str]) -> int | dict[str, int] | None:
    """One rank for all, or ranks by name."""
    if not given:
        return None
    try:
        if len(given) == 1 and "=" not in given[0]:
            return int(given[0])
        parts = [one.rpartition("=") for one in given]
        if all(name for name, _, _ in parts):
            return {name: int(number) for name, _, number in parts}
    except ValueError:
        pass
    raise SettingsError(f"--rank {' '.join(given)}: expected a number, or LAYER=NUMBER for each layer")
