"""The student that is shipped: small, whole, as good as its README says, and fit to be split.

Its pictures are every twentieth of Fashion-MNIST's 10,000 test pictures (MIT), from the first on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from featlink_host.demo import FOLDER
from featlink_host.prepare.graph import load_model
from featlink_host.prepare.samples import Preprocessing, open_samples
from featlink_host.prepare.scoring import labelled_judge
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.split import split_model
from featlink_host.training.architecture import student
from featlink_host.training.export import FEATURES

STUDENT = FOLDER / "fmnist_student.onnx"
PICTURES = Path(__file__).parent / "fashion_mnist_500.npz"
HOW = Preprocessing(1 / 255 / 0.353, -0.286 / 0.353)
#: Of the 500; 8,948 of all 10,000 (docs/prepare-distill.json).
RIGHT = 447


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return load_model(STUDENT)


def test_it_is_small_and_of_the_recipe(model: onnx.ModelProto) -> None:
    assert STUDENT.stat().st_size < 200_000
    held = sum(numpy_helper.to_array(one).size for one in model.graph.initializer)
    assert held == student().parameters
    assert model.opset_import[0].version == 17
    onnx.checker.check_model(model, full_check=True)


def test_its_accuracy_is_what_was_measured(model: onnx.ModelProto) -> None:
    """Another machine's kernels may turn a picture or two by their rounding."""
    score = labelled_judge(model, open_samples(PICTURES, None, model, HOW)).score(model)
    assert score.samples == 500
    assert abs(round(score.value * 500) - RIGHT) <= 2


def test_its_halves_make_the_whole(model: onnx.ModelProto, tmp_path: Path) -> None:
    cut = split_model(STUDENT, FEATURES, tmp_path / "b.onnx", tmp_path / "h.onnx")
    assert cut.non_negative
    backbone, head, whole = ModelRunner(tmp_path / "b.onnx"), ModelRunner(tmp_path / "h.onnx"), ModelRunner(model)
    for batch in open_samples(PICTURES, None, model, HOW).batches(100, 100):
        features = backbone(batch.inputs)
        assert features[FEATURES].shape == (100, 48, 7, 7)
        assert features[FEATURES].min() == 0
        np.testing.assert_allclose(head(features)["logits"], whole(batch.inputs)["logits"], rtol=1e-4, atol=1e-4)
