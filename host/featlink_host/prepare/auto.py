"""All steps in one: transform, survey, choose a cut, build; what was done already is not done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from featlink_codec.errors import SettingsError
from featlink_codec.video.clip import Clip

from ..model.notes import Notes
from .auto_pictures import picture_pairs
from .auto_steps import TRANSFORMATIONS, transform
from .build import BuildOptions, Built, judge_for
from .build_points import Bench, CodedPoint
from .build_search import Target
from .build_step import BuildArguments, BuildInputs, open_inputs, prepare_options, run_build
from .calibrate import Progress
from .folder import check_free, replace_folder
from .graph import load_model
from .page import Pair
from .pipeline import input_settings
from .record import StepRecord, digest_of, package_version, plain, step_key
from .samples import ClipSamples
from .scoring import Judge, output_judge
from .split import open_graph
from .survey import SurveyOptions, survey
from .survey_report import explain_choice, survey_plot


@dataclass(frozen=True)
class AutoArguments:
    """What `auto` was asked for.

    :param build: of the last step; its tensor may be empty: the survey chooses
    :param budget_ms: most milliseconds of the backbone, on this machine
    :param steps: transformations before the split: name of the option, and its value
    :param survey_samples: samples whose values the survey looks at
    :param survey_runs: of each half, for its milliseconds
    """

    build: BuildArguments
    budget_ms: float | None = None
    steps: tuple[tuple[str, float], ...] = ()
    survey_samples: int = 16
    survey_runs: int = 5


@dataclass(frozen=True)
class StepRow:
    """A step for the table on the last page."""

    name: str
    what: str
    seconds: float
    model_bytes: int | None = None


@dataclass(frozen=True)
class AutoResult:
    """What came of it.

    :param built: the extractor; its folder is where it was built, `auto` moves it
    :param survey: figures, plot and sentence of the survey
    :param pairs: pictures with the boxes of both networks
    """

    built: Built
    records: tuple[StepRecord, ...]
    rows: tuple[StepRow, ...]
    survey: dict[str, Any]
    pairs: tuple[Pair, ...]


def run_auto(arguments: AutoArguments, work: Path, progress: Progress | None = None) -> AutoResult:
    """Everything but the last page, with notes in `work`: what stands there already is taken from there.

    :raises SettingsError: see the steps
    """
    given = arguments.build
    Target(given.kbps, given.agreement)
    work.mkdir(parents=True, exist_ok=True)
    digests = given.digests()
    notes = Notes(work / "notes.json", step_key("auto", digests, asdict(arguments)))
    inputs = open_inputs(given, work)
    records: list[StepRecord] = []
    rows: list[StepRow] = []
    model = inputs.model
    for name in TRANSFORMATIONS:
        for value in [value for step, value in arguments.steps if step == name]:
            model = _transformed(name, value, model, given, inputs, work, notes, records, rows, progress)
    found = _surveyed(arguments, model, inputs.clip, notes, records, rows, progress)
    tensor = given.tensor or found["chosen"]
    if not tensor:
        raise SettingsError(f"{found['choice']} Give --tensor, or a larger --budget-ms.")
    pairs: list[Pair] = []

    def watch(judge: Judge, bench: Bench, chosen: CodedPoint) -> None:
        pairs.extend(picture_pairs(judge, bench, chosen, inputs.clip, given.frames))

    changed = model != inputs.model
    whole = replace(given, tensor=tensor, model=str(model), reference=given.model if changed else given.reference)
    begun = time.perf_counter()
    built, record = run_build(whole, work / "built", work, notes=notes, watch=watch, progress=progress)
    rows.append(StepRow("build", f"split at {tensor}; {len(built.points)} settings, {len(built.plan.rows)} packings, "
                        f"{len(built.rivals)} video streams", time.perf_counter() - begun,
                        built.backbone_bytes))  # fmt: skip
    return AutoResult(built, (*records, record), tuple(rows), found, tuple(pairs))


def publish(work: Path, out: Path, force: bool = False) -> None:
    """The finished extractor to its place, and the working folder away."""
    replace_folder(work / "built", out, force)
    shutil.rmtree(work, ignore_errors=True)


def work_folder(out: Path, force: bool = False) -> Path:
    """Where the work for an extractor is kept (SettingsError: it could not be written in the end)."""
    check_free(out, force)
    out = out.absolute()
    return out.with_name(f"{out.name}.work")


def _noted(notes: Notes, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is known already, else made and noted, with the seconds that it took."""
    known: dict[str, Any] | None = notes.get(name)
    if known is None:
        begun = time.perf_counter()
        known = plain(make())
        assert known is not None
        known["seconds"] = time.perf_counter() - begun
        notes.put(name, known)
    return known


