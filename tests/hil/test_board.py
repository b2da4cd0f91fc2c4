"""The board's object over drivers that only pretend, and the errors of a run before any board is touched."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hil import run as run_module
from hil.board import Board, Done, NoAnswerError, plain_text
from hil.run import run_suite, stale
from hil.targets import ROOT, find_target

from featlink_codec.errors import FeatlinkError, SettingsError

VIRTUAL = find_target("virtual-a76")


class Driver:
    """Says what was done to it in `log`."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def on(self) -> None:
        self.log.append("on")

    def off(self) -> None:
        self.log.append("off")

    def cycle(self) -> None:
        self.log.append("cycle")


class Shell(Driver):
    """A serial console with some lines that nobody has read yet."""

    def __init__(self, name: str, log: list[str], console_log: Path) -> None:
        super().__init__(name, log)
        self.console, self._console_log = self, console_log
        self.unread = b""

    def read(self, timeout: float) -> bytes:
        data, self.unread = self.unread, b""
        if not data:
            raise TimeoutError
        with self._console_log.open("ab") as file:
            file.write(data)
        return data


class Ssh(Driver):
    """Runs commands here."""

    def run(self, command: str, decodeerrors: str = "strict", timeout: float | None = None):
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=timeout, text=True, check=False)
        return done.stdout.splitlines(), done.stderr.splitlines(), done.returncode


class Labgrid:
    """labgrid's Target, as far as it is used."""

    def __init__(self, console_log: Path) -> None:
        self.log: list[str] = []
        self.fail_at = ""
        self.drivers = {
            "PowerProtocol": Driver("power", self.log),
            "ShellDriver": Shell("shell", self.log, console_log),
            "SSHDriver": Ssh("ssh", self.log),
        }

    def get_driver(self, name: str, activate: bool = True) -> Driver:
        return self.drivers[name]

    def activate(self, driver: Driver) -> None:
        if driver.name == self.fail_at:
            raise TimeoutError("Timeout of 180 seconds exceeded during waiting for login\nand much more")
        self.log.append(f"+{driver.name}")

    def deactivate(self, driver: Driver) -> None:
        self.log.append(f"-{driver.name}")


@pytest.fixture
def labgrid(tmp_path: Path) -> Labgrid:
    return Labgrid(tmp_path / "console")


@pytest.fixture
def board(labgrid: Labgrid, tmp_path: Path) -> Board:
    return Board(labgrid, VIRTUAL, tmp_path / "console", tmp_path / "figures.jsonl")


def test_a_boot_is_power_console_ssh_and_what_comes_after(board, labgrid):
    board.after_boot.append(lambda booted: labgrid.log.append(f"deployed {booted.boots}"))
    board.boot()
    assert labgrid.log == ["+power", "on", "+shell", "+ssh", "deployed 1"]
    assert set(board.facts) >= {"board", "virtual", "login_s", "ssh_s"}


def test_console_and_ssh_let_go_before_the_power_is_cut(board, labgrid):
    board.after_boot.append(lambda booted: labgrid.log.append("deployed"))
    board.boot()
    labgrid.log.clear()
    board.power_cycle()
    assert labgrid.log == ["-ssh", "-shell", "+power", "cycle", "+power", "on", "+shell", "+ssh", "deployed"]


def test_the_console_of_a_real_board_is_opened_anew_after_a_power_cut(labgrid, tmp_path):
    """Its connection may have ended with the power, as that of a USB port on the board does."""
    real = Board(labgrid, find_target("rk3588"), tmp_path / "console", tmp_path / "figures.jsonl")
    real.shell.console = Driver("console", labgrid.log)
    real.boot()
    labgrid.log.clear()
    real.power_cycle()
    assert labgrid.log[:5] == ["-ssh", "-shell", "-console", "+power", "cycle"]


def test_a_board_that_does_not_boot_shows_the_end_of_its_console(board, labgrid):
    labgrid.fail_at = "shell"
    lines = "".join(f"\x1b[1mline {k}\x1b[0m\r\n" for k in range(40))
    labgrid.drivers["ShellDriver"].unread = lines.encode() + b"Kernel panic - not syncing"
    with pytest.raises(NoAnswerError) as caught:
        board.boot()
    first, heading, *tail = str(caught.value).splitlines()
    assert first == "board virtual-a76: console: no login: Timeout of 180 seconds exceeded during waiting for login"
    assert heading == "its console's last lines:"
    assert tail == [f"line {k}" for k in range(11, 40)] + ["Kernel panic - not syncing"]


def test_a_silent_console_is_said(board, labgrid):
    labgrid.fail_at = "ssh"
    with pytest.raises(NoAnswerError, match=r"SSH: no connection: .*\nits console's last lines:\n\(nothing\)"):
        board.boot()


def test_a_command_is_done_with_its_streams_code_and_time(board):
    done = board.run("echo out; echo 'a  b' >&2; exit 3")
    assert (done.stdout, done.stderr, done.code) == ("out\n", "a  b\n", 3)
    assert 0 < done.seconds < 30
    with pytest.raises(FeatlinkError, match=r"`echo out; .*`: exit code 3 after .* s: a  b"):
        done.check()
    with pytest.raises(FeatlinkError, match=r"found 'out\\n', expected JSON"):
        _ = done.json
    assert Done("x", '{"a": 1}', "", 0, 0.1).check().json == {"a": 1}


