"""Rounding with error feedback: what one weight loses is made good by those after it that see similar inputs.

Columns of a layer's weights are rounded one by one. The second moments of the layer's inputs say how the columns not
yet rounded best take up the error, so that the layer's outputs stay near (optimal brain quantization, as GPTQ orders
it). The result lies on the grid of uniform quantization: any decoder reads it, and rounding it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .evaluate import Evaluator
from .onnx_graph import OnnxModel

Tensor = NDArray[Any]
Matrix = NDArray[np.float64]
#: Share of the mean second moment that is added to each: inputs that were never seen are not rounded wildly.
DAMPING = 0.01
#: Columns whose errors are handed on together.
BLOCK = 64
#: Places of a feature map that are looked at, in each run.
PLACES = 8192
#: Columns beyond which a layer is rounded as it is: its moments would take half a gigabyte.
MAX_COLUMNS = 8192


@dataclass(frozen=True)
class LayerUse:
    """The layer that a weight belongs to.

    :param data: name of its input
    :param groups: of a convolution
    :param kernel: of a convolution, else empty
    :param transposed: rows of the tensor are inputs
    """

    data: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    transposed: bool = False


class Feedback:
    """Rounds the weights of convolutions and products of matrices.

    :param evaluator: its inputs are run once, for the moments
    """

    def __init__(self, evaluator: Evaluator, progress: Callable[[str, int, int], None] | None = None) -> None:
        self._tensors = evaluator.model.tensors
        uses = _uses(evaluator.model)
        self._uses = {name: use for name, use in uses.items() if _columns(self._tensors[name], use) <= MAX_COLUMNS}
        moments: dict[str, Matrix] = {}
        wanted = list(dict.fromkeys(use.data for use in self._uses.values()))
        rng = np.random.default_rng(0)
        for done, values in enumerate(evaluator.inner(wanted), 1):
            for name, use in self._uses.items():
                found = _moments(values[use.data], use, rng)
                if found is not None:
                    moments[name] = moments[name] + found if name in moments else found
            if progress is not None:
                progress("inputs of layers", done, evaluator.runs)
        self._factors = {name: [inverse_factor(one) for one in found] for name, found in moments.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._factors

    def round(self, name: str, step: float) -> Tensor:
        """A tensor of multiples of a step, in its own type."""
        values = self._tensors[name]
        use, factors = self._uses[name], self._factors[name]
        matrix = values.astype(np.float64)
        matrix = matrix.T if use.transposed else matrix.reshape(len(values), -1)
        parts = [
            rounded(rows, factor, lambda _, values: np.rint(values / step) * step)
            for rows, factor in zip(np.split(matrix, len(factors)), factors, strict=True)
        ]
        whole = np.concatenate(parts)
        return (whole.T if use.transposed else whole).reshape(values.shape).astype(values.dtype)


def rounded(matrix: Matrix, factor: Matrix, nearest: Callable[[int, Matrix], Matrix]) -> Matrix:
    """A layer's weights, column after column on the values that they may have, errors handed on.

    :param matrix: float64 [rows, columns]
    :param factor: of the inputs' second moments, see `inverse_factor`
    :param nearest: the values of a column, by its number, that are nearest to what is wanted, float64 [rows]
    """
    rest, result = matrix.copy(), np.empty_like(matrix)
    for begin in range(0, matrix.shape[1], BLOCK):
        end = min(begin + BLOCK, matrix.shape[1])
        errors = np.empty((len(matrix), end - begin))
        for column in range(begin, end):
            result[:, column] = nearest(column, rest[:, column])
            error = (rest[:, column] - result[:, column]) / factor[column, column]
            errors[:, column - begin] = error
            rest[:, column + 1 : end] -= np.outer(error, factor[column, column + 1 : end])
        rest[:, end:] -= errors @ factor[begin:end, end:]
    return result


def inverse_factor(moments: Matrix) -> Matrix:
    """The upper triangle whose square is the inverse of second moments [columns, columns], these damped."""
    return np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(damped(moments))).T)


def damped(moments: Matrix) -> Matrix:
    """Second moments with a little added to each input's own; see `DAMPING`."""
    return moments + np.eye(len(moments)) * (DAMPING * float(np.mean(np.diag(moments))) or 1.0)


def _uses(model: OnnxModel) -> dict[str, LayerUse]:
    graph = model.proto().graph
    names = {name: name for name in model.tensors}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in names:
            names[node.output[0]] = names[node.input[0]]
    found: dict[str, LayerUse] = {}
    times: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Cast":
            continue
        for name in {names[one] for one in node.input if one in names}:
            times[name] = times.get(name, 0) + 1
        if len(node.input) < 2 or node.input[1] not in names:
            continue
        name = names[node.input[1]]
        values = model.tensors[name]
        if values.dtype.kind == "f" and (use := _use(node, values)) is not None and np.isfinite(values).all():
            found[name] = use
    return {name: use for name, use in found.items() if times[name] == 1}


def _use(node: onnx.NodeProto, values: Tensor) -> LayerUse | None:
    attributes: Mapping[str, Any] = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Conv" and values.ndim == 4:
        dilations = tuple(attributes.get("dilations", (1, 1)))
        return LayerUse(node.input[0], attributes.get("group", 1), values.shape[2:], dilations)
    if node.op_type == "Gemm" and not attributes.get("transA", 0):
        return LayerUse(node.input[0], transposed=not attributes.get("transB", 0))
    if node.op_type == "MatMul" and values.ndim == 2:
        return LayerUse(node.input[0], transposed=True)
    return None


def _columns(values: Tensor, use: LayerUse) -> int:
    return int(values.shape[0] if use.transposed else values[0].size)


def _moments(data: Tensor, use: LayerUse, rng: np.random.Generator) -> Matrix | None:
    """Second moments of what a layer's neurons see, float64 [groups, columns, columns]."""
    seen = inputs_seen(data, use, rng)
    if not np.isfinite(seen).all():
        return None
    return np.stack([(one.T @ one).astype(np.float64) for one in seen.transpose(1, 0, 2)])


def inputs_seen(data: Tensor, use: LayerUse, rng: np.random.Generator) -> NDArray[np.float32]:
    """What a layer's neurons see at some places, [places, groups, columns].

    :param data: the layer's input; the same generator finds the same places in data of the same shape
    """
    if not use.kernel:
        flat = data.reshape(-1, data.shape[-1])
        seen: Tensor = flat[rng.permutation(len(flat))[:PLACES]][:, None]
    else:
        (high, wide), (down, right) = use.kernel, use.dilations
        # Padding as if the stride were 1: it is the statistics that count, not the places.
        reach = (high - 1) * down, (wide - 1) * right
        padded = np.pad(data, ((0, 0), (0, 0), *((one // 2, one - one // 2) for one in reach)))
        count = data.shape[0] * data.shape[2] * data.shape[3]
        places = rng.permutation(count)[:PLACES]
        n, y, x = np.unravel_index(places, (data.shape[0], data.shape[2], data.shape[3]))
        rows = y[:, None, None] + down * np.arange(high)[None, :, None]
        columns = x[:, None, None] + right * np.arange(wide)[None, None, :]
        seen = padded[n[:, None, None], :, rows, columns]  # [places, high, wide, channels]
        seen = seen.transpose(0, 3, 1, 2).reshape(len(places), use.groups, -1)
    return seen.astype(np.float32)
