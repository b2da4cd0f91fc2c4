"""What is known of each channel of a map when channels are classified: streamed over any number of maps ([0227])."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError

#: The features by name. `given` is a vector from elsewhere: what another network says of the channel.
FEATURES = ("mean", "variance", "complexity", "given")

Floats = NDArray[np.float64]


class ChannelFeatures:
    """Sums over maps of one number of channels.

    :param channels: C
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.count = 0
        self._sums = np.zeros((2, channels))
        self._steps = np.zeros(channels)
        self._step_count = 0

    def add(self, values: NDArray[np.generic]) -> None:
        """Look at one map.

        :param values: [H, W, C] of numbers
        :raises SettingsError: another shape
        """
        if values.ndim != 3 or values.shape[2] != self.channels or not values.size:
            raise SettingsError(f"a map {list(values.shape)}, expected [height, width, {self.channels}]")
        height, width, _ = values.shape
        before: Floats | None = None
        for row in range(height):  # a row at a time: no copy of the map, and sums in one order however it lies
            x = np.ascontiguousarray(values[row], np.float64)
            self._sums[0] += _down(x)
            self._sums[1] += _down(x * x)
            self._steps += _down(np.abs(np.diff(x, axis=0)))
            if before is not None:
                self._steps += _down(np.abs(x - before))
            before = x
        self.count += height * width
        self._step_count += height * (width - 1) + (height - 1) * width

    @property
    def means(self) -> Floats:
        """float64 [C]."""
        found: Floats = self._sums[0] / max(self.count, 1)
        return found

    @property
    def variances(self) -> Floats:
        """float64 [C]."""
        found: Floats = np.maximum(self._sums[1] / max(self.count, 1) - self.means * self.means, 0.0)
        return found

    @property
    def complexities(self) -> Floats:
        """float64 [C]: the mean step to the next element, across and down, in standard deviations.

        The source says "structural complexity" and no more. This is 0 where a channel is flat, small where it is
        smooth, and 1.13 for independent Gaussian values.
        """
        deviation = np.sqrt(self.variances)
        steps = self._steps / max(self._step_count, 1)
        return np.divide(steps, deviation, out=np.zeros(self.channels), where=deviation > 0)

    def vectors(self, names: Sequence[str], given: NDArray[np.generic] | None = None) -> Floats:
        """One vector a channel, every feature with mean 0 and variance 1 over the channels.

        The variance counts by its logarithm, as the depth that it is worth does.

        :param names: of `FEATURES`
        :param given: [C] or [C, n], for "given"
        :returns: float64 [C, features]
        :raises SettingsError: no such feature, or `given` is missing, not finite, or for another number of channels
        """
        columns: list[Floats] = []
        for name in names:
            if name not in FEATURES:
                raise SettingsError(f"channel feature {name!r}, expected one of {', '.join(FEATURES)}")
            if name == "given":
                columns.extend(_columns(given, self.channels))
            elif name == "mean":
                columns.append(self.means)
            elif name == "variance":
                columns.append(logarithm(self.variances))
            else:
                columns.append(self.complexities)
        if not columns:
            raise SettingsError(f"no channel features, expected some of {', '.join(FEATURES)}")
        return standardised(np.stack(columns, axis=1))


def logarithm(values: Floats) -> Floats:
    """log2 by straight lines between powers of two: within 0.09, and the same on every machine. 0 counts as the least.

    :param values: 0 or above
    """
    mantissa, exponent = np.frexp(values)
    found: Floats = exponent + 2 * mantissa - 2
    some = values > 0
    return np.where(some, found, found[some].min() - 1 if some.any() else 0.0)


def standardised(columns: Floats) -> Floats:
    """Each column less its mean, over its standard deviation; a column of one value becomes 0."""
    x = columns - _down(columns) / len(columns)
    deviation = np.sqrt(_down(x * x) / len(columns))
    return np.divide(x, deviation, out=np.zeros_like(x), where=deviation > 0)


def _columns(given: NDArray[np.generic] | None, channels: int) -> list[Floats]:
    if given is None:
        raise SettingsError("channel feature given: found no vectors")
    table = np.asarray(given, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) != channels or not np.isfinite(table).all():
        raise SettingsError(f"given features {list(np.shape(given))}, expected finite [{channels}] or [{channels}, n]")
    return list(table.T)


def _down(rows: Floats) -> Floats:
    """The sum of all rows, one after another."""
    if len(rows) == 0:
        return np.zeros(rows.shape[1])
    total: Floats = np.add.accumulate(rows, axis=0)[-1]
    return total
