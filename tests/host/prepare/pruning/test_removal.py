from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import FMNIST, blobs
from pruning_models import Builder, by_numpy, mixed_model, outputs, pictures

from featlink_codec.errors import FeatlinkError
from featlink_host.prepare.pruning.channels import Channels
from featlink_host.prepare.pruning.follow import channels_of
from featlink_host.prepare.pruning.removal import masked, remove, verify


def group(channels: Channels, name: str) -> Any:
    return next(one for one in channels.groups if one.name == name)


def test_sums_tie_channels_and_concatenations_do_not() -> None:
    found = channels_of(mixed_model())
    assert {one.name: (one.makers, len(one.units)) for one in found.groups} == {
        "stem": (("stem", "point"), 8),
        "side": (("side",), 6),
        "fc1": (("fc1",), 20),
        "scores": (("scores",), 0),
    }
    assert group(found, "stem").readers == ("point", "side", "fc1")
    assert found.whole == {"scores": "scores is an output of the network"}


@settings(max_examples=20)
@given(seed=st.integers(0, 99), share=st.floats(0, 0.8), half=st.booleans())
def test_a_pruned_network_equals_the_one_with_zeros_whatever_goes(seed: int, share: float, half: bool) -> None:
    model = mixed_model(seed % 3, half)
    channels = channels_of(model)
    rng = np.random.default_rng(seed)
    units = [int(u) for one in channels.groups for u in rng.permutation(one.units)[: int(len(one.units) * share)]]
    pruned = remove(model, channels, units)
    onnx.checker.check_model(pruned, full_check=True)
    image = pictures(2, seed)
    wanted = outputs(masked(model, channels, units), image=image)["scores"]
    np.testing.assert_allclose(outputs(pruned, image=image)["scores"], wanted, rtol=1e-4, atol=1e-4)
    if half:
        kinds = {tensor.data_type for tensor in pruned.graph.initializer if tensor.name.endswith("_h")}
        assert kinds == {onnx.TensorProto.FLOAT16}


def test_numpy_finds_the_same() -> None:
    model = mixed_model()
    channels = channels_of(model)
    units = [int(unit) for one in channels.groups for unit in one.units[::3]]
    image = pictures(1)
    wanted = by_numpy(masked(model, channels, units), image=image)["scores"]
    found = outputs(remove(model, channels, units), image=image)["scores"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_removed_channels_are_those_whose_activations_are_zero() -> None:
    """Zeros behind the activation, not where the next layer reads: ReLU and pooling keep them."""
    model = onnx.load(FMNIST)
    channels = channels_of(model)
    gone = {"/conv1/Conv": [0, 5, 31], "/conv2/Conv": [7, 60], "/conv3/Conv": [100], "/fc1/Gemm": [1, 2, 511]}
    after = {"/conv1/Conv": "/Relu", "/conv2/Conv": "/Relu_1", "/conv3/Conv": "/Relu_2", "/fc1/Gemm": "/Relu_3"}
    zeroed = onnx.load(FMNIST)
    units: list[int] = []
    for name, places in gone.items():
        one = group(channels, name)
        units += one.units[places].tolist()
        mask = np.ones(len(one.units), np.float32)
        mask[places] = 0
        relu = next(node for node in zeroed.graph.node if node.name == after[name])
        shape = (1, -1) if name == "/fc1/Gemm" else (1, -1, 1, 1)
        zeroed.graph.initializer.append(numpy_helper.from_array(mask.reshape(shape), f"{name}/mask"))
        place = list(zeroed.graph.node).index(relu)
        whole = relu.output[0]
        relu.output[0] = f"{name}/whole"
        zeroed.graph.node.insert(place + 1, helper.make_node("Mul", [f"{name}/whole", f"{name}/mask"], [whole]))
    del zeroed.graph.value_info[:]
    image = blobs(3)
    pruned = remove(model, channels, units)
    wanted = outputs(zeroed, image=image)["logits"]
    np.testing.assert_allclose(outputs(pruned, image=image)["logits"], wanted, rtol=1e-4, atol=1e-4)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in pruned.graph.initializer}
    assert shapes["conv1.weight"] == (29, 1, 3, 3)
    assert shapes["conv2.weight"] == (62, 29, 3, 3)
    assert shapes["bn2.running_var"] == (62,)
    assert shapes["fc1.weight"] == (509, 127 * 9)


