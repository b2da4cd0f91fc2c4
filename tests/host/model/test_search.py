"""The search for settings: targets are reached, sensitive tensors get fine steps, interruptions cost little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx_models import FMNIST, blobs

from featlink_codec.errors import SettingsError
from featlink_codec.model import EncodedModel, encode
from featlink_host.model.evaluate import Evaluator, accuracy
from featlink_host.model.feedback import Feedback
from featlink_host.model.job import Job, run_job
from featlink_host.model.notes import Notes
from featlink_host.model.onnx_graph import read_onnx
from featlink_host.model.search import Point, Search, Way, settings_at
from featlink_host.model.sensitivity import offsets, sensitivities

MODEL = read_onnx(FMNIST)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(MODEL, {"image": blobs(96)})


def test_tensors_whose_noise_moves_the_outputs_most_get_the_finest_steps(evaluator: Evaluator) -> None:
    found = sensitivities(evaluator)
    assert found == sensitivities(evaluator)  # the same noise each time
    assert found["conv1.weight"] > 100 * found["fc1.weight"]
    sizes = {name: values.size for name, values in MODEL.tensors.items()}
    steps = offsets(found, sizes)
    assert steps["conv1.weight"] < -10 < steps["fc1.weight"]
    assert sum(steps[name] * sizes[name] for name in steps) / sum(sizes.values()) == pytest.approx(0, abs=1.0)


def test_steps_by_sensitivity_beat_equal_steps_at_the_same_size(evaluator: Evaluator) -> None:
    steps = offsets(sensitivities(evaluator), {name: values.size for name, values in MODEL.tensors.items()})
    equal = encode(MODEL.tensors, settings_at(MODEL.tensors, Point(4 * -26)))
    search = Search(lambda point: encode(MODEL.tensors, settings_at(MODEL.tensors, point, offsets=steps)))
    placed = search.to_size(len(equal.data))
    assert placed.size <= len(equal.data)
    assert evaluator.distortion(placed.made.tensors) < 0.7 * evaluator.distortion(equal.tensors)


def test_error_feedback_leaves_less_of_an_error_in_the_outputs_on_other_inputs(evaluator: Evaluator) -> None:
    feedback = Feedback(evaluator)
    assert all(name in feedback for name in ("conv1.weight", "conv3.weight", "fc1.weight", "fc2.weight"))
    assert "bn1.weight" not in feedback
    other = Evaluator(MODEL, {"image": blobs(64, seed=5)})
    for name, step in (("fc1.weight", 0.0625), ("conv2.weight", 0.03125)):
        rounded = feedback.round(name, step)
        assert not (rounded / step % 1).any()  # on the grid
        plain = (np.rint(MODEL.tensors[name] / step) * step).astype(np.float32)
        assert other.distortion({name: rounded}) < 0.5 * other.distortion({name: plain})


class Counted:
    """A search over qp alone; the score falls with the step."""

    def __init__(self, notes: Notes | None = None, stop_after: int = 1000) -> None:
        self.made = 0
        self.stop_after = stop_after
        self.search = Search(self.encode, self.score, notes)

    def encode(self, point: Point) -> EncodedModel:
        if self.made == self.stop_after:
            raise KeyboardInterrupt
        self.made += 1
        size = max(1, 1000 - 4 * (point.quarters + 240))
        return EncodedModel(bytes(size), "", {"x": np.array([point.quarters])})

    @staticmethod
    def score(tensors: dict[str, np.ndarray]) -> float:
        return float(-tensors["x"][0])


def test_the_finest_stream_of_a_size_and_the_smallest_of_a_score_are_found() -> None:
    found = Counted().search.to_size(500, (Way(),))
    assert (found.size, found.point.quarters) == (500, -115)
    good = Counted().search.to_score(100.0, (Way(),))
    assert good.point.quarters == -100
    assert good.score == 100.0
    with pytest.raises(SettingsError, match="the coarsest stream has 40 bytes, the target is 39"):
        Counted().search.to_size(39, (Way(),))
    with pytest.raises(SettingsError, match=r"the finest stream reaches 240\.0000, the target is 241"):
        Counted().search.to_score(241, (Way(),))


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.nnc.search"
    first = Counted(Notes(path, "key"), stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        first.search.to_size(500, (Way(),))
    again = Counted(Notes(path, "key"))
    assert again.search.to_size(500, (Way(),)).point.quarters == -115
    whole = Counted()
    whole.search.to_size(500, (Way(),))
    # What was noted is not made again, but for the stream itself.
    assert again.made <= whole.made - 5 + 1
    assert Notes(path, "another key").get("bytes 0") is None
    Notes(path, "key").done()
    assert not path.exists()


def test_notes_that_cannot_be_read_are_begun_anew(tmp_path: Path) -> None:
    for text in ("", "[]", '{"key": "key"}', json.dumps({"key": "key", "found": 3})):
        (tmp_path / "n").write_text(text)
        assert Notes(tmp_path / "n", "key").get("x") is None


def test_a_target_accuracy_is_reached_by_a_smaller_stream_than_the_default(tmp_path: Path) -> None:
    images = blobs(96)
    labels = Evaluator(MODEL, {"image": images}).reference[0].argmax(axis=1)
    np.savez(tmp_path / "x.npz", image=images)
    np.savez(tmp_path / "y.npz", labels=labels)
    done = run_job(
        Job(FMNIST, tmp_path / "m.nnc", target_accuracy=0.95, images=tmp_path / "x.npz", labels=tmp_path / "y.npz",
            rate_weight=0.0)
    )  # fmt: skip
    assert done.accuracy is not None
    assert done.accuracy >= 0.95
    assert len(done.made.data) < 0.0983 * done.raw
    assert (tmp_path / "m.nnc.search").exists()  # until the stream is written
    outputs = Evaluator(MODEL, {"image": images}).outputs(done.made.tensors)
    assert accuracy(outputs[0], labels) == done.accuracy


def test_inputs_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no array for the model's input 'image'; there are a, b"):
        Evaluator(MODEL, {"a": blobs(2), "b": blobs(2)})
    with pytest.raises(SettingsError, match="onnxruntime cannot run the model"):
        Evaluator(MODEL, {"image": np.zeros((2, 1, 28, 27), np.float32)})
    with pytest.raises(SettingsError, match=r"labels of shape \[3\] for 2 samples"):
        accuracy(np.zeros((2, 10)), np.zeros(3))
