"""Why an extractor cannot be built at a cut, and what is nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .graph import DataGraph
from .survey_measure import Looks

#: Domains of ONNX's own operators; others are unknown to most runtimes.
_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def troubles_of(
    graph: DataGraph, place: Sequence[str], looks: Sequence[Looks] | None, refusal: str, standard: bool = False
) -> list[str]:
    """Sentences, none where it can be built as it is.

    :param looks: of each tensor, where images were looked at
    :param refusal: why onnxruntime does not run the halves, empty where it does
    :param standard: of the nearest cut, too, no value may be below 0
    """
    said = []
    if len(place) > 1:
        said.append(f"{len(place)} tensors: an extractor has one map so far{_nearest(graph, place[0], standard)}")
    for at, name in enumerate(place):
        kind = graph.type_of(name)
        if kind.dtype and kind.dtype != "float32":
            said.append(
                f"{name} is {kind.dtype}, a map is float32: choose a cut behind a Cast{_nearest(graph, name, standard)}"
            )
        shape = kind.shape
        if shape is not None and (len(shape) != 4 or shape[0] not in (1, None)):
            text = "x".join("?" if side is None else str(side) for side in shape)
            said.append(f"{name} is {text}, a map is 1xCxHxW{_nearest(graph, name, standard)}")
        elif shape is None or any(side is None for side in shape[1:]):
            said.append(
                f"the shape of {name} is open: fix the input's, or choose another cut{_nearest(graph, name, standard)}"
            )
        seen = looks[at] if looks is not None else None
        if seen is not None and seen.minimum == seen.maximum:
            said.append(f"{name} is {seen.minimum:g} everywhere{_nearest(graph, name, standard)}")
        for operator in _strange(graph.model.graph, name):
            said.append(f"{operator} next to {name} is none of ONNX's own operators{_nearest(graph, name, standard)}")
    return [*said, *([refusal] if refusal else [])]


def sign_of(graph: DataGraph, place: Sequence[str], looks: Sequence[Looks] | None, standard: bool = False) -> list[str]:
    """Of tensors with values below 0, a sentence each: the standard's quantizers do not take them.

    :param standard: only those are wanted: the nearest cut that they take is named
    """
    said = []
    for at, name in enumerate(place):
        seen = looks[at] if looks is not None else None
        if seen.minimum < 0 if seen is not None else name not in graph.non_negative:
            low = f"{name} has values down to {seen.minimum:.4g}" if seen is not None else f"{name} may be negative"
            hint = _nearest(graph, name, standard) if standard else ", which plain readers of the standard refuse"
            said.append(f"{low}: adaptive quantizers only{hint}")
    return said


def _nearest(graph: DataGraph, tensor: str, standard: bool = False) -> str:
    """The nearest cut that can be built, as the end of a sentence."""
    fitting = [
        cut
        for cut in graph.near(tensor, 8, non_negative=standard)
        if cut.dtype == "float32" and cut.shape is not None and len(cut.shape) == 4 and cut.name != tensor
    ]
    at = graph.tensors.index(tensor)
    best = min(fitting, key=lambda cut: abs(graph.tensors.index(cut.name) - at), default=None)
    return f"; the nearest: {best.name}" if best is not None else ""


def _strange(graph: onnx.GraphProto, tensor: str) -> list[str]:
    """Operators beside a tensor that ONNX does not define."""
    beside = [node for node in graph.node if tensor in node.output or tensor in node.input]
    return [
        f"{node.domain + '.' if node.domain else ''}{node.op_type}"
        for node in beside
        if node.domain not in _KNOWN_DOMAINS
        or (node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, node.domain))
    ]
