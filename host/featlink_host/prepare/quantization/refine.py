"""The scale of each group of weights: from the largest weight, from the error, or refined by turns with the weights.

For a group W the error |W - alpha Q|^2 is made small by turns: Q = the set's values nearest to W / alpha, then alpha =
<W, Q> / <Q, Q>. Neither step can make it greater. A group is settled when its scale moves by less than `SETTLED` of
itself; `ROUNDS` at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .codebook import learned, with_zero
from .value_sets import Indices, TableSet, Values, ValueSet, whole_numbers

Mask = NDArray[np.bool_] | None
#: Relative change of a scale that counts as none.
SETTLED = 1e-7
ROUNDS = 200
#: Initial scales, as shares of the one that lets nothing go beyond the set; the best `KEPT` go on.
STARTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1)
KEPT = 3
#: Rounds in which a codebook and the scales of its groups take turns.
BOOK_ROUNDS = 30


@dataclass(frozen=True)
class Scaled:
    """Groups of weights on a set.

    :param scales: float64 [groups], each a binary32 number
    :param indices: places in the set, int64 [groups, weights]
    :param errors: squared error of each group, float64 [groups]
    """

    values: ValueSet
    scales: Values
    indices: Indices
    errors: Values


def at_scales(groups: Values, values: ValueSet, scales: Values, mask: Mask = None) -> Scaled:
    """The nearest values where the scales are given; they are rounded to binary32, as they are written down."""
    with np.errstate(over="ignore", under="ignore"):
        scales = scales.astype(np.float32).astype(np.float64)
    indices = _nearest(groups, values, scales)
    return Scaled(values, scales, indices, _errors(groups, values.values(indices), scales, mask))


def unsaturated(groups: Values, values: ValueSet) -> Values:
    """The least scales with which no weight lies beyond the set; 0 for a group of zeros where the set has none."""
    greatest, least = groups.max(axis=1).clip(min=0), -groups.min(axis=1).clip(max=0)
    found = greatest / values.high if values.high > 0 else np.zeros(len(groups))
    if values.low < 0:
        found = np.maximum(found, least / -values.low)
    empty = 1.0 if values.values(np.array(values.zero)) == 0 else 0.0
    return np.where(found > 0, found, empty)


def by_error(groups: Values, values: ValueSet, mask: Mask = None) -> Values:
    """Of the shares `STARTS` of the unsaturated scales, each group's with the least error."""
    largest = unsaturated(groups, values)
    tried = [largest * share for share in STARTS]
    errors = [at_scales(groups, values, one, mask).errors for one in tried]
    found: Values = np.choose(np.argmin(errors, axis=0), tried)
    return found


def refined(
    groups: Values,
    values: ValueSet,
    mask: Mask = None,
    seen: Callable[[float], None] | None = None,
) -> Scaled:
    """Scales and values by turns, from the best of several initial scales for each group.

    :param groups: float64 [groups, weights]
    :param seen: is told of the error after every step of every start
    """
    largest = unsaturated(groups, values)
    tried = np.stack([largest * share for share in STARTS])
    errors = np.stack([at_scales(groups, values, one, mask).errors for one in tried])
    order = np.argsort(errors, axis=0, kind="stable")
    best: Scaled | None = None
    for place in range(KEPT):
        start = np.take_along_axis(tried, order[place : place + 1], axis=0)[0]
        settled = _settle(groups, values, start, mask, seen)
        best = settled if best is None else _better(best, settled)
    assert best is not None
    return best


def fixed_point(groups: Values, values: ValueSet, mask: Mask = None, *, saturate: bool) -> Scaled:
    """Scales that are powers of two: dynamic fixed point, one place of the point for each group.

    :param saturate: the power with the least error; else the least one with which no weight lies beyond the set
    """
    largest = np.exp2(np.ceil(np.log2(np.maximum(unsaturated(groups, values), 2.0**-100))))
    best = at_scales(groups, values, largest, mask)
    for octaves in range(1, 6) if saturate else ():
        best = _better(best, at_scales(groups, values, largest * 2.0**-octaves, mask))
    return best


