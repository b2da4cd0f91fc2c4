"""Sizes that a network computes of constants, as exporters write padding, are known to whoever looks at its shapes."""

from __future__ import annotations

import numpy as np
import onnx
from pruning_models import Builder, judge_of, outputs, pictures

from featlink_host.prepare.factorization.step import FactorOptions, factorize
from featlink_host.prepare.graph import DataGraph
from featlink_host.prepare.pruning.sizes import layer_macs
from featlink_host.prepare.pruning.structured import ChannelOptions, prune_channels
from featlink_host.prepare.settled import settled
from featlink_host.prepare.split import extract_halves


def padded_by_the_exporter() -> onnx.ModelProto:
    """Pads as PyTorch's older exporter writes them: a chain of operators on constants."""
    b = Builder(2)
    b.node("Conv", ["image", b.weight("a/W", 8, 3, 1, 1), b.weight("a/b", 8)], "a")
    b.node("Relu", ["a"], "relu")
    b.constant("ends", np.array([0, 1, 0, 1], np.int64))
    b.node("ConstantOfShape", [b.constant("four", np.array([4], np.int64))], "nothing")
    b.node("Cast", ["nothing"], "zeros", to=onnx.TensorProto.INT64)
    b.node("Concat", ["ends", "zeros"], "all", axis=0)
    b.node("Reshape", ["all", b.constant("pairs", np.array([-1, 2], np.int64))], "table")
    one = {name: b.constant(name, np.array([value], np.int64)) for name, value in (("last", -1), ("least", -99))}
    b.node("Slice", ["table", one["last"], one["least"], b.constant("first", np.array([0])), one["last"]], "turned")
    b.node("Transpose", ["turned"], "sides", perm=[1, 0])
    b.node("Reshape", ["sides", b.constant("flat", np.array([-1], np.int64))], "pads")
    b.node("Pad", ["relu", "pads"], "padded")
    b.node("Conv", ["padded", b.weight("c/W", 16, 8, 3, 3), b.weight("c/b", 16)], "c", strides=[2, 2])
    b.node("Conv", ["c", b.weight("d/W", 16, 16, 1, 1)], "d")
    b.node("GlobalAveragePool", ["d"], "pool")
    # As heads are exported that were traced with one sample.
    b.node("Reshape", ["pool", b.constant("one", np.array([1, -1], np.int64))], "row")
    b.node("Gemm", ["row", b.weight("fc", 16, 5)], "scores")
    model = b.model({"scores": [1, 5]})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model


def test_shapes_behind_computed_padding_are_known() -> None:
    model = padded_by_the_exporter()
    plain = onnx.shape_inference.infer_shapes(model, data_prop=True)
    vague = {value.name: value.type.tensor_type.shape.dim for value in plain.graph.value_info}
    assert not vague["padded"][2].HasField("dim_value")
    graph = DataGraph(model)
    assert graph.type_of("padded").shape == (1, 8, 9, 9)
    assert graph.type_of("c").shape == (1, 16, 4, 4)
    assert [node.op_type for node in graph.model.graph.node] == [node.op_type for node in model.graph.node]
    assert layer_macs(model) == {"a": 8 * 3 * 64, "c": 16 * 8 * 9 * 16, "d": 16 * 16 * 16, "scores": 80}


def test_only_what_is_computed_of_constants_becomes_one() -> None:
    model = padded_by_the_exporter()
    found = settled(DataGraph(model).model)
    assert found is not None
    assert {"Concat", "Slice", "Transpose"}.isdisjoint(node.op_type for node in found.graph.node)
    x = pictures(1)
    np.testing.assert_array_equal(outputs(found, image=x)["scores"], outputs(model, image=x)["scores"])
    b = Builder(0)
    b.node("Conv", ["image", b.weight("a/W", 4, 3, 1, 1)], "a")
    assert settled(DataGraph(b.model({"a": ["n", 4, 8, 8]})).model) is None


def test_a_head_behind_computed_padding_knows_how_many_samples_it_takes() -> None:
    """It was open, so that maps were given to it by the dozen, which its Reshape does not bear."""
    graph = DataGraph(padded_by_the_exporter())
    _, head = extract_halves(graph, ["c"])
    assert [side.dim_value for side in head.graph.input[0].type.tensor_type.shape.dim] == [1, 16, 4, 4]
    maps = np.random.default_rng(0).normal(size=(3, 16, 4, 4)).astype(np.float32)
    assert outputs(head, c=maps)["scores"].shape == (3, 5)


def test_such_a_network_is_pruned_and_factorized() -> None:
    model = padded_by_the_exporter()
    judge = judge_of(model, 16)
    pruned = prune_channels(model, judge, ChannelOptions(0.5))
    assert pruned.after.macs < pruned.before.macs / 2
    thinner = factorize(model, judge, FactorOptions(rank={"d": 3}))
    assert thinner.after.macs < thinner.before.macs
    for found in (pruned.model, thinner.model):
        onnx.checker.check_model(found, full_check=True)
        assert outputs(found, image=pictures(2))["scores"].shape == (2, 5)
