"""What must hold for any bytes holds for the fuzzer's corpus and first inputs; faults that were found stay mended."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from featlink_codec.errors import StreamError
from featlink_codec.model import Budget, ModelStream, compose

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = sorted((FUZZ / "corpus_model").iterdir())
MODULES = (
    "fuzz_model",
    "check_model",
    "seeds_model",
    "mutator_model",
    "model_headers",
    "model_control",
    "model_framing",
)


@pytest.fixture(scope="module")
def fuzz():
    """The fuzzer's modules, which find each other as a script's do."""
    sys.path.insert(0, str(FUZZ))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(FUZZ))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_any_bytes_are_read_or_refused(fuzz, file):
    assert fuzz.check_model.check(file.read_bytes()).results


def test_the_first_inputs_are_read_or_refused_in_many_ways(fuzz):
    """Else the mutations check next to nothing, and nobody would notice."""
    run = fuzz.fuzz_model.seeded(0, 300, None, None)
    assert not run.findings
    assert run.inputs == 300
    names = {result.partition(" ")[0] for _, result in run.seen if " " in result}
    assert {"bad-control", "bad-index", "bad-size", "over-budget", "truncated"} <= names
    answered = {question.strip() for question, result in run.seen if not result}
    assert {"start", "units", "tensor", "materialized", "verify", "topology", "graph"} <= answered
    assert {"supplement", "version", "update"} <= answered
    assert run.answered > 0.2 * run.questions


@pytest.mark.parametrize("number", [1, 2, 3])
def test_updates_reach_the_model_that_they_are_for(fuzz, number):
    streams, check = fuzz.seeds_model.streams(), fuzz.check_model.check
    right, wrong = bytes([3 + number << 2]), bytes([4 + number % 3 << 2])
    results = check(right + streams[f"update{number}"]).results
    assert results["update"] == results["chained 0"] == ""
    results = check(wrong + streams[f"update{number}"]).results
    assert results["update"].startswith("wrong-base")
    assert results["chain"].startswith("wrong-base")
    results = check(bytes([number << 2]) + streams[f"p13_update{number}"]).results
    assert results["update"] == ""


def test_the_check_sees_what_takes_more_than_the_budget(fuzz, monkeypatch):
    data = b"\x80" + fuzz.seeds_model.streams()["p14_dq_big_unit"]
    fuzz.check_model.check(data)
    monkeypatch.setattr(fuzz.check_model, "allowance", lambda *_: 100_000)
    with pytest.raises(AssertionError, match=r"took \d+ bytes, 100000 are its limit"):
        fuzz.check_model.check(data)


def test_the_check_sees_other_errors(fuzz, monkeypatch):
    monkeypatch.setattr(ModelStream, "verify", lambda self: [][0])
    with pytest.raises(IndexError):
        fuzz.check_model.check(b"\0" + fuzz.seeds_model.streams()["plain"])


def edited(fuzz, name, change):
    """One of the fuzzer's good streams with other control data; lengths and checks are right."""
    pieces = fuzz.model_framing.split(fuzz.seeds_model.streams()[name])
    lines = fuzz.model_control.lines_of(pieces[2])
    change(lines[1])
    pieces[2] = fuzz.model_control.written(pieces[2], lines)
    return b"".join(pieces)


def record(level, name):
    return next(one for one in level["tensors"] if one["name"] == name)


def test_a_shape_of_more_dimensions_than_the_budget_has_is_refused(fuzz):
    data = edited(fuzz, "described", lambda level: record(level, "scalar").update(shape=[1] * 65))
    with pytest.raises(StreamError, match=r"bad-control: level 1: .*shape: 65 dimensions, the budget has 16"):
        ModelStream(data).tensor("scalar")


def test_escape_values_beyond_binary32_are_refused(fuzz):
    def change(level):
        record(level, "conv.weight")["escape"]["positive"] = [3.4028235678e38]

    with pytest.raises(StreamError, match=r"bad-control: level 1: .*escape\.positive"):
        ModelStream(edited(fuzz, "described", change)).tensor("conv.weight")


@pytest.mark.parametrize("name", ["int8", "fixed 2.6"])
def test_values_that_are_not_finite_have_no_fixed_point(fuzz, name):
    data = edited(fuzz, "described", lambda level: record(level, "special").update(inference=name))
    with pytest.raises(StreamError, match=f"bad-tensor: 'special': values that are not finite have no {name}"):
        ModelStream(data).materialized("special")


def test_two_records_of_one_unit_are_each_looked_for_in_it(fuzz):
    def change(level):
        first, second = level["tensors"][:2]
        second["at"] = first["at"]

    stream = ModelStream(edited(fuzz, "described", change))
    with pytest.raises(StreamError, match=r"bad-index: the unit holds 'conv\.weight', .* says 'conv\.bias'"):
        stream.tensors(["conv.weight", "conv.bias"])


def test_the_budget_holds_for_all_versions_of_a_chain_together(fuzz):
    def change(level):
        level["versions"] = [
            {"name": f"v{k}", "parts": [{"tensor": f"t{k}", "source": "a"}]} | ({"extends": f"v{k - 1}"} if k else {})
            for k in range(20)
        ]

    data = edited(fuzz, "versions", change)
    assert len(compose(ModelStream(data, Budget(max_total_elements=600)), "v19").tensors) == 20
    with pytest.raises(StreamError, match="over-budget: 600 elements up to 'a'"):
        compose(ModelStream(data, Budget(max_total_elements=599)), "v19")


def test_a_level_beyond_the_text_is_blamed_on_its_end(fuzz):
    pieces = fuzz.model_framing.split(fuzz.seeds_model.streams()["described"])
    lines = fuzz.model_control.lines_of(pieces[2])
    lines[0]["levels"][1][1] = 1 << 70
    pieces[2] = fuzz.model_control.written(pieces[2], lines, False)
    data = b"".join(pieces)
    with pytest.raises(StreamError, match=r"bad-control: level 3 of .* of which 0 are there") as caught:
        _ = ModelStream(data).control.topology
    assert caught.value.offset <= len(data)


def test_a_missing_context_is_blamed_on_its_unit(fuzz):
    stream = ModelStream(fuzz.seeds_model.streams()["p13_update2"])
    offsets = [unit.offset for unit in stream.units()]
    with pytest.raises(StreamError, match="missing-context") as caught:
        stream.tensors()
    assert caught.value.offset in offsets
