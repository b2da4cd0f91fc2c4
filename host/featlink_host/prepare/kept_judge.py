"""A judge that keeps what the reference makes of its samples: many ways are scored without running it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from .samples import Batch
from .score import Score
from .scoring import Judge
from .scoring_runs import BATCH, Runner, Tensor

#: Name of the only input that a run is given, which holds nothing: what counts is the number of samples.
INPUT = "samples"


class KeptJudge:
    """Scores runs by another judge's measure, on several parts of its samples at once.

    :param judge: whose reference runs here, once
    :param folder: for its outputs, a file each
    :raises SettingsError: an output has no row for each sample
    """

    def __init__(self, judge: Judge, folder: Path) -> None:
        self._judge = judge
        self.kind = judge.kind
        outputs: dict[str, Any] = {}
        labels: list[NDArray[np.int64]] = []
        seen = 0
        for batch, wanted in judge.references():
            count = len(next(iter(batch.inputs.values())))
            for name, values in wanted.items():
                if values.shape[:1] != (count,):
                    raise SettingsError(f"output {name!r}: found shape {list(values.shape)} for {count} samples")
                if name not in outputs:
                    file = folder / f"reference-{len(outputs)}.npy"
                    shape = (judge.samples, *values.shape[1:])
                    outputs[name] = np.lib.format.open_memmap(file, "w+", values.dtype, shape)
                outputs[name][seen : seen + count] = values
            if batch.labels is not None:
                labels.append(batch.labels)
            seen += count
        self.samples = seen
        self._outputs = {name: values[:seen] for name, values in outputs.items()}
        self._labels = np.concatenate(labels) if labels else None

    def score_of(self, run: Runner) -> Score:
        """Of all samples, see `scores_of`."""
        return self.scores_of(run, [0] * self.samples)[0]

    def scores_of(self, run: Runner, parts: Sequence[int]) -> list[Score]:
        """A score of each part; the run is given all samples in order.

        :param run: from {INPUT: an array whose length is the number of samples} to outputs
        :param parts: of each sample: the part that it belongs to, 0 and up
        """
        if len(parts) != self.samples:
            raise SettingsError(f"parts of {len(parts)} samples, expected {self.samples}")
        tallies = [self._judge.tally() for _ in range(max(parts) + 1)]
        for part, first, count in _stretches(parts):
            inputs = {INPUT: np.empty((count, 0), np.float32)}
            some = slice(first, first + count)
            wanted: Mapping[str, Tensor] = {name: values[some] for name, values in self._outputs.items()}
            labels = None if self._labels is None else self._labels[some]
            tallies[part].add(Batch(inputs, labels, first), wanted, run(inputs))
        return [tally.score() for tally in tallies]


def _stretches(parts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(part, first sample, samples) of samples that follow each other in one part."""
    first = 0
    for part, group in groupby(parts):
        left = len(list(group))
        while left:
            count = min(left, BATCH)
            yield part, first, count
            first, left = first + count, left - count
