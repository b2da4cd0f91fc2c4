"""Networks are cut in two where one tensor carries everything, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import open_source
from featlink_host.demo import RELU_TENSOR, SPLIT_TENSOR, demo_model, demo_source_clip
from featlink_host.inference import open_session
from featlink_host.prepare.graph import DataGraph
from featlink_host.prepare.split import single_tensor_cuts, split_model

SHAPE = [1, 4, 6, 6]


def network(
    nodes: list[onnx.NodeProto],
    outputs: list[str],
    inputs: tuple[str, ...] = ("image",),
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 13,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)  # gives the outputs the shapes that a valid model has
    del inferred.graph.value_info[:]
    return inferred


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def residual() -> onnx.ModelProto:
    """image, conv, relu, a skip around conv_b, clip, branches; a weight is cast, another is a Constant."""
    rng = np.random.default_rng(3)
    weights = {
        "w_h": rng.normal(size=(4, 4, 1, 1)).astype(np.float16),
        "w_b": rng.normal(size=(4, 4, 3, 3)).astype(np.float32),
        "six": np.float32(6),
    }
    zero = helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.float32(0)))
    return network(
        [
            node("Cast", "w_h", "w", to=TensorProto.FLOAT),
            zero,
            node("Conv", "image w", "conv"),
            node("Relu", "conv", "relu"),
            node("Conv", "relu w_b", "conv_b", pads=[1, 1, 1, 1]),
            node("Add", "conv_b relu", "sum"),
            node("Clip", "sum zero six", "clip"),
            node("Sigmoid", "clip", "left"),
            node("Neg", "clip", "right"),
            node("Exp", "clip", "unused"),
        ],
        ["left", "right"],
        weights=weights,
    )


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, str(folder / "net.onnx"))
    return folder / "net.onnx"


def message(path: Path, tensor: str) -> str:
    """What splitting there is refused with; nothing may have been written."""
    folder = path.parent
    with pytest.raises(SettingsError) as error:
        split_model(path, tensor, folder / "b.onnx", folder / "h.onnx")
    assert not (folder / "b.onnx").exists()
    assert not (folder / "h.onnx").exists()
    return str(error.value)


def test_cuts_in_graph_order_with_shape_type_and_sign() -> None:
    cuts = single_tensor_cuts(residual())
    assert [cut.name for cut in cuts] == ["conv", "relu", "sum", "clip"]
    assert {cut.shape for cut in cuts} == {(1, 4, 6, 6)}
    assert {cut.dtype for cut in cuts} == {"float32"}
    assert [cut.operator for cut in cuts] == ["Conv", "Relu", "Add", "Clip"]
    assert [cut.non_negative for cut in cuts] == [False, True, False, True]


@pytest.mark.parametrize(
    ("chain", "non_negative"),
    [
        ([node("LeakyRelu", "image", "x")], False),
        ([node("Clip", "image", "x", min=0.0, max=6.0)], True),
        ([node("Clip", "image", "x", min=-1.0, max=6.0)], False),
        ([node("Relu", "image", "a"), node("MaxPool", "a", "x", kernel_shape=[2, 2])], True),
        ([node("MaxPool", "image", "x", kernel_shape=[2, 2])], False),
        ([node("Relu", "image", "a"), node("Mul", "a a", "x")], True),
        ([node("Relu", "image", "a"), node("Sub", "a a", "x")], False),
        ([node("Sigmoid", "image", "x")], True),
        ([node("HardSigmoid", "image", "x")], True),
        ([node("Neg", "image", "x")], False),
    ],
)
def test_which_cuts_are_known_not_to_be_negative(chain: list[onnx.NodeProto], non_negative: bool) -> None:
    model = network([*chain, node("Neg", "x", "end")], ["end"], opset=6)
    assert single_tensor_cuts(model)[-1].name == "x"
    assert single_tensor_cuts(model)[-1].non_negative is non_negative


@st.composite
def random_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Operators of one to three inputs over anything before them, some multi-output, and one to three outputs."""
    names, nodes = ["image"], []
    for number in range(draw(st.integers(1, 9))):
        # near ones are likelier, else hardly any network has a cut
        recent = st.sampled_from(names[-2:]) if draw(st.integers(0, 3)) else st.sampled_from(names)
        used = draw(st.lists(recent, min_size=1, max_size=3))
        made = [f"t{number}"]
        if draw(st.integers(0, 4)) == 0:
            made.append(f"t{number}b")
            nodes.append(helper.make_node("Split", [used[0]], made, axis=1))
        else:
            nodes.append(helper.make_node("Sum", used, made))
        names += made
    outputs = draw(st.lists(st.sampled_from(names[1:]), min_size=1, max_size=3, unique=True))
    return network(nodes, outputs)


