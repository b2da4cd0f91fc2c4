"""What goes wrong in the field: power, disk, process, clock, encoder. What was sent stays readable."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.board import Board, Done
from hil.suite.backbones import decoded_levels, hashes_of, refused_extractor
from hil.suite.networks import HEIGHT, WIDTH, moving_square

#: Exit codes of `featlink-host decode`, and of `featlink-device run` where it could not make a stream.
LOST, REFUSED = 3, 2
#: A stream that goes on long enough to be cut: pictures, and how many a second.
LONG_PICTURES, LONG_FPS = 150, 4
#: Until the first maps are there: imports under emulation, and a machine that others use too (seconds).
START_TIMEOUT_S = 120.0
#: How far a clock is set ahead (seconds).
JUMP_S = 3600
#: Time tags hold hundredths of a second.
TAG_STEP_S = 0.01
#: Less than the first map needs (bytes).
TINY_DISK = 8192

Host = Callable[..., Done]


@pytest.fixture(scope="module")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures enough for a stream that does not end by itself."""
    return moving_square(tmp_path_factory.mktemp("long") / "pictures", LONG_PICTURES)


def stream_command(board: Board, words: list[str]) -> str:
    """`featlink-device run` that plays a folder as a camera would."""
    return shlex.join([board.launcher, "run", *words, "--paced", "--fps", str(LONG_FPS), "--json"])


def decode(host: Host, stream: Path, out: Path) -> tuple[Done, dict[str, Any], list[np.ndarray]]:
    """`featlink-host decode`: how it ended, its index, the maps."""
    done = host("featlink-host", "decode", str(stream), "--out", str(out))
    return done, json.loads((out / "index.json").read_text()), decoded_levels(out)


def check_cut(done: Done, index: dict[str, Any], maps: list[np.ndarray], least: int) -> None:
    """The stream ends in the middle of something, and everything before is there.

    :param least: maps that had been written when it was cut
    """
    assert done.code == LOST, done
    assert len(maps) >= least
    assert {error["name"] for error in index["errors"]} == {"truncated"}
    assert len(index["errors"]) == 1
    # No map beyond the damage, and none twice: the tags that they stand under follow on one another.
    assert all(one["offset"] < index["errors"][0]["offset"] for one in index["maps"])
    assert [one["tag"] for one in index["maps"]] == list(range(len(maps)))
    assert all(one["hashed"] for one in index["maps"])


@dataclass(frozen=True)
class Killed:
    """A stream whose writer was killed, after the board's clock had been set ahead and back."""

    #: what lay in the folder
    files: list[str]
    part: Path
    #: maps that had been written when the clock was set, and when the process was killed
    before: int
    after: int
    #: of the board, before the start and after the end
    begin_s: float
    end_s: float


@pytest.fixture(scope="module")
def killed(
    board: Board,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    long_source: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Killed]:
    """One stream for two checks: the clock is set ahead while it runs, and back; then SIGKILL."""
    if board.run("id -u").stdout.strip() != "0":
        pytest.skip("only root may set the clock")
    folder = board.run("mktemp -d /tmp/featlink-check.XXXXXX").check().stdout.strip()
    words = ["--extractor", on_board(extractor("exact", "--lossless")), "--source", on_board(long_source)]
    command = stream_command(board, [*words, "--out", f"{folder}/out/x.fms"])
    begin_s = board_time(board)
    # `exec`: the process whose number is kept is featlink-device itself.
    start = f"mkdir {folder}/out; (exec {command}) </dev/null >/dev/null 2>{folder}/log & echo $!"
    process = board.run(start).check().stdout.strip()
    jumped = False
    try:
        before = wait_for_maps(board, folder, 3)
        set_clock(board, JUMP_S)
        jumped = True
        middle = wait_for_maps(board, folder, before + 3)
        set_clock(board, -JUMP_S)
        jumped = False
        after = wait_for_maps(board, folder, middle + 3)
    finally:
        board.run(f"kill -KILL {process}")
        if jumped:
            set_clock(board, -JUMP_S)
    end_s = board_time(board)
    files = board.run(f"ls {folder}/out").check().stdout.split()
    here = tmp_path_factory.mktemp("killed")
    board.get(f"{folder}/out", here)
    yield Killed(files, here / "out" / "x.fms.part", before, after, begin_s, end_s)
    if board.alive():
        board.run(f"rm -rf {folder}")


def board_time(board: Board) -> float:
    """The board's clock, seconds since 1970."""
    return float(board.run("date +%s.%N").check().stdout)


def set_clock(board: Board, seconds: int) -> None:
    """Set the board's clock ahead or back, relative to itself."""
    board.run(f'date -s "@$(($(date +%s) + {seconds}))"').check()


def maps_written(log: str) -> int:
    """How many maps the last whole line of `featlink-device run --json` tells of; it writes one each second."""
    said = [json.loads(line) for line in log.splitlines() if line.endswith("}")]
    return max((int(line["maps"]) for line in said if line["event"] == "rate"), default=0)


