"""What `prune` and `factorize` share: options, and a step at several strengths with its page and record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .prepare_files import network_of
from .prepare_options import SampleOptions, judge_if_given, tell
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    import onnx

    from .prepare.page import Table
    from .prepare.pruning.refit import Refit as Refitted
    from .prepare.pruning.trials import Changed, Progress, Tried
    from .prepare.scoring import Judge

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


@dataclass(frozen=True)
class Trials:
    """A step on a network, as strong as it was asked for, and at other strengths for the plots.

    :param step: its name
    :param title: of its page
    :param what: the option that says how strong, e.g. "budget_macs"
    :param options: of the step, a dataclass
    :param calibration: samples to fit with
    :param fix_shape: of open inputs
    """

    step: str
    title: str
    what: str
    path: Path
    out: Path
    options: Any
    given: SampleOptions
    fit_images: Path | None
    calibration: int
    fix_shape: Sequence[str] | None = None

    def run(
        self,
        change: Callable[[onnx.ModelProto, Judge | None, float, Progress], Changed],
        value: float,
        others: Sequence[float],
    ) -> tuple[Tried, bool]:
        """Do it.

        :param change: the step at a strength, on the network and samples to fit with
        :param others: strengths, among them `value`
        :returns: what came of it, and whether there were samples to fit with
        """
        from .prepare.pruning.trials import try_out

        proto = network_of(self.path, self.fix_shape)
        judge = fitting = judge_if_given(self.path, self.given, proto)
        if self.fit_images is not None:
            own = replace(self.given, images=self.fit_images, labels=None, limit=self.calibration, demo=False)
            fitting = judge_if_given(self.path, own, proto)
        key = (self.step, self.options, self.given.images, self.fit_images, self.given.limit)
        notes = self.out.with_name(f"{self.out.name}.search")
        with ProgressBar() as bar:
            tried = try_out(proto, judge, lambda one: change(proto, fitting, one, bar), value, others, notes, key, bar)
        return tried, fitting is not None

    def finish(
        self,
        tried: Tried,
        layers: Table,
        whole: Mapping[str, str],
        refit: Refitted | None,
        method: Sequence[str],
        report: Path | None,
        as_json: bool,
    ) -> None:
        """Write the network, page and record, and tell.

        :param whole: layers that were left whole, and why
        :param method: paragraphs on what was done
        """
        from .prepare.pruning.trials import keep, page_of, summary

        left, paragraphs = dict(whole), list(method)
        if refit is not None:
            left.update((f"{name} (refit)", why) for name, why in refit.left.items())
            paragraphs.append(f"{len(refit.fitted)} layers were fitted anew on {self.calibration} samples at most.")
        title = f"{self.title} of {self.path.name}"
        page = page_of(title, self.what.replace("_", " ").replace("macs", "of MACs"), tried, layers, left, paragraphs)
        used = asdict(self.given)
        inputs = {"model": self.path, "images": used.pop("images"), "fit_images": self.fit_images}
        del used["labels"]
        record = {**asdict(self.options), **used, "fix_shape": list(self.fix_shape or ())}
        tell(keep(self.out, report, tried, self.step, inputs, record, page), summary(tried, self.out), as_json)
