"""What the stream carries of one class of an adaptive quantizer: a distribution, a depth and four numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from ...errors import SettingsError

if TYPE_CHECKING:
    from .quantizers import AdaptiveQuantizer

#: From this spread on, a logarithmic class's value of the level one spread above the center overflows binary32.
LOGARITHMIC_LIMIT = 128.0


#: How parameters are found: by the least squared error, or as the source says.
HOWS = ("least-squares", "literal")
#: What decides on a distribution, by name, in the source's order: figures 7 to 10.
DECIDERS = ("histogram", "next-layer", "structure", "structure-or-uniform")


class Distribution(IntEnum):
    """Which normalisation a class has: `distribution`, u(2) in the stream."""

    UNIFORM = 0
    GAUSSIAN = 1
    LAPLACE = 2
    #: logarithmic, then uniform
    LOGARITHMIC = 3

    @property
    def signed(self) -> bool:
        """Whether the levels count from a center, M = 2 ** (depth - 1) - 1 of them to one spread."""
        return self is not Distribution.UNIFORM


@dataclass(frozen=True)
class ClassParameters:
    """One class, as it is signalled; every number exactly a binary32.

    :param distribution: the normalisation, see `AdaptiveQuantizer`
    :param bit_depth: 1 to 16; 2 to 16 where levels count from a center, as M would be 0
    :param center: uniform: the minimum; Gaussian: the mean; Laplace: 0 in the source, any number here; logarithmic: the
        number around which the map is taken to its logarithm. Finite
    :param spread: uniform: maximum - minimum; Gaussian: the source prints the variance; Laplace: the scale;
        logarithmic: the greatest log2(abs(x - center) + 1), below 128. Finite, above 0
    :param step: of the levels, finite, above 0
    :param offset: for rounding, finite
    :raises SettingsError: anything else, or spreads so wide that a level's value overflows binary32
    """

    distribution: Distribution
    bit_depth: int
    center: float
    spread: float
    step: float = 1.0
    offset: float = 0.5

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "distribution", Distribution(self.distribution))
        except ValueError:
            raise SettingsError(f"distribution {self.distribution!r} is not within 0..3") from None
        least = 2 if self.distribution.signed else 1
        if not least <= self.bit_depth <= 16:
            raise SettingsError(
                f"class depth {self.bit_depth} of a {self.distribution.name.lower()} class is not within {least}..16"
            )
        for name in ("center", "spread", "step", "offset"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            positive = name in ("spread", "step")
            if not math.isfinite(value) or (positive and value <= 0):
                raise SettingsError(f"{name} is {value}, expected a finite number{' above 0' if positive else ''}")
            nearest = _binary32(value)
            if nearest != value:
                raise SettingsError(f"{name} {value!r} is no binary32; the nearest one is {nearest!r}")
        if self.distribution is Distribution.LOGARITHMIC and self.spread >= LOGARITHMIC_LIMIT:
            raise SettingsError(f"spread {self.spread} of a logarithmic class is not below {LOGARITHMIC_LIMIT:g}")
        for level in (0, self.peak):
            if not math.isfinite(_binary32(self.value_of(level))):
                raise SettingsError(
                    f"center {self.center} and spread {self.spread} take level {level} beyond the largest binary32"
                )

    @classmethod
    def rounded(
        cls,
        distribution: Distribution,
        bit_depth: int,
        center: float,
        spread: float,
        step: float = 1.0,
        offset: float = 0.5,
    ) -> ClassParameters:
        """The same from any numbers, each rounded to the nearest binary32; a spread of nothing to the smallest one."""
        tiny = float(np.finfo(np.float32).smallest_subnormal)
        return cls(
            distribution,
            bit_depth,
            _binary32(center),
            max(_binary32(spread), tiny) if spread > 0 else spread,
            _binary32(step),
            _binary32(offset),
        )

    @property
    def peak(self) -> int:
        """Highest level, 2 ** bit_depth - 1."""
        return (1 << self.bit_depth) - 1

    @property
    def half(self) -> int:
        """M = 2 ** (bit_depth - 1) - 1, the level at the center of distributions that have one."""
        return (1 << (self.bit_depth - 1)) - 1

    def quantizer(self) -> AdaptiveQuantizer:
        """Thresholds and level values of this class."""
        from .quantizers import AdaptiveQuantizer

        return AdaptiveQuantizer(self)

    def value_of(self, level: int) -> float:
        """The inverse of one level in binary64, not yet rounded to binary32; infinite where it overflows."""
        n = min(max(level * self.step, 0.0), float(self.peak))
        return self.denormalised(n)

    def denormalised(self, n: float) -> float:
        """x of a normalised n, in the order printed: equations 10, 13 and 16 of the source ([0178], [0185], [0192])."""
        if self.distribution is Distribution.UNIFORM:
            return n / self.peak * self.spread + self.center
        scaled = (n / self.half - 1) * self.spread
        if self.distribution is Distribution.LOGARITHMIC:
            power = math.pow(2.0, abs(scaled)) - 1 if abs(scaled) < 1024 else math.inf
            scaled = math.copysign(power, scaled)
        return scaled + self.center


def _binary32(value: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(value))
