"""Where `auto` splits: the survey's best few places, coded for a trial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlink_codec.errors import SettingsError
from featlink_codec.video.clip import Clip

from .auto_course import Course, StepRow
from .auto_trials import Trial, choose_trial, run_trials, trial_of
from .build import BuildOptions
from .build_search import Target
from .build_step import limits_of, prepare_options
from .graph import load_model
from .pipeline import input_settings
from .record import digest_of, plain
from .samples import ClipSamples
from .scoring import output_judge
from .split import open_graph
from .survey import SurveyOptions, survey
from .survey_report import explain_choice, survey_plot


@dataclass(frozen=True)
class ChosenCut:
    """Where to split, and why.

    :param tensor: of the network as it was surveyed
    :param why: a sentence
    :param survey: figures, plot and sentence of the survey
    :param trials: cuts that were coded; none where there was nothing to choose
    :param target: what they were judged by
    """

    tensor: str
    why: str
    survey: dict[str, Any]
    trials: tuple[Trial, ...]
    target: Target

    def surveyed(self, tensor: str | None = None) -> dict[str, Any] | None:
        """What the survey found of a tensor, the chosen one where left out."""
        for cut in self.survey["figures"]["cuts"]:
            if cut["tensors"] == [tensor or self.tensor]:
                found: dict[str, Any] = cut
                return found
        return None


def choose_cut(
    course: Course, model: Path, options: SurveyOptions, candidates: int, changed: bool, recorded: str = ""
) -> ChosenCut:
    """Survey the network, and code the best places for a trial.

    :param model: the network after its transformations
    :param candidates: places that are coded; 1: the survey chooses
    :param changed: agreement is measured against the network before them
    :param recorded: the cut that was chosen when it was done first: it is taken whatever comes of the trials
    :raises SettingsError: no place within the budgets can be built; says which is nearest
    """
    given = course.given
    target = Target(given.kbps, given.agreement)
    digest = digest_of(model)
    found = _surveyed(course, model, digest, options)
    if given.tensor:
        return ChosenCut(given.tensor, "The cut was given.", found, (), target)
    places: list[str] = found["ranked"][:candidates]
    if not places:
        raise SettingsError(_none(found["choice"], options))
    trials: list[Trial] = []
    tensor, why = places[0], "The survey's best place was taken, without a trial."
    if len(places) > 1:
        reference = course.inputs.model if changed else None
        trials, seconds = _tried(course, model, digest, places, target, reference)
        tensor = choose_trial(target, trials).tensor
        met = target.best([point for trial in trials for point in trial.points]) is not None
        what = f"at most {target.kbps:g} kbit/s" if target.kbps is not None else f"at least {target.agreement:g}"
        why = (
            f"Of {len(trials)} cuts that were coded for a trial it serves the target ({what}) best."
            if met
            else f"No trial met the target ({what}); this cut came nearest, at the least rate within a standard error."
        )
        course.rows.append(
            StepRow("trials", f"{len(places)} cuts, {sum(len(one.points) for one in trials)} settings", seconds)
        )
    if recorded:
        why = f"As it was chosen when this was done first{'' if recorded == tensor else f' (now: {tensor})'}. {why}"
        tensor = recorded
    if trials:
        figures = {"chosen": tensor, "why": why, "trials": [one.figures() for one in trials]}
        course.record("trials", {"model": digest}, {"candidates": candidates}, figures)
    return ChosenCut(tensor, why, found, tuple(trials), target)


def _none(choice: str, options: SurveyOptions) -> str:
    """No place to split: what would help."""
    ways = ["give --tensor"]
    if options.budget_ms is not None:
        ways.append("a larger --budget-ms")
    if options.standard_only:
        ways.append("leave --standard-only out")
    return f"{choice} {' or '.join(ways).capitalize()}."


def _tried(
    course: Course, model: Path, digest: str, places: list[str], target: Target, reference: Path | None
) -> tuple[list[Trial], float]:
    given = course.given
    wanted = BuildOptions(
        tensor="",
        target=target,
        prepare=prepare_options(given, load_model(model)),
        limits=limits_of(given),
        frames=given.frames,
        fps=given.fps,
        standard_only=given.standard_only,
    )

    def make() -> dict[str, Any]:
        found = run_trials(
            model, places, course.inputs.clip, wanted, course.work / "trials",
            labels=course.inputs.labels, reference=reference, notes=course.notes, progress=course.progress,
        )  # fmt: skip
        return {"trials": [one.figures() for one in found]}

    known = course.noted(f"trials {digest} {places}", make)
    return [trial_of(one) for one in known["trials"]], known["seconds"]


def _surveyed(course: Course, model: Path, digest: str, options: SurveyOptions) -> dict[str, Any]:
    """Figures, plot, sentence and the places worth a trial."""
    clip = course.inputs.clip
    options = replace(options, fps=course.given.fps or clip_fps(clip))

    def make() -> dict[str, Any]:
        proto = load_model(model)
        prepare = prepare_options(course.given, proto)
        samples = ClipSamples(clip, input_settings(open_graph(model), prepare))
        found = survey(proto, output_judge(proto, samples, options.samples), options, course.progress)
        return {
            "figures": found.figures(),
            "plot": survey_plot(found),
            "choice": explain_choice(found),
            "ranked": [cut.tensors[0] for cut in found.candidates(len(found.ranked))],
        }

    known = course.noted(f"survey {digest}", make)
    course.rows.append(StepRow("survey", f"{len(known['figures']['cuts'])} places to split", known["seconds"]))
    course.record("survey", {"model": digest}, plain(vars(options)), known["figures"])
    return known


def clip_fps(clip: Clip) -> float:
    """Pictures a second, by the times of the first two."""
    times = []
    for picture in clip:
        times.append(picture.time_s)
        if len(times) == 2:
            break
    return 1 / (times[1] - times[0]) if len(times) == 2 and times[1] > times[0] else clip.fps
