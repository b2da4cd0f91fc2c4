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
    assert any("values down to" in one and "nearest: relu" in one for one in cuts["conv"].troubles)
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
