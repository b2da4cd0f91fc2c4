"""Everything in one go: cuts are tried, the backbone may be integers; a stopped run goes on, a record repeats it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from split_nets import model_of, small_build
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_host.prepare import auto_cut
from featlink_host.prepare.auto import AutoArguments, AutoResult, publish, read_auto, run_auto, work_folder
from featlink_host.prepare.auto_report import auto_page
from featlink_host.prepare.auto_trials import Trial, choose_trial, distortion_at, trial_of
from featlink_host.prepare.build_points import Bench, CodedPoint, Way
from featlink_host.prepare.build_search import Target
from featlink_host.prepare.build_step import BuildArguments, write_records
from featlink_host.prepare.graph import load_model
from featlink_host.prepare.page import cell
from featlink_host.prepare.quantization.integer_extractor import GOLDEN_FILE, check_golden
from featlink_host.prepare.record import digest_of
from featlink_host.prepare.scoring import Score
from featlink_host.prepare_cli import prepare


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> BuildArguments:
    return small_build(tmp_path_factory.mktemp("given"), keep_whole=True)


def small(given: BuildArguments, **changes: object) -> AutoArguments:
    of_auto = {key: changes.pop(key) for key in ("steps", "candidates", "integer", "budget_ms") if key in changes}
    return AutoArguments(replace(given, **changes), survey_samples=2, survey_runs=1, **of_auto)


def finished(arguments: AutoArguments, out: Path, recorded: str = "") -> AutoResult:
    work = work_folder(out)
    found = run_auto(arguments, work, recorded=recorded)
    write_records(work / "built", list(found.records), auto_page(found))
    publish(work, out)
    return found


@pytest.fixture(scope="module")
def whole(given: BuildArguments, tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoResult, Path]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return finished(small(given, steps=(("prune", 0.5),), candidates=2), out), out


def test_the_best_places_are_tried_and_the_target_chooses(whole: tuple[AutoResult, Path]) -> None:
    found, out = whole
    assert [row.name for row in found.rows] == ["prune", "survey", "trials", "build"]
    assert len(found.cut.trials) == 2
    points = [point for trial in found.cut.trials for point in trial.points]
    best = found.cut.target.best(points)
    assert best in next(one for one in found.cut.trials if one.tensor == found.cut.tensor).points
    assert ExtractorSettings.load(out).source_model.split_tensor == found.cut.tensor
    steps = json.loads((out / "prepare.json").read_text())["steps"]
    assert [one["step"] for one in steps] == ["auto", "prune", "survey", "trials", "build"]
    tried = [trial_of(one) for one in steps[3]["figures"]["trials"]]
    assert tuple(tried) == found.cut.trials
    page = (out / "prepare.html").read_text()
    for text in (
        "Cuts that were tried", "Trials", "Where to split", "Steps", "Against video", "What the two networks answer",
        cell(found.built.chosen.kbps).split(".")[0],
    ):  # fmt: skip
        assert text in page
    for trial in found.cut.trials:
        assert trial.tensor in page


def test_a_transformed_network_is_measured_and_named_by_the_one_before(whole: tuple[AutoResult, Path]) -> None:
    found, out = whole
    settings = ExtractorSettings.load(out)
    assert settings.source_model.file == "net.onnx"
    assert digest_of(out / settings.models.whole) == settings.source_model.sha256
    assert found.built.uncoded.distortion > 0


def test_a_record_repeats_all_steps(whole: tuple[AutoResult, Path], given: BuildArguments, tmp_path: Path) -> None:
    _, out = whole
    told = CliRunner().invoke(prepare, ["repeat", str(out), "-o", str(tmp_path / "again")])
    assert told.exit_code == 0, told.exception
    kept = {file.name: digest_of(file) for file in out.iterdir() if file.name not in ("prepare.html", "prepare.json")}
    assert {"extractor.toml", "backbone.onnx", "backbone.nnc", "head.onnx", "whole.onnx"} <= set(kept)
    assert {name: digest_of(tmp_path / "again" / name) for name in kept} == kept
    record = (out / "prepare.json").read_text()
    (tmp_path / "other.json").write_text(record.replace(given.digests()["images"], "0" * 64))
    told = CliRunner().invoke(prepare, ["repeat", str(tmp_path / "other.json"), "-o", str(tmp_path / "no")])
    assert isinstance(told.exception, SettingsError)
    assert "images: " in str(told.exception)
    assert not (tmp_path / "no").exists()


def test_the_recorded_cut_is_taken_whatever_was_measured(
    whole: tuple[AutoResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = whole
    arguments, _, cut = read_auto(out / "prepare.json")
    assert cut == found.cut.tensor
    (other,) = [one for one in found.cut.trials if one.tensor != cut]
    monkeypatch.setattr(auto_cut, "choose_trial", lambda target, trials: other)
    again = run_auto(replace(arguments, build=replace(arguments.build, crfs=())), tmp_path / "w", recorded=cut)
    assert again.cut.tensor == again.built.options.tensor == cut
    assert other.tensor in again.cut.why


def test_a_run_stopped_in_a_trial_goes_on_where_it_was(
    given: BuildArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = small(given, candidates=2)
    measure = Bench.measure
    first: list[tuple[str, Way]] = []

    def stopping(self: Bench, way: Way) -> CodedPoint:
        if len(first) == 7:
            raise KeyboardInterrupt
        first.append((self.feature.tensor, way))
        return measure(self, way)

    monkeypatch.setattr(Bench, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_auto(arguments, tmp_path / "w")
    stages: list[str] = []
    second: list[tuple[str, Way]] = []

    def watched(self: Bench, way: Way) -> CodedPoint:
        second.append((self.feature.tensor, way))
        return measure(self, way)

    monkeypatch.setattr(Bench, "measure", watched)
    found = run_auto(arguments, tmp_path / "w", lambda stage, done, total: stages.append(stage))
    assert "times" not in stages  # the survey is known
    tried = [(one.tensor, point.way) for one in found.cut.trials for point in one.points]
    assert set(first) < set(tried)
    built = [(found.cut.tensor, point.way) for point in found.built.points]
    assert sorted(map(str, second)) == sorted(map(str, [*(set(tried) - set(first)), *built]))
    second.clear()
    run_auto(arguments, tmp_path / "w")
    assert not second


def test_the_command_tells_and_leaves_nothing_behind(given: BuildArguments, tmp_path: Path) -> None:
    command = ["auto", given.model, "--images", given.images, "--frames", "5", "--candidates", "2"]
    command += ["--agreement", "0.9", "-o", str(tmp_path / "out"), "--json"]
    told = CliRunner().invoke(prepare, command)
    assert told.exit_code == 0, told.exception
    found = json.loads(told.stdout)
    assert found["folder"] == str(tmp_path / "out")
    assert [step["name"] for step in found["steps"]] == ["survey", "trials", "build"]
    assert found["chosen"]["score"]["value"] >= 0.9
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_cut_that_is_given_or_alone_is_not_tried(given: BuildArguments, tmp_path: Path) -> None:
    found = run_auto(small(given, tensor="conv2", crfs=()), tmp_path / "a")
    assert not found.cut.trials
    assert found.built.settings.maps[0].quantizer.mode == "adaptive"  # it has values below 0
    assert run_auto(small(given, candidates=1, crfs=()), tmp_path / "b").cut.trials == ()


def test_the_backbone_may_be_of_integers(given: BuildArguments, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = work_folder(out)
    found = run_auto(small(given, tensor="relu2", integer=True, crfs=()), work)
    coded = {one.name: numpy_helper.to_array(one) for one in load_model(work / "integer.onnx").graph.initializer}
    write_records(work / "built", list(found.records), auto_page(found))
    publish(work, out)
    settings = ExtractorSettings.load(out)
    assert settings.source_model.file == "net.onnx"
    whole = load_model(tmp_path / "out" / settings.models.whole)
    assert whole == load_model(Path(given.model))
    # The backbone came out of its model stream: the very same integers are in it.
    backbone = onnx.load(str(out / settings.models.backbone))
    weights = {one.name: numpy_helper.to_array(one) for one in backbone.graph.initializer}
    assert {values.dtype.name for values in weights.values()} >= {"int8", "int32", "uint8"}
    for name, values in weights.items():
        assert values.dtype == coded[name].dtype
        np.testing.assert_array_equal(values, coded[name])
    checked = check_golden(out / settings.models.backbone, out / GOLDEN_FILE)
    assert checked.holds
    steps = {one["step"]: one for one in json.loads((out / "prepare.json").read_text())["steps"]}
    figures = steps["integer"]["figures"]
    assert figures["golden"]["sha256"] == list(checked.hashes)
    assert figures["wide"] == [name for name, one in figures["quantizers"].items() if one["bits"] > 8]
    assert figures["score"]["value"] > 0.9
    # What is coded are the levels' numbers, and they are measured against the network as it was given.
    assert found.built.uncoded.distortion == pytest.approx(figures["score"]["distortion"], rel=1e-3)
    assert "The backbone in integers" in (out / "prepare.html").read_text()
    again = tmp_path / "again"
    assert CliRunner().invoke(prepare, ["repeat", str(out), "-o", str(again)]).exit_code == 0
    for name in ("backbone.nnc", GOLDEN_FILE, "extractor.toml"):
        assert digest_of(again / name) == digest_of(out / name)


def test_labels_tell_who_is_right(given: BuildArguments, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("\n".join(str(k % 4) for k in range(10)))
    found = run_auto(small(given, tensor="relu2", crfs=(), labels=str(tmp_path / "l.txt")), tmp_path / "w")
    assert found.pictures is not None
    assert not found.pictures.boxes
    for pair in found.pictures.pairs:
        (right,) = re.findall(r": class (\d)$", pair.caption)
        for text in (pair.left_caption, pair.right_caption):
            ((answer, said),) = re.findall(r"class (\d), (right|wrong)$", text)
            assert (answer == right) == (said == "right")
        assert pair.left[:2] == pair.right[:2] == b"\xff\xd8"
    assert re.search(r"\d of 5 pictures; \d are right with the whole network, \d with", found.pictures.note)


def test_the_target_likes_one_of_the_trials() -> None:
    def trial(name: str, *points: tuple[float, float]) -> Trial:
        ways = [CodedPoint(Way("uniform", 8, qp), kbps * 9, kbps, Score("outputs", value, None, None, 1 - value, 8))
                for qp, (kbps, value) in enumerate(points)]  # fmt: skip
        return Trial(name, False, tuple(ways))

    cheap, good = trial("cheap", (10, 0.5), (20, 0.6)), trial("good", (50, 0.8), (90, 0.99))
    broken = Trial("broken", False, (), "it does not run")
    assert choose_trial(Target(kbps=30), [good, cheap, broken]) is cheap
    assert choose_trial(Target(kbps=100), [broken, cheap, good]) is good
    assert choose_trial(Target(agreement=0.7), [cheap, good]) is good
    # Met by none: what comes nearest.
    assert choose_trial(Target(kbps=1), [good, cheap]) is cheap
    assert choose_trial(Target(agreement=0.999), [cheap, good]) is good
    few = [replace(one, points=tuple(replace(p, score=replace(p.score, counted=9)) for p in one.points))
           for one in (cheap, trial("dear", (900, 0.62)))]  # fmt: skip
    assert choose_trial(Target(agreement=0.999), few).tensor == "cheap"  # 9 objects: 0.6 and 0.62 are the same
    # At the same merit but for noise, the curve at the very rate decides, not where a QP happens to lie.
    early, late = trial("early", (60, 0.90), (101, 0.99)), trial("late", (40, 0.80), (99, 0.92))
    assert distortion_at(early, 100) < 0.02 < distortion_at(late, 100)
    assert choose_trial(Target(kbps=100), [late, early]) is early
    with pytest.raises(SettingsError, match="broken: it does not run"):
        choose_trial(Target(kbps=1), [broken])
    assert trial_of(good.figures()) == good


def test_low_rank_is_a_share_of_the_macs(given: BuildArguments, tmp_path: Path) -> None:
    # Only the last layer can be made of two, and that does not reach so far.
    with pytest.raises(SettingsError, match="with rank 1 everywhere"):
        run_auto(small(given, steps=(("low_rank", 0.1),)), tmp_path / "w")


def test_what_does_not_fit_is_told_with_what_would(given: BuildArguments, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the nearest is .* Give --tensor or a larger --budget-ms"):
        run_auto(small(given, budget_ms=1e-6), tmp_path / "w")
    folder = tmp_path / "targets" / "board"
    folder.mkdir(parents=True)
    (folder / "target.toml").write_text('[[encoders]]\nbackend = "x265"\n')
    with pytest.raises(SettingsError, match="there are board"):
        run_auto(small(given, target=str(folder.parent / "bord")), tmp_path / "w2")
    with pytest.raises(SettingsError, match="no images: found no such file"):
        run_auto(small(given, images=str(tmp_path / "none")), tmp_path / "w3")
    (tmp_path / "l.txt").write_text("0 1 2 3 0 1 2 3 0 1")  # not what this network says
    wrong = small(given, tensor="pooled", labels=str(tmp_path / "l.txt"), kbps=None, agreement=1.0)
    with pytest.raises(SettingsError, match=r"the nearest: .*maps that are not coded at all give accuracy 0.*--scale"):
        run_auto(wrong, tmp_path / "w4")
    with pytest.raises(SettingsError, match="--model-qp with --integer"):
        small(given, integer=True, model_qp=-20)
    assert not (tmp_path / "w2").exists()


def bottleneck() -> onnx.ModelProto:
    """image [1,3,32,32] -> relu [1,8,16,16] -> thin [1,2,16,16], values below 0 -> conv -> last -> scores [1,4]."""
    rng = np.random.default_rng(4)
    shapes = {"w1": (8, 3, 3, 3), "w2": (2, 8, 1, 1), "w3": (8, 2, 3, 3), "w4": (8, 4)}
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "w2"], ["thin"]),
        helper.make_node("Conv", ["thin", "w3"], ["conv3"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv3"], ["last"]),
        helper.make_node("GlobalAveragePool", ["last"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w4"], ["scores"]),
    ]
    return model_of(nodes, [1, 3, 32, 32], {"scores": [1, 4]}, weights)


def test_a_place_with_values_below_0_is_chosen_unless_readers_are_plain(given: BuildArguments, tmp_path: Path) -> None:
    onnx.save(bottleneck(), str(tmp_path / "thin.onnx"))
    thin = replace(given, model=str(tmp_path / "thin.onnx"), kbps=None, agreement=0.95)
    found = run_auto(small(thin, crfs=()), tmp_path / "w")
    assert {trial.tensor: trial.signed for trial in found.cut.trials}["thin"]
    plain = run_auto(small(thin, standard_only=True, crfs=()), tmp_path / "p")
    assert not any(trial.signed for trial in plain.cut.trials)
    assert plain.built.settings.maps[0].quantizer.mode != "adaptive"
    (seen,) = [cut for cut in plain.cut.survey["figures"]["cuts"] if cut["tensors"] == ["thin"]]
    assert any("adaptive quantizers only" in one for one in seen["troubles"])
