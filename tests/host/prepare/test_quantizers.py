"""Adaptive quantizers as choices: fitted, packed by class, measured beside the standard's, written with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from split_nets import chain, pictures
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, PackingSettings
from featlink_codec.extractor.adaptive import partition_of
from featlink_codec.extractor.coding import map_coding, quantizer_of
from featlink_codec.features.adaptive import Structure
from featlink_codec.features.adaptive.adaptive import AdaptiveMap
from featlink_codec.features.adaptive.regions import classify_regions, image_energy
from featlink_codec.video.clip import open_source
from featlink_host.prepare import quantizer_run
from featlink_host.prepare.build_points import CodedPoint, Way, point_of
from featlink_host.prepare.build_search import Target
from featlink_host.prepare.calibrate import pictures_of
from featlink_host.prepare.kept_judge import KeptJudge
from featlink_host.prepare.orders import by_class
from featlink_host.prepare.pipeline import PrepareOptions, prepare_split
from featlink_host.prepare.quantizer_cut import CutBench, places_of, run_parts
from featlink_host.prepare.quantizer_fits import AdaptiveChoice, Fitter
from featlink_host.prepare.quantizer_report import frontier, quantizers_page
from featlink_host.prepare.quantizer_run import QuantizerOptions, compare_quantizers
from featlink_host.prepare.quantizer_sensitivity import channel_sensitivity
from featlink_host.prepare.quantizer_ways import compared_ways
from featlink_host.prepare.samples import ClipSamples, picture_settings
from featlink_host.prepare.score import Score
from featlink_host.prepare.scoring import output_judge
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.split import split_model
from featlink_host.prepare_cli import prepare


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(chain(), str(path))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("clip") / "p", 32)


@pytest.fixture
def maps() -> list[np.ndarray]:
    """Three maps of eight channels, every other one a hundred times stronger."""
    rng = np.random.default_rng(4)
    strength = np.where(np.arange(8) % 2, 10.0, 0.1)
    return [(rng.standard_normal((6, 7, 8)) * strength).astype(np.float32) for _ in range(3)]


def test_channels_of_a_class_stand_together_in_the_picture(tmp_path: Path, maps: list[np.ndarray]) -> None:
    fitter = Fitter(tmp_path, maps)
    choice = AdaptiveChoice(partition="channel", classes=2)
    plain = PackingSettings("tile", 2, 4)
    assert fitter.packing(choice, plain) == PackingSettings("ordered-tile", 2, 4, order=(0, 2, 4, 6, 1, 3, 5, 7))
    shuffled = (7, 6, 5, 4, 3, 2, 1, 0)
    assert by_class(fitter.decision(choice).partition, shuffled) == (6, 4, 2, 0, 7, 5, 3, 1)
    assert fitter.packing(AdaptiveChoice(), plain) is plain


def test_bits_go_where_the_head_is_sensitive(tmp_path: Path, maps: list[np.ndarray]) -> None:
    weights = np.array([1e-6, 1, 1e-6, 1, 1e-6, 1, 1e-6, 1])
    asked: list[int] = []
    fitter = Fitter(tmp_path, maps, None, lambda: asked.append(1) or weights)
    choice = AdaptiveChoice(partition="channel", classes=2, bits=5, feature="sensitivity")
    found = fitter.decision(choice)
    assert [one.bit_depth for one in found.classes] == [2, 8]
    assert fitter.table(choice).classes is not None
    assert asked == [1]
    swapped = Fitter(tmp_path, maps, None, lambda: weights[::-1].copy()).decision(choice)
    # The weak channels are the sensitive ones now, a million times; strong ones still have the larger error to lose.
    assert swapped.classes[0].bit_depth >= found.classes[0].bit_depth
    with pytest.raises(SettingsError, match="need the head"):
        Fitter(tmp_path, maps).table(choice)


@pytest.mark.parametrize(
    "choice",
    [
        AdaptiveChoice(depth=5),
        AdaptiveChoice("laplace", "least-squares", 4),
        AdaptiveChoice("structure", "least-squares"),
        AdaptiveChoice(partition="channel", classes=2, bits=6),
        AdaptiveChoice(partition="region", classes=2),
        AdaptiveChoice("histogram", "least-squares", 6, "block", 2, 5),
    ],
    ids=str,
)
def test_an_extractor_carries_what_was_fitted(choice: AdaptiveChoice, tmp_path: Path, net: Path, clip: Path) -> None:
    options = PrepareOptions(mode="adaptive", quantizer=choice, frames=8)
    made = prepare_split(net, "conv", clip, tmp_path / "out", options)
    assert made.calibration.minimum < 0
    settings = ExtractorSettings.load(tmp_path / "out")
    assert settings.video.profile == "adaptive"
    (feature,) = settings.maps
    quantizer = quantizer_of(feature, tmp_path / "out")
    assert isinstance(quantizer, AdaptiveMap)
    assert feature.quantizer.bit_depth == choice.map_depth
    backbone = ModelRunner(tmp_path / "out" / settings.models.backbone)
    samples = ClipSamples(open_source(clip), settings.input)
    (values,) = backbone(next(iter(samples.batches(1))).inputs).values()
    one = np.ascontiguousarray(values[0].transpose(1, 2, 0))
    error = quantizer.dequantize(quantizer.quantize(one)) - one
    assert np.square(error).mean() < 0.06 * one.var()


def test_a_signed_map_is_taken_by_mode_adaptive_alone(tmp_path: Path, net: Path, clip: Path) -> None:
    with pytest.raises(SettingsError, match=r"values down to -.*: take mode adaptive, or choose a cut after a ReLU"):
        prepare_split(net, "conv", clip, tmp_path / "out", PrepareOptions(frames=4))
    with pytest.raises(SettingsError, match="expected mode 'adaptive' for it"):
        prepare_split(net, "conv", clip, tmp_path / "out", PrepareOptions(quantizer=AdaptiveChoice()))
    words = ["split", str(net), "--tensor", "conv", "--source", str(clip), "--out", str(tmp_path / "out"),
             "--mode", "adaptive", "--bit-depth", "6", "--distribution", "histogram", "--fit", "least-squares",
             "--partition", "channel", "--classes", "2", "--lossless"]  # fmt: skip
    done = CliRunner().invoke(prepare, words)
    assert done.exit_code == 0, done.output
    (feature,) = ExtractorSettings.load(tmp_path / "out").maps
    assert feature.quantizer.classes is not None
    assert [one.bit_depth for one in feature.quantizer.classes] == [6, 6]
    wrong = CliRunner().invoke(prepare, [*words, "--force", "--distribution", "cauchy"])
    assert isinstance(wrong.exception, SettingsError)
    assert "found 'cauchy', expected one of uniform, gaussian" in str(wrong.exception)


def test_regions_are_found_by_the_detail_of_the_pictures(tmp_path: Path, net: Path, clip: Path) -> None:
    out = tmp_path / "out"
    words = ["split", str(net), "--tensor", "conv", "--source", str(clip), "--out", str(out), "--mode", "adaptive",
             "--partition", "region", "--classes", "2", "--classes-by", "image", "--lossless"]  # fmt: skip
    done = CliRunner().invoke(prepare, words)
    assert done.exit_code == 0, done.output
    settings = ExtractorSettings.load(out)
    (feature,) = settings.maps
    found = partition_of(feature, out)
    pictures = list(pictures_of(open_source(clip), settings.input, 16))
    assert pictures[0].shape == (settings.input.height, settings.input.width, 3)
    energy = sum(image_energy(one, feature.height, feature.width) for one in pictures)
    np.testing.assert_array_equal(found.ids, classify_regions(energy, 2))
    assert len(np.unique(found.ids)) == 2
    wrong = CliRunner().invoke(prepare, [*words, "--force", "--partition", "channel"])
    assert "classes by the image: found partition 'channel', expected 'region'" in str(wrong.exception)
    with pytest.raises(SettingsError, match="need the pictures"):
        Fitter(tmp_path, []).decision(AdaptiveChoice(partition="region", classes=2, feature="image"))


@pytest.mark.parametrize(
    ("distribution", "decider"), [("laplace", "given"), ("next-layer", "next-layer"), ("histogram", "histogram")]
)
def test_the_device_fits_the_quantizers_anew_where_that_is_asked_for(
    tmp_path: Path, net: Path, clip: Path, distribution: str, decider: str
) -> None:
    out = tmp_path / "out"
    words = ["split", str(net), "--tensor", "conv", "--source", str(clip), "--out", str(out), "--mode", "adaptive",
             "--bit-depth", "6", "--distribution", distribution, "--fit", "least-squares", "--on-device",
             "--lossless"]  # fmt: skip
    done = CliRunner().invoke(prepare, words)
    assert done.exit_code == 0, done.output
    settings = ExtractorSettings.load(out)
    (feature,) = settings.maps
    table = feature.quantizer
    assert (table.on_device, table.decider, table.fit) == ("intra", decider, "least-squares")
    coding = map_coding(feature, settings.video, None, out)
    assert coding.decide is not None
    values = np.random.default_rng(3).normal(40, 5, (feature.height, feature.width, feature.channels))
    (one,) = coding.decide(values.astype(np.float32)).classes
    assert (one.bit_depth, one.center) == (6, pytest.approx(40, abs=6))
    if distribution != "histogram":
        assert table.classes is not None
        assert one.distribution.name.lower() == table.classes[0].distribution
    both = CliRunner().invoke(prepare, [*words, "--force", "--partition", "channel", "--classes", "2", "--bits", "4"])
    assert "on the device: found bits on average, expected classes of one depth" in str(both.exception)


@pytest.mark.parametrize("wrong", [{"depth": 9}, {"how": "best"}, {"partition": "row"}, {"feature": "given"},
                                   {"classes": 2}, {"partition": "channel", "bits": 9.0}])  # fmt: skip
def test_a_choice_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        AdaptiveChoice(**wrong)  # type: ignore[arg-type]


def test_ways_know_their_samples_and_are_those_of_their_figures() -> None:
    few = Way.adapted(AdaptiveChoice(depth=5), 22)
    weighted = Way.adapted(AdaptiveChoice(depth=7, partition="channel", classes=2, bits=6), 22)
    assert (few.scaled, replace(few, qp=None).scaled, weighted.scaled) == (True, False, False)
    assert str(weighted) == ("adaptive uniform min..max, 2 channel classes by variance, 6 bit on average, QP 22")
    point = CodedPoint(weighted, 1.5, 2.5, Score("outputs", 0.5, None, None, 0.5, 3))
    assert point_of(json.loads(json.dumps(point.figures()))) == point
    for mode, choice in (("adaptive", None), ("uniform", AdaptiveChoice())):
        with pytest.raises(SettingsError, match="expected a choice where it is adaptive"):
            Way(mode, 8, None, choice)


def test_every_quantizer_is_compared_and_the_standards_only_where_they_can() -> None:
    signed, positive = compared_ways(64, True), compared_ways(64, False)
    assert set(signed) < set(positive)
    assert {way.mode for way in signed} == {"adaptive"}
    choices = [way.adaptive for way in signed if way.adaptive is not None]
    assert {one.distribution for one in choices} >= {"uniform", "gaussian", "laplace", "histogram", "next-layer",
                                                     "structure", "structure-or-uniform"}  # fmt: skip
    assert {(one.partition, one.classes) for one in choices} >= {("channel", 2), ("channel", 4), ("channel", 8),
                                                                 ("region", 2), ("block", 4)}  # fmt: skip
    assert max(one.classes for one in (way.adaptive for way in compared_ways(3, True)) if one is not None
               and one.partition == "channel") <= 3  # fmt: skip


def test_a_head_is_sensitive_where_its_weights_are(tmp_path: Path, net: Path) -> None:
    split_model(net, "relu2", tmp_path / "b.onnx", tmp_path / "h.onnx")
    maps = np.random.default_rng(1).random((4, 8, 16, 16)).astype(np.float32)
    found = channel_sensitivity(tmp_path / "h.onnx", "relu2", maps)
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(net)).graph.initializer}["w3"]
    # The head is a mean and a matrix: errors are as the squared weights.
    np.testing.assert_allclose(found / found.sum(), np.square(weights).sum(1) / np.square(weights).sum(), rtol=1e-3)


def test_a_kept_judge_scores_as_the_judge_does_part_by_part(tmp_path: Path, net: Path, clip: Path) -> None:
    model = onnx.load(str(net))
    samples = ClipSamples(open_source(clip), picture_settings(model))
    judge = output_judge(model, samples)
    other = ModelRunner(chain(seed=1))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((32, 4)).astype(np.float32)
    outputs = np.concatenate([other(batch)["scores"] for batch in judge.batches()]) + noise
    kept = KeptJudge(judge, tmp_path)
    assert kept.samples == 32

    def run_of(values: np.ndarray):
        left = iter(values)
        return lambda inputs: {"scores": np.stack([next(left) for _ in next(iter(inputs.values()))])}

    whole = judge.score_of(run_of(outputs))
    assert kept.score_of(run_of(outputs)).distortion == pytest.approx(whole.distortion, rel=1e-6)
    parts = [0] * 8 + [1] * 16 + [0] * 8
    spoiled = np.where(np.array(parts)[:, None] == 1, outputs, outputs - noise)
    good, bad = kept.scores_of(run_of(spoiled), parts)
    assert (good.samples, bad.samples) == (16, 16)
    assert good.distortion < 1e-10 < 1e-3 < bad.distortion
    with pytest.raises(SettingsError, match="parts of 3 samples, expected 32"):
        kept.scores_of(run_of(outputs), [0, 1, 0])


def test_every_other_run_chooses() -> None:
    assert run_parts((2, 3, 2)) == (0, 0, 1, 1, 1, 0, 0)
    assert places_of((0, 0, 1), 1) == [2]
    assert places_of((0, 0), 1) == [0, 1]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, net: Path, clip: Path):
    def few(channels: int, signed: bool, bits: tuple[int, ...]) -> list[Way]:
        found = [Way.adapted(AdaptiveChoice(), qp) for qp in (None, 16, 28)]
        found.append(Way.adapted(AdaptiveChoice(partition="channel", classes=4, bits=5, feature="sensitivity"), None))
        return found if signed else [*found, *(Way("uniform", 8, qp) for qp in (16, 28))]

    folder = tmp_path_factory.mktemp("compared")
    benches: list[CutBench] = []
    options = QuantizerOptions(("conv", "relu"), Target(agreement=0.98), PrepareOptions(frames=8), 32, 25, (6,))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quantizer_run, "compared_ways", few)
        found = compare_quantizers(
            net, open_source(clip), options, folder / "work", out=folder / "out", watch=benches.append
        )
    return found, benches, folder


def test_the_cheapest_that_is_good_enough_wins_and_is_written(compared) -> None:
    found, benches, folder = compared
    every = [point for cut in found.cuts for point in cut.points]
    fitting = [one for one in every if one.chosen_on.score.merit >= 0.98]
    assert found.chosen.chosen_on.map_bytes == min(one.chosen_on.map_bytes for one in fitting)
    assert found.reason.startswith(f"{found.chosen.way} at {found.cut.tensor}: of {len(every)} settings at 2 cuts")
    settings = ExtractorSettings.load(folder / "out")
    assert settings == found.settings
    assert settings.source_model.split_tensor == found.cut.tensor
    assert settings.video.qp == found.chosen.way.qp
    bench = next(one for one in benches if one.tensor == found.cut.tensor)
    if found.chosen.way.adaptive is not None:
        stored = quantizer_of(settings.maps[0], folder / "out")
        fitted = bench.fitter.decision(found.chosen.way.adaptive)
        assert isinstance(stored, AdaptiveMap)
        assert stored.classes == fitted.classes


def test_its_page_tells_every_point(compared) -> None:
    found, _, _ = compared
    page = quantizers_page(found)
    assert page.count("<svg") == 4
    for cut in found.cuts:
        assert all(str(point.way).split(",")[0] in page for point in cut.points)
    best = frontier(found.cuts[0].points)
    assert [one.chosen_on.score.distortion for one in best] == sorted(
        (one.chosen_on.score.distortion for one in best), reverse=True
    )


def test_the_error_of_a_quantizer_is_that_on_maps_it_was_not_fitted_to(compared) -> None:
    _, (bench, _), _ = compared
    deep, shallow = (bench.error(Way.adapted(AdaptiveChoice(depth=depth), None)) for depth in (8, 3))
    assert 0 < deep < shallow / 100
    assert bench.signed
    assert isinstance(bench.fitter.structure, Structure)
    assert (bench.fitter.structure.producer, bench.fitter.structure.consumers) == ("Conv", ("Relu",))


def test_ways_that_come_to_the_same_are_measured_once(compared) -> None:
    _, (bench, _), _ = compared
    one = AdaptiveChoice("gaussian", "least-squares", 6)
    other = AdaptiveChoice("laplace", "least-squares", 6)
    assert bench.fitter.mark(one) == bench.fitter.mark(other) != bench.fitter.mark(AdaptiveChoice(depth=6))
    first, second = (bench.measure(Way.adapted(choice, None)) for choice in (one, other))
    assert second == first.named(second.way)


def test_the_command_writes_extractor_page_and_record(
    tmp_path: Path, net: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [Way.adapted(AdaptiveChoice(depth=4), qp) for qp in (None, 22)]
    monkeypatch.setattr(quantizer_run, "compared_ways", lambda *_: ways)
    words = ["quantizers", str(net), "--tensors", "conv", "--source", str(clip), "--frames", "16", "--bits", "4",
             "--kbps", "100", "-o", str(tmp_path / "out"), "--report", str(tmp_path / "r"), "--json"]  # fmt: skip
    done = CliRunner().invoke(prepare, words)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())["steps"][0]
    assert record["figures"]["reason"] == figures["reason"]
    assert record["outputs"].keys() >= {"extractor.toml", "backbone.onnx", "head.onnx"}
    assert (tmp_path / "r" / "quantizers.html").read_text().startswith("<!")
    assert not (tmp_path / "out.work").exists()
    ExtractorSettings.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kbps", "9"], "nothing to write: give -o, --report, or both"),
        (["--report", "r"], "exactly one of --kbps and --agreement"),
        (["--report", "r", "--kbps", "9", "--bits", "1"], "--bits: found 1, expected 2 to 8"),
        (["--report", "r", "--kbps", "9", "--bits", "a"], "--bits: found 'a'"),
        (["--report", "r", "--kbps", "9", "--anchors", "a.npy"], "both --anchors and --label-names"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], message: str, net: Path, clip: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(prepare, ["quantizers", str(net), "--tensors", "conv", "--source", str(clip), *words])
    assert isinstance(done.exception, SettingsError)
    assert message in str(done.exception)
    assert not (tmp_path / "r").exists()
