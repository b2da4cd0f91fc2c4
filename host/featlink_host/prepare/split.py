"""Cut a network in two at one tensor: the backbone for the camera, the head for the host."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
import onnx.utils

from featlink_codec.errors import SettingsError

from ..inference import one_line
from .graph import Cut, DataGraph, load_model

#: How many cuts a message lists at most.
LISTED = 40


def single_tensor_cuts(model: onnx.ModelProto | Path | str) -> list[Cut]:
    """Every tensor that alone separates a network's input from its outputs, in graph order.

    Weights, constants and what is made of them alone are not data and do not count.

    :param model: an ONNX model or its file
    :raises SettingsError: not a valid model, or not exactly one data input
    """
    return open_graph(model).cuts


def open_graph(model: onnx.ModelProto | Path | str) -> DataGraph:
    """The graph of a model or of its file (SettingsError as `single_tensor_cuts`)."""
    if isinstance(model, onnx.ModelProto):
        return DataGraph(model)
    return DataGraph(load_model(model), str(model))


def check_cut(graph: DataGraph, tensor: str) -> Cut:
    """The cut of that name.

    :raises SettingsError: no such tensor, a weight, the input, an output, or a tensor that other data goes around
    """
    for cut in graph.cuts:
        if cut.name == tensor:
            return cut
    where = f"{graph.name}: {tensor!r}"
    if tensor == graph.input:
        raise SettingsError(f"{where} is the network's input, not a place to split it;{_list(graph.cuts)}")
    if tensor in graph.outputs:
        raise SettingsError(f"{where} is an output of the network, not a place to split it;{_list(graph.cuts)}")
    if tensor in graph.tensors:
        if not graph.is_used(tensor):
            raise SettingsError(f"{where} leads to no output of the network;{_list(graph.near(tensor))}")
        raise SettingsError(
            f"{where} is not the only tensor to cross there; these go around it:{_lines(graph.crossing(tensor))}\n"
            f"the nearest tensors that alone carry everything:{_lines(graph.near(tensor))}"
        )
    proto = graph.model.graph
    if tensor in {one.name for one in proto.initializer} | {name for node in proto.node for name in node.output}:
        raise SettingsError(f"{where} is a weight or made of weights, not data;{_list(graph.cuts)}")
    near = difflib.get_close_matches(tensor, graph.tensors, n=3, cutoff=0.5)
    hint = f", perhaps {' or '.join(map(repr, near))}" if near else ""
    raise SettingsError(f"{where} is not a tensor of this network{hint};{_list(graph.cuts)}")


def split_model(model_path: Path | str, tensor: str, out_backbone: Path | str, out_head: Path | str) -> Cut:
    """Write the two halves of a network, checked.

    :param model_path: the whole network, an ONNX file
    :param tensor: where to split: the backbone's only output and the head's only input
    :param out_backbone: where the backbone goes, overwritten
    :param out_head: where the head goes, overwritten
    :raises SettingsError: the model cannot be read or cannot be split there; the text says where it could be
    """
    graph = open_graph(model_path)
    cut = check_cut(graph, tensor)
    write_halves(graph, cut, Path(out_backbone), Path(out_head))
    return cut


def write_halves(graph: DataGraph, cut: Cut, out_backbone: Path, out_head: Path) -> None:
    """Write the two halves of a graph that is in memory already (SettingsError as `split_model`)."""
    for path, half in zip((out_backbone, out_head), extract_halves(graph, [cut.name]), strict=True):
        try:
            onnx.save(half, str(path))
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror or error}") from None


def extract_halves(graph: DataGraph, tensors: Sequence[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """What makes some tensors of a network's input, and what makes its outputs of them, both checked.

    :param tensors: that together separate the input from the outputs
    :raises SettingsError: the network cannot be taken apart there
    """
    extractor = onnx.utils.Extractor(graph.model)
    halves = []
    for inputs, outputs in (([graph.input], list(tensors)), (list(tensors), graph.outputs)):
        try:
            half = extractor.extract_model(inputs, outputs)
            half.producer_name = "featlink"
            onnx.checker.check_model(half, full_check=True)
        except Exception as error:  # onnx raises its own kinds, which no common base tells apart
            where = " and ".join(map(repr, tensors))
            raise SettingsError(f"{graph.name}: cannot be split at {where}: {one_line(error)}") from None
        halves.append(half)
    return halves[0], halves[1]


def _list(cuts: Iterable[Cut]) -> str:
    """The end of a message: where the network could be split."""
    lines = _lines(cuts)
    return f" it can be split at:{lines}" if lines else " no tensor of it alone carries everything"


def _lines(items: Iterable[Cut | str]) -> str:
    every = list(items)
    rest = [f"... and {len(every) - LISTED} more"] if len(every) > LISTED else []
    return "".join(f"\n    {item}" for item in [*every[:LISTED], *rest])
