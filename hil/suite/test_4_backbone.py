"""Does the backbone give the same features on the board as here? Integers bit for bit, floats nearly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from hil.board import Board, Done
from hil.suite.backbones import apart, decoded_levels, hashes_of, integer_extractor, integer_network
from hil.suite.networks import TENSOR

#: Float sums in another order differ in their last bits, which now and then lie beside a threshold. One level, and so
#: rarely, is that; more is another network. Seen between x86 and an emulated Cortex-A76: 0 of 184320 samples.
FLOAT_LARGEST, FLOAT_DIFFERING = 1, 0.001
#: An extractor with a backbone of integers, to be tried as well.
OWN = os.environ.get("FEATLINK_HIL_EXTRACTOR", "")

Levels = list[np.ndarray]
Host = Callable[..., Done]


@pytest.fixture(scope="module")
def integer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of integers, whole."""
    return integer_network(tmp_path_factory.mktemp("integer") / "integer.onnx")


@pytest.fixture(scope="module")
def prepared(integer_model: Path, pictures: Path, host: Host) -> Path:
    """The extractor of it, split where its integers have become float32."""
    out = integer_model.with_name("prepared")
    split = ["--tensor", TENSOR, "--source", str(pictures), "--out", str(out), "--lossless"]
    host("featlink-host", "prepare", "split", str(integer_model), *split).check()
    return out


@pytest.fixture
def both(
    board: Board, host: Host, on_board: Callable[[Path], str], pictures: Path, remote_dir: str, tmp_path: Path
) -> Callable[[Path], tuple[Levels, Levels]]:
    """`both(extractor)`: the maps that the board sent and those that this machine sends, from the same pictures."""

    def run(extractor: Path) -> tuple[Levels, Levels]:
        words = ["--extractor", on_board(extractor), "--source", on_board(pictures), "--out", f"{remote_dir}/board.fms"]
        done = board.device("run", *words).check()
        board.get(f"{remote_dir}/board.fms", tmp_path)
        here = ["--extractor", str(extractor), "--source", str(pictures), "--out", str(tmp_path / "host.fms")]
        host("featlink-device", "run", *here).check()
        for name in ("board", "host"):
            host("featlink-host", "decode", str(tmp_path / f"{name}.fms"), "--out", str(tmp_path / name)).check()
        board.record("featlink-device run", round(done.seconds, 1), "s")
        return decoded_levels(tmp_path / "board"), decoded_levels(tmp_path / "host")

    return run


def test_a_backbone_of_integers_gives_the_same_bits(
    both: Callable[[Path], tuple[Levels, Levels]], board: Board, prepared: Path
) -> None:
    """QDQ, weights in -64..63: the same feature tensor, hash for hash; featlink quantizes it from float32."""
    theirs, ours = both(prepared)
    board.record("maps compared", len(ours))
    assert hashes_of(theirs) == hashes_of(ours)
    assert len(ours) > 1
    assert len(set(hashes_of(ours))) > 1


def test_the_integers_themselves_travel_as_they_are(
    both: Callable[[Path], tuple[Levels, Levels]], integer_model: Path, prepared: Path, tmp_path: Path
) -> None:
    """The uint8 tensor is the map (feat_integer): no float, and no quantizer of featlink, anywhere."""
    theirs, ours = both(integer_extractor(integer_model, prepared, tmp_path / "integers"))
    assert hashes_of(theirs) == hashes_of(ours)
    assert len(set(hashes_of(ours))) > 1


def test_what_prepare_integer_makes_gives_the_same_bits(
    both: Callable[[Path], tuple[Levels, Levels]], extractor: Callable[..., Path], pictures: Path, host: Host,
    tmp_path: Path,
) -> None:  # fmt: skip
    """As a user has it: levels of 8 bits, and of 11 where those help, which floats compute exactly."""
    made = extractor("conv", "--lossless")
    out = tmp_path / "integers"
    words = ["--tensor", TENSOR, "--images", str(pictures), "--wide-share", "0.01", "--out", str(tmp_path / "b.onnx")]
    into = ["--extractor", str(made), "--into", str(out)]
    host("featlink-host", "prepare", "integer", f"{made}.onnx", *words, *into).check()
    held = {one.data_type for one in onnx.load(str(out / "backbone.onnx")).graph.initializer}
    assert {TensorProto.UINT16, TensorProto.UINT8} <= held
    theirs, ours = both(out)
    assert hashes_of(theirs) == hashes_of(ours)
    assert len(set(hashes_of(ours))) > 1


if OWN:  # a check that was not asked for is none, rather than one that was left out

    def test_your_own_extractor_gives_the_same_bits(
        both: Callable[[Path], tuple[Levels, Levels]], board: Board
    ) -> None:
        """As `prepare integer` or `prepare auto --integer` made it."""
        theirs, ours = both(Path(OWN))
        board.record("maps compared", len(ours))
        assert hashes_of(theirs) == hashes_of(ours)
        assert len(set(hashes_of(ours))) > 1


def test_a_float_backbone_stays_within_a_level(
    both: Callable[[Path], tuple[Levels, Levels]], extractor: Callable[..., Path], board: Board
) -> None:
    """fp32 Conv is not the same everywhere; its levels are, but for one in a thousand that is one off."""
    found = apart(*both(extractor("conv", "--lossless")))
    board.record("largest difference", found.largest, "levels")
    board.record("samples that differ", found.differing * 100, "%")
    assert found.largest <= FLOAT_LARGEST
    assert found.differing <= FLOAT_DIFFERING
