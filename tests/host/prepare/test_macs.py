"""MACs are those of the definition: as many as a plain loop would multiply."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference
from split_nets import chain

from featlink_host.prepare.macs import count_macs


def counted(node: onnx.NodeProto, shape: list[int | str], weight: tuple[int, ...]) -> list[int | None]:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(weight, np.float32), "w")],
    )
    return count_macs(shape_inference.infer_shapes(helper.make_model(graph)))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(4, 7), st.integers(1, 3), st.integers(1, 2))
def test_a_convolution_multiplies_each_output_with_each_weight_of_its_filter(
    inputs: int, filters: int, groups: int, side: int, kernel: int, stride: int
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, strides=[stride, stride])
    out = (side - kernel) // stride + 1
    loops = sum(1 for _ in range(out * out * filters * groups) for _ in range(inputs * kernel * kernel))
    assert counted(node, [1, inputs * groups, side, side], (filters * groups, inputs, kernel, kernel)) == [loops]


def test_products_of_matrices_and_transposed_convolutions() -> None:
    assert counted(helper.make_node("MatMul", ["x", "w"], ["y"]), [5, 2, 3], (3, 7)) == [5 * 2 * 3 * 7]
    assert counted(helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), [2, 3], (7, 3)) == [2 * 3 * 7]
    assert counted(helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [3, 2], (3, 7)) == [2 * 3 * 7]
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    assert counted(node, [1, 3, 4, 4], (3, 5, 2, 2)) == [3 * 4 * 4 * 5 * 2 * 2]


def test_what_is_not_known_is_not_guessed_and_the_rest_is_free() -> None:
    assert counted(helper.make_node("MatMul", ["x", "w"], ["y"]), ["n", 3], (3, 7)) == [None]
    assert counted(helper.make_node("Add", ["x", "w"], ["y"]), [3], (3,)) == [0]


@pytest.mark.parametrize("side", [16, 32])
def test_a_network_is_the_sum_of_its_layers(side: int) -> None:
    found = count_macs(shape_inference.infer_shapes(chain(side=side)))
    half = side // 2
    assert sum(one or 0 for one in found) == half * half * 8 * 27 + half * half * 8 * 72 + 32
