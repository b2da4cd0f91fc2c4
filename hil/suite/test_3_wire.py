"""Do both ends agree? The board makes streams; the board and this machine decode them to the same levels.

Float convolutions differ between machines in the last bits, so that what a board must have quantized is known only for
"exact", a network of pooling and element-wise operations, which IEEE 754 makes the same everywhere. With it the board's
levels are compared with this machine's own, and its video byte for byte. "conv" is like real networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hil.board import Board, Done
from hil.run import TILE
from hil.suite.backbones import own_levels, sha256_of_levels
from hil.suite.networks import CHANNELS, HEIGHT, WIDTH, tile_picture

#: Network, and how its maps are coded.
CODINGS = {
    "exact, lossless": ("exact", "--lossless"),
    "exact, QP 30": ("exact", "--qp", "30"),
    "conv": ("conv", "--lossless"),
}


@dataclass
class Sent:
    """A stream that the board made of `pictures`."""

    coding: str
    extractor: Path
    #: of `featlink-device run --stats`
    stats: dict[str, Any]
    #: `featlink-device check --json` of the stream, on the board
    on_board: dict[str, Any]
    #: the stream, here
    stream: Path
    #: `featlink-host decode` of it: index.json and k_levels.npy
    decoded: Path

    @property
    def levels(self) -> list[np.ndarray]:
        """What this machine decoded, a map each: int32 [H, W, C]."""
        return [np.load(path) for path in sorted(self.decoded.glob("*_levels.npy"))]

    @property
    def lossless(self) -> bool:
        """Whether the levels must come back as they went in."""
        return "--lossless" in CODINGS[self.coding]


@pytest.fixture(scope="module", params=list(CODINGS))
def sent(
    request: pytest.FixtureRequest,
    board: Board,
    host: Callable[..., Done],
    pictures: Path,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sent]:
    """Extractor and pictures go to the board, a stream comes back and is decoded on both ends."""
    folder, made = tmp_path_factory.mktemp("sent"), extractor(*CODINGS[request.param])
    remote = board.run("mktemp -d /tmp/featlink-sent.XXXXXX").check().stdout.strip()
    words = ["--extractor", on_board(made), "--source", on_board(pictures), "--out", f"{remote}/board.fms"]
    board.device("run", *words, "--stats", f"{remote}/stats.json").check()
    checked = board.device("check", f"{remote}/board.fms", "--json")
    for name in ("board.fms", "stats.json"):
        board.get(f"{remote}/{name}", folder / name)
    host("featlink-host", "decode", str(folder / "board.fms"), "--out", str(folder / "decoded")).check()
    stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    yield Sent(request.param, made, stats, checked.json, folder / "board.fms", folder / "decoded")
    if board.alive():
        board.run(f"rm -rf {remote}")


def test_every_picture_arrives_as_a_whole_map(sent: Sent, board: Board, pictures: Path) -> None:
    """As many maps as pictures, each with a picture hash that held, and nothing damaged, on both ends."""
    count = len(list(pictures.iterdir()))
    index = json.loads((sent.decoded / "index.json").read_text(encoding="utf-8"))
    for end in (sent.on_board, index):
        assert (end["exit_code"], end["errors"], len(end["maps"])) == (0, [], count)
        assert all(one["hashed"] for one in end["maps"])
        assert all(one["shape_hwc"] == [HEIGHT // 2, WIDTH // 2, CHANNELS] for one in end["maps"])
    board.record("encoder", sent.stats["encoder"]["backend"])
    board.record("bytes a map", round(sent.stats["bytes"] / count))
    for stage in ("backbone", "pack", "encode"):
        board.record(f"{stage}, median", round(sent.stats["stages"][stage]["median_ms"], 2), "ms")


def test_both_ends_decode_the_same_levels(sent: Sent, out_dir: Path) -> None:
    """Hash by hash: what the board's decoder gives is what this machine's gives."""
    levels = sent.levels
    assert [one["levels_sha256"] for one in sent.on_board["maps"]] == [sha256_of_levels(one) for one in levels]
    # Equal and empty would be equal as well.
    assert all(len(np.unique(one)) > 30 for one in levels)
    assert len({sha256_of_levels(one) for one in levels}) == len(levels)
    if sent.coding == "conv":
        Image.fromarray(tile_picture(levels[-1])).save(out_dir / TILE)


def test_the_levels_are_what_was_quantized(sent: Sent, board: Board, pictures: Path) -> None:
    """Lossless: the levels that this machine quantizes from the same pictures; of conv none is off by more than one."""
    own = list(own_levels(sent.extractor, pictures))
    wrong = np.stack(sent.levels) - np.stack(own).astype(np.int32)
    board.record("levels that differ from this machine's", round(100 * float(np.mean(wrong != 0)), 4), "%")
    board.record("largest difference", int(np.abs(wrong).max()), "levels")
    if not sent.lossless:
        # QP 30 must show, or the coding was not what it says; and the maps must still be these maps.
        assert 0 < np.abs(wrong).mean() < 16
    elif sent.coding == "conv":
        assert np.abs(wrong).max() <= 1
    else:
        assert not wrong.any()


@pytest.mark.parametrize("coding", [name for name in CODINGS if name.startswith("exact")])
def test_the_video_is_the_same_byte_for_byte(
    coding: str,
    board: Board,
    doctor: Done,
    host: Callable[..., Done],
    pictures: Path,
    extractor: Callable[..., Path],
    on_board: Callable[[Path], str],
    remote_dir: str,
    tmp_path: Path,
) -> None:
    """libx265 on the board writes what libx265 writes here, from equal levels; other encoders write what they like."""
    encoders = next(one["facts"]["encoders"] for one in doctor.json["findings"] if one["name"] == "encoder")
    if not any(one["backend"] == "x265" and one["works"] for one in encoders):
        pytest.skip("the board has no libx265")
    made = extractor(*CODINGS[coding])

    def words(extractor: str, source: str, out: str) -> list[str]:
        return ["run", "--encoder", "x265", "--extractor", extractor, "--source", source, "--out", out]

    board.device(*words(on_board(made), on_board(pictures), f"{remote_dir}/board.fms")).check()
    there = board.device("check", f"{remote_dir}/board.fms", "--json").check().json
    host("featlink-device", *words(str(made), str(pictures), str(tmp_path / "host.fms"))).check()
    here = host("featlink-device", "check", str(tmp_path / "host.fms"), "--json").check().json
    found = [one["video_sha256"] for one in there["maps"]]
    assert found == [one["video_sha256"] for one in here["maps"]]
    assert len(set(found)) == len(list(pictures.iterdir()))
    board.record("identical videos", len(found))
