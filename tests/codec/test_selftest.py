"""The selftest's golden hashes are the definition's, and every instruction set has them."""

from __future__ import annotations

import json

import pytest

from featlink_codec import _core, selftest
from featlink_codec.selftest.cases import PARTITIONS, cases
from featlink_codec.selftest.definition import golden


def test_the_golden_file_is_what_the_definition_gives():
    assert json.loads(selftest.GOLDEN.read_text()) == golden()


@pytest.mark.parametrize("path", _core.paths())
def test_every_case_is_exact_on_every_instruction_set(path):
    before = _core.chosen_path()
    _core.choose_path(path)
    try:
        results = list(selftest.run())
    finally:
        _core.choose_path(before)
    assert [result.name for result in results if not result.exact] == []
    assert [result.name for result in results] == [case.name for case in cases()]


def test_the_cases_differ_and_cover_every_type_mode_depth_and_packing():
    all_cases = list(cases())
    assert len({case.name for case in all_cases}) == len(all_cases)
    hashes = json.loads(selftest.GOLDEN.read_text())["sha256"]
    assert len(set(hashes.values())) == len(hashes)
    for direction in ("pack", "unpack"):
        found = [case for case in all_cases if case.direction == direction]
        assert {c.dtype for c in found} == {"float32", "float16", "uint8", "int8", "uint16", "int16"}
        assert {c.mode for c in found} == {"uniform", "logarithmic", "custom", "integer", *PARTITIONS}
        assert {c.bit_depth for c in found} == {2, 4, 8, 16}
        assert {(c.packed, c.layout) for c in found} >= {("tile", "CHW"), ("ordered", "HWC"), ("stack", "CHW")}


def test_a_wrong_result_is_found(tmp_path, monkeypatch):
    changed = json.loads(selftest.GOLDEN.read_text())
    name = next(iter(changed["sha256"]))
    changed["sha256"][name] = "0" * 64
    (tmp_path / "golden.json").write_text(json.dumps(changed))
    monkeypatch.setattr(selftest, "GOLDEN", tmp_path / "golden.json")
    assert [result.name for result in selftest.run() if not result.exact] == [name]
