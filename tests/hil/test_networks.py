"""The backbones that boards are tried with: what they compute, by their definition, before any board is asked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hil.suite import backbones, networks
from onnx import numpy_helper

from featlink_codec.errors import FeatlinkError
from featlink_codec.extractor import ExtractorSettings
from featlink_codec.video.clip import Clip

BIN = Path(sys.executable).parent


def run(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / program, *map(str, words)], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return backbones.integer_network(tmp_path_factory.mktemp("model") / "integer.onnx")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return networks.moving_square(tmp_path_factory.mktemp("source") / "pictures", 3)


@pytest.fixture(scope="module")
def prepared(model, pictures):
    out = model.with_name("prepared")
    words = ["prepare", "split", model, "--tensor", networks.TENSOR, "--source", pictures, "--out", out, "--lossless"]
    done = run("featlink-host", *words)
    assert done.returncode == 0, done.stderr
    return out


def images(pictures: Path):
    for picture in Clip(pictures):
        yield picture.frame.to_ndarray(format="rgb24").transpose(2, 0, 1)


def convolve(image, weights, bias, stride):
    """Integers in, integers out: 3 x 3, padded by one."""
    height, width = (side // stride for side in image.shape[1:])
    padded = np.pad(image.astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weights), height, width), np.int64) + bias[:, None, None]
    for y in range(3):
        for x in range(3):
            part = padded[:, y : y + stride * height : stride, x : x + stride * width : stride]
            out += np.tensordot(weights[:, :, y, x].astype(np.int64), part, axes=1)
    return out


def defined_levels(model: Path, image):
    """`levels` as QDQ defines them, in integers; all scales are powers of two, so that nothing is rounded but once."""
    given = {one.name: numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer}
    scales = (backbones.IMAGE_SCALE, backbones.MIDDLE_SCALE, backbones.LEVEL_SCALE)
    x = np.clip(np.rint(image.astype(np.float32) * np.float32(1 / 255) / np.float32(scales[0])), 0, 255).astype(
        np.int64
    )
    for name, stride, before, after in (("first", 1, *scales[:2]), ("second", 2, *scales[1:])):
        sums = convolve(x, given[f"{name}_w"], given[f"{name}_b"].astype(np.int64), stride)
        x = np.clip(np.rint(sums * (before * backbones.WEIGHT_SCALE / after)), 0, 255).astype(np.int64)
    return x


def levels_of(model: Path, image, level: ort.GraphOptimizationLevel):
    """`levels` and `feature` by onnxruntime."""
    graph = onnx.load(model)
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in (backbones.LEVELS, networks.TENSOR))
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    tensor = (image.astype(np.float32) * np.float32(1 / 255))[None]
    levels, feature = session.run([backbones.LEVELS, networks.TENSOR], {"image": tensor})
    return levels[0], feature[0]


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_integers_are_what_they_are_defined_to_be_however_they_are_fused(model, pictures, level):
    for image in images(pictures):
        levels, feature = levels_of(model, image, getattr(ort.GraphOptimizationLevel, level))
        expected = defined_levels(model, image)
        assert (levels == expected).all()
        assert (feature == expected * np.float32(backbones.LEVEL_SCALE)).all()
        # A map worth comparing: it uses its range, and neither end of it swallows it.
        assert len(np.unique(levels)) > 100
        assert (levels == 255).mean() < 0.01
        assert 0.2 < (levels == 0).mean() < 0.8


def test_weights_stay_where_all_kernels_agree(model):
    weights = [numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer if one.name.endswith("_w")]
    assert len(weights) == 2
    for one in weights:
        assert one.dtype == np.int8
        assert one.min() == backbones.LEAST_WEIGHT
        assert one.max() == backbones.LARGEST_WEIGHT


def test_the_largest_sum_is_exact_as_float32(model):
    """So that a runtime which computes QDQ in floats gives the same integers, whatever the order of its sums."""
    given = {one.name: numpy_helper.to_array(one).astype(np.int64) for one in onnx.load(model).graph.initializer}
    for name in ("first", "second"):
        largest = 255 * np.abs(given[f"{name}_w"]).sum(axis=(1, 2, 3)) + np.abs(given[f"{name}_b"])
        assert largest.max() < 1 << 24


def test_a_map_of_integers_travels_as_it_is(model, prepared, pictures, tmp_path):
    """The command lines that boards are driven with, here with themselves."""
    extractor = backbones.integer_extractor(model, prepared, tmp_path / "integers")
    feature = ExtractorSettings.load(extractor).maps[0]
    assert (feature.integer, feature.tensor) == (True, backbones.LEVELS)
    done = run("featlink-device", "run", "--extractor", extractor, "--source", pictures, "--out", tmp_path / "x.fms")
    assert done.returncode == 0, done.stderr
    assert run("featlink-host", "decode", tmp_path / "x.fms", "--out", tmp_path / "maps").returncode == 0
    index = json.loads((tmp_path / "maps" / "index.json").read_text())
    assert all(one["feat_integer"] for one in index["maps"])
    maps = backbones.decoded_levels(tmp_path / "maps")
    expected = [defined_levels(model, image).transpose(1, 2, 0).astype(np.int32) for image in images(pictures)]
    assert backbones.hashes_of(maps) == backbones.hashes_of(expected)
    assert len(set(backbones.hashes_of(maps))) == 3


def test_an_extractor_whose_pictures_are_refused_can_be_read_and_not_be_used(prepared, pictures, tmp_path):
    odd = backbones.refused_extractor(prepared, tmp_path / "odd")
    assert ExtractorSettings.load(odd).maps[0].picture_size == (41, 48)
    done = run("featlink-device", "run", "--extractor", odd, "--source", pictures, "--out", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "48x41 has an odd side" in done.stderr


def test_how_far_maps_are_apart():
    ours = [np.zeros((2, 5, 10), np.int32), np.full((2, 5, 10), 7, np.int32)]
    theirs = [one.copy() for one in ours]
    assert backbones.apart(ours, theirs) == backbones.Apart(2, 0, 0.0)
    assert backbones.hashes_of(ours) == backbones.hashes_of(theirs)
    theirs[1][0, 0, :2] = (9, 6)
    assert backbones.apart(ours, theirs) == backbones.Apart(2, 2, 0.01)
    assert [a == b for a, b in zip(backbones.hashes_of(ours), backbones.hashes_of(theirs), strict=True)] == [
        True,
        False,
    ]


@pytest.mark.parametrize("theirs", [[], [np.zeros((2, 3, 4))], [np.zeros((2, 3, 5))] * 2])
def test_other_maps_are_not_compared(theirs):
    with pytest.raises(FeatlinkError, match="expected the same"):
        backbones.apart([np.zeros((2, 3, 4))] * 2, theirs)


def test_nothing_is_not_equal_to_nothing():
    with pytest.raises(FeatlinkError):
        backbones.apart([], [])


def test_maps_are_read_in_their_order_and_nothing_else(tmp_path):
    for k in range(12):
        np.save(tmp_path / f"{k:05d}_levels.npy", np.full((1, 1, 1), k, np.int32))
        shutil.copy(tmp_path / f"{k:05d}_levels.npy", tmp_path / f"{k:05d}_values.npy")
    assert [int(one[0, 0, 0]) for one in backbones.decoded_levels(tmp_path)] == list(range(12))
