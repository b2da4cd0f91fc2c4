"""How portions of a model may be processed in inference (aspect 7)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .fields import Fields, Json, member, sparse


class Processing(enum.Enum):
    """How a portion may be processed in inference (aspect 7)."""

    PARALLEL = "parallel"
    PER_SAMPLE = "per-sample"
    PER_CHANNEL = "per-channel"
    PER_CLASS = "per-class"
    #: It takes results of the portions that it names.
    DEPENDS_ON = "depends-on"


@dataclass(frozen=True)
class ProcessingOption:
    """One option for a tensor or layer.

    :param required: must be used, rather than may
    :param portions: names of what it depends on; only for DEPENDS_ON
    """

    processing: Processing
    required: bool = False
    portions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, io: Fields) -> ProcessingOption:
        """From its object."""
        return cls(member(Processing, io, "option"), io.boolean("required"), io.texts("portions"))

    def json(self) -> Json:
        """Its object."""
        return sparse(option=self.processing.value, required=self.required, portions=list(self.portions))
