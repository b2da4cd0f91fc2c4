"""All steps in one: transform, survey, choose a cut, build; what was done already is not done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import onnx

from featlink_codec.errors import SettingsError

from ..model.notes import Notes
from .auto_course import Course, StepRow, told
from .auto_cut import ChosenCut, choose_cut
from .auto_integer import IntegerStep, make_integer
from .auto_pictures import sample_pictures
from .auto_steps import TRANSFORMATIONS, transform
from .build import Built
from .build_points import Bench, CodedPoint
from .build_search import Target
from .build_step import BuildArguments, limits_of, open_inputs, run_build
from .calibrate import Progress
from .folder import check_free, replace_folder
from .graph import load_model
from .page import Pictures
from .record import StepRecord, digest_of, package_version, plain, recorded_step, step_key
from .scoring import Judge
from .survey import SurveyOptions


@dataclass(frozen=True)
class AutoArguments:
    """What `auto` was asked for, in what JSON has.

    :param build: of the last step; its tensor may be empty: survey and trials choose
    :param budget_ms: most milliseconds of the backbone, on this machine
    :param steps: transformations before the split: name of the option, and its value
    :param survey_samples: samples whose values the survey looks at
    :param survey_runs: of each half, for its milliseconds
    :param candidates: places that are coded for a trial; 1: the survey chooses
    :param integer: the backbone becomes one of integers
    """

    build: BuildArguments
    budget_ms: float | None = None
    steps: tuple[tuple[str, float], ...] = ()
    survey_samples: int = 16
    survey_runs: int = 5
    candidates: int = 3
    integer: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise SettingsError(f"--candidates: found {self.candidates}, expected at least 1")
        if self.integer and self.build.model_qp is not None:
            raise SettingsError("--model-qp with --integer: integers are coded without loss: leave one of them out")

    @classmethod
    def of(cls, options: Mapping[str, Any], where: Path) -> AutoArguments:
        """From a record's options (SettingsError: they are not those of `auto`)."""
        known = {one.name for one in fields(cls)}
        build = options.get("build")
        if set(options) - known or not isinstance(build, Mapping):
            raise SettingsError(f"{where}: options: found {', '.join(options) or 'none'}, expected those of auto")
        steps = tuple((str(name), float(value)) for name, value in options.get("steps", ()))
        return cls(**{**options, "build": BuildArguments.of(build, where), "steps": steps})


@dataclass(frozen=True)
class AutoResult:
    """What came of it.

    :param built: the extractor; its folder is where it was built, `auto` moves it
    :param cut: where the network was split, and why
    :param integer: of the integer backbone, where it was asked for
    :param pictures: of both networks at work
    """

    built: Built
    records: tuple[StepRecord, ...]
    rows: tuple[StepRow, ...]
    cut: ChosenCut
    integer: IntegerStep | None
    pictures: Pictures | None


def run_auto(arguments: AutoArguments, work: Path, progress: Progress | None = None, recorded: str = "") -> AutoResult:
    """Everything but the last page, with notes in `work`: what stands there already is taken from there.

    :param recorded: the cut that was chosen when it was done first, for doing it again
    :raises SettingsError: see the steps
    """
    given = arguments.build
    Target(given.kbps, given.agreement)
    limits_of(given)
    digests = given.digests()
    work.mkdir(parents=True, exist_ok=True)
    options = plain(asdict(arguments))
    notes = Notes(work / "notes.json", step_key("auto", digests, {**options, "recorded": recorded}))
    course = Course(given, open_inputs(given, work), work, notes, progress)
    model = course.inputs.model
    for name in TRANSFORMATIONS:
        for value in [value for step, value in arguments.steps if step == name]:
            model = _transformed(course, name, value, model)
    looking = SurveyOptions(
        budget_ms=arguments.budget_ms,
        samples=arguments.survey_samples,
        runs=arguments.survey_runs,
        standard_only=given.standard_only,
    )
    changed = model != course.inputs.model
    cut = choose_cut(course, model, looking, arguments.candidates, changed, recorded)
    tensor, integer = cut.tensor, None
    if arguments.integer:
        integer = make_integer(course, model, tensor, arguments.survey_runs)
        model, tensor, changed = integer.model, integer.tensor, True
    pictures: list[Pictures] = []

    def watch(judge: Judge, bench: Bench, chosen: CodedPoint) -> None:
        found = sample_pictures(judge, bench, chosen, course.inputs.clip, given.frames)
        pictures.extend([found] if found is not None else [])

    reference = str(course.inputs.model) if changed else given.reference
    whole = replace(given, tensor=tensor, model=str(model), reference=reference)
    begun = time.perf_counter()
    built, record = run_build(whole, work / "built", work, notes=notes, watch=watch, progress=progress)
    course.rows.append(
        StepRow("build", f"split at {tensor}; {len(built.points)} settings, {len(built.plan.rows)} packings, "
                f"{len(built.rivals)} video streams", time.perf_counter() - begun, built.backbone_bytes)
    )  # fmt: skip
    if integer is not None:
        shutil.copyfile(integer.golden, work / "built" / integer.golden.name)
    asked = StepRecord("auto", package_version(), digests, options, {"cut": cut.tensor, "why": cut.why}, {})
    return AutoResult(
        built, (asked, *course.records, record), tuple(course.rows), cut, integer, pictures[0] if pictures else None
    )


def read_auto(path: Path) -> tuple[AutoArguments, dict[str, str], str] | None:
    """What `auto` was asked for, by an extractor's prepare.json: arguments, digests of its inputs, the chosen cut.

    :returns: None: the extractor was built without `auto`
    :raises SettingsError: not such a file
    """
    step = recorded_step(path, "auto")
    if step is None:
        return None
    arguments = AutoArguments.of(step.get("options") or {}, path)
    return arguments, dict(step.get("inputs") or {}), str((step.get("figures") or {}).get("cut") or "")


def publish(work: Path, out: Path, force: bool = False) -> None:
    """The finished extractor to its place, and the working folder away."""
    replace_folder(work / "built", out, force)
    shutil.rmtree(work, ignore_errors=True)


def work_folder(out: Path, force: bool = False) -> Path:
    """Where the work for an extractor is kept (SettingsError: it could not be written in the end)."""
    check_free(out, force)
    out = out.absolute()
    return out.with_name(f"{out.name}.work")


def _transformed(course: Course, name: str, value: float, model: Path) -> Path:
    """The network after a step, in a file of the working folder."""
    out = course.work / f"{name}-{value:g}.onnx"
    before = digest_of(model)

    def make() -> dict[str, Any]:
        changed, figures = transform(name, value, load_model(model), course.judge, course.progress)
        onnx.save(changed, str(out))
        return {"figures": figures, "score": course.judge.score(changed).figures()}

    known = course.noted(f"step {name} {value:g} {before}", make, out)
    score = known["score"]
    course.rows.append(StepRow(name, f"{value:g}; {told(score)}", known["seconds"], out.stat().st_size))
    figures = {"step": known["figures"], "score": score}
    course.record(name, {"model": before}, {"value": value}, figures, {"model": known["files"][out.name]})
    return out
