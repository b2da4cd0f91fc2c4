"""The survey: every cut with what it costs and sends, budgets that choose, and what stands in the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from split_nets import chain, model_of, pyramid
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_host.prepare import survey_measure
from featlink_host.prepare.record import plain
from featlink_host.prepare.samples import open_samples
from featlink_host.prepare.scoring import Judge, output_judge
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.survey import SurveyOptions, survey
from featlink_host.prepare.survey_report import explain_choice, survey_page
from featlink_host.prepare_cli import prepare


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.savez(tmp_path / "i.npz", image=np.random.default_rng(1).random((5, 3, 32, 32)).astype(np.float32))
    return tmp_path / "i.npz"


def judged(model: onnx.ModelProto, images: Path) -> Judge:
    return output_judge(model, open_samples(images, None, model))


def test_every_cut_is_told_with_what_it_costs_and_sends(images: Path) -> None:
    model = chain("n")
    found = survey(model, judged(model, images), SurveyOptions(runs=1, fps=5))
    cuts = {cut.name: cut for cut in found.cuts}
    assert list(cuts) == ["conv", "relu", "conv2", "relu2", "pooled", "flat"]
    relu = cuts["relu"]
    assert relu.shapes == ((1, 8, 16, 16),)
    assert (relu.producers, relu.consumers) == (("Relu",), (("Conv",),))
    assert (relu.near_macs, relu.far_macs) == (16 * 16 * 8 * 27, 16 * 16 * 8 * 72 + 32)
    assert relu.raw_bits == 8 * 8 * 16 * 16
    assert relu.near_ms > 0 < relu.far_ms
    with np.load(images) as file:
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        whole.graph.output.append(helper.make_empty_tensor_value_info("relu"))
        values = ModelRunner(whole)({"image": file["image"]})["relu"]
    (looks,) = relu.looks
    assert (looks.minimum, looks.maximum) == (values.min(), values.max())
    assert looks.zeros == pytest.approx((values == 0).mean())
    levels = np.floor(values / values.max() * 255 + 0.5)
    share = np.unique(levels, return_counts=True)[1] / values.size
    assert relu.entropy_bits == pytest.approx(-(share * np.log2(share)).sum() * 8 * 16 * 16, rel=0.02)
    assert relu.kbps(5) == pytest.approx(relu.entropy_bits * 5 / 1000)
    assert relu.usable
    assert cuts["conv"].usable
    assert any("values down to" in one and "adaptive quantizers only" in one for one in cuts["conv"].remarks)
    assert any("expected" in one or "a map is 1xCxHxW" in one for one in cuts["flat"].troubles)
    json.dumps(plain(found.figures()), allow_nan=False)


def test_budgets_choose_and_the_nearest_is_told(images: Path) -> None:
    model = chain()
    judge = judged(model, images)
    free = survey(model, judge, SurveyOptions(runs=1, largest_set=1))
    assert free.chosen is not None
    relu = next(cut for cut in free.cuts if cut.name == "relu")
    assert survey(model, judge, SurveyOptions(runs=1, budget_ms=1e6)).chosen.name == "pooled"
    rate = relu.kbps(10) * 1.01
    within = survey(model, judge, SurveyOptions(runs=1, budget_kbps=rate))
    assert all(cut.kbps(10) <= rate for cut in within.cuts if cut.within)
    none = survey(model, judge, SurveyOptions(runs=1, budget_kbps=1e-3))
    assert none.chosen is None
    assert none.nearest.name == "pooled"
    assert "nearest is pooled" in explain_choice(none)


def test_only_the_standards_quantizers_rule_values_below_0_out(images: Path) -> None:
    model = chain()
    found = survey(model, judged(model, images), SurveyOptions(runs=0, standard_only=True))
    cuts = {cut.name: cut for cut in found.cuts}
    assert not any(cut.looks[0].minimum < 0 for cut in found.ranked)
    assert any("values down to" in one and "nearest: relu" in one for one in cuts["conv"].troubles)
    assert "conv" in {cut.name for cut in survey(model, judged(model, images), SurveyOptions(runs=0)).ranked}


def test_the_ranking_does_not_hang_on_milliseconds(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain()
    judge = judged(model, images)
    names = []
    for slow in (1, -1):
        times = {"place": 0}

        def measured(run: object, inputs: object, runs: int, slow: int = slow, times: dict = times) -> float:
            times["place"] += 1
            return 10.0 + slow * times["place"]

        monkeypatch.setattr(survey_measure, "_median_ms", measured)
        names.append([cut.name for cut in survey(model, judge, SurveyOptions(runs=1)).ranked])
    assert names[0] == names[1]


def test_candidates_are_no_twins_and_of_different_sizes(images: Path) -> None:
    model = chain()
    found = survey(model, judged(model, images), SurveyOptions(runs=0, budget_kbps=1e6))
    some = found.candidates(2)
    assert [cut.raw_bits for cut in some] == list(dict.fromkeys(cut.raw_bits for cut in found.ranked))
    assert some[0] is found.chosen
    every = {cut.name for cut in found.candidates(9)}
    # Not both of a convolution and its Relu; both convolutions' maps, since they differ.
    assert len(every & {"conv", "relu"}) == 1
    assert len(every & {"conv2", "relu2"}) == 1
    assert "pooled" in every


def test_what_is_the_picture_still_comes_last(images: Path) -> None:
    """Nothing is computed there, so that no cost speaks against it: a video encoder takes the picture."""
    model = chain("n")
    halved = helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[2, 2], strides=[2, 2])
    widened = helper.make_node("Resize", ["small", "", "scales"], ["padded"], mode="nearest")
    for node in model.graph.node:
        node.input[:] = ["padded" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, halved)
    model.graph.node.insert(1, widened)
    model.graph.initializer.append(helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2]))
    for budget in (None, 1e4):
        found = survey(model, judged(model, images), SurveyOptions(runs=1, fps=5, budget_ms=budget))
        assert {cut.name for cut in found.ranked[-2:]} == {"small", "padded"}


def test_a_pyramid_has_its_sets(images: Path) -> None:
    found = survey(pyramid(), None, SurveyOptions(runs=0, largest_set=2))
    (both,) = [cut for cut in found.cuts if len(cut.tensors) == 2]
    assert both.tensors == ("a", "b")
    assert both.raw_bits == 8 * 4 * (64 + 16)
    assert "2 tensors" in both.troubles[0]
    assert both.looks is None


def test_float16_strange_operators_and_open_shapes_are_named() -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["half"], ["half_relu"]),
        helper.make_node("Cast", ["half_relu"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["back"], ["again"]),
        helper.make_node("Fancy", ["again"], ["end"], domain="com.example"),
    ]
    model = model_of(nodes, [1, 2, 4, 4], {"end": [1, 2, 4, 4]}, {})
    found = {cut.name: " ".join(cut.troubles) for cut in survey(model, None, SurveyOptions(runs=0)).cuts}
    assert "half_relu is float16, a map is float32" in found["half_relu"]
    assert "nearest: back" in found["half_relu"]
    assert "com.example.Fancy next to again is none of ONNX's own operators; the nearest: back" in found["again"]
    with pytest.raises(SettingsError, match="--fix-shape image=1,3,224,224"):
        survey(chain(1, "side"), None, SurveyOptions(runs=0))


def test_one_sample_is_looked_at_at_a_time_and_tensors_in_parts(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain("n")
    whole = survey(model, judged(model, images), SurveyOptions(runs=0))
    taken: list[int] = []
    call = ModelRunner.__call__

    def watched(self: ModelRunner, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        taken.append(len(next(iter(inputs.values()))))
        return call(self, inputs)

    monkeypatch.setattr(ModelRunner, "__call__", watched)
    monkeypatch.setattr(survey_measure, "HELD_BYTES", 1)
    parts = survey(model, judged(model, images), SurveyOptions(runs=0))
    assert set(taken) == {1}
    assert [cut.looks for cut in parts.cuts] == [cut.looks for cut in whole.cuts]


def test_the_command_prints_and_writes_a_page(tmp_path: Path, images: Path) -> None:
    onnx.save(chain(), str(tmp_path / "net.onnx"))
    run = CliRunner().invoke
    command = ["survey", str(tmp_path / "net.onnx"), "--images", str(images), "--runs", "1", "--json"]
    told = run(prepare, [*command, "--report", str(tmp_path / "report")])
    assert told.exit_code == 0, told.output
    assert {tuple(cut["tensors"]) for cut in json.loads(told.stdout)["cuts"]} >= {("relu",), ("relu2",)}
    page = (tmp_path / "report" / "survey.html").read_text()
    assert "zeroth-order entropy of 8-bit levels x 10" in page
    assert json.loads((tmp_path / "report" / "survey.json").read_text())["inputs"].keys() == {"model", "images"}
    table = run(prepare, ["survey", str(tmp_path / "net.onnx"), "--runs", "0"])
    assert "relu2" in table.output
    assert isinstance(
        run(prepare, ["survey", str(tmp_path / "net.onnx"), "--budget-kbps", "3"]).exception, SettingsError
    )


def test_a_page_without_images_says_so() -> None:
    page = survey_page("net.onnx", survey(chain(), None, SurveyOptions(runs=0)))
    assert "no images were given" in page
