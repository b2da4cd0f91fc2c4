"""How much of the head's error noise in each channel of a map makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibrate import spread
from .scoring_runs import Distortion, ModelRunner

#: Maps that are looked at.
MAPS = 3
#: Deviation of the noise, in the map's own: as much as two or three bits a value leave.
NOISE = 0.2


def channel_sensitivity(
    head: Path, tensor: str, maps: NDArray[np.float32], places: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Distortion of the head's outputs over the variance of noise in one channel, for each channel.

    The head runs once a channel and map. The noise is Gaussian, the same in every channel and from run to run.

    :param tensor: the head's input
    :param maps: float32 [N, C, H, W]
    :param places: of maps to choose from; None: all
    :returns: float64 [C]
    """
    some = list(range(len(maps)) if places is None else places)
    chosen = np.stack([np.asarray(maps[some[at]]) for at in spread(len(some), MAPS)])
    run = ModelRunner(head)
    deviation = float(chosen.std())
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((len(chosen), *chosen.shape[2:])) * NOISE * deviation).astype(np.float32)
    power = float(np.square(noise, dtype=np.float64).mean())
    clean: dict[str, NDArray[Any]] = run({tensor: chosen})
    found = np.zeros(chosen.shape[1])
    for channel in range(chosen.shape[1]):
        dirty = chosen.copy()
        dirty[:, channel] += noise
        distortion = Distortion()
        distortion.add(clean, run({tensor: dirty}))
        found[channel] = distortion.value / power if power else 0.0
    return found


def head_sensitivity(head: Path, tensor: str, maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """`channel_sensitivity` of tensors [1, C, H, W]."""
    return channel_sensitivity(head, tensor, np.concatenate([maps[at] for at in spread(len(maps), MAPS)]))
