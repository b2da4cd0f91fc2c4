"""Judges: the untouched network is perfect, a broken one is not, and figures are those of the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SsdDetectorTask
from featlink_host.detector import SsdDetector
from featlink_host.model.evaluate import distortion
from featlink_host.prepare.samples import open_samples
from featlink_host.prepare.scoring import DetectorJudge, labelled_judge, output_judge
from featlink_host.prepare.scoring_runs import Distortion, ModelRunner


def linear(weights: np.ndarray, batch: int | str = "n") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """150 samples of 3 numbers; the label is the greatest of them, but for the first 30."""
    x = np.random.default_rng(1).normal(size=(150, 3)).astype(np.float32)
    labels = x.argmax(axis=1)
    labels[:30] = (labels[:30] + 1) % 3
    np.savez(tmp_path / "s.npz", x=x, labels=labels)
    return tmp_path / "s.npz"


def test_right_labels_are_counted(samples: Path) -> None:
    model = linear(np.eye(3))
    judge = labelled_judge(model, open_samples(samples, None, model))
    score = judge.score(model)
    assert (score.kind, score.value, score.distortion, score.samples) == ("accuracy", 0.8, 0.0, 150)
    turned = judge.score(linear(np.eye(3)[:, [1, 2, 0]]))
    assert turned.value < 0.5 < turned.distortion
    assert judge.score(model) == score


def test_without_labels_the_outputs_count_as_one_would_compute_them(samples: Path) -> None:
    model, other = linear(np.eye(3)), linear(np.eye(3) * 1.1 + 0.01)
    judge = output_judge(model, open_samples(samples, None, model))
    with np.load(samples) as found:
        x = found["x"]
    want = distortion([x], [x @ (np.eye(3) * 1.1 + 0.01).astype(np.float32)])
    assert judge.score(other).distortion == pytest.approx(want, rel=1e-5)
    assert judge.score(other).value == pytest.approx(1 - want, rel=1e-5)
    assert judge.score(linear(np.eye(3) * 1e30)).value == 0
    assert judge.score(linear(np.full((3, 3), np.inf))).figures()["distortion"] is None


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_gets_what_it_wants(samples: Path, batch: int) -> None:
    model = linear(np.eye(3), batch)
    judge = labelled_judge(model, open_samples(samples, None, model), limit=31)
    assert {len(one["x"]) for one in judge.batches()} <= {batch, 31 % batch}
    assert judge.score(model).samples == judge.samples == 31
    assert sum(len(one["x"]) for one in judge.batches(5)) == 5
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    assert np.array_equal(ModelRunner(model)({"x": x})["y"], x)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.floats(-1e4, 1e4))
def test_distortion_of_batches_is_that_of_all(sizes: list[int], shift: float) -> None:
    rng = np.random.default_rng(len(sizes))
    wanted = rng.normal(shift, 1, (sum(sizes), 3))
    found = wanted + rng.normal(0, 0.1, wanted.shape)
    sums = Distortion()
    for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        sums.add({"a": wanted[part]}, {"a": found[part]})
    assert sums.value == pytest.approx(distortion([wanted], [found]), rel=1e-6)


def detector_model(logit: float) -> onnx.ModelProto:
    """Finds one box, of class 1, whose logit is that plus the picture's first number."""
    consts = {
        "boxes0": np.zeros((1, 2, 4), np.float32),
        "base": np.float32([[[0, logit], [0, -9]]]),
        "mask": np.float32([[[0, 1], [0, 0]]]),
        "axes": np.int64([0]),
        "one": np.int64([1]),
    }
    nodes = [
        helper.make_node("Slice", ["image", "axes", "one", "one"], ["first"]),
        helper.make_node("Mul", ["mask", "first"], ["masked"]),
        helper.make_node("Add", ["masked", "base"], ["logits"]),
        helper.make_node("Mul", ["boxes0", "first"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in consts.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_detections_are_compared_with_those_of_the_whole_network(tmp_path: Path) -> None:
    # float64: only the sign is looked at; half of the pictures hold the object
    np.savez(tmp_path / "s.npz", image=np.float32([[4], [-4], [4], [-4]]))
    anchors = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    detector = SsdDetector(anchors, {1: "thing"}, SsdDetectorTask(anchors="a", labels="l"))
    model = detector_model(0.0)
    judge = DetectorJudge(model, detector, open_samples(tmp_path / "s.npz", None, model))
    assert [len(one) for one in judge.reference] == [1, 0, 1, 0]
    assert judge.score(model) == judge.score_of(ModelRunner(model))
    whole, blind, keen = (judge.score(detector_model(logit)) for logit in (0.0, -9.0, 9.0))
    assert (whole.kind, whole.value, whole.precision, whole.f1) == ("detections", 1.0, 1.0, 1.0)
    assert (blind.value, blind.precision) == (0.0, 1.0)
    assert (keen.value, keen.precision) == (1.0, 0.5)


def test_what_does_not_go_together_is_refused(samples: Path, tmp_path: Path) -> None:
    model = linear(np.eye(3))
    np.savez(tmp_path / "plain.npz", x=np.zeros((2, 3), np.float32))
    with pytest.raises(SettingsError, match="no labels"):
        labelled_judge(model, open_samples(tmp_path / "plain.npz", None, model))
    judge = output_judge(model, open_samples(samples, None, model))
    with pytest.raises(SettingsError, match=r"output 'y': found \[64, 2\], expected \[64, 3\]"):
        judge.score(linear(np.eye(3)[:, :2]))