def with_codebook(
    groups: Values, bits: int, mask: Mask = None, *, refine: bool, whole: bool = False, portable: bool = False
) -> Scaled:
    """A codebook that all groups share, each with its scale.

    It is learned from the weights over the root of their group's mean square; refining lets codebook and scales take
    turns: each value becomes the one with the least error for its weights, then each group's scale.

    :param whole: the codebook's values are integers of an int8 container, `portable` or not
    """
    number = mask.sum(axis=1) if mask is not None else groups.shape[1]
    scales = np.sqrt(np.square(groups).sum(axis=1) / number)
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32).astype(np.float64)
    inside = (groups / scales[:, None])[mask] if mask is not None else (groups / scales[:, None]).reshape(-1)
    book = learned(inside, bits)
    best = at_scales(groups, book, scales, mask)
    if refine and len(groups) > 1:
        best = _turns(groups, best, inside, mask)
    if whole:
        rounded = whole_numbers(bits, np.array(book_table(best)), portable)
        unit = max(abs(best.values.low), abs(best.values.high)) / max(abs(rounded.low), abs(rounded.high))
        best = at_scales(groups, rounded, best.scales * unit, mask)
        if refine:
            best = _better(best, _settle(groups, rounded, best.scales, mask, None))
    return best


def book_table(scaled: Scaled) -> tuple[float, ...]:
    """The values of a codebook."""
    assert isinstance(scaled.values, TableSet)
    return scaled.values.table


def _turns(groups: Values, best: Scaled, inside: Values, mask: Mask) -> Scaled:
    for _ in range(BOOK_ROUNDS):
        scales, indices = best.scales, best.indices
        book = np.array(book_table(best))
        weight = np.broadcast_to(np.square(scales)[:, None], groups.shape)
        product = groups * scales[:, None]
        if mask is not None:
            weight, product = weight * mask, product * mask
        below = np.bincount(indices.reshape(-1), weight.reshape(-1), len(book))
        above = np.bincount(indices.reshape(-1), product.reshape(-1), len(book))
        moved = np.where(below > 0, above / np.where(below > 0, below, 1.0), book)
        values = TableSet(best.values.bits, tuple(with_zero(moved, inside).tolist()))
        chosen = at_scales(groups, values, scales, mask)
        found = at_scales(groups, values, _solved(groups, values.values(chosen.indices), scales, mask), mask)
        if not found.errors.sum() < best.errors.sum() * (1 - 1e-6):
            break
        best = found
    return best


def _settle(
    groups: Values, values: ValueSet, scales: Values, mask: Mask, seen: Callable[[float], None] | None
) -> Scaled:
    scales = scales.copy()
    open_groups = np.arange(len(groups))
    for _ in range(ROUNDS):
        part, own = groups[open_groups], mask[open_groups] if mask is not None else None
        chosen = values.values(_nearest(part, values, scales[open_groups]))
        if seen is not None and len(open_groups) == len(groups):
            seen(float(_errors(part, chosen, scales[open_groups], own).sum()))
        moved = _solved(part, chosen, scales[open_groups], own)
        if seen is not None and len(open_groups) == len(groups):
            seen(float(_errors(part, chosen, moved, own).sum()))
        far = np.abs(moved - scales[open_groups]) > SETTLED * scales[open_groups]
        scales[open_groups] = moved
        open_groups = open_groups[far]
        if not len(open_groups):
            break
    return at_scales(groups, values, scales, mask)


def _nearest(groups: Values, values: ValueSet, scales: Values) -> Indices:
    safe = np.where(scales > 0, scales, 1.0)
    with np.errstate(over="ignore"):  # a tiny scale makes infinities, which are the set's ends
        return values.nearest(groups / safe[:, None])


def _solved(groups: Values, chosen: Values, scales: Values, mask: Mask) -> Values:
    """The scales with the least error for chosen values; those of groups that have none are left as they are."""
    if mask is not None:
        chosen = chosen * mask
    above = np.einsum("ij,ij->i", groups, chosen)
    below = np.einsum("ij,ij->i", chosen, chosen)
    good = (above > 0) & (below > 0)
    return np.where(good, above / np.where(good, below, 1.0), scales)


def _errors(groups: Values, chosen: Values, scales: Values, mask: Mask) -> Values:
    error = groups - chosen * scales[:, None]
    if mask is not None:
        error = error * mask
    total: Values = np.einsum("ij,ij->i", error, error)
    return total


def _better(one: Scaled, other: Scaled) -> Scaled:
    """Each group of whichever has the smaller error."""
    use = other.errors < one.errors
    return Scaled(
        one.values,
        np.where(use, other.scales, one.scales),
        np.where(use[:, None], other.indices, one.indices),
        np.where(use, other.errors, one.errors),
    )


Method = Literal["auto", "always", "never"]
