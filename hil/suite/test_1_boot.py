"""Is it the board that it should be, and is it fit to work? Console, SSH, identity, health."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest

from hil.board import Board, Done, NoAnswerError

#: A virtual board has the host's clock, a real one may be set by its network (seconds).
CLOCK_TOLERANCE_S = 300.0
#: For the bundle, extractors and streams of a day (bytes).
LEAST_FREE = 100 << 20


def finding(doctor: Done, name: str) -> dict[str, Any]:
    """One finding of `doctor`, by its name."""
    found: dict[str, dict[str, Any]] = {one["name"]: one for one in doctor.json["findings"]}
    assert name in found, f"doctor has no finding {name!r}, only {', '.join(found)}"
    return found[name]


def test_the_console_has_a_shell(board: Board) -> None:
    """The serial console logs in, as the user that target.toml or hil/local.toml names."""
    done = board.console("id -un; uname -m").check()
    assert done.stdout.split() == [board.shell.username, board.target.system.architecture]
    board.record("from power on to login", board.facts["login_s"], "s")


def test_ssh_runs_commands(board: Board) -> None:
    """Both streams, the exit code and odd characters come through SSH as they are."""
    done = board.run("""printf 'a  "b" $c\\n'; echo wrong >&2; exit 7""")
    assert (done.stdout, done.stderr, done.code) == ('a  "b" $c\n', "wrong\n", 7)
    board.record("a command over SSH", round(done.seconds, 2), "s")
    board.record("from power on to SSH", board.facts["ssh_s"], "s")


def test_a_command_that_hangs_is_ended(board: Board) -> None:
    """The time limit of a command holds on the board too: nothing is left running there."""
    with pytest.raises(NoAnswerError, match=r"did not end within 2 s"):
        board.run("exec sleep 4321", timeout_s=2)
    assert board.run("ps -eo args | grep -c '^sleep [4]321'").stdout.strip() == "0"


def test_it_is_the_board_that_was_asked_for(board: Board) -> None:
    """The device tree's model; a virtual board says that it is one."""
    model = board.run("tr -d '\\0' < /proc/device-tree/model").check().stdout.strip()
    board.facts["model"] = model
    board.record("model", model)
    if board.target.virtual is None:
        assert model
        assert "(virtual)" not in model
    else:
        assert model == board.target.virtual.model


def test_the_doctor_finds_it_healthy(doctor: Done, board: Board) -> None:
    """`featlink-device doctor` finds nothing that stands in the way of maps."""
    faults = [one for one in doctor.json["findings"] if one["state"] == "fault"]
    assert not faults
    assert doctor.code == 0
    assert doctor.json["healthy"]
    board.record("doctor", round(doctor.seconds, 1), "s")


def test_the_deployed_bundle_is_what_runs(board: Board) -> None:
    """featlink-device comes from the bundle of this tree, not from what the board had before."""
    script = "import featlink_codec, featlink_device; print(featlink_codec.__file__, featlink_device.__file__)"
    folder = board.run(f"readlink -f {board.launcher}").check().stdout.strip().rsplit("/", 2)[0]
    assert folder.endswith(board.facts["deployed"]["version"])
    where = board.run(f"PYTHONPATH={folder}:/opt/featlink python3 -c '{script}'").check().stdout.split()
    assert all(path.startswith(f"{folder}/") for path in where), where
    board.record("deployed", board.facts["deployed"]["version"])
    board.record("deploy", board.facts["deploy_s"], "s")


def test_the_integer_path_is_the_fast_one(doctor: Done, board: Board) -> None:
    """The C core uses the instruction set of this CPU."""
    path = finding(doctor, "integer path")["facts"]["path"]
    assert path == {"aarch64": "neon"}.get(board.target.system.architecture, path)
    assert path != "portable"
    board.record("integer path", path)


def test_it_has_an_encoder(doctor: Done, board: Board) -> None:
    """An encoder made pictures that came back; what became of the others is told."""
    encoders = finding(doctor, "encoder")["facts"]["encoders"]
    names = {one["backend"] if one["node"] is None else f"{one['backend']}:{one['node']}": one for one in encoders}
    working = [name for name, one in names.items() if one["works"]]
    board.record("encoders that work", ", ".join(working))
    for name, one in names.items():
        if not one["works"]:
            board.record(f"{name} does not work", one["why"][-1])
    assert working
    assert all(names[name]["decoded"] for name in working)
    if board.virtual:  # what a real board of the target has is not known before it was seen
        assert {names[name]["backend"] for name in working} == {one.backend for one in board.target.encoders}


def test_the_clock_is_right(board: Board) -> None:
    """Time tags are of use only where the clock is: within five minutes of this machine's."""
    before_s = time.time()
    board_s = float(board.run("date +%s.%N").check().stdout)
    middle_s = (before_s + time.time()) / 2
    board.record("clock is ahead by", round(board_s - middle_s, 2), "s")
    assert abs(board_s - middle_s) < CLOCK_TOLERANCE_S


def test_there_is_space(board: Board) -> None:
    """Enough of it for bundles, extractors and streams, where they go."""
    free = {}
    for folder in (board.launcher, "/tmp"):
        line = board.run(f"df -P -B1 {shlex.quote(folder)}").check().stdout.splitlines()[-1]
        free[folder] = int(line.split()[3])
        board.record(f"free beside {folder}", free[folder] >> 20, "MiB")
    assert min(free.values()) >= LEAST_FREE