@settings(max_examples=300)
@given(random_networks())
def test_cuts_are_those_tensors_without_which_nothing_reaches_an_output(model: onnx.ModelProto) -> None:
    graph = DataGraph(model)

    def reached(without: str) -> set[str]:
        found = {"image"} - {without}
        for one in model.graph.node:
            if found.intersection(one.input):
                found.update(set(one.output) - {without})
        return found

    outputs = {value.name for value in model.graph.output}
    expected = [t for one in model.graph.node for t in one.output if not reached(t) & outputs and t not in outputs]
    assert [cut.name for cut in graph.cuts] == expected
    for cut in graph.cuts:
        assert graph.crossing(cut.name) == []
    for tensor in graph.tensors:
        # a tensor that is no cut leaves something to be sent beside it
        if tensor not in outputs and tensor not in expected:
            assert graph.crossing(tensor)


def plain_session(path: Path) -> ort.InferenceSession:
    """Operator by operator: a cut in the middle of what onnxruntime would fuse changes the last bit otherwise."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_the_halves_together_are_the_whole_at_every_cut(tmp_path: Path) -> None:
    path = saved(residual(), tmp_path)
    image = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    whole = plain_session(path).run(["left", "right"], {"image": image})
    for cut in single_tensor_cuts(path):
        assert split_model(path, cut.name, tmp_path / "b.onnx", tmp_path / "h.onnx") == cut
        near, far = plain_session(tmp_path / "b.onnx"), plain_session(tmp_path / "h.onnx")
        assert [one.name for one in near.get_inputs() + near.get_outputs()] == ["image", cut.name]
        assert [one.name for one in far.get_inputs()] == [cut.name]
        assert [one.name for one in far.get_outputs()] == ["left", "right"]
        (feature,) = near.run(None, {"image": image})
        for ours, theirs in zip(far.run(None, {cut.name: feature}), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("tensor", "channels", "apart"), [(RELU_TENSOR, 192, 0.0), (SPLIT_TENSOR, 64, 1e-3)])
def test_the_demo_network_split_gives_the_whole_networks_outputs(
    tensor: str, channels: int, apart: float, tmp_path: Path
) -> None:
    cuts = {cut.name: cut for cut in single_tensor_cuts(demo_model())}
    assert len(cuts) == 43
    assert cuts[tensor].shape == (1, channels, 19, 19)
    assert cuts[tensor].non_negative == (tensor == RELU_TENSOR)
    assert list(cuts)[-1] == "expanded_conv_13/expand/Relu6"
    split_model(demo_model(), tensor, tmp_path / "b.onnx", tmp_path / "h.onnx")
    whole, near, far = (open_session(file) for file in (demo_model(), tmp_path / "b.onnx", tmp_path / "h.onnx"))
    preprocess = Preprocessor(InputSettings("image", 300, 300, scale=1 / 127.5, offset=-1.0))
    looked_at = 0
    for picture in open_source(demo_source_clip()):
        if picture.number % 50 == 0:
            image = preprocess(picture.frame)
            (feature,) = near.run(None, {"image": image})
            ours = far.run(["boxes", "logits"], {tensor: feature})
            for one, other in zip(ours, whole.run(["boxes", "logits"], {"image": image}), strict=True):
                # Behind a ReLU bit for bit; onnxruntime fuses a sum that is cut off into another order of additions.
                np.testing.assert_allclose(one, other, rtol=0, atol=apart)
            looked_at += 1
    assert looked_at == 5


def test_a_wrong_name_gets_near_ones_and_the_list(tmp_path: Path) -> None:
    text = message(saved(residual(), tmp_path), "relux")
    first, *lines = text.splitlines()
    assert "net.onnx: 'relux' is not a tensor of this network, perhaps 'relu'" in first
    assert first.endswith("it can be split at:")
    assert lines == [
        "    conv  1x4x6x6 float32, Conv",
        "    relu  1x4x6x6 float32, Relu",
        "    sum  1x4x6x6 float32, Add",
        "    clip  1x4x6x6 float32, Clip",
    ]


def test_a_tensor_that_others_go_around_is_refused_with_their_names(tmp_path: Path) -> None:
    text = message(saved(residual(), tmp_path), "conv_b")
    assert "'conv_b' is not the only tensor to cross there; these go around it:\n    relu\n" in text
    assert text.split("carry everything:\n")[1].splitlines()[1].startswith("    relu  1x4x6x6")


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ("image", "is the network's input, not a place to split it"),
        ("left", "is an output of the network, not a place to split it"),
        ("w_h", "is a weight or made of weights, not data"),
        ("w", "is a weight or made of weights, not data"),
        ("zero", "is a weight or made of weights, not data"),
        ("unused", "leads to no output of the network"),
    ],
)
def test_other_tensors_are_refused_by_what_they_are(tmp_path: Path, tensor: str, reason: str) -> None:
    text = message(saved(residual(), tmp_path), tensor)
    assert f"{tensor!r} {reason}; it can be split at:\n    conv  " in text


def test_several_inputs_are_named(tmp_path: Path) -> None:
    model = network([node("Add", "image depth", "sum"), node("Relu", "sum", "end")], ["end"], ("image", "depth"))
    text = message(saved(model, tmp_path), "sum")
    assert "found 2 data inputs (image, depth), expected exactly one" in text
    assert "\n" not in text


def test_weights_listed_among_the_inputs_are_no_data_inputs() -> None:
    weights = {"w": np.ones((4, 4, 1, 1), np.float32)}
    model = network([node("Conv", "image w", "conv"), node("Relu", "conv", "end")], ["end"], weights=weights)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4, 1, 1]))
    assert [cut.name for cut in single_tensor_cuts(model)] == ["conv"]


def test_what_an_inner_graph_reads_from_outside_counts() -> None:
    def branch(name: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph([node("Neg", "a", f"{name}_out")], name, [], [output])

    whether = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["yes"], ["c"], then_branch=branch("then"), else_branch=branch("else"))
    model = network(
        [whether, node("Relu", "image", "a"), node("Neg", "a", "b"), choice, node("Add", "b c", "end")], ["end"]
    )
    assert [cut.name for cut in single_tensor_cuts(model)] == ["a"]
    assert DataGraph(model).crossing("b") == ["a"]


def test_a_network_in_which_nothing_is_a_cut_says_so(tmp_path: Path) -> None:
    model = network([node("Relu", "image", "a"), node("Add", "a image", "end")], ["end"])
    assert single_tensor_cuts(model) == []
    assert "no tensor of it alone carries everything" in message(saved(model, tmp_path), "b")


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", bytes(200)])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    text = message(path, "relu")
    assert "net.onnx: not a valid ONNX model: " in text
    assert "\n" not in text
    path.unlink()
    assert message(path, "relu").endswith("net.onnx: No such file or directory")


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    path = saved(residual(), tmp_path)
    with pytest.raises(SettingsError, match=r"nowhere.b\.onnx: No such file or directory$"):
        split_model(path, "relu", tmp_path / "nowhere" / "b.onnx", tmp_path / "h.onnx")
