"""The board's encoders in hardware: what they hold, what board and host decode of it, and going on when one fails.

On a virtual board that is the virtual encoder, which NVIDIA's plugin is to libv4l2: its habits and its faults, not its
speed.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.board import Board, Done
from hil.suite.backbones import coded_extractor, decoded_levels, own_levels, sha256_of_levels
from hil.target_fields import Encoder
from hil.targets import find_target
from hil.virtual_encoder.profiles import PROFILES, node_text

QP = 30
#: Mean difference of levels that the QP may make: half of its quantization step, 2^((30 - 4) / 6) = 20.2. Coefficients
#: that are rounded to the nearest step give 5.8, ones that an encoder leaves out some more.
QP_ERROR = 10.1
#: Seconds between intra pictures of a continuous session, below the 0.6 s that six pictures take.
REFRESH_S = 0.25
#: A picture that the virtual encoder fails at: behind the three of the trial, whose sessions it counts by themselves.
FAULTY = 4
#: How it fails, and whether it must be opened anew.
FAULTS = {
    "a picture marked as damaged": ({"error_at": FAULTY}, False),
    "EIO": ({"eio_at": FAULTY}, True),
    "a stall": ({"stall_at": FAULTY}, True),
}
#: A picture takes the emulator less than a tenth of it (s).
STALLED_S = 3.0

Host = Callable[..., Done]

#: Of the target that is tested. Collected without one, there is none.
HARDWARE = [
    one
    for name in [os.environ.get("FEATLINK_BOARD")]
    if name is not None
    for one in find_target(name).encoders
    if one.backend != "x265"
]
#: How the maps of a stream are coded: session, and whether its pictures are hashed.
WAYS = {
    "continuous, hashed": ("continuous", True),
    "continuous, unhashed": ("continuous", False),
    "self-contained, hashed": ("self-contained", True),
    "self-contained, unhashed": ("self-contained", False),
}


@dataclass(frozen=True)
class Coded:
    """A stream that the board's encoder made of `pictures`."""

    backend: str
    session: str
    hashed: bool
    extractor: Path
    #: of `featlink-device run --stats`, and what it said
    stats: dict[str, Any]
    said: str
    #: of the whole process, start included
    cpu_s: float
    #: `featlink-device check --json` of the stream, on the board
    on_board: dict[str, Any]
    stream: Path
    #: `featlink-host decode` of it
    decoded: Path

    @property
    def index(self) -> dict[str, Any]:
        """What the host found in the stream."""
        found: dict[str, Any] = json.loads((self.decoded / "index.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def examined(board: Board) -> list[dict[str, Any]]:
    """What `featlink-device encoders --json` found."""
    # The least that every known encoder takes; an emulator needs seconds for large intra pictures.
    words = ["--width", "256", "--height", "144", "--qp", str(QP), "--json"]
    found: list[dict[str, Any]] = board.device("encoders", *words).check().json["encoders"]
    return found


@pytest.fixture(scope="module")
def lossy(extractor: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`lossy("continuous", picture_hash=False)`: the extractor whose maps are known everywhere, at QP 30."""
    folder = tmp_path_factory.mktemp("coded")

    def make(session: str, picture_hash: bool) -> Path:
        out = folder / f"{session}-{'hashed' if picture_hash else 'unhashed'}"
        if not out.exists():
            prepared = extractor("exact", "--qp", str(QP))
            coded_extractor(prepared, out, session=session, picture_hash=picture_hash, refresh_s=REFRESH_S)
        return out

    return make


def run(board: Board, words: list[str]) -> tuple[Done, float]:
    """`featlink-device run`, and the CPU seconds that it took."""
    command = shlex.join([board.launcher, "run", *words])
    done = board.run(f"{command}; code=$?; times >&2; exit $code", timeout_s=180).check()
    # The shell's own times, then its children's: user and system.
    spent = re.findall(r"(\d+)m([\d.]+)s", done.stderr.strip().splitlines()[-1])
    return done, sum(60 * int(minutes) + float(seconds) for minutes, seconds in spent)


@pytest.fixture(scope="module", params=[(one, way) for one in HARDWARE for way in WAYS], ids=lambda one: one[1])
def coded(
    request: pytest.FixtureRequest,
    board: Board,
    host: Host,
    pictures: Path,
    lossy: Callable[..., Path],
    on_board: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Coded]:
    """A stream of one encoder in one of the WAYS, decoded on both ends."""
    encoder, way = request.param
    session, hashed = WAYS[way]
    folder, made = tmp_path_factory.mktemp("stream"), lossy(session, hashed)
    remote = board.run("mktemp -d /tmp/featlink-coded.XXXXXX").check().stdout.strip()
    words = ["--encoder", encoder.backend, "--extractor", on_board(made), "--source", on_board(pictures)]
    done, cpu_s = run(board, [*words, "--out", f"{remote}/board.fms", "--stats", f"{remote}/stats.json"])
    checked = board.device("check", f"{remote}/board.fms", "--json").check()
    for name in ("board.fms", "stats.json"):
        board.get(f"{remote}/{name}", folder / name)
    host("featlink-host", "decode", str(folder / "board.fms"), "--out", str(folder / "decoded")).check()
    stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    stream, decoded = folder / "board.fms", folder / "decoded"
    yield Coded(encoder.backend, session, hashed, made, stats, done.stderr, cpu_s, checked.json, stream, decoded)
    if board.alive():
        board.run(f"rm -rf {remote}")


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: one.backend)
def test_the_encoder_of_the_target_works(encoder: Encoder, examined: list[dict[str, Any]], board: Board) -> None:
    """Tried with pictures that come back, at a constant QP; which controls it refused stands in the figures."""
    found = [one for one in examined if one["backend"] == encoder.backend]
    assert found, f"no device for {encoder.backend}, only {[one['backend'] for one in examined]}"
    working = [one for one in found if one["works"]]
    assert working, [one["why"] for one in found]
    one = working[0]
    if one["node"] is not None:
        assert any(fnmatch.fnmatch(one["node"], node) for node in encoder.nodes)
        board.record("node", one["node"])
    facts = one["facts"]
    assert one["decoded"]
    # It is the first choice, before x265, which everyone has.
    assert examined.index(one) < next(k for k, each in enumerate(examined) if each["backend"] == "x265")
    assert set(one["limits"]["formats"]) <= set(encoder.takes.formats) or not board.virtual
    board.record("trial", round(one["trial_ms"]), "ms")
    for name in ("card", "coded", "pixel_format", "stride", "rows", "crop"):
        if name in facts:
            board.record(name, facts[name])
    board.record("pictures held back", one["delay"])
    for why in one["why"]:
        board.record("tried before", why)
    controls = facts.get("controls", {})
    refused = {name: value for name, value in controls.items() if isinstance(value, str) and "refused" in value}
    kept = [f"{name}: {value}" for name, value in controls.items() if name not in refused]
    board.record("controls that were set", ", ".join(kept) or "none")
    for name, value in refused.items():
        board.record(f"control {name}", value)
    board.record("controls that were refused", len(refused))


def test_every_map_arrives_as_it_was_said(coded: Coded, board: Board, pictures: Path) -> None:
    """No map is missing or damaged; sessions begin where the extractor says so; hashed or not is said on both ends."""
    count = len(list(pictures.iterdir()))
    assert coded.stats["encoder"]["backend"] == coded.backend
    assert (coded.stats["maps"], coded.stats["maps_lost"], coded.stats["encoder_restarts"]) == (count, 0, 0)
    assert coded.stats["encoder"]["hashed"] == ("this board's decoder" if coded.hashed else "nobody")
    assert ("without hashes: the host cannot see all damage" in coded.said) is not coded.hashed
    for end in (coded.on_board, coded.index):
        assert (end["exit_code"], end["errors"], len(end["maps"])) == (0, [], count)
        assert [one["hashed"] for one in end["maps"]] == [coded.hashed] * count
        begins = [one["starts_session"] for one in end["maps"]]
        # At 0, 0.3 s and nowhere between: 10 pictures a second, and a refresh is due each quarter of one.
        assert begins == ([True] * count if coded.session == "self-contained" else [k % 3 == 0 for k in range(count)])
    board.record("bytes a map", round(coded.stats["bytes"] / count))
    board.record("encode, median", round(coded.stats["stages"]["encode"]["median_ms"], 2), "ms")
    board.record("encode, 95 %", round(coded.stats["stages"]["encode"]["p95_ms"], 2), "ms")
    board.record("CPU of the whole run", round(coded.cpu_s, 2), "s")


def test_the_host_says_whether_pictures_are_hashed(coded: Coded, host: Host) -> None:
    """`featlink-host inspect` says it of every map."""
    lines = host("featlink-host", "inspect", str(coded.stream)).check().stdout
    count = len(coded.index["maps"])
    assert (lines.count("MD5"), lines.count("unhashed")) == ((count, 0) if coded.hashed else (0, count))


def test_both_ends_decode_the_same_levels(coded: Coded, board: Board, pictures: Path) -> None:
    """Hash by hash; and they are as near to the levels that this machine quantizes as the QP allows."""
    levels = decoded_levels(coded.decoded)
    assert [one["levels_sha256"] for one in coded.on_board["maps"]] == [sha256_of_levels(one) for one in levels]
    assert len({sha256_of_levels(one) for one in levels}) == len(levels)
    own = list(own_levels(coded.extractor, pictures))
    errors = [np.abs(found - expected.astype(np.int32)) for found, expected in zip(levels, own, strict=True)]
    board.record("mean error of the worst map", round(max(float(one.mean()) for one in errors), 2), "levels")
    board.record("largest error", max(int(one.max()) for one in errors), "levels")
    # None at all would be another coding than the one that was asked for.
    assert all(0 < one.mean() < QP_ERROR for one in errors)
    # Every other picture is further away, or the order would not have been looked at.
    for k, found in enumerate(levels):
        others = [np.abs(found - other.astype(np.int32)).mean() for at, other in enumerate(own) if at != k]
        assert errors[k].mean() < min(others)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_encoder_costs_a_map_and_nothing_else(
    fault: str,
    board: Board,
    host: Host,
    lossy: Callable[..., Path],
    on_board: Callable[[Path], str],
    pictures: Path,
    remote_dir: str,
    tmp_path: Path,
) -> None:
    """Lost maps are counted, the stream goes on with an intra picture, and all of it decodes on both ends."""
    if not board.virtual:
        pytest.skip("only the virtual encoder fails when it is told to")
    switches, reopened = FAULTS[fault]
    node, stream, stats = (f"{remote_dir}/{name}" for name in ("faulty", "x.fms", "stats.json"))
    text = node_text({**PROFILES["jetson"], **{k: str(v) for k, v in switches.items()}, "faults": "first_session"})
    (tmp_path / "faulty").write_text(text, encoding="utf-8")
    board.put(tmp_path / "faulty", node)
    made = lossy("continuous", True)
    words = ["--encoder", f"libv4l2:{node}", "--encoder-timeout", str(STALLED_S), "--extractor", on_board(made)]
    done, _ = run(board, [*words, "--source", on_board(pictures), "--out", stream, "--stats", stats])
    found = board.run(f"cat {stats}").check().json
    count = len(list(pictures.iterdir()))
    board.record("maps lost", found["maps_lost"])
    board.record("encoder restarts", found["encoder_restarts"])
    board.record("longest from picture to map", round(found["latency"]["p95_ms"]), "ms")
    assert (found["maps"], found["maps_lost"], found["encoder_restarts"]) == (count - 1, 1, int(reopened))
    assert "1 maps lost by the encoder" in done.stderr
    assert f"'{node}" not in done.stderr  # a sentence, not a Python object
    assert "Traceback" not in done.stderr
    checked = board.device("check", stream, "--json").check().json
    board.get(stream, tmp_path / "x.fms")
    host("featlink-host", "decode", str(tmp_path / "x.fms"), "--out", str(tmp_path / "maps")).check()
    index = json.loads((tmp_path / "maps" / "index.json").read_text(encoding="utf-8"))
    levels = decoded_levels(tmp_path / "maps")
    for end in (checked, index):
        assert (end["exit_code"], end["errors"]) == (0, [])
        assert all(one["hashed"] for one in end["maps"])
    assert [one["levels_sha256"] for one in checked["maps"]] == [sha256_of_levels(one) for one in levels]
    # The map behind the lost one builds on nothing before it.
    behind = index["maps"][FAULTY]
    assert (behind["starts_session"], behind["quant_heritage_flag"], behind["repack_heritage_flag"]) == (True, 0, 0)
    own = list(own_levels(made, pictures))
    del own[FAULTY]
    for map_levels, expected in zip(levels, own, strict=True):
        assert np.abs(map_levels - expected.astype(np.int32)).mean() < QP_ERROR
