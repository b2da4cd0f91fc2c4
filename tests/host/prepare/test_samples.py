"""Samples come a batch at a time, whatever they lie in, and as the network takes them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_host.prepare import rows as rows_module
from featlink_host.prepare.rows import open_rows
from featlink_host.prepare.samples import ClipSamples, Preprocessing, open_samples, read_labels


def network(shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["image"], ["end"])
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("image", "end")]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=8)


def idx(path: Path, values: NDArray[np.uint8]) -> Path:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    data = head + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["images-idx3-ubyte.gz", "images-idx3-ubyte"])
def test_mnist_files_become_batches_with_labels(tmp_path: Path, name: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 4, 5), np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    found = open_samples(
        idx(tmp_path / name, images), idx(tmp_path / "labels-idx1-ubyte.gz", labels), network(["n", 1, 4, 5])
    )
    batches = list(found.batches(3))
    assert (found.count, found.labelled, [batch.first for batch in batches]) == (7, True, [0, 3, 6])
    values = np.concatenate([batch.inputs["image"] for batch in batches])
    assert values.dtype == np.float32
    assert np.array_equal(values, (images[:, None].astype(np.float32) * np.float32(1 / 255)))
    assert [label for batch in batches for label in batch.labels.tolist()] == list(range(7))


def test_a_limit_takes_samples_spread_from_first_to_last(tmp_path: Path) -> None:
    images = np.arange(11, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    np.savez(tmp_path / "s.npz", image=images, labels=np.arange(11))
    found = open_samples(tmp_path / "s.npz", None, network([1, 1, 2, 2]), Preprocessing(1.0))
    batches = list(found.batches(2, limit=3))
    assert [batch.inputs["image"][:, 0, 0, 0].tolist() for batch in batches] == [[0, 5], [10]]
    assert [batch.labels.tolist() for batch in batches] == [[0, 5], [10]]


@pytest.mark.parametrize("compressed", [False, True])
def test_floats_of_an_npz_stay_as_they_are_unless_asked(tmp_path: Path, compressed: bool) -> None:
    values = np.random.default_rng(2).normal(size=(4, 3, 2, 2)).astype(np.float32)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "s.npz", anything=values)
    model = network([1, 3, 2, 2])
    (batch,) = open_samples(tmp_path / "s.npz", None, model).batches(9)
    assert np.array_equal(batch.inputs["image"], values)
    assert batch.labels is None
    (batch,) = open_samples(tmp_path / "s.npz", None, model, Preprocessing(2.0, 1.0)).batches(9)
    assert np.array_equal(batch.inputs["image"], values * np.float32(2) + np.float32(1))


def test_pictures_of_a_folder_are_resized_and_labelled_in_order_of_their_names(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 6), (50 * number, 0, 255)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.txt").write_text("5\n6\n7\n")
    found = open_samples(tmp_path, tmp_path / "labels.txt", network([1, 3, 4, 4]), Preprocessing(1.0))
    batches = list(found.batches(2))
    assert [batch.labels.tolist() for batch in batches] == [[5, 6], [7]]
    assert np.concatenate([batch.inputs["image"][:, 0, 0, 0] for batch in batches]).tolist() == [0, 50, 100]


def test_gray_is_told_from_the_input_and_runs_take_neighbours(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("RGB", (4, 4), (number, number, number)).save(tmp_path / f"{number:02}.png")
    found = open_samples(tmp_path, None, network([1, 1, 4, 4]))
    assert isinstance(found, ClipSamples)
    assert found.settings.colour == "gray"
    assert ClipSamples(found.clip, found.settings, runs=True).places(16) == [*range(8), *range(12, 20)]
    assert found.places(3) == [0, 9, 19]


@given(st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True), st.integers(1, 8))
def test_rows_are_those_asked_for(tmp_path_factory: pytest.TempPathFactory, places: list[int], size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.npy"
    values = np.arange(60, dtype=">i2").reshape(30, 2)
    if not path.exists():
        np.save(path, values)
    found = list(open_rows(path)[""].read(sorted(places), size))
    assert all(len(one) <= size for one in found)
    assert np.array_equal(np.concatenate(found), values[sorted(places)])


def test_no_more_than_a_batch_is_read_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "s.npy", np.zeros((1000, 1, 8, 8), np.float32))
    taken: list[int] = []
    read = rows_module._read
    monkeypatch.setattr(rows_module, "_read", lambda file, count, path: taken.append(count) or read(file, count, path))
    batches = open_samples(tmp_path / "s.npy", None, network(["n", 1, 8, 8])).batches(10)
    next(batches)
    assert sum(taken) < 11 * 64 * 4


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    model = network([1, 1, 4, 4])
    with pytest.raises(SettingsError, match="no images"):
        open_samples(tmp_path / "none", None, model)
    with pytest.raises(SettingsError, match="no images in this folder"):
        open_samples(tmp_path, None, model)
    good = idx(tmp_path / "i-ubyte", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(SettingsError, match="found 2 labels for 3 samples"):
        open_samples(good, idx(tmp_path / "l-ubyte", np.zeros(2, np.uint8)), model)
    with pytest.raises(SettingsError, match="samples of shape 4x4, input 'image' takes 1x5x5"):
        open_samples(good, None, network([1, 1, 5, 5]))
    with pytest.raises(SettingsError, match="found 0 samples"):
        open_samples(idx(tmp_path / "e-ubyte", np.zeros((0, 4, 4), np.uint8)), None, model)
    short = tmp_path / "short-ubyte"
    short.write_bytes(good.read_bytes()[:-1])
    with pytest.raises(SettingsError, match="ends too early"):
        list(open_samples(short, None, model).batches(2))
    (tmp_path / "text-ubyte").write_text("no images at all")
    with pytest.raises(SettingsError, match="neither IDX"):
        open_samples(tmp_path / "text-ubyte", None, model)
    (tmp_path / "bad.txt").write_text("1\nx\n")
    with pytest.raises(SettingsError, match="an integer a line"):
        read_labels(tmp_path / "bad.txt")
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(FeatlinkError, match="leaves the size open"):
        open_samples(tmp_path / "0.png", None, network([1, 3, "h", "w"]))
