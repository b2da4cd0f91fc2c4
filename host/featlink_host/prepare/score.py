"""A score: how good a network is, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """How good a network is.

    :param kind: "accuracy", "detections" or "outputs"
    :param value: 0..1, more is better: share of right labels; recall of the uncompressed network's detections;
        1 - distortion, at least 0
    :param precision: of detections
    :param f1: of detections
    :param distortion: mean squared error of the outputs over their variance, against the uncompressed network
    :param samples: how many it was looked at with
    :param counted: what was counted for `value`: samples with labels, or the reference's detections; 0: nothing was
    """

    kind: str
    value: float
    precision: float | None
    f1: float | None
    distortion: float
    samples: int
    counted: int = 0

    @property
    def counted_as(self) -> str:
        """What was counted, in a word."""
        return "objects" if self.kind == "detections" else "labels"

    @property
    def merit(self) -> float:
        """What choices are made by: F1 of detections, since recall alone favours what sees everything everywhere."""
        return self.value if self.f1 is None else self.f1

    @property
    def uncertainty(self) -> float:
        """One standard error of `merit`."""
        return self.uncertainty_of(self.merit)

    def uncertainty_of(self, merit: float) -> float:
        """One standard error of another merit on the same samples, as of a share of so many; 0: nothing was counted."""
        if not self.counted:
            return 0.0
        # As if one more had been right and one wrong: of four right ones out of four not all is known.
        share = (merit * self.counted + 1) / (self.counted + 2)
        return math.sqrt(share * (1 - share) / self.counted)

    def figures(self) -> dict[str, Any]:
        """For JSON, and for `score_of_figures`: an infinite distortion is null."""
        return {**asdict(self), "distortion": self.distortion if math.isfinite(self.distortion) else None}

    def __str__(self) -> str:
        name = {"accuracy": "accuracy", "detections": "recall", "outputs": "1 - distortion"}[self.kind]
        more = f", precision {self.precision:.4f}" if self.precision is not None else ""
        return f"{name} {self.value:.4f}{more} (distortion {self.distortion:.3g}, {self.samples} samples)"


def score_of_figures(figures: Mapping[str, Any]) -> Score:
    """The score of its figures."""
    distortion = figures["distortion"]
    return Score(**{**figures, "distortion": math.inf if distortion is None else distortion})
