"""ONNX models taken apart and put together again, with and without the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import FMNIST, odd_model, pictures, run

from featlink_codec.errors import FeatlinkError, SettingsError, StreamError
from featlink_codec.model.onnx_bytes import IDENTITY_KEY, parse_graph, take_apart
from featlink_host.model.layers import layers_of
from featlink_host.model.onnx_graph import from_proto, read_onnx

ODD = from_proto(odd_model())


def test_a_model_put_together_again_is_the_same_model_to_onnxruntime() -> None:
    before, after = odd_model().SerializeToString(), ODD.whole()
    onnx.checker.check_model(after)
    for one, other in zip(run(before, image=pictures()), run(after, image=pictures()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_graph_bytes_do_not_depend_on_how_the_tensors_data_are_written() -> None:
    model = odd_model()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name == "w3":
            tensor.CopyFrom(helper.make_tensor("w3", tensor.data_type, values.shape, values.reshape(-1).tolist()))
            assert not tensor.raw_data
    again = from_proto(model)
    assert again.graph == ODD.graph
    np.testing.assert_array_equal(again.tensors["w3"], ODD.tensors["w3"])


def test_what_travels_in_the_stream_and_what_in_the_graph() -> None:
    # The branches' constants have the same output name: each has its own.
    assert {name: values.dtype.name for name, values in ODD.tensors.items()} == {
        "w1": "float16", "b1": "float32", "w2": "float32", "h": "float16", "w3": "float32", "b3": "float32",
        "table": "int64", "k": "float32", "k#2": "float32",
    }  # fmt: skip
    assert b"from here" not in ODD.graph
    inside = {tensor.name: tensor for tensor in ODD.proto().graph.initializer}
    assert numpy_helper.to_array(inside["shape"]).tolist() == [-1, 256]
    assert not inside["w3"].HasField("raw_data")


def test_identity_is_in_the_files_metadata_once() -> None:
    file = b"".join(parse_graph(ODD.graph, "ab" * 32).write(ODD.tensors.__getitem__))
    again = take_apart(file)
    assert (again.identity, again.graph) == ("ab" * 32, ODD.graph)
    assert [(one.key, one.value) for one in onnx.load_model_from_string(file).metadata_props] == [
        (IDENTITY_KEY, "ab" * 32)
    ]


def test_sizes_are_known_before_anything_is_written() -> None:
    layout = parse_graph(ODD.graph)
    assert layout.size == len(ODD.whole())


def test_tensors_that_do_not_fit_are_refused() -> None:
    wrong = dict(ODD.tensors) | {"w2": np.zeros((4, 1, 3, 2), np.float32)}
    with pytest.raises(SettingsError, match=r"'w2': shape \[4, 1, 3, 2\], the graph has \[4, 1, 3, 3\]"):
        ODD.whole(wrong)
    with pytest.raises(SettingsError, match="'w2' is float64, the graph has float32"):
        ODD.whole(dict(ODD.tensors) | {"w2": ODD.tensors["w2"].astype(np.float64)})


@given(st.data())
def test_damaged_graphs_are_refused_or_read_but_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(ODD.whole())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        try:
            parse_graph(take_apart(damaged).graph)
        except StreamError as error:
            assert error.name == "bad-graph"  # noqa: PT017


def test_graphs_within_graphs_end_somewhere() -> None:
    message = b""
    for _ in range(40):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # graph in attribute in node in graph
            length = len(message)
            message = tag + (bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))) + message
    with pytest.raises(StreamError, match="messages deep"):
        take_apart(b"\x3a" + bytes((len(message) & 127 | 128, len(message) >> 7)) + message)


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(FeatlinkError, match=r"x\.onnx: not an ONNX model"):
        read_onnx(path)


def test_layers_and_parameter_types_follow_from_the_nodes() -> None:
    layers, types = layers_of(read_onnx(FMNIST).proto(), read_onnx(FMNIST).tensors)
    assert [layer.layer_type for layer in layers] == [
        *("convolution", "batch-normalization") * 3, "fully-connected", "fully-connected",
    ]  # fmt: skip
    assert types["bn2.running_var"] == "variance"
    assert (types["bn1.weight"], types["fc1.weight"], types["fc1.bias"]) == ("scale", "weight", "bias")
    layers, types = layers_of(ODD.proto(), ODD.tensors, options=True)
    found = {layer.name: layer for layer in layers}
    assert (found["first"].layer_type, found["first"].tensors) == ("convolution", ("w1", "b1"))  # through a Cast
    assert found["deep"].layer_type == "depthwise"
    assert found["deep"].options[-1].portions == ("first",)
    assert [option.processing.value for option in found["last"].options][:1] == ["per-class"]
