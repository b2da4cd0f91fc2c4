"""`model encode --blocks`: what a graph says shares a unit, and a model that comes out of such units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import run
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.model import Block, EncodeSettings, ModelStream
from featlink_codec.model.data_unit import PayloadType
from featlink_codec.model.syntax import UnitType
from featlink_host.cli import app
from featlink_host.model.blocks import blocks_of
from featlink_host.model.onnx_graph import from_proto

IMAGE = np.random.default_rng(5).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)


def model() -> onnx.ModelProto:
    """Two convolutions, the second's result used twice; a fully connected layer."""
    rng = np.random.default_rng(0)
    values = {"w1": (20, 3, 3, 3), "b1": (20,), "w2": (20, 20, 1, 1), "w3": (5, 20), "b3": (5,)}
    values |= {f"{kind}{k}": (20,) for kind in ("gamma", "beta", "mean", "var") for k in (1, 2)}
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in values.items()}
    tensors = {name: np.abs(one) + 0.5 if name[:3] in ("var", "gam") else one for name, one in tensors.items()}
    names = {k: [f"{kind}{k}" for kind in ("gamma", "beta", "mean", "var")] for k in (1, 2)}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["x1"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["x1", *names[1]], ["n1"]),
        helper.make_node("Conv", ["n1", "w2"], ["x2"]),
        helper.make_node("BatchNormalization", ["x2", *names[2]], ["n2"]),
        helper.make_node("Add", ["n2", "x2"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(one, name) for name, one in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def encoded(path: Path, out: Path, *words: str) -> ModelStream:
    done = CliRunner().invoke(app, ["model", "encode", str(path), "-o", str(out), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return ModelStream(out.read_bytes())


def test_the_graph_tells_what_shares_a_unit() -> None:
    proto = model()
    found = blocks_of(proto, from_proto(proto).tensors, EncodeSettings())
    first = Block("w1", normalization=("beta1", "gamma1", "mean1", "var1"), bias="b1")
    # The second convolution's result is also used without its normalization.
    assert found == (first, Block("w3", bias="b3"))


def test_a_model_comes_out_of_blocks_as_out_of_single_units(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(), path)
    with encoded(path, tmp_path / "b.nnc", "--qp", "-40", "--blocks", "--data-formats") as stream:
        units = [stream.header(unit) for unit in stream.units() if unit.unit_type is UnitType.NDU]
        blocks = [unit for unit in units if unit.nnr_compressed_data_unit_payload_type == PayloadType.BLOCK]
        assert [unit.topology_elem_ids[0] for unit in blocks] == ["w1", "w3"]
        assert {unit.nnr_decompressed_data_format for unit in units} == {1}
        stream.verify()
    with encoded(path, tmp_path / "s.nnc", "--qp", "-40") as single:
        assert (tmp_path / "b.nnc").stat().st_size < (tmp_path / "s.nnc").stat().st_size
        assert set(single.names()) == {one.name for one in model().graph.initializer}
    done = CliRunner().invoke(app, ["model", "decode", str(tmp_path / "b.nnc"), "-o", str(tmp_path / "d.onnx")])
    assert done.exit_code == 0, done.output
    before, after = (run(one, image=IMAGE)[0] for one in (path, tmp_path / "d.onnx"))
    assert 0 < np.abs(after - before).max() < 0.02 * np.abs(before).max()


def test_blocks_of_what_has_none_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((40, 2), np.float32))
    for words in ([str(tmp_path / "x.npz")], ["m.onnx", "--lossless"]):
        with pytest.raises(SettingsError, match="--blocks needs an ONNX model"):
            CliRunner().invoke(
                app, ["model", "encode", *words, "--blocks", "-o", str(tmp_path / "x.nnc")], catch_exceptions=False
            )
