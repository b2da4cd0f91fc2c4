"""What stands around a tensor of a network: layers, sums, branches, batch normalisations."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import Connection, Distribution, SumKind, Summation, decide
from featlink_host.demo import SPLIT_TENSOR, demo_model
from featlink_host.prepare.graph import DataGraph, load_model
from featlink_host.prepare.structure import read_structure

SHAPE = [1, 4, 6, 6]
KERNEL = np.ones((4, 4, 1, 1), np.float32)
BIAS = np.ones(4, np.float32)


def graph_of(nodes: list[onnx.NodeProto], outputs: list[str], weights: dict[str, np.ndarray]) -> DataGraph:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return DataGraph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "net")


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def resnet_like() -> DataGraph:
    """image, conv, bn, relu, a branch of conv and bn around it, add, an offset, a concatenation, an output."""
    norms = {f"{name}.{part}": BIAS * (k + 1) for name in ("bn1", "bn2") for k, part in enumerate("sbmv")}
    return graph_of(
        [
            node("Conv", "image conv1.weight", "conv1"),
            node("BatchNormalization", "conv1 bn1.s bn1.b bn1.m bn1.v", "bn1", epsilon=0.25),
            node("Relu", "bn1", "relu1"),
            node("Conv", "relu1 conv2.weight conv2.bias", "conv2"),
            node("BatchNormalization", "conv2 bn2.s bn2.b bn2.m bn2.v", "bn2"),
            node("Identity", "bn2", "same"),
            node("Add", "same relu1", "added"),
            node("Add", "added offset", "offset_added"),
            node("Concat", "offset_added relu1 image", "joined", axis=1),
            node("Relu", "joined", "out"),
        ],
        ["out"],
        {"conv1.weight": KERNEL, "conv2.weight": KERNEL, "conv2.bias": BIAS, "offset": BIAS[:, None, None], **norms},
    )


def test_batch_normalisation_and_its_parameters():
    structure = read_structure(resnet_like(), "bn1")
    assert (structure.producer, structure.consumers, structure.layer_index) == ("BatchNormalization", ("Relu",), 1)
    assert structure.layer_count == 9
    assert (structure.after_batch_norm, structure.fused) == (True, False)
    norm = structure.batch_norm
    assert norm is not None
    assert [one[0] for one in (norm.scale, norm.bias, norm.mean, norm.variance)] == [1, 2, 3, 4]
    assert norm.epsilon == 0.25
    assert norm.scale.dtype == np.float32


@pytest.mark.parametrize("tensor", ["bn2", "same"])
def test_the_branch_that_is_added_stands_before_a_summation_and_beside_another_map(tensor):
    """An Identity between them is no layer."""
    structure = read_structure(resnet_like(), tensor)
    assert structure.consumers == ("Add",)
    assert structure.sums == (Summation(SumKind.ADDITION, 5, (2,)),)
    assert structure.before_summation
    assert structure.connection is Connection.PARALLEL
    assert decide("next-layer", structure=structure) is Distribution.LAPLACE
    assert decide("structure", structure=structure) is Distribution.GAUSSIAN


def test_maps_that_cross_side_by_side_are_counted():
    branch = read_structure(resnet_like(), "bn2")
    # the image goes into the concatenation too
    assert (branch.branch, branch.branches) == (2, 3)


def test_what_is_also_the_input_of_another_layer_is_not_before_a_summation():
    structure = read_structure(resnet_like(), "relu1")
    assert structure.consumers == ("Conv", "Add", "Concat")
    assert structure.sums == (
        Summation(SumKind.ADDITION, 5, (4,)),
        Summation(SumKind.CONCATENATION, 7, (6, -1)),
    )
    assert not structure.before_summation
    assert (structure.branch, structure.branches) == (1, 2)


def test_a_constant_that_is_added_is_an_offset_and_no_summation():
    structure = read_structure(resnet_like(), "added")
    assert (structure.producer, structure.consumers, structure.sums) == ("Add", ("Add",), ())


def test_concatenations_are_summations():
    structure = read_structure(resnet_like(), "offset_added")
    assert structure.sums == (Summation(SumKind.CONCATENATION, 7, (2, -1)),)
    assert decide("structure", structure=structure) is Distribution.LAPLACE


def test_outputs_have_no_consumers():
    structure = read_structure(resnet_like(), "out")
    assert (structure.consumers, structure.connection) == ((), Connection.SERIES)


def conv_with(weight: str, bias: str | None = None, operator: str = "Conv", cast: bool = False) -> DataGraph:
    names = [name for name in (weight, bias) if name]
    casts = [node("Cast", name, f"c{k}", to=TensorProto.FLOAT) for k, name in enumerate(names)] if cast else []
    used = [f"c{k}" for k in range(len(names))] if cast else names
    kernel = KERNEL if operator == "Conv" else np.ones((6, 6), np.float32)
    return graph_of(
        [*casts, helper.make_node(operator, ["image", *used], ["made"]), node("Relu", "made", "out")],
        ["out"],
        {weight: kernel, **({bias: BIAS} if bias else {})},
    )


@pytest.mark.parametrize(
    ("graph", "fused"),
    [
        (conv_with("layer1.conv.weight", "layer1.conv.bias"), False),
        (conv_with("backbone.subnet.weight"), False),
        # PyTorch: new names, and a bias where there may have been none
        (conv_with("onnx::Conv_497", "onnx::Conv_498"), True),
        (conv_with("497", "498"), True),
        (conv_with("497"), False),
        (conv_with("497", "features.0.bias"), False),
        # TensorFlow, Keras, and such
        (conv_with("FeatureExtractor/Conv/BatchNorm/batchnorm/mul_1/W"), True),
        (conv_with("FeatureExtractor/Conv/BatchNorm/batchnorm/mul_1/W_h", "c0", cast=True), True),
        (conv_with("conv/kernel", "model/batch_normalization_3/FusedBatchNormV3"), True),
        (conv_with("Conv2D_weights_fused_bn"), True),
        (conv_with("net/bn2/kernel"), True),
        (conv_with("bn/gain", operator="Mul"), False),
    ],
)
def test_fused_batch_normalisations_are_told_from_names(graph, fused):
    structure = read_structure(graph, "made")
    assert (structure.after_batch_norm, structure.fused) == (fused, fused)
    assert structure.batch_norm is None
    # what the extractor says counts for more
    for told in (True, False):
        assert read_structure(graph, "made", told).fused is told


def test_an_activation_s_output_does_not_come_from_a_batch_normalisation():
    assert not read_structure(conv_with("497", "498"), "out").after_batch_norm


def test_the_demo_s_network():
    graph = DataGraph(load_model(demo_model()))
    structure = read_structure(graph, "Conv/add_1")
    assert (structure.producer, structure.consumers) == ("Conv", ("Clip",))
    assert structure.fused
    branch = read_structure(graph, "expanded_conv_2/project/mul_1")
    assert branch.before_summation
    assert branch.fused
    assert (branch.sums[0].kind, branch.connection) == (SumKind.ADDITION, Connection.PARALLEL)
    assert read_structure(graph, SPLIT_TENSOR).connection is Connection.SERIES


@pytest.mark.parametrize("tensor", ["image", "conv1.weight", "nothing"])
def test_only_maps_have_a_structure(tensor):
    with pytest.raises(SettingsError, match=f"net: found no operator that makes '{tensor}', expected a map's name"):
        read_structure(resnet_like(), tensor)
