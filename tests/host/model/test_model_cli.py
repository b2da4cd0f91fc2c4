"""`featlink-host model`: from ONNX to streams, over updates, and back; what is refused, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import FMNIST, FMNIST_UPDATE, moved, odd_model, pictures, run
from typer.testing import CliRunner

from featlink_codec.errors import FeatlinkError
from featlink_codec.model import ModelStream
from featlink_codec.model.fields import packed
from featlink_codec.model.onnx_bytes import take_apart
from featlink_host.cli import app

VECTORS = Path(__file__).parents[2] / "vectors" / "nnc"


def call(*words: object) -> str:
    """What the command prints; its errors are raised."""
    done = CliRunner().invoke(app, ["model", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def figures(*words: object) -> dict:
    return json.loads(call(*words, "--json"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "odd.onnx"
    onnx.save(odd_model(), path)
    return path


@pytest.fixture(scope="module")
def stream(odd: Path) -> Path:
    call("encode", odd, "-o", odd.with_suffix(".nnc"), "--qp", -40)
    return odd.with_suffix(".nnc")


def test_lossless_streams_give_the_very_outputs(odd: Path, tmp_path: Path) -> None:
    call("encode", odd, "-o", tmp_path / "l.nnc", "--lossless")
    call("decode", tmp_path / "l.nnc", "-o", tmp_path / "l.onnx")
    for one, other in zip(run(odd, image=pictures()), run(tmp_path / "l.onnx", image=pictures()), strict=True):
        np.testing.assert_array_equal(one, other)
    # float16 goes as integers of its bits, and comes back as float16
    assert ModelStream((tmp_path / "l.nnc").read_bytes()).tensor("w1").dtype == np.int16
    assert take_apart((tmp_path / "l.onnx").read_bytes()).tensors["w1"].dtype == np.float16


def test_a_decoded_model_has_the_streams_tensors_in_their_own_types(stream: Path, odd: Path, tmp_path: Path) -> None:
    call("decode", stream, "-o", tmp_path / "m.onnx")
    call("decode", stream, "-o", tmp_path / "m.npz")
    found = take_apart((tmp_path / "m.onnx").read_bytes()).tensors
    before = take_apart(odd.read_bytes()).tensors
    with np.load(tmp_path / "m.npz") as archive:
        assert set(archive.files) == set(found)
        for name in found:
            assert found[name].dtype == archive[name].dtype
            np.testing.assert_array_equal(found[name], archive[name])
    assert (found["w1"].dtype, found["table"].dtype) == (np.float16, np.int64)
    np.testing.assert_array_equal(found["table"], before["table"])
    step = 2.0**-10
    assert 0 < np.abs(found["w3"] - before["w3"]).max() <= 2 * step


@pytest.mark.parametrize("name", ["p01_urq_cnn", "p04_int", "p07_codebook1_urq", "p10_block_bn_dq", "p15_raw_float"])
def test_tensors_of_any_nnc_stream_come_out_as_npz(name: str, tmp_path: Path) -> None:
    call("decode", VECTORS / f"{name}.nnc", "-o", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found, np.load(VECTORS / f"{name}.npz") as wanted:
        assert set(found.files) == set(wanted.files)
        for one in wanted.files:
            np.testing.assert_array_equal(found[one], wanted[one].astype(found[one].dtype))


def test_another_encoders_updates_are_read_in_the_light_of_those_before(tmp_path: Path) -> None:
    first, second, third = (VECTORS / f"p13_update{k}.nnc" for k in (1, 2, 3))
    call("decode", third, "-o", tmp_path / "x.npz", "--after", first, "--after", second)
    with np.load(tmp_path / "x.npz") as found, np.load(third.with_suffix(".npz")) as wanted:
        assert len(found.files) == len(wanted.files) > 1
        for one in wanted.files:
            np.testing.assert_array_equal(found[one], wanted[one])
    with pytest.raises(FeatlinkError, match=r"p13_update3\.nnc: byte \d+: missing-context"):
        call("decode", third, "-o", tmp_path / "y.npz")


def test_updates_in_a_row_lead_to_the_new_model(stream: Path, odd: Path, tmp_path: Path) -> None:
    first, second = moved(odd_model(), ("w1", "w3")), moved(odd_model(), ("w1", "w2", "w3", "b3"), 0.05)
    for number, model in enumerate((first, second), 1):
        onnx.save(model, tmp_path / f"{number}.onnx")
    small = figures("update", stream, tmp_path / "1.onnx", "-o", tmp_path / "1.nnc", "--qp", -44)
    call("update", stream, tmp_path / "2.onnx", "-o", tmp_path / "2.nnc", "--after", tmp_path / "1.nnc", "--qp", -44)
    assert small["bytes"] < stream.stat().st_size
    found = figures("apply", stream, tmp_path / "1.nnc", tmp_path / "2.nnc", "-o", tmp_path / "out.onnx")
    tensors = take_apart((tmp_path / "out.onnx").read_bytes())
    assert tensors.identity == found["model"]
    wanted = take_apart(second.SerializeToString()).tensors
    for name in ("w1", "w2", "w3"):
        assert np.abs(tensors.tensors[name].astype(float) - wanted[name].astype(float)).max() <= 2.0**-10
    # not in another order, not twice, not on another base
    for words in ([2, 1], [2], [1, 1]):
        with pytest.raises(FeatlinkError, match=r"wrong-base: .*\.nnc: it is for the model"):
            call("apply", stream, *(tmp_path / f"{k}.nnc" for k in words), "-o", tmp_path / "no.onnx")
    call("decode", stream, "-o", tmp_path / "base.onnx")
    call("apply", tmp_path / "base.onnx", tmp_path / "1.nnc", "-o", tmp_path / "step.onnx")
    with pytest.raises(FeatlinkError, match="wrong-base: the ONNX file does not say which model stream"):
        call("apply", odd, tmp_path / "1.nnc", "-o", tmp_path / "no.onnx")
    assert not list(tmp_path.glob("no.onnx*"))


def test_updates_of_lossless_models_are_exact(odd: Path, tmp_path: Path) -> None:
    call("encode", odd, "-o", tmp_path / "l.nnc", "--lossless")
    call("decode", tmp_path / "l.nnc", "-o", tmp_path / "l.onnx")
    # Of float16 the bits go as integers; a difference of float32 is exact only where its sum is.
    after = moved(odd_model(), ("w1",))
    onnx.save(after, tmp_path / "new.onnx")
    call("update", tmp_path / "l.nnc", tmp_path / "new.onnx", "-o", tmp_path / "d.nnc", "--lossless")
    wanted = take_apart(after.SerializeToString()).tensors
    for base in ("l.nnc", "l.onnx"):
        call("apply", tmp_path / base, tmp_path / "d.nnc", "-o", tmp_path / "out.onnx")
        found = take_apart((tmp_path / "out.onnx").read_bytes()).tensors
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])


def test_an_update_can_change_the_graph(stream: Path, tmp_path: Path) -> None:
    model = odd_model()
    next(node for node in model.graph.node if node.name == "last").attribute.append(
        onnx.helper.make_attribute("alpha", 0.5)
    )
    onnx.save(model, tmp_path / "new.onnx")
    call("update", stream, tmp_path / "new.onnx", "-o", tmp_path / "d.nnc", "--original", tmp_path / "new.onnx")
    call("apply", stream, tmp_path / "d.nnc", "-o", tmp_path / "out.onnx")
    nodes = {node.name: node for node in onnx.load(tmp_path / "out.onnx").graph.node}
    assert [attribute.name for attribute in nodes["last"].attribute] == ["transB", "alpha"]


def test_what_fmnist_becomes_at_a_target_size(tmp_path: Path) -> None:
    found = figures("encode", FMNIST, "-o", tmp_path / "m.nnc", "--target-size", "8%")
    assert 0.078 < found["share"] <= 0.08
    assert found["bytes"] == (tmp_path / "m.nnc").stat().st_size
    exact = figures("encode", FMNIST, "-o", tmp_path / "n.nnc", "--target-size", "250000")
    assert 245_000 < exact["bytes"] <= 250_000
    assert not list(tmp_path.glob("*.search"))
    changed = figures("update", tmp_path / "m.nnc", FMNIST_UPDATE, "-o", tmp_path / "d.nnc", "--original", FMNIST)
    assert changed["share"] < 0.014


def test_too_small_a_target_says_what_can_be_had(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatlinkError, match=r"the coarsest stream has \d+ bytes, the target is 100"):
        call("encode", odd, "-o", tmp_path / "m.nnc", "--target-size", "100")
    assert not (tmp_path / "m.nnc").exists()


def test_inspect_shows_units_tensors_and_levels(stream: Path) -> None:
    found = figures("inspect", stream, "--verify")
    assert [unit["type"] for unit in found["units"]][:3] == ["STR", "MPS", "TPL"]
    assert sum(unit["bytes"] for unit in found["units"]) == found["bytes"] == stream.stat().st_size
    tensors = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert tensors["w1"] | {"bytes": 0, "offset": 0, "sha256": ""} == {
        "name": "w1", "offset": 0, "bytes": 0, "payload": "FLOAT", "shape": [4, 2, 3, 3], "dq": True, "codebook": False,
        "scan_order": 0, "depth": 0, "type": "weight", "sha256": "", "order": "row", "dtype": "float16", "qp": -40,
    }  # fmt: skip
    assert [level["what"] for level in found["control_data"]["levels"]] == ["tensors", "layers", "topology"]
    table = call("inspect", stream)
    assert "w1" in table
    assert "float16" in table


def test_inspect_reads_other_encoders_streams() -> None:
    found = figures("inspect", VECTORS / "p10_block_bn_dq.nnc", "--verify")
    assert found["control_data"] is None
    assert all(tensor["payload"] == "BLOCK" for tensor in found["tensors"] if "bn" in tensor["name"])
    assert figures("inspect", VECTORS / "p13_update3.nnc")["update"]


@pytest.mark.parametrize("form", [".onnx", ".npz"])
def test_damage_is_one_line_that_names_the_file_and_leaves_nothing(stream: Path, tmp_path: Path, form: str) -> None:
    data = stream.read_bytes()
    with ModelStream(data) as whole:
        unit = next(unit for unit in whole.units() if unit.unit_type.name == "NDU")
        (name,) = whole.header(unit).topology_elem_ids
    out = tmp_path / f"out{form}"
    damaged = {
        "cut.nnc": (data[: len(data) // 2], "(truncated|bad-index|bad-control)"),
        "flipped.nnc": (data[: unit.end - 6] + bytes((data[unit.end - 6] ^ 1,)) + data[unit.end - 5 :], f"'{name}'"),
        "other.nnc": (b"\x08\x07" + data, "not a model stream"),
        "empty.nnc": (b"", "empty"),
    }
    for file, (raw, text) in damaged.items():
        (tmp_path / file).write_bytes(raw)
        with pytest.raises(FeatlinkError, match=f"{file}.*{text}"):
            call("decode", tmp_path / file, "-o", out)
    assert not out.exists()
    assert not list(tmp_path.glob("*.part"))


def test_streams_without_a_graph_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", a=np.ones((4, 4), np.float32))
    call("encode", tmp_path / "t.npz", "-o", tmp_path / "t.nnc")
    with pytest.raises(FeatlinkError, match=r"no-graph: .* can be had as .npz"):
        call("decode", tmp_path / "t.nnc", "-o", tmp_path / "t.onnx")
    call("decode", tmp_path / "t.nnc", "-o", tmp_path / "u.npz")
    with np.load(tmp_path / "u.npz") as found:
        np.testing.assert_array_equal(found["a"], 1.0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--qp", "-30", "--lossless"], "exclude each other"),
        (["--target-accuracy", "0.9"], "needs --images and --labels"),
        (["--feedback"], "--feedback needs --images"),
        (["--supplement", "relevance"], "--supplement needs --images"),
        (["--lossless", "--enhance", "-60"], "--lossless leaves nothing"),
    ],
)
def test_options_that_do_not_go_together_are_refused(odd: Path, tmp_path: Path, words: list[str], text: str) -> None:
    with pytest.raises(FeatlinkError, match=text):
        call("encode", odd, "-o", tmp_path / "m.nnc", *words)


def test_hashes_of_updates_are_checked_as_far_as_they_can_be(stream: Path, tmp_path: Path) -> None:
    for number, model in enumerate((moved(odd_model(), ("w1", "w3")), moved(odd_model(), ("w1", "w3"), 0.05)), 1):
        onnx.save(model, tmp_path / f"{number}.onnx")
    first, second = tmp_path / "1.nnc", tmp_path / "2.nnc"
    call("update", stream, tmp_path / "1.onnx", "-o", first, "--qp", -44)
    call("update", stream, tmp_path / "2.onnx", "-o", second, "--after", first, "--qp", -44)
    assert figures("inspect", first, "--verify")["unchecked"] == []
    assert figures("inspect", second, "--verify")["unchecked"]
    assert "not checked, coded against the update before: " in call("inspect", second, "--verify")
    # The model's hash in the head, another one than layers come to.
    model = figures("inspect", first)["control_data"]["model"]
    other = ("0" if model[0] != "0" else "1") + model[1:]
    data = first.read_bytes()
    assert data.count(packed(model).encode()) == 1
    first.write_bytes(data.replace(packed(model).encode(), packed(other).encode()))
    with pytest.raises(FeatlinkError, match="hash-mismatch: the hashes of layers or tensors"):
        call("inspect", first, "--verify")
