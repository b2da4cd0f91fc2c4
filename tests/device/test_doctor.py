"""`featlink-device doctor`: what is there, found by trying."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from featlink_codec import _core
from featlink_codec.errors import EncoderError
from featlink_device import doctor

DOCTOR = [str(Path(sys.executable).parent / "featlink-device"), "doctor"]


def test_a_healthy_machine_is_described_for_people_and_for_programs():
    done = subprocess.run(DOCTOR, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _core.paths()[0] in done.stdout
    assert "x265" in done.stdout
    findings = json.loads(subprocess.run([*DOCTOR, "--json"], capture_output=True, timeout=120).stdout)
    assert findings["healthy"]
    facts = {finding["name"]: finding["facts"] for finding in findings["findings"]}
    assert facts["integer path"] == {"path": _core.paths()[0], "paths": _core.paths()}
    found = facts["encoder"]["encoders"][-1]
    assert (found["backend"], found["works"], found["decoded"], found["limits"]["min_width"]) == (
        "x265",
        True,
        True,
        17,
    )
    assert facts["versions"]["numpy"]


def test_a_missing_core_is_a_fault_with_exit_code_1(tmp_path):
    environment = {_core.LIBRARY_VARIABLE: str(tmp_path / "none.so"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(DOCTOR, capture_output=True, timeout=120, text=True, env=environment)
    assert done.returncode == 1
    assert "the C core cannot be loaded" in done.stdout
    assert "x265" in done.stdout  # the rest was looked at all the same


def test_what_raises_is_a_fault_of_that_thing(monkeypatch):
    def broken(name):
        raise EncoderError("no picture came out")

    monkeypatch.setitem(doctor._LOOKS, "encoder", broken)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert (findings["encoder"].state, findings["encoder"].text) == ("fault", "no picture came out")
    assert findings["clock"].state == "ok"
    assert not doctor.report(list(findings.values()))["healthy"]


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [("clock", "time.time", "never set"), ("integer path", "portable", "plain C")],
)
def test_what_works_but_should_be_seen_is_a_warning(monkeypatch, name, what, says):
    before = _core.chosen_path()
    try:
        if what == "portable":
            _core.choose_path("portable")
        else:
            monkeypatch.setattr("time.time", lambda: 12.0)
        finding = doctor._LOOKS[name](name)
    finally:
        _core.choose_path(before)
    assert finding.state == "warning"
    assert says in finding.text


def test_the_selftest_says_that_the_integer_path_is_exact():
    command = [DOCTOR[0], "selftest"]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"cases are exact ({_core.paths()[0]})" in done.stdout
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, timeout=120).stdout)
    assert found["exact"]
    assert len(found["cases"]) > 80
    assert all(case["sha256"] == case["expected"] for case in found["cases"].values())