def wait_for_maps(board: Board, folder: str, wanted: int) -> int:
    """How many maps the run that logs to FOLDER/log has written, once it is so many."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        maps = maps_written(board.run(f"cat {folder}/log").check().stdout)
        if maps >= wanted:
            return maps
        time.sleep(0.5)
    raise AssertionError(f"{wanted} maps were not there within {START_TIMEOUT_S:g} s: {board.run(f'cat {folder}/log')}")


def test_a_killed_process_leaves_all_complete_maps(killed: Killed, host: Host, board: Board, tmp_path: Path) -> None:
    """SIGKILL: the stream keeps the name of an unfinished one, and decodes up to the last complete map."""
    assert killed.files == ["x.fms.part"]
    done, index, maps = decode(host, killed.part, tmp_path / "maps")
    check_cut(done, index, maps, killed.after)
    board.record("maps written when it was killed", killed.after)
    board.record("maps decoded", len(maps))


def test_a_clock_that_is_set_does_not_move_the_maps_apart(
    killed: Killed, host: Host, board: Board, tmp_path: Path
) -> None:
    """An hour ahead and back while a stream runs: times go on as pictures do, from what the clock said at the start."""
    _, index, _ = decode(host, killed.part, tmp_path / "maps")
    times_s = [one["time_s"] for one in index["maps"]]
    board.record("maps before the clock was set", killed.before)
    board.record("largest step between maps", round(max(np.diff(times_s)), 3), "s")
    assert len(times_s) > killed.before
    assert killed.begin_s < times_s[0] < killed.end_s
    assert (np.diff(times_s) > 0).all()
    # Pictures are dropped where the board is slow, but none is an hour away, nor between two pictures.
    periods = np.diff(times_s) * LONG_FPS
    assert np.abs(periods - np.round(periods)).max() < 2 * TAG_STEP_S * LONG_FPS
    assert times_s[-1] - times_s[0] < killed.end_s - killed.begin_s


def test_a_full_disk_is_an_error_and_leaves_nothing(
    board: Board, extractor: Callable[..., Path], on_board: Callable[[Path], str], pictures: Path, remote_dir: str
) -> None:
    """A disk smaller than the stream: one line that says so, exit code 2, no file; an older stream stays as it was."""
    disk = f"{remote_dir}/disk"
    made = board.run(f"mkdir {disk} && mount -t tmpfs -o size={TINY_DISK} tmpfs {disk}")
    if made.code:
        pytest.skip(f"no small disk can be mounted: {made.stderr.strip()}")
    try:
        board.run(f"echo older > {disk}/x.fms").check()
        words = ["--extractor", on_board(extractor("exact", "--lossless")), "--source", on_board(pictures)]
        done = board.device("run", *words, "--out", f"{disk}/x.fms")
        left = board.run(f"cd {disk} && ls -A && cat x.fms").check().stdout
    finally:
        board.run(f"umount {disk}").check()
    assert done.code == REFUSED, done
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"featlink-device: {disk}/x.fms.part: No space left on device"
    assert left.split() == ["x.fms", "older"]


def test_a_picture_that_the_encoder_refuses_is_said_before_anything_is_sent(
    board: Board,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    pictures: Path,
    remote_dir: str,
    tmp_path: Path,
) -> None:
    """An extractor with an odd row in 4:2:0: exit code 2, one line, not a byte on standard output."""
    odd = refused_extractor(extractor("exact", "--lossless"), tmp_path / "odd")
    words = shlex.join(["--extractor", on_board(odd), "--source", on_board(pictures), "--out", "-"])
    done = board.run(f"{board.launcher} run {words} > {remote_dir}/sent", timeout_s=180)
    assert done.code == REFUSED, done
    assert f"{WIDTH // 2}x{HEIGHT // 2 + 1} has an odd side" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert board.run(f"stat -c %s {remote_dir}/sent").check().stdout.strip() == "0"


def test_a_power_cut_loses_only_the_map_on_its_way(
    board: Board,
    host: Host,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    long_source: Path,
    tmp_path: Path,
) -> None:
    """The stream comes over SSH when the power goes: every complete map is here, right, and the board comes back."""
    folder = extractor("exact", "--lossless")
    words = ["--extractor", on_board(folder), "--source", on_board(long_source), "--out", "-"]
    log, stream = tmp_path / "log", tmp_path / "cut.fms"
    boots = board.boots
    with stream.open("wb") as out, log.open("wb") as lines:
        process = subprocess.Popen([*ssh_words(board), stream_command(board, words)], stdout=out, stderr=lines)
        try:
            least = wait_for_bytes(process, stream, log)
            board.power_cycle()
            process.wait(60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode != 0  # it was cut, and did not end by itself
    assert board.boots == boots + 1
    assert board.run("cat /proc/uptime").check().stdout
    board.record("from power on to SSH after the cut", board.facts["ssh_s"], "s")
    done, index, maps = decode(host, stream, tmp_path / "maps")
    check_cut(done, index, maps, least)
    board.record("maps received", len(maps))
    # What came is what this machine makes of the same pictures; a paced board may have dropped some in between.
    here = tmp_path / "here.fms"
    words = [
        "--extractor",
        str(folder),
        "--source",
        str(long_source),
        "--limit",
        str(4 * len(maps)),
        "--out",
        str(here),
    ]
    host("featlink-device", "run", *words).check()
    _, _, expected = decode(host, here, tmp_path / "expected")
    numbers = {name: number for number, name in reversed(list(enumerate(hashes_of(expected))))}
    assert set(hashes_of(maps)) <= set(numbers)


def ssh_words(board: Board) -> list[str]:
    """An SSH connection of its own: labgrid closes the shared one before it switches the power off."""
    service = board.ssh.networkservice
    options = ["ControlPath=none", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ServerAliveInterval=2"]
    words = ["ssh", *(word for option in options for word in ("-o", option)), *board.ssh.ssh_prefix]
    return [*words, "-p", str(service.port), "-l", service.username, service.address]


def wait_for_bytes(process: subprocess.Popen[bytes], stream: Path, log: Path) -> int:
    """How many maps the board said that it wrote, once that is a few and some of the stream is here."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text(errors="replace")
        maps = maps_written(log.read_text(errors="replace"))
        if maps >= 4 and stream.stat().st_size:
            return maps
        time.sleep(0.2)
    raise AssertionError(f"no stream within {START_TIMEOUT_S:g} s: {log.read_text(errors='replace')}")