def test_one_layer_is_what_numpy_makes_of_the_rows_that_are_left() -> None:
    b = Builder(4)
    b.node("Conv", ["image", b.weight("a/W", 6, 3, 1, 1), b.weight("a/b", 6)], "a")
    b.node("Relu", ["a"], "relu")
    b.node("Conv", ["relu", b.weight("c/W", 4, 6, 1, 1)], "c")
    model = b.model({"c": ["n", 4, 8, 8]})
    first, bias, second = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    channels = channels_of(model)
    pruned = remove(model, channels, group(channels, "a").units[[1, 4]].tolist())
    image, left = pictures(2), [0, 2, 3, 5]
    hidden = np.einsum("oc,nchw->nohw", first[left, :, 0, 0], image) + bias[left][:, None, None]
    wanted = np.einsum("oc,nchw->nohw", second[:, left, 0, 0], np.maximum(hidden, 0))
    np.testing.assert_allclose(outputs(pruned, image=image)["c"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "attributes", "rank", "why"),
    [
        ("Transpose", {"perm": [0, 2, 3, 1]}, 4, "Transpose moved is not followed"),
        ("Softmax", {"axis": 1}, 4, "Softmax moved is not followed"),
        ("ReduceMean", {"axes": [1]}, 4, "ReduceMean moved sums up over channels or samples"),
        ("Flatten", {"axis": 2}, 2, "Flatten moved flattens from axis 2 on"),
    ],
)
def test_what_cannot_be_followed_keeps_its_channels_and_is_named(
    operator: str, attributes: dict[str, Any], rank: int, why: str
) -> None:
    b = Builder(0)
    b.node("Conv", ["image", b.weight("a/W", 6, 3, 1, 1)], "a")
    b.node(operator, ["a"], "moved", **attributes)
    found = channels_of(b.model({"moved": list("nabc"[:rank])}))
    assert found.whole == {"a": why}


def test_groups_of_several_channels_and_shared_sums_are_left_whole() -> None:
    b = Builder(0)
    b.node("Conv", ["image", b.weight("a/W", 6, 3, 1, 1)], "a")
    b.node("Conv", ["a", b.weight("g/W", 6, 3, 1, 1)], "g", group=2)
    b.node("Conv", ["image", b.weight("c/W", 6, 3, 1, 1)], "c")
    b.node("Add", ["g", "c"], "sum")
    b.node("Conv", ["sum", b.weight("d/W", 2, 6, 1, 1)], "d")
    found = channels_of(b.model({"d": ["n", 2, 8, 8]}))
    assert found.whole["a"] == "Conv g has 2 groups of several channels"
    assert found.whole["c"] == "g was not followed"


def test_a_tensor_that_two_layers_share_is_cut_for_each_of_them() -> None:
    b = Builder(0)
    b.node("Conv", ["image", b.weight("a/W", 4, 3, 1, 1)], "a")
    b.weight("shared", 4, 4, 1, 1)
    b.node("Conv", ["a", "shared"], "c")
    b.node("Relu", ["c"], "relu")
    b.node("Conv", ["relu", "shared"], "d")
    b.node("Conv", ["d", b.weight("e/W", 2, 4, 1, 1)], "e")
    model = b.model({"e": ["n", 2, 8, 8]})
    channels = channels_of(model)
    units = [int(group(channels, name).units[place]) for name, place in (("a", 0), ("c", 3), ("d", 1))]
    pruned = remove(model, channels, units)
    image = pictures(2)
    wanted = outputs(masked(model, channels, units), image=image)["e"]
    np.testing.assert_allclose(outputs(pruned, image=image)["e"], wanted, rtol=1e-4, atol=1e-5)


def test_a_network_that_differs_from_the_one_with_zeros_is_a_fault() -> None:
    model = mixed_model()
    channels = channels_of(model)
    units = group(channels, "fc1").units[:3].tolist()
    assert verify(remove(model, channels, units), masked(model, channels, units), {"image": pictures(2)}) < 1e-5
    with pytest.raises(FeatlinkError, match="differs by"):
        verify(remove(model, channels, units[:2]), masked(model, channels, units), {"image": pictures(2)})
