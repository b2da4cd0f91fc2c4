"""A matrix as the product of two thinner ones: singular values, of the matrix itself or of what it puts out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factors:
    """All that a matrix W [v, u] can be factored into: W ~ left[:, :t] @ right[:t].

    :param left: [v, r]
    :param right: [r, u]
    :param energies: [r], falling: squares of the singular values, of W itself or of what it puts out
    """

    left: Matrix
    right: Matrix
    energies: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix: outputs v, inputs u."""
        return self.left.shape[0], self.right.shape[1]

    def lost(self, rank: int) -> float:
        """Share of the energy that a rank leaves out."""
        whole = float(self.energies.sum())
        return float(self.energies[rank:].sum()) / whole if whole > 0 else 0.0

    def rank_for(self, energy: float) -> int:
        """The least rank that keeps such a share of the energy, at least 1."""
        kept = np.cumsum(self.energies) / (float(self.energies.sum()) or 1.0)
        return min(len(kept), int(np.searchsorted(kept, energy - 1e-12)) + 1)

    @property
    def largest_saving(self) -> int:
        """The largest rank at which two layers cost less than one: t (u + v) < u v; 0 where there is none."""
        v, u = self.shape
        return (u * v - 1) // (u + v)


def factor(matrix: Matrix, covariance: Matrix | None = None) -> Factors:
    """Factors of a matrix, y = W x = U (S V^T) x.

    With a covariance of x, those of least error in y: the principal directions U of y, and U^T W before them.

    :param matrix: W, [outputs v, inputs u]
    :param covariance: of x, [u, u]
    """
    if covariance is None:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        return Factors(left, values[:, None] * right, values**2)
    values, directions = np.linalg.eigh(matrix @ covariance @ matrix.T)
    order = np.argsort(values)[::-1][: min(matrix.shape)]
    left = directions[:, order]
    return Factors(left, left.T @ matrix, np.maximum(values[order], 0.0))
