"""Base, enhanced and compensated versions in one stream, and what lies beside a model (aspects 10 and 11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import FMNIST, blobs, odd_model, pictures, run

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.model import ModelStream, TensorSettings, compose, version_names
from featlink_host.model.decoding import decode_npz, decode_onnx
from featlink_host.model.evaluate import Evaluator, distortion
from featlink_host.model.job import Job, run_job
from featlink_host.model.onnx_graph import from_proto, read_onnx
from featlink_host.model.search import Point, Way, settings_at
from featlink_host.model.versions import Beside, composed_onnx, encode_versions

MODEL = read_onnx(FMNIST)


@pytest.fixture(scope="module")
def stream() -> bytes:
    beside = Beside(TensorSettings(qp=-34), TensorSettings(qp=-30), (("relevance", "fc2.weight", np.arange(10.0)),))
    return encode_versions(MODEL, settings_at(MODEL.tensors, Point(4 * -18, Way())), beside).data


def test_each_version_comes_nearer_to_the_model(stream: bytes, tmp_path: Path) -> None:
    images = blobs(48)
    wanted = run(MODEL.whole(), image=images)
    found = {}
    with ModelStream(stream) as opened:
        assert version_names(opened) == ["base", "enhanced", "compensated"]
        for version in (None, "enhanced", "compensated"):
            decode_onnx(opened, tmp_path / "m.onnx", version)
            found[version] = distortion(wanted, run(tmp_path / "m.onnx", image=images))
    assert found["enhanced"] < 0.02 * found[None]
    assert found["compensated"] < 0.1 * found[None]


def test_a_compensating_part_is_a_branch_and_an_add(stream: bytes, tmp_path: Path) -> None:
    with ModelStream(stream) as opened:
        decode_onnx(opened, tmp_path / "m.onnx", "compensated")
        decode_npz(opened, tmp_path / "m.npz", "compensated")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert sum(node.op_type == "Add" for node in graph.node) == 5
    assert sum(node.op_type in ("Conv", "Gemm") for node in graph.node) == 10
    added = next(node for node in graph.node if node.op_type == "Gemm" and node.name.endswith("#compensated"))
    assert len(added.input) == 2  # the bias is added once
    with np.load(tmp_path / "m.npz") as tensors:
        assert {"fc1.weight", "fc1.weight+"} <= set(tensors.files)


def test_branches_follow_casts_and_groups() -> None:
    model = from_proto(odd_model())
    made = encode_versions(model, settings_at(model.tensors, Point(4 * -20)), Beside(compensate=TensorSettings(qp=-50)))
    with ModelStream(made.data) as opened:
        whole = composed_onnx(opened, compose(opened, "compensated"))
        onnx.checker.check_model(whole)
        base = composed_onnx(opened, compose(opened))
    wanted = run(odd_model().SerializeToString(), image=pictures())[:1]
    near, far = (distortion(wanted, run(file, image=pictures())[:1]) for file in (whole, base))
    assert near < 0.01 * far


def test_only_the_version_that_is_asked_for_is_decoded(stream: bytes) -> None:
    with ModelStream(stream) as opened:
        units = {record.name: record for record in opened.records()}
        place = opened._first + units["fc1.weight#enhanced"].offset
    damaged = bytearray(stream)
    damaged[place + 200] ^= 1
    with ModelStream(bytes(damaged)) as opened:
        compose(opened)
        compose(opened, "compensated")
        assert opened.supplement("relevance", "fc2.weight").tolist() == list(range(10))
        with pytest.raises(StreamError, match=r"fc1\.weight#enhanced|bad-payload"):
            compose(opened, "enhanced")
        with pytest.raises(
            SettingsError, match="no version 'best' in the stream; there are base, enhanced, compensated"
        ):
            compose(opened, "best")


def test_relevance_and_robustness_are_measured_and_skipped_by_who_does_not_want_them(tmp_path: Path) -> None:
    model = from_proto(odd_model())
    onnx.save(odd_model(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", image=pictures(32))
    job = Job(
        tmp_path / "m.onnx", tmp_path / "m.nnc", images=tmp_path / "x.npz", supplements=("relevance", "robustness")
    )
    with ModelStream(run_job(job).made.data) as opened:
        assert set(opened.names()) == set(model.tensors)
        scores = opened.supplement("relevance", "w3")
        assert opened.supplement("robustness", "w3").shape == (1,)
    # A neuron's score is how far the outputs move without it.
    without = model.tensors["w3"].copy()
    without[int(scores.argmax())] = 0
    measured = Evaluator(model, {"image": pictures(32)}).distortion({"w3": without})
    assert scores.max() == pytest.approx(measured, rel=1e-5)
