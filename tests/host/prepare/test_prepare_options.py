"""The judge that options ask for, and options that do not go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import FMNIST

from featlink_codec.errors import SettingsError
from featlink_host.prepare_options import SampleOptions, judge_if_given, judge_of, preprocessing_of, resolve_model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.savez(tmp_path / "i.npz", image=np.zeros((2, 28, 28), np.uint8))
    return tmp_path / "i.npz"


def test_labels_make_accuracy_and_none_make_outputs(tmp_path: Path, images: Path) -> None:
    (tmp_path / "l.txt").write_text("1\n2\n")
    assert judge_of(FMNIST, SampleOptions(images=images)).kind == "outputs"
    assert judge_of(FMNIST, SampleOptions(images=images, labels=tmp_path / "l.txt", limit=1)).samples == 1
    assert judge_of(FMNIST, SampleOptions(images=images, labels=tmp_path / "l.txt")).kind == "accuracy"
    assert judge_if_given(FMNIST, SampleOptions()) is None


def test_what_does_not_go_together_is_told(tmp_path: Path, images: Path) -> None:
    with pytest.raises(SettingsError, match="no images: give --images"):
        judge_of(FMNIST, SampleOptions())
    with pytest.raises(SettingsError, match="labels without images"):
        judge_of(FMNIST, SampleOptions(labels=tmp_path))
    with pytest.raises(SettingsError, match="both --anchors and --label-names"):
        judge_of(FMNIST, SampleOptions(images=images, anchors=tmp_path))
    with pytest.raises(SettingsError, match="leave --images"):
        judge_of(FMNIST, SampleOptions(images=images, demo=True))
    with pytest.raises(SettingsError, match="--colour: found 'pink'"):
        preprocessing_of(colour="pink")
    with pytest.raises(SettingsError, match="no model"):
        resolve_model(None, False)
    with pytest.raises(SettingsError, match="leave one of them out"):
        resolve_model(FMNIST, True)
    with pytest.raises(SettingsError, match="no such file"):
        resolve_model(tmp_path / "none.onnx", False)


def test_preprocessing_is_only_what_was_given() -> None:
    assert preprocessing_of() is None
    found = preprocessing_of(offset=-1.0)
    assert found is not None
    assert (found.scale, found.offset, found.colour) == (1 / 255, -1.0, "")
