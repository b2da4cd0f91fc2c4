"""Which distribution a map has: the source's four ways to tell ([0110]-[0127]), by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...errors import SettingsError
from .fitting import summary_of
from .histogram import Histogram, Summary
from .parameters import DECIDERS, Distribution
from .structure import Structure

#: Similarity from which a map has a distribution; the source leaves measure and threshold open ([0113]). A Gaussian and
#: a Laplace density of one variance have 0.859 in common, a uniform and a Gaussian one 0.802: this lies between them
#: and 1, and leaves room for maps of a thousand values.
SIMILARITY = 0.93

#: Bins of the comparison within four standard deviations, and two more beyond; half as many for few values.
_BINS = 32
_FEW = 4096
_REACH = 4.0

Density = Callable[[float], float]


@dataclass(frozen=True)
class DeciderOptions:
    """What a decider may be told.

    :param similarity: `histogram`: from where on a map has a distribution, above 0, at most 1
    :param uniform: `structure-or-uniform`: the user's switch ([0125])
    :param uniform_layers: `structure-or-uniform`: indices of layers whose maps are uniform ([0125])
    """

    similarity: float = SIMILARITY
    uniform: bool = False
    uniform_layers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise SettingsError(f"similarity {self.similarity} is not above 0 and at most 1")


def decide(
    name: str,
    values: ArrayLike | Histogram | Summary | None = None,
    structure: Structure | None = None,
    options: DeciderOptions | None = None,
) -> Distribution:
    """The distribution of a map.

    :param name: one of `DECIDERS`
    :param values: of the map, or what was counted of them; `histogram` needs them
    :param structure: where the map comes from; the others need it
    :raises SettingsError: no such decider, or it lacks what it needs
    """
    if name not in DECIDERS:
        raise SettingsError(f"decider {name!r}, expected one of {', '.join(DECIDERS)}")
    given = options or DeciderOptions()
    if name == "histogram":
        if values is None:
            raise SettingsError("decider histogram needs the map's values")
        return _by_histogram(summary_of(values), given)
    if structure is None:
        raise SettingsError(f"decider {name} needs the network's structure")
    return _BY_STRUCTURE[name](structure, given)


def similarities(summary: Summary) -> dict[Distribution, float]:
    """What a map's histogram has in common with the Gaussian and the Laplace density of its mean and variance.

    The measure is the overlap: the sum over all bins of the smaller share, 1 where both are the same.
    """
    deviation = math.sqrt(summary.variance)
    if deviation == 0:
        return {Distribution.GAUSSIAN: 0.0, Distribution.LAPLACE: 0.0}
    bins = _BINS if summary.count >= _FEW else _BINS // 2
    edges = [_REACH * (2 * k / bins - 1) for k in range(bins + 1)]
    found = _shares(summary, [summary.mean + deviation * edge for edge in edges])
    return {
        Distribution.GAUSSIAN: _overlap(found, edges, lambda x: (1 + math.erf(x / math.sqrt(2))) / 2),
        Distribution.LAPLACE: _overlap(found, edges, _below_laplace),
    }


def _by_histogram(summary: Summary, options: DeciderOptions) -> Distribution:
    """[0112]-[0114]: Gaussian if it is like one, else Laplace if it is like that, else uniform."""
    for distribution, similarity in similarities(summary).items():
        if similarity >= options.similarity:
            return distribution
    return Distribution.UNIFORM


def _by_next_layer(structure: Structure, options: DeciderOptions) -> Distribution:
    """[0117]: Laplace before a summation, otherwise Gaussian."""
    return Distribution.LAPLACE if structure.before_summation else Distribution.GAUSSIAN


def _by_structure(structure: Structure, options: DeciderOptions) -> Distribution:
    """[0120]-[0122]: Gaussian after a batch normalisation, otherwise by the next layer."""
    if structure.after_batch_norm:
        return Distribution.GAUSSIAN
    return _by_next_layer(structure, options)


def _by_structure_or_uniform(structure: Structure, options: DeciderOptions) -> Distribution:
    """[0125]-[0127]: uniform if the user or the layer's index says so, otherwise by the structure."""
    if options.uniform or structure.layer_index in options.uniform_layers:
        return Distribution.UNIFORM
    return _by_structure(structure, options)


_BY_STRUCTURE = {
    "next-layer": _by_next_layer,
    "structure": _by_structure,
    "structure-or-uniform": _by_structure_or_uniform,
}


def _shares(summary: Summary, edges: list[float]) -> list[float]:
    """The part of all values below the first edge, between each two, and above the last."""
    below = summary.part_below(np.array(edges))
    return [float(share) for share in np.diff(np.concatenate(([0.0], below, [1.0])))]


def _overlap(found: list[float], edges: list[float], below: Density) -> float:
    parts = [0.0, *(below(edge) for edge in edges), 1.0]
    return math.fsum(min(share, after - before) for share, before, after in zip(found, parts, parts[1:], strict=False))


def _below_laplace(x: float) -> float:
    """The Laplace distribution function of mean 0 and variance 1: its scale is the square root of a half."""
    tail = math.exp(-abs(x) * math.sqrt(2)) / 2
    return tail if x < 0 else 1 - tail