def test_a_command_that_takes_too_long_is_no_answer(board):
    begin_s = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"`exec sleep 60`: did not end within 0\.5 s"):
        board.run("exec sleep 60", timeout_s=0.5)
    assert time.monotonic() - begin_s < 20


def test_exit_code_124_of_a_quick_command_is_its_own(board):
    assert board.run("exit 124").code == 124


def test_words_for_the_device_arrive_as_they_are(board, tmp_path):
    launcher = tmp_path / "featlink-device"
    launcher.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    launcher.chmod(0o755)
    board.launcher = str(launcher)
    assert board.device("run", "a b", "$HOME", "it's").stdout.strip() == "run|a b|$HOME|it's|"


def test_figures_belong_to_the_check_that_runs(board, tmp_path):
    properties = []
    board.on_record = lambda name, value: properties.append((name, value))
    board.check = "test_a.py::test_b"
    board.record("rate", 12.5, "fps")
    board.record("path", "neon")
    lines = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert lines[0] == {"check": "test_a.py::test_b", "name": "rate", "value": 12.5, "unit": "fps"}
    assert properties == [("rate", "12.5 fps"), ("path", "neon")]


def test_a_virtual_board_ends_even_where_labgrid_cannot_end_it(board, labgrid):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    power = labgrid.drivers["PowerProtocol"]
    power._child = process

    def off() -> None:
        raise BrokenPipeError

    power.off = off
    board.close()
    assert process.poll() is not None
    board.close()


def test_a_real_board_is_left_on(tmp_path, labgrid):
    board = Board(labgrid, find_target("rk3588"), tmp_path / "console", tmp_path / "figures.jsonl")
    board.close()
    assert "off" not in labgrid.log


def test_a_board_that_a_person_switches_is_not_switched_at_the_start(tmp_path, labgrid):
    class ManualPowerDriver(Driver):
        pass

    labgrid.drivers["PowerProtocol"] = ManualPowerDriver("power", labgrid.log)
    board = Board(labgrid, find_target("rk3588"), tmp_path / "console", tmp_path / "figures.jsonl")
    board.boot()
    assert labgrid.log == ["+power", "+shell", "+ssh"]


def test_console_text_is_plain():
    assert plain_text("\x1b[?2004ha\x1b[31mb\x1b[0m\r\nc\x07d\rE") == "ab\ncd\nE"


def fake_image(root: Path) -> Path:
    """Files of an image, as far as freshness goes."""
    folder = root / "out" / "boards" / VIRTUAL.name
    folder.mkdir(parents=True)
    for name in ("kernel", "initrd.img", "root.ext4", "board.dtb", "id_ed25519"):
        (folder / name).write_bytes(b"x")
    system = VIRTUAL.system
    facts = {"cpu": system.cpu, "cores": system.cores, "memory_mib": system.memory_mib, "model": VIRTUAL.virtual.model}
    (folder / "board.json").write_text(json.dumps(facts))
    recipe = root / "hil" / "virtual_board"
    recipe.mkdir(parents=True)
    for path in (recipe / "image.py", root / "pyproject.toml"):
        path.write_text("")
        os.utime(path, (1e9, 1e9))
    return folder


def test_an_image_is_stale_when_it_is_incomplete_other_or_older(tmp_path):
    assert "there is no kernel, initrd.img" in stale(VIRTUAL, tmp_path)
    folder = fake_image(tmp_path)
    assert stale(VIRTUAL, tmp_path) == ""
    bigger = dataclasses.replace(VIRTUAL, system=dataclasses.replace(VIRTUAL.system, memory_mib=2048))
    assert stale(bigger, tmp_path) == "its memory_mib is 1024, and target.toml says 2048"
    (tmp_path / "hil" / "virtual_board" / "image.py").write_text("# changed")
    os.utime(folder / "board.json", (1.1e9, 1.1e9))
    assert stale(VIRTUAL, tmp_path) == "hil/virtual_board/image.py changed since"
    (folder / "board.dtb").unlink()
    assert "board.dtb" in stale(VIRTUAL, tmp_path)


def test_an_unknown_board_is_named_with_its_neighbours():
    with pytest.raises(SettingsError, match="found 'virtual-a77', expected 'virtual-a76'"):
        run_suite("virtual-a77")


def test_without_labgrid_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(run_module.importlib.util, "find_spec", lambda name: None if name == "labgrid" else object())
    with pytest.raises(FeatlinkError, match=r"not installed: labgrid; run: uv run invoke hil-test"):
        run_suite("virtual-a76")


def test_without_qemu_the_line_that_installs_it_is_said(monkeypatch, tmp_path):
    for name in ("ssh", "scp"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run_module, "_require_labgrid", lambda: None)
    with pytest.raises(FeatlinkError, match=r"qemu-system-aarch64; install: apt-get install qemu-system-arm"):
        run_suite("virtual-a76")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_suite_and_waits_for_its_end(tmp_path, number):
    """The child tidies up and its exit code is ours."""
    child = tmp_path / "child.py"
    child.write_text(
        "import signal, sys, time\n"
        "def end(*_):\n    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5)\n    print('tidy', flush=True)\n    sys.exit(2)\n"
    )
    call = f"_call([sys.executable, {str(child)!r}], dict(os.environ))"
    code = f"import os, sys; from hil.run import _call; sys.exit({call})"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "tidy\n"
        assert process.wait(30) == 2, shlex.join(words)
