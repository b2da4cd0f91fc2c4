"""Is the board's integer path bit-exact? Golden maps and pictures through its C core, against committed hashes."""

from __future__ import annotations

import json

import pytest

from featlink_codec import selftest
from hil.board import Board, Done

#: SHA-256 by case, as this tree has them: what the board believes is not asked.
GOLDEN: dict[str, str] = json.loads(selftest.GOLDEN.read_text(encoding="utf-8"))["sha256"]


@pytest.fixture(scope="module")
def tested(board: Board) -> Done:
    """`featlink-device selftest --json`."""
    return board.device("selftest", "--json")


def test_every_golden_case_is_exact(tested: Done, board: Board) -> None:
    """Every hash that the board found equals the one in this tree's golden.json; none is left out."""
    assert tested.code == 0, str(tested)
    found = {name: case["sha256"] for name, case in tested.json["cases"].items()}
    assert found == GOLDEN
    assert tested.json["exact"]
    board.record("exact cases", len(found))
    board.record("self-test", round(tested.seconds, 1), "s")


def test_the_path_says_its_name(tested: Done, board: Board) -> None:
    """The result belongs to the instruction set that this CPU has."""
    path = tested.json["path"]
    assert path == {"aarch64": "neon"}.get(board.target.system.architecture, path)
    board.record("integer path", path)