def _transformed(
    name: str,
    value: float,
    model: Path,
    given: BuildArguments,
    inputs: BuildInputs,
    work: Path,
    notes: Notes,
    records: list[StepRecord],
    rows: list[StepRow],
    progress: Progress | None,
) -> Path:
    """The network after a step, in a file of the working folder."""
    out = work / f"{name}-{value:g}.onnx"
    before = digest_of(model)

    def make() -> dict[str, Any]:
        options = BuildOptions(tensor="", target=Target(kbps=1), prepare=inputs.prepare, frames=given.frames)
        judge = judge_for(inputs.model, inputs.clip, options, inputs.labels)
        changed, figures = transform(name, value, load_model(model), judge, progress)
        onnx.save(changed, str(out))
        return {"figures": figures, "score": judge.score(changed).figures(), "sha256": digest_of(out)}

    known = _noted(notes, f"step {name} {value:g} {before}", make)
    if not out.is_file() or digest_of(out) != known["sha256"]:
        # The file went while the note stayed.
        made = make()
        known = {**known, **plain(made)}
        notes.put(f"step {name} {value:g} {before}", known)
    score = known["score"]
    rows.append(StepRow(name, f"{value:g}; {score['kind']} {score['value']:.4f}, distortion {score['distortion']:.3g}",
                        known["seconds"], out.stat().st_size))  # fmt: skip
    figures = {"step": known["figures"], "score": score}
    records.append(
        StepRecord(name, package_version(), {"model": before}, {"value": value}, figures, {"model": known["sha256"]})
    )
    return out


def _surveyed(
    arguments: AutoArguments,
    model: Path,
    clip: Clip,
    notes: Notes,
    records: list[StepRecord],
    rows: list[StepRow],
    progress: Progress | None,
) -> dict[str, Any]:
    """Figures, plot, sentence and chosen tensor of the survey."""
    fps = arguments.build.fps or clip_fps(clip)
    options = SurveyOptions(
        budget_ms=arguments.budget_ms,
        fps=fps,
        samples=arguments.survey_samples,
        runs=arguments.survey_runs,
    )

    def make() -> dict[str, Any]:
        proto = load_model(model)
        prepare = prepare_options(arguments.build, proto)
        samples = ClipSamples(clip, input_settings(open_graph(model), prepare))
        found = survey(proto, output_judge(proto, samples, options.samples), options, progress)
        chosen = found.chosen.tensors[0] if found.chosen is not None else None
        return {
            "figures": found.figures(),
            "plot": survey_plot(found),
            "choice": explain_choice(found),
            "chosen": chosen,
        }

    digest = digest_of(model)
    known = _noted(notes, f"survey {digest}", make)
    what = f"{len(known['figures']['cuts'])} places to split"
    rows.append(StepRow("survey", what, known["seconds"]))
    records.append(
        StepRecord("survey", package_version(), {"model": digest}, plain(vars(options)), known["figures"], {})
    )
    return known


def clip_fps(clip: Clip) -> float:
    """Pictures a second, by the times of the first two."""
    times = []
    for picture in clip:
        times.append(picture.time_s)
        if len(times) == 2:
            break
    return 1 / (times[1] - times[0]) if len(times) == 2 and times[1] > times[0] else clip.fps
