from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from pruning_models import mixed_model, outputs, pictures
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_host.prepare.record import read_step
from featlink_host.prepare_cli import prepare

STEPS = [("prune", "--sparsity", "0.5"), ("prune", "--budget-macs", "0.7"), ("factorize", "--energy", "0.9")]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    model, images = mixed_model(), pictures(48)
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "images.npz", image=images, labels=outputs(model, image=images)["scores"].argmax(axis=1))
    np.savez(tmp_path / "fit.npz", image=pictures(48, seed=4))
    return tmp_path


def run(*arguments: object) -> str:
    found = CliRunner().invoke(prepare, [str(one) for one in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.parametrize(("step", "option", "value"), STEPS)
def test_a_step_writes_a_network_a_page_and_a_record(files: Path, step: str, option: str, value: str) -> None:
    out, report = files / "out.onnx", files / "report"
    said = run(
        *(step, files / "model.onnx", option, value, "-o", out, "--images", files / "images.npz"),
        *("--fit-images", files / "fit.npz", "--report", report, "--json"),
    )
    figures = json.loads(said)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert outputs(model, image=pictures(2))["scores"].shape == (2, 5)
    labels = [one["label"] for one in figures["trials"]]
    assert labels[0] == "whole"
    assert labels[figures["chosen"]] == value
    assert len(labels) == 4
    assert figures["trials"][0]["score"]["value"] == 1.0
    record = read_step(report / f"{step}.json")
    assert record.figures["after"] == figures["after"]
    assert set(record.inputs) == {"model", "images", "fit_images"}
    page = (report / f"{step}.html").read_text()
    assert "<svg" in page
    assert "Layers" in page
    assert not (files / "out.onnx.search").exists()


def test_without_images_there_is_no_score(files: Path) -> None:
    said = run("prune", files / "model.onnx", "--channels", "0.25", "-o", files / "out.onnx")
    assert "MACs" in said
    assert "accuracy" not in said
    said = run("factorize", files / "model.onnx", "--rank", "point=2", "--rank", "fc1=3", "-o", files / "two.onnx")
    assert "MACs" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("prune",), "one of --sparsity, --channels and --budget-macs"),
        (("prune", "--sparsity", "0.5", "--channels", "0.5"), "one of --sparsity, --channels and --budget-macs"),
        (("factorize",), "one of --energy, --rank and --budget-macs"),
        (("factorize", "--rank", "many"), "expected a number, or LAYER=NUMBER"),
    ],
)
def test_options_that_do_not_go_together_are_refused(files: Path, arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        run(*arguments, files / "model.onnx", "-o", files / "out.onnx")


def test_nothing_is_replaced_unless_it_is_asked_for(files: Path) -> None:
    out = files / "out.onnx"
    out.write_bytes(b"mine")
    with pytest.raises(SettingsError, match="is there already"):
        run("prune", files / "model.onnx", "--sparsity", "0.5", "-o", out)
    with pytest.raises(SettingsError, match="is what the command reads"):
        run("prune", files / "model.onnx", "--sparsity", "0.5", "-o", files / "model.onnx", "--force")
    run("prune", files / "model.onnx", "--sparsity", "0.5", "-o", out, "--force")
    assert out.read_bytes() != b"mine"
