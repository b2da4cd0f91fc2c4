"""Do both ends agree? The board makes streams; the board and this machine decode them to the same levels.

Float convolutions differ between machines in the last bits, so that what a board must have quantized is known only for
"exact", a network of pooling and element-wise operations, which IEEE 754 makes the same everywhere. With it the board's
levels are compared with this machine's own, and its video byte for byte. "conv" is like real networks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from featlink_codec.extractor import ExtractorSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import Clip
from hil.board import Board, Done
from hil.run import TILE
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


def own_levels(extractor: Path, pictures: Path) -> Iterator[np.ndarray]:
    """The same way on this machine, written plainly: picture, tensor, backbone, NumPy's definition of the quantizer."""
    settings = ExtractorSettings.load(extractor)
    session = onnxruntime.InferenceSession(str(extractor / "backbone.onnx"), providers=["CPUExecutionProvider"])
    preprocess, quantizer = Preprocessor(settings.input), quantizer_of(settings.maps[0])
    assert quantizer is not None
    for picture in Clip(pictures):
        (features,) = session.run(None, {"image": preprocess(picture.frame)})
        yield quantizer.quantize(features[0].transpose(1, 2, 0))


def sha256(levels: np.ndarray) -> str:
    """As `featlink-device check` has it."""
    return hashlib.sha256(np.ascontiguousarray(levels, "<i4").tobytes()).hexdigest()


def test_every_picture_arrives_as_a_whole_map(sent: Sent, board: Board, pictures: Path) -> None:
    """As many maps as pictures, each with a picture hash that held, and nothing damaged, on both ends."""
    count = len(list(pictures.iterdir()))
    index = json.loads((sent.decoded / "index.json").read_text(encoding="utf-8"))
    for end in (sent.on_board, index):
        assert (end["exit_code"], end["errors"], len(end["maps"])) == (0, [], count)
        assert all(one["hashed"] for one in end["maps"])
        assert all(one["shape_hwc"] == [HEIGHT // 2, WIDTH // 2, CHANNELS] for one in end["maps"])
    board.record("bytes a map", round(sent.stats["bytes"] / count))
    for stage in ("backbone", "pack", "encode"):
        board.record(f"{stage}, median", round(sent.stats["stages"][stage]["median_ms"], 2), "ms")


def test_both_ends_decode_the_same_levels(sent: Sent, out_dir: Path) -> None:
    """Hash by hash: what the board's decoder gives is what this machine's gives."""
    levels = sent.levels
    assert [one["levels_sha256"] for one in sent.on_board["maps"]] == [sha256(one) for one in levels]
    # Equal and empty would be equal as well.
    assert all(len(np.unique(one)) > 30 for one in levels)
    assert len({sha256(one) for one in levels}) == len(levels)
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


@pytest.mark.parametrize("sent", [name for name in CODINGS if name.startswith("exact")], indirect=True, scope="module")
def test_the_video_is_the_same_byte_for_byte(
    sent: Sent, board: Board, doctor: Done, host: Callable[..., Done], pictures: Path, tmp_path: Path
) -> None:
    """libx265 on the board writes what libx265 writes here, from equal levels; other encoders write what they like."""
    encoders = next(one["facts"]["encoders"] for one in doctor.json["findings"] if one["name"] == "encoder")
    if encoders[0] != "x265":
        pytest.skip(f"the board's encoder is {encoders[0]}")
    out = tmp_path / "host.fms"
    host(
        "featlink-device", "run", "--extractor", str(sent.extractor), "--source", str(pictures), "--out", str(out)
    ).check()
    here = host("featlink-device", "check", str(out), "--json").check().json
    found = [one["video_sha256"] for one in sent.on_board["maps"]]
    assert found == [one["video_sha256"] for one in here["maps"]]
    board.record("identical videos", len(found))
