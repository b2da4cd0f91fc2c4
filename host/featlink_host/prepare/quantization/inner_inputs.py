"""What the layers of a network see, in the network as it was and in the one that is being quantized, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...model.feedback import MAX_COLUMNS, LayerUse, inputs_seen
from ..scoring_runs import ModelRunner
from .layers import WeightLayer

Tensor = NDArray[Any]
Matrix = NDArray[np.float64]
#: Places of a layer's input that count, in each batch.
PLACES = 2048


@dataclass
class Seen:
    """Sums over all places that were looked at, of a layer's inputs x as they were and y as they are now.

    :param moments: sums of y y^T, float64 [groups, columns, columns]
    :param crossed: sums of x y^T
    :param before: sums of x, [groups, columns]
    :param now: sums of y
    :param places: how many there were
    """

    moments: Matrix
    crossed: Matrix
    before: Matrix
    now: Matrix
    places: int


def use_of(model: onnx.ModelProto, layer: WeightLayer, shape: tuple[int, ...]) -> LayerUse | None:
    """How a layer reads its inputs; None where that is not known here (transposed and other than flat convolutions)."""
    node = model.graph.node[layer.node]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if layer.operator == "Conv" and len(shape) == 4:
        use = LayerUse(layer.data, layer.groups, shape[2:], tuple(attributes.get("dilations", (1, 1))))
        return use if int(np.prod(shape[1:])) <= MAX_COLUMNS else None
    if layer.operator in ("Gemm", "MatMul") and layer.place == 1:
        use = LayerUse(layer.data, transposed=layer.transposed)
        return use if shape[0 if layer.transposed else 1] <= MAX_COLUMNS else None
    return None


def why_untuned(layer: WeightLayer, shape: tuple[int, ...]) -> str:
    """Why a layer's weights are not fitted to what it puts out, where they are not.

    :param shape: of the weights
    """
    if layer.readers > 1:
        return f"{layer.readers} layers share it"
    flat = layer.operator == "Conv" and len(shape) == 4
    if not flat and not (layer.operator in ("Gemm", "MatMul") and layer.place == 1):
        sides = f" of {len(shape) - 2} dimensions" if layer.operator == "Conv" else ""
        return f"fine-tuning does not know how a {layer.operator}{sides} reads its inputs"
    columns = int(np.prod(shape[1:])) if flat else shape[0 if layer.transposed else 1]
    if columns > MAX_COLUMNS:
        return f"it has {columns} inputs, more than {MAX_COLUMNS}"
    return "it is given numbers that are not finite"


def inner_inputs(
    before: onnx.ModelProto,
    now: onnx.ModelProto,
    uses: Mapping[str, LayerUse],
    batches: Iterable[Mapping[str, Tensor]],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Seen]:
    """Run both networks, and sum up what the layers see; layers that see infinities or no numbers are left out.

    Of layers that follow each other the first one makes good what came before; to those after it the network now is all
    there is (x is y), or each of them would make the same good once more.

    :param before: the network as it was
    :param now: with weights that are quantized so far
    :param uses: of the layers, by their names
    """
    wanted = list(dict.fromkeys(use.data for use in uses.values()))
    runs = [_runner(one, wanted) for one in (before, now)]
    later = _behind_others(before, set(uses))
    found: dict[str, Seen] = {}
    left: set[str] = set()
    for number, batch in enumerate(batches):
        x, y = ({**batch, **run(batch)} for run in runs)
        for name, use in uses.items():
            if name in left:
                continue
            # The same seed: the same places in both.
            old, new = (inputs_seen(one[use.data], use, np.random.default_rng(number))[:PLACES] for one in (x, y))
            if not (np.isfinite(old).all() and np.isfinite(new).all()):
                left.add(name)
                found.pop(name, None)
                continue
            new = new.transpose(1, 0, 2)
            part = _sums(new if name in later else old.transpose(1, 0, 2), new)
            if name in found:
                have = found[name]
                have.moments += part.moments
                have.crossed += part.crossed
                have.before += part.before
                have.now += part.now
                have.places += part.places
            else:
                found[name] = part
        if progress is not None:
            progress(number + 1)
    return found


def _sums(x: NDArray[np.float32], y: NDArray[np.float32]) -> Seen:
    return Seen(
        np.matmul(y.transpose(0, 2, 1), y).astype(np.float64),
        np.matmul(x.transpose(0, 2, 1), y).astype(np.float64),
        x.sum(axis=1, dtype=np.float64),
        y.sum(axis=1, dtype=np.float64),
        x.shape[1],
    )


def _behind_others(model: onnx.ModelProto, names: set[str]) -> set[str]:
    """Of some weights: those whose layer works on what another one of them has had a part in."""
    reached: set[str] = set()
    found: set[str] = set()
    for node in model.graph.node:
        own = names.intersection(node.input)
        behind = not reached.isdisjoint(node.input)
        if behind:
            found |= own
        if behind or own:
            reached.update(node.output)
    return found


def _runner(model: onnx.ModelProto, wanted: list[str]) -> ModelRunner:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {one.name for one in (*opened.graph.output, *opened.graph.input)}
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known)
    return ModelRunner(opened)


def chunks(names: list[str], most: int) -> Iterator[list[str]]:
    """Names in order, in at most so many parts of nearly one size."""
    count = min(most, len(names))
    for k in range(count):
        yield names[k * len(names) // count : (k + 1) * len(names) // count]
