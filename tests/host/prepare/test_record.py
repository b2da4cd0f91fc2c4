"""A step's record is whole or not there, reads back, and has a key of all that its result follows from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_host.prepare import record as module
from featlink_host.prepare.record import StepRecord, digest_of, plain, read_step, write_step

STEP = StepRecord("survey", "1", {"model": "ab"}, {"budget_ms": 3.0}, {"cuts": 7}, {"page": "cd"})


def test_a_record_reads_back(tmp_path: Path) -> None:
    write_step(tmp_path / "deep" / "er", STEP, "<page>")
    assert read_step(tmp_path / "deep" / "er" / "survey.json") == STEP
    assert (tmp_path / "deep" / "er" / "survey.html").read_text() == "<page>"


def test_a_failed_write_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_step(tmp_path, STEP, "old")
    written = module.write_whole

    def full(path: Path, data: str) -> None:
        if path.suffix == ".json":
            raise FeatlinkError("the disk is full")
        written(path, data)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(FeatlinkError, match="full"):
        write_step(tmp_path, STEP, "new")
    assert list(tmp_path.iterdir()) == []


def test_the_key_changes_with_inputs_and_options_alone() -> None:
    assert replace(STEP, figures={"cuts": 8}, outputs={}).key == STEP.key
    others = [
        replace(STEP, step="build"),
        replace(STEP, inputs={"model": "ac"}),
        replace(STEP, options={"budget_ms": 4.0}),
    ]
    assert len({STEP.key, *(one.key for one in others)}) == 4


@pytest.mark.parametrize("text", ["[]", "{}", json.dumps({"step": 3})])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SettingsError, match=r"x\.json"):
        read_step(tmp_path / "x.json")


def test_a_folder_has_the_digest_of_its_files_and_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    first = digest_of(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert digest_of(tmp_path) != first
    assert digest_of(tmp_path / "a" / "y") != first


def test_json_gets_what_it_has() -> None:
    assert plain({"a": (np.float32(0.5), math.inf, Path("p"), None), 3: np.arange(2)}) == {
        "a": [0.5, None, "p", None],
        "3": [0, 1],
    }
