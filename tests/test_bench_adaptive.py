"""The benchmark of adaptive quantizers keeps what was measured, and rounds it for the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.adaptive import bytes_at, points_of, rounded

from featlink_host.model.notes import Notes
from featlink_host.prepare.build_points import CodedPoint, Way
from featlink_host.prepare.quantizer_cut import QuantizerPoint
from featlink_host.prepare.quantizer_fits import AdaptiveChoice
from featlink_host.prepare.score import Score


def test_what_the_notes_hold_is_told_by_cut(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json", "key")
    way = Way.adapted(AdaptiveChoice(depth=6), None)
    one, other = (
        CodedPoint(way, nbytes, nbytes / 5, Score("detections", 0.9, 0.8, 0.85, 0.001, 8, 40)) for nbytes in (100, 90)
    )
    notes.put("a/cut adaptive 0123 False None", QuantizerPoint(one, other, 39).figures())
    notes.put("sensitivity a/cut", [1.0, 2.0])
    (line,) = points_of(tmp_path / "notes.json")["a/cut"]
    assert line["way"] == "adaptive uniform min..max, 6 bit, lossless"
    assert (line["chosen_on"]["map_bytes"], line["reported_on"]["map_bytes"]) == (100, 90)
    assert (line["reported_on"]["f1"], line["reported_on"]["objects"], line["header_bytes"]) == (0.85, 40, 39)


def test_bytes_at_a_distortion_lie_between_the_points_that_nothing_beats() -> None:
    def line(way: str, size: float, distortion: float) -> dict[str, object]:
        return {"way": way, "reported_on": {"map_bytes": size, "distortion": distortion}}

    found = bytes_at(
        [
            line("uniform 8 bit, QP 22", 1000, 0.004),
            line("uniform 8 bit, QP 16", 4000, 0.001),
            line("logarithmic 8 bit, QP 22", 4500, 0.002),
            line("adaptive uniform min..max, 4 channel classes by variance, 8 bit, QP 22", 900, 0.004),
            line("adaptive uniform min..max, 4 channel classes by variance, 8 bit, QP 16", 3600, 0.001),
            line("adaptive uniform min..max, 6 bit, lossless", 1800, 0.001),
            line("adaptive uniform min..max, 5 bit, lossless", 1200, 0.003),
        ]
    )
    assert found["standard"]["0.002"] == pytest.approx(2000, abs=1)
    assert found["standard"]["0.001"] == 4000
    assert found["channel classes"]["0.002"] == pytest.approx(1800, abs=1)
    assert found["one class, min..max"]["0.002"] == found["adaptive, best"]["0.002"] < 1800
    assert found["adaptive, best"]["0.003"] == 1200
    assert "0.0005" not in found["standard"]


def test_figures_keep_four_digits() -> None:
    assert rounded({"a": [0.0012345678, 12345.678], "b": None, "c": "x", "d": 3}) == {
        "a": [0.001235, 12346], "b": None, "c": "x", "d": 3
    }  # fmt: skip
