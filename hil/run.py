"""Runs the board's suite: image, labgrid's environment, pytest, report; everything lands in out/hil/BOARD."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from featlink_codec.errors import FeatlinkError

from .environment import IMAGE_FILES, images_of, prepare
from .local import LocalSettings
from .place import require_place
from .target_fields import Target
from .targets import ROOT, find_target
from .virtual_board.cache import locked
from .virtual_board.commands import require_programs

SUITE = ROOT / "hil" / "suite"
#: What a run leaves in out/hil/BOARD, besides labgrid.yaml.
JUNIT, REPORT = "junit.xml", "report.html"
#: labgrid names its console log by the target in its environment.
CONSOLE_LOG, FIGURES, FACTS, TILE = "console_main", "figures.jsonl", "facts.json", "tile.png"

#: Program -> Debian's package of it.
_PROGRAMS = {"ssh": "openssh-client", "scp": "openssh-client"}
_QEMU = {"qemu-system-aarch64": "qemu-system-arm"}
#: A suite that was told to end gets this long to switch its board off (seconds).
_PATIENCE_S = 60.0
#: pytest's exit code.
_INTERRUPTED = 2


@dataclass(frozen=True)
class Ran:
    """A run that ended."""

    #: pytest's exit code: 0 all passed, 1 some failed, 2 interrupted, 5 no check was selected
    code: int
    report: Path


def run_suite(
    board: str,
    *,
    keywords: str = "",
    coordinator: str | None = None,
    rebuild: bool = False,
    say: Callable[[str], object] = lambda _: None,
    root: Path = ROOT,
) -> Ran:
    """Run the checks on a board, and leave JUnit XML, a report, console, figures and facts in out/hil/BOARD.

    :param keywords: pytest's -k
    :param coordinator: HOST:PORT of labgrid's coordinator
    :param rebuild: fetch and build a virtual board's image anew even where it is there and fresh
    :raises FeatlinkError: unknown board, programs that are missing, an image that cannot be built
    """
    local = LocalSettings.load()
    target = find_target(board, local.aliases)
    _require_labgrid()
    require_programs({**_PROGRAMS, **(_QEMU if target.virtual is not None else {})}, {})
    if target.virtual is not None:
        reason = "--rebuild" if rebuild else stale(target, root)
        if reason:
            from .virtual_board.build import build_board

            say(f"{target.name}: its image is built: {reason}")
            build_board(target.name, images_of(target, root).parent, force=rebuild, say=say)
    folder = root / "out" / "hil" / target.name
    with locked(folder, say, f"{folder.name}: another run is on this board; waiting for its end"):
        return _run(target, local, folder, keywords, coordinator, root)


def _run(target: Target, local: LocalSettings, folder: Path, keywords: str, coordinator: str | None, root: Path) -> Ran:
    from .report import write_report

    prepared = prepare(target, local, coordinator=coordinator, root=root)
    if coordinator is not None:
        require_place(coordinator, prepared.place, target.name, switched=not prepared.manual_power)
    for name in (JUNIT, REPORT, CONSOLE_LOG, FIGURES, FACTS, TILE):
        (folder / name).unlink(missing_ok=True)
    words = [sys.executable, "-m", "pytest", "-c", str(SUITE / "pytest.ini"), "--lg-env", str(prepared.file)]
    words += ["--lg-log", str(folder), "--junitxml", str(folder / JUNIT), *(["-k", keywords] if keywords else [])]
    if prepared.manual_power:
        words += ["--capture=no"]  # someone is asked to press a button
    environment = {**os.environ, **prepared.variables, "FEATLINK_HIL_OUT": str(folder)}
    code = _call([*words, str(SUITE)], environment)
    notes = ["The run was interrupted: this is not the whole."] if code == _INTERRUPTED else []
    notes += [f"Only checks that match {keywords!r} were wanted."] if keywords else []
    return Ran(code, write_report(folder, target, root, notes))


def stale(target: Target, root: Path = ROOT) -> str:
    """Why a virtual board's image must be built, for people; empty where it need not be.

    featlink itself is deployed over SSH, so that its sources do not matter here.
    """
    folder = images_of(target, root)
    missing = [name for name in IMAGE_FILES if not (folder / name).is_file()]
    if missing:
        return f"there is no {', '.join(missing)} in {folder}"
    board = folder / "board.json"
    facts: dict[str, Any] = json.loads(board.read_text(encoding="utf-8"))
    assert target.virtual is not None
    system = target.system
    for key, wanted in {
        "cpu": system.cpu,
        "cores": system.cores,
        "memory_mib": system.memory_mib,
        "model": target.virtual.model,
    }.items():
        if facts.get(key) != wanted:
            return f"its {key} is {facts.get(key)!r}, and target.toml says {wanted!r}"
    recipe = [path for path in (root / "hil" / "virtual_board").rglob("*") if "__pycache__" not in path.parts]
    for path in (*recipe, root / "pyproject.toml"):
        if path.is_file() and path.stat().st_mtime > board.stat().st_mtime:
            return f"{path.relative_to(root)} changed since"
    return ""


def _require_labgrid() -> None:
    missing = [name for name in ("labgrid", "pytest", "pytest_timeout") if importlib.util.find_spec(name) is None]
    if missing:
        raise FeatlinkError(f"not installed: {', '.join(missing)}; run: uv run invoke hil-test")


def _call(words: list[str], environment: dict[str, str]) -> int:
    """The exit code of a child that is never left behind: it gets our signals, and time to switch its board off."""
    # In a session of its own Ctrl-C reaches it once, through us, and never QEMU behind its back.
    with subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True) as child, _handing_on(child):
        return child.wait()


@contextmanager
def _handing_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def hand_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        child.terminate()
        try:
            child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
