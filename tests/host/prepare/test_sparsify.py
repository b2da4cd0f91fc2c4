"""Dropping small activations: thresholds are raised and nothing else, and what is measured is what is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import ExtractorSettings, SsdDetectorTask, thresholds_of
from featlink_codec.features.quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from featlink_codec.video.clip import open_source
from featlink_host.cli import app
from featlink_host.detector import SsdDetector
from featlink_host.prepare.build_maps import KeptMaps
from featlink_host.prepare.coded_maps import head_runner
from featlink_host.prepare.scoring import Score
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.sparsify import (
    SparsifyOptions,
    apply_thresholds,
    drop_below,
    threshold_of_sparsity,
    undropped,
)
from featlink_host.prepare.sparsify_points import judge_of_head
from featlink_host.prepare.sparsify_run import sparsify_extractor

QUANTIZERS = [UniformQuantizer(6.0, 8), UniformQuantizer(1.0, 2), LogQuantizer(3.5, 8), UniformQuantizer(6.0, 16)]
positive = st.floats(0, 7, width=32)


@given(st.sampled_from(QUANTIZERS), st.floats(0, 1), st.lists(positive, max_size=30))
def test_below_there_is_zero_and_above_nothing_changes(quantizer: Quantizer, part: float, values: list[float]) -> None:
    t = float(np.float32(part) * quantizer.thresholds[-1])
    raised = drop_below(quantizer.thresholds, t)
    x = np.float32([*values, t, np.nextafter(np.float32(t), np.float32(0))])
    levels = np.searchsorted(raised, x, side="right")
    assert np.array_equal(levels, np.where(x >= np.float32(t), quantizer.quantize(x), 0))
    # Dropping again less changes nothing, and it stays a table of thresholds.
    assert np.array_equal(drop_below(raised, t / 2 if np.float32(t / 2) == t / 2 else 0.0), raised)
    assert (np.diff(raised) >= 0).all()
    assert raised.dtype == np.float32


@pytest.mark.parametrize("t", [-1.0, 7.0, float("nan"), float("inf"), 0.1])
def test_thresholds_that_make_no_sense_are_refused(t: float) -> None:
    with pytest.raises(SettingsError, match="threshold"):
        drop_below(UniformQuantizer(6.0, 8).thresholds, t)


def test_a_signed_quantizer_has_no_small_values_at_its_end() -> None:
    quantizer = CustomQuantizer(np.float32([-1, 0, 1]), 2)
    with pytest.raises(SettingsError, match="not negative"):
        drop_below(quantizer.thresholds, 0.5)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(0, 100, width=32)),
    st.floats(0, 1),
)
def test_the_threshold_of_a_sparsity_is_the_least_one(values: np.ndarray, sparsity: float) -> None:
    t = threshold_of_sparsity(values, sparsity)
    wanted = int(np.ceil(sparsity * values.size))
    if t == 0:
        assert np.count_nonzero(values == 0) >= wanted
    else:
        assert np.count_nonzero(values < t) >= wanted
        assert np.count_nonzero(values < np.nextafter(np.float32(t), np.float32(0))) < wanted


def test_a_sparsity_needs_values_that_are_not_negative() -> None:
    for wrong in (-1.0, np.nan):
        with pytest.raises(SettingsError, match="negative or not numbers"):
            threshold_of_sparsity(np.float32([[0, wrong]]), 0.5)
    with pytest.raises(SettingsError, match=r"expected 0\.\.1"):
        threshold_of_sparsity(np.float32([[0]]), 1.5)
    assert threshold_of_sparsity(np.float32([[-0.0, 1]]), 0.5) == 0


@pytest.fixture
def extractor(tiny_extractor: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_extractor, tmp_path / "extractor"))


def stored(folder: Path) -> np.ndarray:
    settings = ExtractorSettings.load(folder)
    found = thresholds_of(folder, settings.maps[0])
    assert found is not None
    return found


def test_a_threshold_is_measured_as_it_is_done(extractor: Path, tiny_clip: Path) -> None:
    feature, found = sparsify_extractor(extractor, open_source(tiny_clip), SparsifyOptions(threshold=0.25, frames=8))
    first, second = found.points
    assert first.threshold == 0
    assert found.chosen is second
    assert second.zeros > first.zeros
    assert second.score.distortion > first.score.distortion
    assert second.run_bytes < first.run_bytes
    assert np.array_equal(found.thresholds, drop_below(undropped(extractor, feature), 0.25))
    assert np.array_equal(stored(extractor), undropped(extractor, feature))  # nothing was written


def test_a_sparsity_is_reached_and_no_more(extractor: Path, tiny_clip: Path) -> None:
    clip = open_source(tiny_clip)
    _, found = sparsify_extractor(extractor, clip, SparsifyOptions(sparsity=0.9, frames=8))
    assert found.chosen.zeros >= 0.9
    below = float(np.nextafter(np.float32(found.chosen.threshold), np.float32(0)))
    _, nearly = sparsify_extractor(extractor, clip, SparsifyOptions(threshold=below, frames=8))
    assert nearly.chosen.zeros < 0.9
    less = found.points[0].zeros / 2
    _, found = sparsify_extractor(extractor, clip, SparsifyOptions(sparsity=less, frames=8))
    assert found.chosen.threshold == 0
    with pytest.raises(SettingsError, match="highest level begins"):
        sparsify_extractor(extractor, clip, SparsifyOptions(sparsity=1.0, frames=8))


def test_an_agreement_holds_and_the_next_step_that_was_tried_breaks_it(extractor: Path, tiny_clip: Path) -> None:
    clip = open_source(tiny_clip)
    _, found = sparsify_extractor(extractor, clip, SparsifyOptions(agreement=0.98, frames=8))
    assert found.chosen.score.merit >= 0.98
    assert found.chosen.threshold > 0
    above = [point for point in found.points if point.threshold > found.chosen.threshold]
    assert above
    assert all(point.score.merit < 0.98 for point in above)
    with pytest.raises(SettingsError, match="nothing dropped"):
        sparsify_extractor(extractor, clip, SparsifyOptions(agreement=1.0, frames=8, qp=40))


def test_a_detector_is_judged_by_what_its_head_found_on_the_maps_as_they_were() -> None:
    """The map's first number is the logit of the one object: there in maps 0 and 1, not in 2 and 3."""
    anchors = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    values = np.float32([4, 4, -4, -4]).reshape(4, 1, 1, 1)

    maps = KeptMaps(values, (0.0, 1.0, 2.0, 3.0), (4,))
    task = SsdDetectorTask(anchors="a", labels="l", boxes_output="boxes", logits_output="logits")
    judge = judge_of_head(one_object_head(), SsdDetector(anchors, {1: "thing"}, task), maps, "map")

    def score(tensors: np.ndarray) -> Score:
        return judge.score_of(head_runner(ModelRunner(one_object_head()), "map", iter(tensors)))

    same = score(values[:, None])
    assert (same.kind, same.value, same.precision, same.distortion, same.counted) == ("detections", 1, 1, 0, 2)
    # One of two is lost, and one is found that is not there.
    other = score(np.float32([4, -4, 4, -4]).reshape(4, 1, 1, 1, 1))
    assert (other.value, other.precision, other.f1, other.samples) == (0.5, 0.5, 0.5, 4)
    with pytest.raises(FeatlinkError, match="4 pictures, but 3 maps"):
        score(values[:3, None])


