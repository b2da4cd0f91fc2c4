"""Fixtures of the board's suite: the board itself, booted and with featlink deployed, and the host's command line."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hil.board import Board, Done
from hil.deploy import build_bundle, deploy
from hil.run import CONSOLE_LOG, FACTS, FIGURES
from hil.suite.networks import NETWORKS, TENSOR, moving_square
from hil.targets import find_target

#: In the folder that `pictures` gives.
PICTURES = 6
#: The board did not boot: one check says so, and the others are skipped.
BROKEN = pytest.StashKey[str]()
#: A command of the host that takes longer than this hangs (seconds).
HOST_TIMEOUT_S = 300.0


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends the session as Ctrl-C does, so that fixtures are torn down and QEMU goes."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Nothing is tried on a board that did not boot."""
    if BROKEN in item.config.stash:
        pytest.skip(item.config.stash[BROKEN])


@pytest.fixture(scope="session")
def out_dir() -> Path:
    """out/hil/BOARD: figures, facts, the report; a check may leave pictures here (report.py shows tile.png)."""
    folder = Path(os.environ["FEATLINK_HIL_OUT"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def board(
    request: pytest.FixtureRequest, target: Any, out_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    """The board (hil.board.Board): booted, logged in on console and SSH, the bundle of this tree deployed.

    `board.run(command, timeout_s=60) -> Done(stdout, stderr, code, seconds)`: a shell command over SSH.
    `board.device(*words, timeout_s=180) -> Done`: `featlink-device WORDS...`.
    `board.console(command)`: on the serial console. `board.put(path, remote)`, `board.get(remote, path)`: scp -r.
    `board.console_tail()`, `board.power_cycle()` (boots again and deploys again; QEMU forgets all files),
    `board.facts`: dict, `board.record(name, value, unit)`: a figure of the check that runs, `board.virtual`: QEMU.
    `done.check()` wants exit code 0, `done.json` parses standard output.
    """
    kind = find_target(os.environ["FEATLINK_BOARD"])
    made = Board(target, kind, out_dir / CONSOLE_LOG, out_dir / FIGURES)
    try:
        bundle = build_bundle(kind.system.architecture, tmp_path_factory.mktemp("bundle"), kind.system.python)
        made.after_boot.append(lambda booted: deploy(booted, bundle))
        try:
            made.boot()
        except BaseException:
            request.config.stash[BROKEN] = f"board {kind.name} did not boot, see the first check"
            raise
        yield made
    finally:
        made.close()
        (out_dir / FACTS).write_text(json.dumps(made.facts, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def doctor(board: Board) -> Done:
    """What `featlink-device doctor --json` said; `doctor.json["findings"]` holds name, state, text, facts."""
    done = board.device("doctor", "--json")
    if done.code in (0, 1):
        board.facts["doctor"] = done.json
    return done


@pytest.fixture(autouse=True)
def _figures(
    request: pytest.FixtureRequest, board: Board, doctor: Done, record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Figures that are recorded belong to the check that runs; the board's facts are there whatever -k selects."""
    board.check, board.on_record = request.node.nodeid, record_property
    if request.function.__doc__:
        record_property("about", request.function.__doc__.strip().splitlines()[0])
    yield
    board.check, board.on_record = "", lambda _name, _value: None


@pytest.fixture
def remote_dir(board: Board) -> Iterator[str]:
    """A new empty folder on the board, gone after the check."""
    folder = board.run("mktemp -d /tmp/featlink-check.XXXXXX").check().stdout.strip()
    yield folder
    if board.alive():
        board.run(f"rm -rf {shlex.quote(folder)}")


@pytest.fixture(scope="session")
def host() -> Callable[..., Done]:
    """`host("featlink-host", "decode", ...) -> Done`: a command line of this machine; also `featlink-device`."""

    def call(program: str, *words: str, timeout_s: float = HOST_TIMEOUT_S) -> Done:
        path = Path(sys.executable).parent / program
        begin_s = time.monotonic()
        done = subprocess.run([path, *words], capture_output=True, text=True, timeout=timeout_s, check=False)
        seconds = time.monotonic() - begin_s
        return Done(shlex.join([program, *words]), done.stdout, done.stderr, done.returncode, seconds)

    return call


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source for `featlink-device run`: a folder of 6 PNG files of 96 x 80, the size that the networks take."""
    return moving_square(tmp_path_factory.mktemp("source") / "pictures", PICTURES)


@pytest.fixture(scope="session")
def extractor(
    host: Callable[..., Done], pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`extractor("exact", "--lossless")` or `extractor("conv", "--qp", "30")`: an extractor's folder on this machine.

    Made once each by `featlink-host prepare split` with these words. "exact" gives the same bits on every machine,
    "conv" does not (networks.py). The map is 16 channels of 40 x 48, 4 x 4 tiles, one picture of 192 x 160.
    """
    folder = tmp_path_factory.mktemp("extractors")
    made: dict[tuple[str, ...], Path] = {}

    def prepare(network: str, *words: str) -> Path:
        key = (network, *words)
        if key not in made:
            out = folder / f"{network}-{len(made)}"
            model = NETWORKS[network](folder / f"{network}-{len(made)}.onnx")
            source = ["--source", str(pictures)]
            host(
                "featlink-host", "prepare", "split", str(model), "--tensor", TENSOR, *source, "--out", str(out), *words
            ).check()
            made[key] = out
        return made[key]

    return prepare


@pytest.fixture(scope="session")
def on_board(board: Board) -> Callable[[Path], str]:
    """`on_board(path)`: a file or folder of this machine, copied to the board (once, until it is booted anew)."""
    copied: dict[tuple[Path, int], str] = {}

    def copy(path: Path) -> str:
        key = (path, board.boots)
        if key not in copied:
            folder = board.run("mktemp -d /tmp/featlink-copy.XXXXXX").check().stdout.strip()
            board.put(path, f"{folder}/{path.name}")
            copied[key] = f"{folder}/{path.name}"
        return copied[key]

    return copy
