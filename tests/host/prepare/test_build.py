"""The extractor that is built loads, runs and says what was found; a stopped build goes on; a record repeats it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from split_nets import chain, small_build
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings
from featlink_codec.model.onnx_file import write_onnx
from featlink_codec.model.stream_files import opened
from featlink_host.prepare import build_step
from featlink_host.prepare.build_points import Way
from featlink_host.prepare.build_report import build_page, verdict
from featlink_host.prepare.build_rivals import RivalPoint, kbps_at, merit_at
from featlink_host.prepare.build_step import BuildArguments, read_build, run_build, write_records
from featlink_host.prepare.record import digest_of
from featlink_host.prepare.sample_pictures import write_pictures
from featlink_host.prepare.scoring import Score
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.target_limits import target_limits
from featlink_host.prepare_cli import prepare


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> BuildArguments:
    return small_build(tmp_path_factory.mktemp("given"), tensor="relu", depths=(2, 8), crfs=(20.0, 40.0))


@pytest.fixture(scope="module")
def built(given: BuildArguments, tmp_path_factory: pytest.TempPathFactory) -> tuple[build_step.Built, Path]:
    work = tmp_path_factory.mktemp("work")
    found, record = run_build(given, work / "built", work)
    write_records(work / "built", [record], build_page(found))
    return found, work


def test_the_extractor_is_as_chosen(built: tuple[build_step.Built, Path]) -> None:
    found, work = built
    settings = ExtractorSettings.load(work / "built")
    assert settings == found.settings
    assert settings.extractor.name == "net"
    way = found.chosen.way
    assert (settings.maps[0].quantizer.mode, settings.maps[0].quantizer.bit_depth) == (way.mode, way.bit_depth)
    assert (settings.video.lossless, settings.video.qp) == (way.qp is None, way.qp)
    assert settings.maps[0].packing == found.plan.best.packing
    assert found.chosen.kbps <= 40
    assert found.chosen.score.merit == max(one.score.merit for one in found.points if one.kbps <= 40)
    assert found.uncoded.value == pytest.approx(1)
    assert len(found.rivals) == 2
    # Lossless at 8 bits loses what the quantizer loses and no more.
    (exact,) = [one for one in found.points if one.way == Way("uniform", 8, None)]
    assert exact.score.distortion < 1e-3
    assert exact.score.distortion == min(one.score.distortion for one in found.points)


def test_the_backbone_is_what_its_model_stream_decodes_to(built: tuple[build_step.Built, Path], tmp_path: Path) -> None:
    found, work = built
    with opened(work / "built" / "backbone.nnc") as (stream,):
        write_onnx(tmp_path / "again.onnx", stream, labels=["backbone.nnc"])
    assert digest_of(tmp_path / "again.onnx") == found.settings.models.backbone_sha256


def test_a_record_builds_the_same_again(
    given: BuildArguments, built: tuple[build_step.Built, Path], tmp_path: Path
) -> None:
    found, work = built
    arguments, digests = read_build(work / "built" / "prepare.json")
    assert arguments == given
    assert digests == given.digests()
    again, _ = run_build(arguments, tmp_path / "again", tmp_path)
    assert again.points == found.points
    assert again.rivals == found.rivals
    same = ["extractor.toml", "backbone.onnx", "backbone.nnc", "head.onnx", "thresholds-0.npy"]
    assert [digest_of(tmp_path / "again" / name) for name in same] == [
        digest_of(work / "built" / name) for name in same
    ]
    (work / "changed.json").write_text(
        (work / "built" / "prepare.json").read_text().replace(digests["model"], "0" * 64)
    )
    told = CliRunner().invoke(prepare, ["repeat", str(work / "changed.json"), "-o", str(tmp_path / "out")])
    assert isinstance(told.exception, SettingsError)
    assert "model: " in str(told.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_works_on_arrays_with_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(5).integers(0, 255, (6, 32, 32, 3), np.uint8)
    inputs = {"image": np.float32(images.transpose(0, 3, 1, 2)) / 255}
    labels = ModelRunner(chain("n"))(inputs)["scores"].argmax(axis=1)
    np.savez(tmp_path / "s.npz", image=images, labels=labels)
    onnx.save(chain("n"), str(tmp_path / "net.onnx"))
    (tmp_path / "target.toml").write_text('[[encoders]]\nbackend = "x265"\n')
    command = ["build", str(tmp_path / "net.onnx"), "--images", str(tmp_path / "s.npz"), "--tensor", "relu2", "--json"]
    command += ["--target", str(tmp_path), "--agreement", "0.9", "--frames", "6", "-o", str(tmp_path / "out")]
    told = CliRunner().invoke(prepare, command)
    assert told.exit_code == 0, told.output
    score = json.loads(told.stdout)["chosen"]["score"]
    assert (score["kind"], score["samples"], score["counted"]) == ("accuracy", 6, 6)
    assert score["value"] > 0.9
    assert not (tmp_path / "out.work").exists()


def test_what_does_not_fit_is_told_by_name(given: BuildArguments, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "l.txt").write_text("1\n")
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "target.toml").write_text('[[encoders]]\nbackend = "x265"\n')
    wrong = {
        "no image": {"images": str(tmp_path / "empty")},
        "no images: found no such file": {"images": str(tmp_path / "none")},
        "not the only tensor|not a tensor|no tensor": {"tensor": "nothing"},
        "found 1 labels for 10 pictures": {"labels": str(tmp_path / "l.txt")},
        "found no target, expected a folder with target.toml.*there are board": {"target": str(tmp_path / "l")},
        "values down to .*leave --standard-only out, or split at 'relu'": {"tensor": "conv", "standard_only": True},
        "exactly one of --kbps and --agreement": {"agreement": 0.5},
        "both --anchors and --label-names": {"anchors": str(tmp_path / "l.txt")},
    }
    for text, change in wrong.items():
        with pytest.raises(Exception, match=text) as caught:
            run_build(replace(given, **change), tmp_path / "out", tmp_path / "work")
        assert "\n" not in str(caught.value).split(":")[0]


def test_limits_come_out_of_a_target(tmp_path: Path) -> None:
    text = '[[encoders]]\nbackend = "v4l2"\n[encoders.limits]\nformats = ["NV12"]\nmin_width = 256\n'
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "target.toml").write_text(text)
    found = target_limits(folder)
    assert found is not None
    assert (found.name, found.min_width, found.takes("400")) == ("v4l2", 256, False)
    (tmp_path / "limits.toml").write_text('name = "mine"\nformats = ["GREY"]\n')
    assert target_limits(tmp_path / "limits.toml").name == "mine"
    with pytest.raises(SettingsError, match="there are board"):
        target_limits(tmp_path / "missing")


def test_pictures_of_arrays_are_those_of_the_arrays(tmp_path: Path) -> None:
    from PIL import Image

    values = np.arange(10 * 4 * 5, dtype=np.uint8).reshape(10, 1, 4, 5)
    np.save(tmp_path / "x.npy", values)
    folder, labels = write_pictures(tmp_path / "x.npy", np.arange(10), tmp_path / "out", 3)
    files = sorted(folder.iterdir())
    assert labels.tolist() == [0, 4, 9]
    assert [np.asarray(Image.open(file)).tolist() for file in files] == [values[k, 0].tolist() for k in labels]
    np.save(tmp_path / "f.npy", values.astype(np.float32))
    with pytest.raises(SettingsError, match="expected pictures"):
        write_pictures(tmp_path / "f.npy", None, tmp_path / "out", 3)


def test_video_that_wins_is_said_to_win(built: tuple[build_step.Built, Path]) -> None:
    found, _ = built
    rate, merit = found.chosen.kbps, found.chosen.score.merit
    better = [
        RivalPoint(20, 1, rate * k, Score("outputs", value, None, None, 0, 8)) for k, value in ((0.1, 0.99), (2, 1))
    ]
    assert merit_at(better, rate) > merit or merit > 0.99
    assert merit_at(better, rate * 9) == 1
    assert merit_at(better, rate / 99) is None
    assert kbps_at(better, 0.995) == rate * 2
    assert kbps_at(better, 1.5) is None
    worse = replace(found.chosen, score=replace(found.chosen.score, value=0.5))
    assert "video wins" in verdict(replace(found, rivals=tuple(better), chosen=worse))[0]
    assert (
        "features win"
        in verdict(
            replace(found, rivals=tuple(better), chosen=replace(worse, score=Score("outputs", 1.1, None, None, 0, 8)))
        )[0]
    )
    assert "nothing to compare" in verdict(replace(found, rivals=()))[0]
