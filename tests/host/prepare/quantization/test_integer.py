"""The integer backbone: levels out of it, an extractor of them, and hashes that hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from qdq_networks import network
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_host.cli import app
from featlink_host.prepare.graph import load_model
from featlink_host.prepare.quantization.affine import Affine
from featlink_host.prepare.quantization.golden import RUN_SETTINGS, RunSetting, fixed_inputs, golden, hash_of
from featlink_host.prepare.quantization.integer import IntegerBackbone, IntegerOptions, integer_backbone
from featlink_host.prepare.quantization.integer_extractor import GOLDEN_FILE, check_golden, integer_extractor
from featlink_host.prepare.quantization.integer_report import integer_page


def pictures(count: int, shape: tuple[int, ...] = (1, 3, 40, 48)) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    return [{"image": rng.uniform(0, 1, shape).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> IntegerBackbone:
    return integer_backbone(load_model(tiny_model), "feature", None, batches=lambda: pictures(3))


def run(model: onnx.ModelProto, name: str, value: np.ndarray) -> np.ndarray:
    found: np.ndarray = RUN_SETTINGS[0].open(model).run(None, {name: value})[0]
    return found


def test_the_map_is_levels_and_the_head_begins_with_them(tiny: IntegerBackbone, tiny_model: Path) -> None:
    image = pictures(1)[0]["image"]
    levels = run(tiny.backbone, "image", image)
    assert levels.dtype == np.uint8
    assert tiny.network.doubts == []
    assert all(one.portable() for name, one in tiny.network.weights.items() if name not in tiny.network.wide)
    assert tiny.head.graph.node[0].op_type == "DequantizeLinear"
    scores = run(tiny.head, tiny.tensor, levels)
    np.testing.assert_array_equal(scores, run(tiny.whole, "image", image))
    wanted = ort.InferenceSession(str(tiny_model)).run(None, {"image": image})[0]
    assert np.abs(scores - wanted).max() < 0.05 * np.abs(wanted).max()


def test_every_setting_gives_the_golden_hashes(tiny: IntegerBackbone) -> None:
    assert tiny.golden.holds
    assert len(tiny.golden.equal) == len(RUN_SETTINGS)
    assert len(set(tiny.golden.hashes)) == len(tiny.golden.hashes) > 1
    first = next(fixed_inputs([1, 3, 40, 48], tiny.network.quantizers["image"], 1))
    assert hash_of(run(tiny.backbone, "image", first)) == tiny.golden.hashes[0]


def test_fitting_the_weights_helps(tiny: IntegerBackbone) -> None:
    assert tiny.tuned
    assert all(after <= before for before, after in tiny.tuned.values())


def test_steps_that_are_no_powers_of_two_are_named(tiny_model: Path) -> None:
    options = IntegerOptions(scale_steps="free", fine_tune=False)
    found = integer_backbone(load_model(tiny_model), "feature", None, options, batches=lambda: pictures(2))
    assert any("no power of two" in one for one in found.network.doubts)


def test_settings_that_differ_are_named_with_their_difference() -> None:
    """Without whole numbers: float sums, whose levels depend on the order."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    one = network(nodes, (1, 64, 8, 8), {"w": rng.normal(0, 1, (64, 64, 3, 3)).astype("f")})
    same = golden(one, Affine(2.0**-7, 128), (RunSetting(), RunSetting()))
    assert same.holds
    assert same.equal == ("optimization all, 1 thread",) * 2
    found = type(same)(same.hashes, same.equal[:1], {"optimization none, 1 thread": (2, 0.25)})
    assert not found.holds
    assert found.figures()["differing"] == {"optimization none, 1 thread": {"largest": 2, "share": 0.25}}


