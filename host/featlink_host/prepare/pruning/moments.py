"""Least squares by second moments: samples are summed up batch by batch and never kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
#: How strongly weights are held where they are, in shares of the mean square of an input: the one that does best on
#: samples that were not fitted is taken.
DAMPINGS = (1e-3, 1e-2, 1e-1)
#: Every fourth sample is for trying the fit.
HELD = 4
#: Steps of conjugate gradients, where single weights have to stay zero.
STEPS = 25


class Moments:
    """Sums over what a layer sees, x, and over what it should put out, y.

    :param groups: of a convolution
    :param inputs: of one output
    :param outputs: of all groups together
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        self.count = 0
        #: sum of [x, 1] [x, 1]^T and of [x, 1] y^T of each group
        self.inner: Matrix = np.zeros((groups, inputs + 1, inputs + 1))
        self.cross: Matrix = np.zeros((groups, inputs + 1, outputs // groups))

    def add(self, seen: NDArray[Any], result: NDArray[Any]) -> None:
        """Take in samples.

        :param seen: [samples, groups, inputs]
        :param result: [samples, outputs]
        """
        count, groups, _ = seen.shape
        if not count:
            return
        wide = np.concatenate([seen, np.ones((count, groups, 1), seen.dtype)], axis=2).transpose(1, 2, 0)
        out = result.reshape(count, groups, -1).transpose(1, 0, 2)
        self.inner += np.matmul(wide, wide.transpose(0, 2, 1))
        self.cross += np.matmul(wide, out)
        self.count += count

    def __add__(self, other: Moments) -> Moments:
        groups, inputs, outputs = self.cross.shape
        both = Moments(groups, inputs - 1, groups * outputs)
        both.count = self.count + other.count
        both.inner, both.cross = self.inner + other.inner, self.cross + other.cross
        return both

    @property
    def covariance(self) -> Matrix:
        """Of x, [groups, inputs, inputs]."""
        mean = self.mean
        square: Matrix = self.inner[:, :-1, :-1] / max(self.count, 1)
        return square - mean[:, :, None] * mean[:, None, :]

    @property
    def mean(self) -> Matrix:
        """Of x, [groups, inputs]."""
        found: Matrix = self.inner[:, :-1, -1] / max(self.count, 1)
        return found

    def error(self, weights: Matrix) -> float:
        """Sum of squared errors of y but for the sum of y squared, which does not depend on the weights.

        :param weights: [groups, inputs + 1, outputs of a group], the bias in the last row
        """
        return float(np.sum(weights * (self.inner @ weights - 2 * self.cross)))

    def solve(self, start: Matrix, damping: float, free: NDArray[np.bool_] | None, biased: bool) -> Matrix:
        """Weights that fit best, held to where they are.

        :param start: as in `error`
        :param free: of each weight: whether it may change; None: all of them
        :param biased: the bias may change
        """
        size = start.shape[1] - 1
        scale = np.einsum("gii->g", self.inner[:, :-1, :-1]) / size * damping
        hold = np.repeat(np.where(scale > 0, scale, 1.0)[:, None], size + 1, axis=1)
        hold[:, -1] = 1e-6 * self.count  # a bias is cheap to fit
        inner = self.inner.copy()
        places = np.arange(size + 1)
        inner[:, places, places] += hold
        cross = self.cross + hold[:, :, None] * start
        if not biased:
            found = start.copy()
            rest = cross[:, :-1] - inner[:, :-1, -1:] * start[:, -1:]
            found[:, :-1] = _solved(inner[:, :-1, :-1], rest, start[:, :-1], None if free is None else free[:, :-1])
            return found
        return _solved(inner, cross, start, free)


def _solved(inner: Matrix, cross: Matrix, start: Matrix, free: NDArray[np.bool_] | None) -> Matrix:
    if free is None:
        return np.asarray(np.linalg.solve(inner, cross), np.float64)
    # Conjugate gradients, each output for itself: what is not free has no gradient.
    diagonal = np.einsum("gii->gi", inner)[:, :, None]
    found = start.astype(np.float64)
    rest: Matrix = np.where(free, cross - inner @ found, 0.0)
    ready = rest / diagonal
    way: Matrix = ready.astype(np.float64)
    slope = np.sum(rest * ready, axis=1, keepdims=True)
    first = slope.copy()
    for _ in range(STEPS):
        along = np.where(free, inner @ way, 0.0)
        bend = np.sum(way * along, axis=1, keepdims=True)
        step = np.divide(slope, bend, out=np.zeros_like(slope), where=bend > 0)
        found += step * way
        rest -= step * along
        ready = rest / diagonal
        new = np.sum(rest * ready, axis=1, keepdims=True)
        if not (new > 1e-12 * first).any():
            break
        way = ready + np.divide(new, slope, out=np.zeros_like(new), where=slope > 0) * way
        slope = new
    return found


def fit(
    fitted: Moments, held: Moments, start: Matrix, free: NDArray[np.bool_] | None = None, biased: bool = True
) -> Matrix | None:
    """The weights of least error, held as strongly as does best on samples that were not fitted.

    :param fitted: moments of the samples to fit
    :param held: moments of the others; without any, the middle one of DAMPINGS is taken
    :param start: the weights now
    :returns: None where no fit does better on the others than the weights now
    """
    if not fitted.count:
        return None
    middle = DAMPINGS[len(DAMPINGS) // 2]
    if not held.count:
        return fitted.solve(start, middle, free, biased)
    # With single weights at zero a solution takes many products of large matrices: one is tried.
    tried = DAMPINGS if free is None else (middle,)
    errors = {damping: held.error(fitted.solve(start, damping, free, biased)) for damping in tried}
    best = min(errors, key=lambda damping: errors[damping])
    if not errors[best] < held.error(start):
        return None
    return (fitted + held).solve(start, best, free, biased)
