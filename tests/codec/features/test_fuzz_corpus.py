"""What must hold for any bytes holds for every input that the fuzzer found worth keeping."""

import importlib.util
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = sorted((FUZZ / "corpus").iterdir())


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("fuzz_check", FUZZ / "check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_any_bytes_are_read_or_refused(check, file):
    check.check(file.read_bytes())


def test_the_corpus_reaches_every_kind_of_event(check):
    """Else it checks next to nothing, and nobody would notice."""
    kinds, names, decoded, refused = set(), set(), 0, 0
    for file in CORPUS:
        data = file.read_bytes()
        if not data or not check.is_stream(data[0]):
            continue
        outcome = check.read([[data[1:]]], check.Options.of(data[0]))
        refused += outcome.refusal is not None
        for event in outcome.events:
            kinds.add(type(event).__name__)
            if isinstance(event, check.Damage):
                names.add(event.error.name)
            decoded += isinstance(event, check.FeatureMap) and event.levels is not None
    assert kinds == {"SequenceStart", "Tag", "FeatureMap", "SequenceEnd", "Damage"}
    assert {"truncated", "garbage", "no-inherit", "no-reference", "picture-count", "bad-video"} <= names
    assert decoded
    assert refused
