"""Sets of tensors that separate a network: each does, none has one too many, and pyramids have theirs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from split_nets import chain, model_of, pyramid

from featlink_host.prepare.cut_sets import cut_sets, near_nodes
from featlink_host.prepare.graph import DataGraph
from featlink_host.prepare.split import extract_halves


def separates(graph: DataGraph, tensors: set[str]) -> bool:
    """Whether no way from the input to an output avoids them: by going all ways."""
    reached = {graph.input} - tensors
    for used, made in graph.edges:
        if reached.intersection(used):
            reached.update(set(made) - tensors)
    return not reached.intersection(graph.outputs)


def test_a_pyramid_is_cut_at_its_scales() -> None:
    graph = DataGraph(pyramid())
    found = cut_sets(graph, 2)
    assert ("a", "b") in found.sets
    # a alone would do, but the head would make b of it
    assert separates(graph, {"a"})
    for one in found.sets:
        near, far = extract_halves(graph, one)
        assert [output.name for output in near.graph.output] == list(one)
        assert {value.name for value in far.graph.input} == set(one)


def test_a_chain_has_none() -> None:
    assert cut_sets(DataGraph(chain()), 4).sets == ()


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Any graph of Relu and Add over a few tensors."""
    names, nodes = ["image"], []
    for number in range(draw(st.integers(3, 9))):
        left, right = draw(st.sampled_from(names[-4:])), draw(st.sampled_from(names))
        kind = draw(st.sampled_from(["Relu", "Add"]))
        nodes.append(helper.make_node(kind, [left] if kind == "Relu" else [left, right], [f"t{number}"]))
        names.append(f"t{number}")
    used = {name for node in nodes for name in node.input}
    outputs = [name for name in names if name not in used]
    return model_of(nodes, [1, 2, 4, 4], {name: [1, 2, 4, 4] for name in outputs}, {"unused": np.zeros(1, np.float32)})


@settings(max_examples=60, deadline=None)
@given(networks())
def test_every_set_separates_and_has_none_too_many(model: onnx.ModelProto) -> None:
    graph = DataGraph(model)
    for one in cut_sets(graph, 4).sets:
        assert separates(graph, set(one))
        assert not any(separates(graph, set(few)) for size in range(1, len(one)) for few in combinations(one, size))


def test_a_bound_ends_the_search_and_says_so() -> None:
    assert not cut_sets(DataGraph(pyramid()), 2, max_states=2).complete
    assert len(cut_sets(DataGraph(pyramid()), 3, max_sets=1).sets) == 1


def test_halves_share_no_operator_at_a_cut() -> None:
    graph = chain().graph
    near, far = near_nodes(graph, {"relu"}), near_nodes(graph, {"scores"}, {"relu"})
    assert near == {0, 1}
    assert far == {2, 3, 4, 5, 6}
