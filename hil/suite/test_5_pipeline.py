"""How fast is it, how much does it need, what does a camera give it? Compared with the board's last record."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.board import Board, Done
from hil.deploy import describe_tree
from hil.suite import records
from hil.suite.backbones import decoded_levels
from hil.suite.records import Figure

#: A real board's own camera; on a virtual board it is the kernel's vivid.
CAMERA_VARIABLE = "FEATLINK_HIL_CAMERA"
#: The camera's own name for vivid, and only its video capture.
VIVID, VIVID_OPTIONS = "vivid", "n_devs=1 node_types=0x1 num_inputs=1 input_types=0"
#: What may be worse from run to run of the same board without anything being wrong: the scheduler, the room's warmth.
TIME_MARGIN, MEMORY_MARGIN, TEMPERATURE_SLACK = 0.25, 0.1, 10.0
#: Stages shorter than this jitter (ms).
TIME_SLACK_MS = 1.0
#: A virtual camera's pictures come this much too early or late at most (s): its timer is a thread under emulation.
CAMERA_JITTER_S = 0.05
CAMERA_FPS, CAMERA_PICTURES = 5, 10


def temperature(board: Board) -> float | None:
    """The hottest thermal zone in degrees Celsius; None where the board has none."""
    zones = board.run("cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null").stdout.split()
    found = [int(zone) / 1000 for zone in zones if re.fullmatch(r"-?\d+", zone)]
    return max(found) if found else None


def stats_of(board: Board, remote: str) -> dict[str, Any]:
    """What `featlink-device run --stats` wrote."""
    figures = board.run(f"cat {remote}").check().json
    assert isinstance(figures, dict)
    return figures


def test_the_pipeline_is_no_worse_than_last_time(
    board: Board,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    pictures: Path,
    remote_dir: str,
    out_dir: Path,
) -> None:
    """Throughput, latency, stages, memory, temperature against out/hil/records; a real board fails where one is worse.

    A virtual board shares its machine: there a regression is reported, and the record renewed.
    """
    words = ["--extractor", on_board(extractor("conv", "--lossless")), "--source", on_board(pictures)]
    stats = f"{remote_dir}/stats.json"
    board.device("run", *words, "--out", f"{remote_dir}/x.fms", "--stats", stats).check()
    found = stats_of(board, stats)
    count = len(list(pictures.iterdir()))
    assert found["maps"] == found["frames_captured"] == count
    figures = [
        Figure("throughput", found["fps"], "maps/s", "higher", TIME_MARGIN),
        Figure("peak memory", found["peak_memory_bytes"] / (1 << 20), "MiB", "lower", MEMORY_MARGIN),
    ]
    stages = {"latency": found["latency"], **found["stages"]}
    for name, stage in stages.items():
        assert stage["count"] >= count
        figures.append(Figure(f"{name}, median", stage["median_ms"], "ms", "lower", TIME_MARGIN, TIME_SLACK_MS))
    if (hot := temperature(board)) is not None:
        figures.append(Figure("temperature", hot, "C", "lower", 0.0, TEMPERATURE_SLACK))
    for one in figures:
        board.record(one.name, round(one.value, 3), one.unit)
    if hot is None:
        board.record("temperature", "no thermal zone")
    assert 20 < found["peak_memory_bytes"] / (1 << 20) < board.target.system.memory_mib
    folder = Path(os.environ.get(records.FOLDER_VARIABLE) or out_dir.parent / "records")
    path = folder / f"{board.target.name}.json"
    worse = records.regressions(records.load(path), figures)
    for line in worse:
        board.record("worse than last time", line)
    if worse and not board.virtual:
        pytest.fail("worse than the last record ({}):\n{}".format(path, "\n".join(worse)))
    records.store(path, figures, describe_tree())


@pytest.fixture(scope="module")
def camera(board: Board) -> Iterator[str]:
    """The node of the camera."""
    if not board.virtual:
        node = os.environ.get(CAMERA_VARIABLE)
        if not node:
            pytest.skip(f"no camera: {CAMERA_VARIABLE} names none")
        yield node
        return
    board.run(f"modprobe {VIVID} {VIVID_OPTIONS}").check()
    lines = board.run("v4l2-ctl --list-devices").check().stdout.splitlines()
    # The card's name, then its nodes, indented.
    at = next(k for k, line in enumerate(lines) if line.startswith(f"{VIVID} "))
    node = next(line.strip() for line in lines[at + 1 :] if line.strip().startswith("/dev/video"))
    yield node
    if board.alive():
        board.run(f"modprobe -r {VIVID}")


@pytest.fixture
def filmed(
    board: Board,
    camera: str,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    host: Callable[..., Done],
    remote_dir: str,
    tmp_path: Path,
) -> Callable[[], tuple[dict[str, Any], list[np.ndarray], list[float]]]:
    """`filmed()`: some pictures of the camera: the run's figures, the maps, and their times."""

    def film() -> tuple[dict[str, Any], list[np.ndarray], list[float]]:
        words = ["--extractor", on_board(extractor("exact", "--lossless")), "--source", camera]
        # Frames that wait keep the pipeline from dropping them: what is lost then, the driver lost.
        words += ["--limit", str(CAMERA_PICTURES), "--fps", str(CAMERA_FPS), "--queue", str(2 * CAMERA_PICTURES)]
        board.device("run", *words, "--out", f"{remote_dir}/x.fms", "--stats", f"{remote_dir}/stats.json").check()
        board.get(f"{remote_dir}/x.fms", tmp_path)
        host("featlink-host", "decode", str(tmp_path / "x.fms"), "--out", str(tmp_path / "maps")).check()
        index = json.loads((tmp_path / "maps" / "index.json").read_text())
        times_s = [one["time_s"] for one in index["maps"]]
        return stats_of(board, f"{remote_dir}/stats.json"), decoded_levels(tmp_path / "maps"), times_s

    return film


