"""From a network and some pictures to an extractor's folder: whole, or not there at all."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import (
    ExtractorSettings,
    InputSettings,
    PackingSettings,
    QuantizerSettings,
    SsdDetectorTask,
    VideoSettings,
    thresholds_of,
)
from featlink_codec.extractor.coding import quantizer_of
from featlink_host import demo
from featlink_host.detector import SsdDetector
from featlink_host.prepare import pipeline
from featlink_host.prepare.folder import new_folder
from featlink_host.prepare.packing import choose_packing
from featlink_host.prepare.pipeline import PrepareOptions, prepare_split


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """image [1, 3, 24, 32], conv, relu [1, 8, 24, 32], mean [1, 8, 1, 1], flat [1, 8], end."""
    kernel = np.random.default_rng(1).normal(size=(8, 3, 1, 1)).astype(np.float32)
    kernel[2] = np.float32([0, 0, 1]).reshape(3, 1, 1)  # blue itself: not all of the map is negative
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["conv"]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("ReduceMean", ["relu"], ["mean"], axes=[2, 3]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Neg", ["flat"], ["end"]),
        ],
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 32])],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images of noise, of the input's own size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for number in range(3):
        frame = av.VideoFrame.from_ndarray(rng.integers(0, 250, (24, 32, 3), np.uint8), "rgb24")
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 24, "rgb24", 1
        (folder / f"{number}.png").write_bytes(b"".join(bytes(one) for one in encoder.encode(frame)))
    return folder


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("net.onnx", "pictures"))


def test_an_extractor_is_made_that_loads_and_runs(tmp_path: Path, model: Path, pictures: Path) -> None:
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "deep" / "er" / "demo"
    made = prepare_split(model, "relu", pictures, out, progress=lambda *what: told.append(what))
    assert sorted(file.name for file in out.iterdir()) == [
        "backbone.onnx",
        "extractor.toml",
        "head.onnx",
        "thresholds-0.npy",
    ]
    settings = ExtractorSettings.load(out)
    assert settings == made.settings
    assert (settings.extractor.name, settings.extractor.feat_extractor_id) == ("demo", 0)
    assert settings.source_model.file == "net.onnx"
    assert settings.source_model.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert settings.source_model.split_tensor == "relu"
    assert settings.input == InputSettings("image", 32, 24, "NCHW", "rgb", 1 / 255, 0.0)
    (feature,) = settings.maps
    assert (feature.tensor, feature.height, feature.width, feature.channels) == ("relu", 24, 32, 8)
    assert feature.packing == PackingSettings("tile", 4, 2)
    digest = hashlib.sha256((out / "thresholds-0.npy").read_bytes()).hexdigest()
    assert feature.quantizer == QuantizerSettings(
        "uniform", 8, made.calibration.maximum, thresholds="thresholds-0.npy", thresholds_sha256=digest
    )
    assert settings.video == VideoSettings()
    assert told == [
        ("split", 0, 1),
        ("split", 1, 1),
        ("calibrate", 1, 3),
        ("calibrate", 2, 3),
        ("calibrate", 3, 3),
        ("write", 0, 1),
        ("write", 1, 1),
    ]
    for name in ("backbone.onnx", "head.onnx"):
        ort.InferenceSession(str(out / name), providers=["CPUExecutionProvider"])
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask


def test_the_range_is_the_largest_value_over_the_pictures(tmp_path: Path, model: Path, pictures: Path) -> None:
    options = PrepareOptions(scale=1.0, mode="logarithmic", feat_type_id=9, feat_extractor_id=5, name="noise")
    made = prepare_split(model, "relu", pictures, tmp_path / "out", options)
    backbone = ort.InferenceSession(str(tmp_path / "out" / "backbone.onnx"), providers=["CPUExecutionProvider"])
    largest = 0.0
    for file in sorted(pictures.iterdir()):
        with av.open(str(file)) as container:
            rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
        (found,) = backbone.run(None, {"image": rgb.astype(np.float32).transpose(2, 0, 1)[None]})
        largest = max(largest, float(found.max()))
    assert made.calibration.maximum == largest
    assert made.settings.maps[0].quantizer.max_feat_digit == np.float32(np.log2(largest + 1))
    assert made.settings.maps[0].feat_type_id == 9
    assert made.settings.extractor.feat_extractor_id == 5
    assert made.settings.extractor.name == "noise"


@pytest.mark.parametrize(
    ("mode", "bit_depth", "partitions"),
    [("uniform", 8, None), ("uniform", 2, None), ("logarithmic", 8, None), ("custom", 2, (0.0, 0.5, 3.0))],
)
def test_the_thresholds_are_the_quantizers_own(
    tmp_path: Path, model: Path, pictures: Path, mode: str, bit_depth: int, partitions: tuple[float, ...] | None
) -> None:
    options = PrepareOptions(mode=mode, bit_depth=bit_depth, partitions=partitions, feat_type_id=7)
    prepare_split(model, "relu", pictures, tmp_path / "out", options)
    (feature,) = ExtractorSettings.load(tmp_path / "out").maps
    stored, quantizer = np.load(tmp_path / "out" / "thresholds-7.npy"), quantizer_of(feature)
    assert quantizer is not None
    assert (stored.dtype, stored.shape) == (np.dtype("<f4"), (2**bit_depth - 1,))
    assert stored.tobytes() == quantizer.thresholds.astype("<f4").tobytes()
    found = thresholds_of(tmp_path / "out", feature)
    assert found is not None
    assert found.tobytes() == quantizer.thresholds.tobytes()


def test_a_file_of_the_task_cannot_take_the_place_of_the_thresholds(
    tmp_path: Path, model: Path, pictures: Path
) -> None:
    task = SsdDetectorTask(anchors="thresholds-0.npy", labels="b", boxes_output="end", logits_output="end")
    options = PrepareOptions(task=task, task_files={"anchors": demo.ANCHORS, "labels": demo.LABELS})
    with pytest.raises(SettingsError, match=r"thresholds-0\.npy: found .*, expected"):
        prepare_split(model, "relu", pictures, tmp_path / "out", options)
    assert left_behind(tmp_path) == []


def test_the_demo_network_on_the_demo_clip(tmp_path: Path) -> None:
    options = demo.demo_options()
    made = prepare_split(demo.demo_model(), demo.SPLIT_TENSOR, demo.demo_source_clip(), tmp_path / "demo", options)
    (feature,) = made.settings.maps
    assert (feature.height, feature.width, feature.channels) == (19, 19, 64)
    assert made.settings.video.profile == "adaptive"
    assert feature.quantizer.classes is not None
    (one,) = feature.quantizer.classes
    assert one.center == np.float32(made.calibration.minimum) < 0
    assert one.spread == np.float32(made.calibration.maximum - made.calibration.minimum)
    assert (feature.packing.tile_h, feature.packing.tile_w, feature.picture_size) == (8, 8, (152, 152))
    settings = ExtractorSettings.load(tmp_path / "demo")
    assert settings.task == SsdDetectorTask(anchors="anchors.npy", labels="labels.txt")
    detector = SsdDetector.from_extractor(tmp_path / "demo", settings)
    assert detector.labels[2] == "bicycle"
    assert len(detector.labels) == 80


def test_the_whole_network_is_kept_where_asked(tmp_path: Path, model: Path, pictures: Path) -> None:
    made = prepare_split(model, "relu", pictures, tmp_path / "out", PrepareOptions(keep_whole=True))
    assert made.settings.models.whole == "whole.onnx"
    assert (tmp_path / "out" / "whole.onnx").read_bytes() == model.read_bytes()
    made.settings.verify(tmp_path / "out", ["backbone", "head", "whole", "task"])


def test_weights_in_other_files_cannot_be_kept_as_one(tmp_path: Path, model: Path, pictures: Path) -> None:
    options: dict[str, Any] = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(str(model)), str(tmp_path / "apart.onnx"), **options)
    with pytest.raises(SettingsError, match=r"apart\.onnx: its weights lie in other files"):
        prepare_split(tmp_path / "apart.onnx", "relu", pictures, tmp_path / "out", PrepareOptions(keep_whole=True))
    made = prepare_split(tmp_path / "apart.onnx", "relu", pictures, tmp_path / "out")
    ort.InferenceSession(str(made.folder / "backbone.onnx"), providers=["CPUExecutionProvider"])


def test_a_folder_in_the_way(tmp_path: Path, model: Path, pictures: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = prepare_split(model, "relu", pictures, out)  # empty: nothing is lost
    with pytest.raises(SettingsError, match="out: found a folder that is not empty, expected a new or empty one"):
        prepare_split(model, "relu", pictures, out)
    assert ExtractorSettings.load(out) == first.settings
    (out / "stale.txt").write_text("of the old one")
    second = prepare_split(model, "relu", pictures, out, PrepareOptions(name="second"), force=True)
    assert ExtractorSettings.load(out) == second.settings
    assert not (out / "stale.txt").exists()
    assert left_behind(tmp_path) == ["out"]
    with pytest.raises(SettingsError, match=r"pictures: found a folder without extractor\.toml"):
        prepare_split(model, "relu", pictures, pictures, force=True)
    assert len(list(pictures.iterdir())) == 3
    with pytest.raises(SettingsError, match=r"net\.onnx: found a file or link"):
        prepare_split(model, "relu", pictures, model, force=True)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("stage", ["split", "calibrate", "write"])
@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_behind_whatever_happens(
    tmp_path: Path, model: Path, pictures: Path, stage: str, error: type[BaseException], there: bool
) -> None:
    out = tmp_path / "new" / "out" if not there else tmp_path / "out"
    old = prepare_split(model, "relu", pictures, out) if there else None
    before = left_behind(tmp_path)

    def fail(at: str, done: int, total: int) -> None:
        if at == stage and (done or at == "write"):
            assert [p for p in tmp_path.rglob(".out.new-*") if p.is_dir()]
            raise error

    with pytest.raises(error):
        prepare_split(model, "relu", pictures, out, PrepareOptions(name="other"), force=True, progress=fail)
    assert left_behind(tmp_path) == before
    if old:
        assert ExtractorSettings.load(out) == old.settings


def test_ctrl_c_while_the_new_folder_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "extractor.toml").write_text("old")
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if ".out.new-" in path.name:
            signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    # Whoever started the tests in the background may have had the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), new_folder(out, force=True) as folder:
            (folder / "extractor.toml").write_text("new")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "extractor.toml").read_text() == "old"


def test_a_disk_that_refuses_is_a_settings_error(
    tmp_path: Path, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(pipeline.tomli_w, "dumps", full)
    with pytest.raises(SettingsError, match="x: No space left on device"):
        prepare_split(model, "relu", pictures, tmp_path / "out")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("tensor", "options", "reason"),
    [
        ("conv", {}, r"found values down to -.*choose a cut after a ReLU; the nearest:\n    relu  1x8x24x32"),
        ("nope", {}, "'nope' is not a tensor of this network"),
        ("flat", {}, "tensor 'flat': found shape 1x8, expected 1xCxHxW"),
        ("relu", {"colour": "gray"}, r"input 'image': found shape 1x3x24x32, expected 1x1xHxW or 1xHxWx1"),
        ("relu", {"input_size": (24, 32)}, "which is not 24 wide and 32 high"),
        ("relu", {"bit_depth": 3}, "bit_depth: found 3"),
        ("relu", {"feat_type_id": 300}, "feat_type_id: found 300"),
        ("relu", {"feat_extractor_id": 8}, "feat_extractor_id: found 8"),
        ("relu", {"mode": "custom"}, "partitions: found None"),
        ("relu", {"task": SsdDetectorTask(anchors="a", labels="b")}, r"\[task\] anchors: found no file, expected one"),
        (
            "relu",
            {
                "task": SsdDetectorTask(anchors="a", labels="b"),
                "task_files": {"anchors": demo.ANCHORS, "labels": demo.LABELS},
            },
            r"\[task\] boxes_output: found 'boxes', expected an output of .*: \['end'\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, model: Path, pictures: Path, tensor: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        prepare_split(model, tensor, pictures, tmp_path / "out", PrepareOptions(**options))
    assert left_behind(tmp_path) == []


def test_a_source_without_pictures_is_refused_before_anything_is_made(tmp_path: Path, model: Path) -> None:
    with pytest.raises(FeatlinkError, match=r"no\.mp4: no such file or folder"):
        prepare_split(model, "relu", tmp_path / "no.mp4", tmp_path / "out")
    assert left_behind(tmp_path) == []


def test_packing_is_near_square_and_wastes_nothing_where_it_can() -> None:
    assert choose_packing(192, 19, 19) == PackingSettings("tile", 12, 16)
    assert choose_packing(64, 19, 19) == PackingSettings("tile", 8, 8)
    assert choose_packing(97, 19, 19) == PackingSettings("tile", 1, 97)
    assert choose_packing(32, 20, 80) == PackingSettings("tile", 8, 4)
    assert choose_packing(1, 64, 64) == PackingSettings("tile", 1, 1)
    # 4:2:0 wants even sides: 7 x 19 = 133 is odd
    assert choose_packing(49, 19, 19, even=True) == PackingSettings("tile", 7, 7, 1, 1)
    # too small as they are: pads first, then unused tiles
    assert choose_packing(1, 10, 40) == PackingSettings("tile", 1, 1, 7, 0)
    assert choose_packing(1, 11, 40, even=True) == PackingSettings("tile", 1, 1, 7, 0)
    assert choose_packing(3, 5, 5) == PackingSettings("tile", 2, 2, 7, 7)
    # too large for one picture: two of them
    assert choose_packing(2, 6000, 6000) == PackingSettings("tile", 1, 1)


@given(st.integers(1, 600), st.integers(1, 200), st.integers(1, 200), st.booleans())
def test_packing_holds_every_channel_within_all_limits(channels: int, height: int, width: int, even: bool) -> None:
    assume(channels * height * width <= 2**24)
    packing = choose_packing(channels, height, width, even)
    assert packing.tile_h is not None
    assert packing.tile_w is not None
    tall, wide = packing.tile_h * height + packing.pad_h, packing.tile_w * width + packing.pad_w
    assert min(tall, wide) >= 17
    assert max(tall, wide) <= 8192
    assert tall * wide <= 2**26
    if even:
        assert tall % 2 == wide % 2 == 0
    tiles = packing.tile_h * packing.tile_w
    exact = [
        (high, channels // high)
        for high in range(1, channels + 1)
        if channels % high == 0 and 17 <= high * height <= 8192 - even and 17 <= channels // high * width <= 8192 - even
    ]
    if exact:
        assert tiles == channels
        ratios = [max(h * height, w * width) / min(h * height, w * width) for h, w in exact]
        assert max(tall, wide) / min(tall, wide) <= min(ratios) * 1.06  # a pad of one may change who is nearest
    else:
        assert tiles >= channels or channels % tiles == 0
