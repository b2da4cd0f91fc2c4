"""How a student is trained."""

from __future__ import annotations

from dataclasses import dataclass

from featlink_codec.errors import SettingsError


@dataclass(frozen=True)
class DistillOptions:
    """Everything but the data and the teacher.

    :param width: of the student, see `architecture.student`
    :param epochs: times that all pictures are gone through
    :param batch: pictures of a step
    :param learning_rate: the greatest: it rises over the first share `warm_up` of all steps, then falls to next to 0
    :param temperature: T of the soft predictions
    :param alpha: weight of L_soft
    :param beta: weight of L_hard
    :param hold_out: training pictures that are looked at, never trained on
    :param pictures: to train on: so many of the others, the same ones for every seed; None: all of them
    """

    width: int = 8
    epochs: int = 8
    batch: int = 256
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    warm_up: float = 0.2
    temperature: float = 4.0
    alpha: float = 0.9
    beta: float = 0.1
    seed: int = 0
    hold_out: int = 5000
    pictures: int | None = None

    def __post_init__(self) -> None:
        for key in ("width", "epochs", "batch"):
            if getattr(self, key) < 1:
                raise SettingsError(f"{key}: found {getattr(self, key)}, expected at least 1")
        for key in ("learning_rate", "temperature"):
            if not 0 < getattr(self, key) < float("inf"):
                raise SettingsError(f"{key}: found {getattr(self, key)}, expected a number above 0")
        for key in ("alpha", "beta", "weight_decay"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise SettingsError(f"{key}: found {getattr(self, key)}, expected a number of at least 0")
        if self.pictures is not None and self.pictures < 1:
            raise SettingsError(f"pictures: found {self.pictures}, expected at least 1")
        if self.alpha + self.beta == 0:
            raise SettingsError("alpha, beta: found 0 for both, expected one above 0")
        if not 0 < self.warm_up < 1:
            raise SettingsError(f"warm_up: found {self.warm_up}, expected a share between 0 and 1")
        if self.seed < 0 or self.hold_out < 0:
            raise SettingsError(f"seed {self.seed}, hold-out {self.hold_out}: expected at least 0")


@dataclass(frozen=True)
class Epoch:
    """What came of one.

    :param loss: mean over its steps
    :param held_out: share of right labels of the pictures held out; None: none were
    """

    loss: float
    held_out: float | None