def test_a_camera_is_filmed(
    board: Board, filmed: Callable[[], tuple[dict[str, Any], list[np.ndarray], list[float]]]
) -> None:
    """A format is agreed on, every picture becomes a map, and the driver's clock gives the times."""
    before_s = float(board.run("date +%s.%N").check().stdout)
    found, maps, times_s = filmed()
    after_s = float(board.run("date +%s.%N").check().stdout)
    agreed = found["source"]
    for name in ("card", "pixel_format", "width", "height", "bytes_per_line", "fps"):
        board.record(name, agreed[name])
    board.record("lost by the driver", found["frames_lost_by_driver"])
    assert agreed["timestamps"] == "driver, monotonic"
    assert found["frames_captured"] == CAMERA_PICTURES
    assert len(maps) == found["maps"] == CAMERA_PICTURES - found["frames_dropped"]
    assert len(maps) >= 2
    # The scene moves or at least has noise or a running clock; and it is not one colour.
    assert len({one.tobytes() for one in maps}) > 1
    assert len(np.unique(maps[0])) > 4
    assert before_s < times_s[0] < times_s[-1] < after_s
    steps_s = np.diff(times_s)
    assert (steps_s > 0).all()
    if board.virtual:
        assert agreed["card"] == VIVID
        assert agreed["fps"] == CAMERA_FPS
        # Lost pictures make a step several periods long, and never anything between.
        assert np.abs(steps_s - np.round(steps_s * CAMERA_FPS) / CAMERA_FPS).max() < CAMERA_JITTER_S
        total = CAMERA_PICTURES + found["frames_lost_by_driver"]
        assert times_s[-1] - times_s[0] < (total - 1) / CAMERA_FPS + CAMERA_JITTER_S


def test_long_rows_and_lost_pictures(
    board: Board, camera: str, filmed: Callable[[], tuple[dict[str, Any], list[np.ndarray], list[float]]]
) -> None:
    """vivid pads the rows of another format and drops most of its pictures: maps are right, and losses are counted."""
    if not board.virtual:
        pytest.skip("only vivid drops pictures when it is told to")
    row = 320 * 2 + 96
    form = f"width=320,height=180,pixelformat=YUYV,bytesperline={row}"
    # Colour bars with neither text nor movement: every picture is the same.
    board.run(
        f"v4l2-ctl -d {camera} --set-fmt-video={form} -c osd_text_mode=2 -c percentage_of_dropped_buffers=70"
    ).check()
    found, maps, times_s = filmed()
    assert found["source"] | {"pixel_format": "YUYV", "width": 320, "bytes_per_line": row} == found["source"]
    lost = found["frames_lost_by_driver"]
    board.record("lost by the driver", lost)
    assert found["frames_captured"] == CAMERA_PICTURES
    assert lost > 0
    assert found["frames_dropped"] == 0
    # The driver's times tell of the same losses as its numbers.
    assert round((times_s[-1] - times_s[0]) * CAMERA_FPS) == CAMERA_PICTURES - 1 + lost
    # Bars are upright: away from the borders all rows of a map are alike; with rows of a wrong length they are not.
    rows = maps[0][4:-4].astype(int)
    assert np.abs(rows - rows[0]).max() <= 2
    assert np.ptp(rows[0], axis=0).max() > 50
