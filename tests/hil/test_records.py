"""What a board did last time, and what counts as worse."""

import json

import pytest
from hil.suite.records import Figure, Record, load, regressions, store

from featlink_codec.errors import SettingsError

LAST = Record("2026-01-01T00:00:00+00:00", "abc", {"throughput": 10.0, "memory": 100.0, "encode": 4.0, "warmth": 50.0})


def throughput(value):
    return Figure("throughput", value, "maps/s", "higher", 0.25)


def memory(value):
    return Figure("memory", value, "MiB", "lower", 0.1)


def warmth(value):
    return Figure("warmth", value, "C", "lower", 0.0, 10.0)


@pytest.mark.parametrize(
    "fine", [throughput(7.5), throughput(99.0), memory(110.0), memory(1.0), warmth(60.0), warmth(-5.0)]
)
def test_within_its_margin_or_better_a_figure_is_fine(fine):
    assert regressions(LAST, [fine]) == []


@pytest.mark.parametrize("worse", [throughput(7.49), memory(110.1), warmth(60.1)])
def test_beyond_its_margin_a_figure_is_a_regression(worse):
    (line,) = regressions(LAST, [worse])
    assert worse.name in line
    assert "2026-01-01" in line
    assert "abc" in line


def test_a_regression_says_what_was_and_what_would_do():
    (line,) = regressions(LAST, [throughput(5.0)])
    assert line == "throughput: 5 maps/s, was 10 on 2026-01-01T00:00:00+00:00 (abc); 7.5 would do"


def test_each_figure_stands_for_itself():
    found = regressions(LAST, [throughput(1.0), memory(100.0), warmth(99.0)])
    assert [line.split(":")[0] for line in found] == ["throughput", "warmth"]


def test_without_a_record_nothing_is_worse(tmp_path):
    assert load(tmp_path / "none.json") is None
    assert regressions(None, [throughput(0.0)]) == []
    assert regressions(Record("", "", {}), [throughput(0.0)]) == []


def test_slack_comes_on_top_of_the_margin():
    assert Figure("encode", 6.0, "ms", "lower", 0.25, 1.0).limit(4.0) == 6.0
    assert regressions(LAST, [Figure("encode", 6.0, "ms", "lower", 0.25, 1.0)]) == []
    assert regressions(LAST, [Figure("encode", 6.1, "ms", "lower", 0.25, 1.0)])


def test_a_record_comes_back_as_it_was_stored(tmp_path):
    path = tmp_path / "records" / "board.json"
    store(path, [throughput(12.5), memory(80.25)], "abc-dirty")
    last = load(path)
    assert last.figures == {"throughput": 12.5, "memory": 80.25}
    assert last.commit == "abc-dirty"
    assert last.when.endswith("+00:00")
    assert json.loads(path.read_text())["figures"]["memory"] == {"value": 80.25, "unit": "MiB"}


def test_the_last_record_replaces_the_one_before(tmp_path):
    path = tmp_path / "board.json"
    store(path, [throughput(12.5), memory(80.0)], "one")
    store(path, [throughput(11.0)], "two")
    assert load(path).figures == {"throughput": 11.0}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"when": "", "commit": "", "figures": {"a": 1}}', "\xff"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "board.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"board.json: found no record"):
        load(path)