def one_object_head() -> onnx.ModelProto:
    """map [n, 1, 1, 1] -> boxes [n, 2, 4] of zeros, logits [n, 2, 2] of -9 but one, which is the map's number."""
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        head (float[n, 1, 1, 1] map) => (float[n, 2, 4] boxes, float[n, 2, 2] logits)
        <int64[3] number = {-1, 1, 1}, float[1, 1, 4] none = {0, 0, 0, 0}, float[1, 1, 1] nine = {9},
         int64[3] two = {1, 2, 1}>
        {
            one = Reshape(map, number)
            zero = Sub(one, one)
            low = Sub(zero, nine)
            first = Concat <axis = 2> (low, one)
            second = Concat <axis = 2> (low, low)
            logits = Concat <axis = 1> (first, second)
            box = Add(zero, none)
            boxes = Tile(box, two)
        }
    """)


def test_applying_writes_thresholds_and_nothing_else(extractor: Path) -> None:
    before = ExtractorSettings.load(extractor)
    feature = before.maps[0]
    own = undropped(extractor, feature)
    raised = drop_below(own, 0.25)
    files = {file.name for file in extractor.iterdir()}
    assert apply_thresholds(extractor, raised)
    after = ExtractorSettings.load(extractor)
    assert np.array_equal(stored(extractor), raised)
    table = after.maps[0].quantizer
    assert table.thresholds != feature.quantizer.thresholds
    assert (table.mode, table.bit_depth, table.max_feat_digit) == (
        feature.quantizer.mode,
        feature.quantizer.bit_depth,
        feature.quantizer.max_feat_digit,
    )
    assert (after.models, after.video, after.input) == (before.models, before.video, before.input)
    assert {file.name for file in extractor.iterdir()} == files - {feature.quantizer.thresholds} | {table.thresholds}
    assert not apply_thresholds(extractor, raised)
    # What was dropped is still known, and comes back.
    assert np.array_equal(undropped(extractor, after.maps[0]), own)
    assert apply_thresholds(extractor, own)
    assert ExtractorSettings.load(extractor) == before
    assert {file.name for file in extractor.iterdir()} == files


def test_an_interrupted_write_leaves_the_old_extractor(extractor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = stored(extractor)

    def full(path: Path, data: object) -> None:
        raise FeatlinkError("disk full")

    monkeypatch.setattr("featlink_host.prepare.sparsify.write_whole", full)
    with pytest.raises(FeatlinkError, match="disk full"):
        apply_thresholds(extractor, drop_below(own, 0.25))
    assert np.array_equal(stored(extractor), own)


def test_the_command_reports_and_applies(extractor: Path, tiny_clip: Path, tmp_path: Path) -> None:
    words = ["prepare", "sparsify", str(extractor), "--source", str(tiny_clip), "--frames", "8", "--sparsity", "0.8"]
    done = CliRunner().invoke(app, [*words, "--apply", "--report", str(tmp_path / "r"), "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["applied"]
    assert figures["chosen"]["zeros"] >= 0.8
    assert np.float32(figures["chosen"]["threshold"]) == stored(extractor)[0]
    record = json.loads((tmp_path / "r" / "sparsify.json").read_text())
    assert record["figures"]["chosen"] == figures["chosen"]
    assert "HEVC only" in (tmp_path / "r" / "sparsify.html").read_text()
    done = CliRunner().invoke(app, [*words, "--apply"])
    assert done.exit_code == 0, done.output
    assert "had these thresholds already" in done.stdout
    assert "zeros" in done.stdout


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "expected one of threshold, sparsity, agreement"),
        (["--threshold", "1", "--sparsity", "0.5"], "threshold and sparsity"),
        (["--sparsity", "2"], "expected 0..1"),
        (["--threshold", "1e9"], "where the highest level begins"),
        (["--threshold", "-1"], "at least 0"),
    ],
)
def test_mistakes_are_one_error(extractor: Path, tiny_clip: Path, more: list[str], says: str) -> None:
    words = ["prepare", "sparsify", str(extractor), "--source", str(tiny_clip), "--frames", "1", *more]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SettingsError)
    assert says in str(done.exception)
