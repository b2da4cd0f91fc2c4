"""Fine-tuning without labels and without training: weights that are fitted to what their layer puts out.

Layer by layer in the network's order, with the inputs y that the layers before it give now that they are quantized,
and the inputs x that they gave before. Per layer:

1. the weights are moved so that W y is as near to what W x was as the mean square allows;
2. they are rounded column by column on their set, errors handed on to the columns not yet rounded (optimal brain
   quantization, see `model.feedback`), the most active columns first, the groups' scales fixed;
3. the scales are solved again, now for the error of the outputs rather than of the weights, and 2 is repeated;
4. the bias takes up what the mean of the outputs has lost.

Steps 2 and 3 are kept only where the outputs' error is less than with the weights that came in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.feedback import damped, inverse_factor, rounded
from .inner_inputs import Seen
from .tensors import QuantizedTensor

Matrix = NDArray[np.float64]
#: Times that columns are rounded and scales are solved.
TURNS = 3
#: Added to each input's second moment, in means of them, for each column that a layer has more than places were seen.
RIDGE = 1.0


@dataclass(frozen=True)
class Tuned:
    """A layer after fine-tuning.

    :param shift: what is to be added to the bias, float64 [output channels]
    :param before: squared error of the outputs over their squares, as the weights came in
    :param after: and now
    """

    tensor: QuantizedTensor
    shift: Matrix
    before: float
    after: float


def fine_tuned(tensor: QuantizedTensor, weights: NDArray[Any], seen: Seen, *, keep_scales: bool = False) -> Tuned:
    """The steps above.

    :param weights: as they were, in the tensor's shape
    :param keep_scales: without step 3, for scales that cannot be any number
    """
    parts = len(seen.moments)
    matrix = tensor.layer.matrix(weights.astype(np.float64))
    moments = [_ridged(one, seen.places) / seen.places for one in seen.moments]
    wanted = np.concatenate(
        [
            _moved(rows, moment, crossed / seen.places + moment - one / seen.places)
            for rows, moment, crossed, one in zip(
                np.split(matrix, parts), moments, seen.crossed, seen.moments, strict=True
            )
        ]
    )
    factors = [_ordered(one) for one in moments]
    best, least = tensor, _error(_values(tensor), wanted, moments)
    before, current = least, tensor
    # Nothing changes in a second turn when the scales stay.
    for _ in range(1 if keep_scales else TURNS):
        current = _with(current, _rounded(current, wanted, factors), current.scales)
        if not keep_scales:
            current = _with(current, current.indices, _scales(current, wanted, moments))
        error = _error(_values(current), wanted, moments)
        if error < least:
            best, least = current, error
    final = _values(best)
    shift = np.concatenate(
        [
            (rows @ x - now @ y) / seen.places
            for rows, now, x, y in zip(
                np.split(matrix, parts), np.split(final, parts), seen.before, seen.now, strict=True
            )
        ]
    )
    energy = _error(np.zeros_like(wanted), wanted, moments) or 1.0
    gone = float(np.square(final - matrix).sum()) / (float(np.square(matrix).sum()) or 1.0)
    return Tuned(replace(best, error=gone), shift, before / energy, least / energy)


def _ridged(moments: Matrix, places: int) -> Matrix:
    """The moments with so much added that inputs seen at few places do not move weights they say little about."""
    more = RIDGE * len(moments) / places * float(np.mean(np.diag(moments)))
    return damped(moments) + np.eye(len(moments)) * more


def _moved(rows: Matrix, moment: Matrix, crossed: Matrix) -> Matrix:
    """The weights with which the inputs as they are give what the rows gave with the inputs as they were."""
    found: Matrix = np.linalg.solve(moment, (rows @ crossed).T).T.astype(np.float64, copy=False)
    return found


def _ordered(moment: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """Columns with the most active first, and the factor of the moments in this order."""
    order = np.argsort(-np.diag(moment), kind="stable")
    # The moments are damped already; once more does no harm.
    return order, inverse_factor(moment[np.ix_(order, order)])


def _rounded(
    tensor: QuantizedTensor, wanted: Matrix, factors: list[tuple[NDArray[np.int64], Matrix]]
) -> NDArray[np.int64]:
    """Places in the set, errors handed on."""
    scales = np.broadcast_to(tensor.groups.spread(tensor.scales), wanted.shape).astype(np.float64)
    found = np.empty(wanted.shape, np.int64)
    parts = len(factors)
    for rows, scale, places, (order, factor) in zip(
        np.split(wanted, parts), np.split(scales, parts), np.split(found, parts), factors, strict=True
    ):
        rounded(rows[:, order], factor, _nearest(tensor, scale[:, order], places, order))
    return found


def _nearest(
    tensor: QuantizedTensor, scale: Matrix, places: NDArray[np.int64], order: NDArray[np.int64]
) -> Callable[[int, Matrix], Matrix]:
    def nearest(column: int, values: Matrix) -> Matrix:
        own = scale[:, column]
        found = tensor.set.nearest(values / np.where(own > 0, own, 1.0))
        places[:, order[column]] = found
        return tensor.set.values(found) * own

    return nearest


def _scales(tensor: QuantizedTensor, wanted: Matrix, moments: list[Matrix]) -> NDArray[np.float32]:
    """The scales with the least error of the outputs; those of blocks of inputs, which depend on each other, stay."""
    if tensor.groups.kind not in ("tensor", "channel"):
        return tensor.scales
    parts = len(moments)
    above, below = [], []
    values = tensor.set.values(tensor.indices)
    for rows, chosen, moment in zip(np.split(wanted, parts), np.split(values, parts), moments, strict=True):
        spread = chosen @ moment
        above.append(np.einsum("ij,ij->i", spread, rows))
        below.append(np.einsum("ij,ij->i", spread, chosen))
    tops, bottoms = np.concatenate(above), np.concatenate(below)
    if tensor.groups.kind == "tensor":
        tops, bottoms = tops.sum(keepdims=True), bottoms.sum(keepdims=True)
    good = (tops > 0) & (bottoms > 0)
    return np.where(good, tops / np.where(good, bottoms, 1.0), tensor.scales).astype(np.float32)


def _values(tensor: QuantizedTensor) -> Matrix:
    return tensor.layer.matrix(tensor.values().astype(np.float64))


def _with(tensor: QuantizedTensor, indices: NDArray[np.int64], scales: NDArray[np.float32]) -> QuantizedTensor:
    return replace(tensor, indices=indices, scales=scales)


def _error(values: Matrix, wanted: Matrix, moments: list[Matrix]) -> float:
    """Mean squared error of the outputs."""
    parts = len(moments)
    total = 0.0
    for rows, target, moment in zip(np.split(values, parts), np.split(wanted, parts), moments, strict=True):
        away = rows - target
        total += float(np.einsum("ij,ij->", away @ moment, away))
    return total