def test_the_extractor_travels_as_integers(tiny: IntegerBackbone, tiny_extractor: Path, tmp_path: Path) -> None:
    out = integer_extractor(tiny_extractor, tiny, tmp_path / "integers")
    settings = ExtractorSettings.load(out)
    before = ExtractorSettings.load(tiny_extractor)
    assert settings.maps[0].integer
    assert settings.maps[0].tensor == tiny.tensor
    assert (settings.maps[0].packing, settings.video, settings.input) == (
        before.maps[0].packing,
        before.video,
        before.input,
    )
    settings.verify(out)
    assert check_golden(out / "backbone.onnx", out / GOLDEN_FILE).holds
    text = json.loads((out / GOLDEN_FILE).read_text())
    text["sha256"][0] = "0" * 64
    (out / GOLDEN_FILE).write_text(json.dumps(text))
    with pytest.raises(SettingsError, match="expected 0000"):
        check_golden(out / "backbone.onnx", out / GOLDEN_FILE)


def test_a_stream_of_levels_comes_back_as_they_were(
    tiny: IntegerBackbone, tiny_extractor: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    """The camera's command line sends what the backbone gives, bit for bit."""
    from featlink_codec.extractor.preprocess import Preprocessor
    from featlink_codec.video.clip import Clip

    out = integer_extractor(tiny_extractor, tiny, tmp_path / "integers")
    cli = pytest.importorskip("featlink_device.cli")
    sent = CliRunner().invoke(
        cli.app, ["run", "--extractor", str(out), "--source", str(tiny_clip), "--out", str(tmp_path / "a.fms")]
    )
    assert sent.exit_code == 0, sent.output
    done = CliRunner().invoke(app, ["decode", str(tmp_path / "a.fms"), "--out", str(tmp_path / "decoded")])
    assert done.exit_code == 0, done.output
    maps = [np.load(path) for path in sorted((tmp_path / "decoded").glob("[0-9]*_levels.npy"))]
    preprocess = Preprocessor(ExtractorSettings.load(out).input)
    wanted = [run(tiny.backbone, "image", preprocess(one.frame)) for one in Clip(tiny_clip)]
    assert len(maps) == len(wanted) > 1
    for ours, theirs in zip(maps, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs[0].transpose(1, 2, 0))


def test_an_extractor_of_another_split_is_refused(tiny: IntegerBackbone, tiny_extractor: Path, tmp_path: Path) -> None:
    out = integer_extractor(tiny_extractor, tiny, tmp_path / "integers")
    with pytest.raises(SettingsError, match="expected 'feature'"):
        integer_extractor(out, tiny, tmp_path / "again")
    with pytest.raises(SettingsError, match="not empty"):
        integer_extractor(tiny_extractor, tiny, out)


def test_what_cannot_be_done_is_said(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    with pytest.raises(SettingsError, match="no images"):
        integer_backbone(model, "feature", None)
    with pytest.raises(SettingsError, match="not a tensor"):
        integer_backbone(model, "features", None, batches=lambda: pictures(1))
    for words in ({"scale_steps": "odd"}, {"method": "odd"}, {"samples": 0}):
        with pytest.raises(SettingsError):
            IntegerOptions(**words)  # type: ignore[arg-type]


def test_the_page_shows_settings_and_quantizers(tiny: IntegerBackbone) -> None:
    page = integer_page("tiny.onnx", tiny)
    assert tiny.golden.hashes[0] in page
    assert "optimization none" in page
    assert "below 2^24" in page


def test_the_command_writes_backbone_head_record_and_extractor(
    tiny_model: Path, tiny_clip: Path, tiny_extractor: Path, tmp_path: Path
) -> None:
    words = ["prepare", "integer", str(tiny_model), "--tensor", "feature", "--images", str(tiny_clip), "--samples", "4"]
    words += ["--tune-samples", "2", "-o", str(tmp_path / "backbone.onnx"), "--head", str(tmp_path / "head.onnx")]
    words += [
        "--report",
        str(tmp_path / "report"),
        "--extractor",
        str(tiny_extractor),
        "--into",
        str(tmp_path / "into"),
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["doubts"] == []
    assert figures["score"]["value"] > 0.9
    record = json.loads((tmp_path / "report" / "integer.json").read_text())
    assert set(record["outputs"]) == {"backbone", "head"}
    assert (tmp_path / "report" / "integer.html").is_file()
    assert ExtractorSettings.load(tmp_path / "into").maps[0].integer
    onnx.checker.check_model(onnx.load(str(tmp_path / "head.onnx")))
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0
