"""Level 1 of the control data: how to find and read the tensors, which versions they make, what lies beside them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from ..errors import SettingsError
from .budget import Budget
from .fields import FieldError, Fields, Json, member, packed, sparse, unique
from .inference import InferenceFormat
from .orders import Order, OrderKind
from .processing import ProcessingOption
from .reconstruction import EscapeTable

MAX_OFFSET = (1 << 48) - 1
MAX_DIMENSION = (1 << 31) - 1


@dataclass(frozen=True)
class TensorRecord:
    """Level 1: a tensor of the stream.

    :param name: of the tensor in its model
    :param offset: of its unit, in bytes from the end of the unit that holds the control data
    :param size: of its unit, in bytes
    :param sha256: `DecodedTensor.sha256`, hexadecimal
    :param unit_name: topology_elem_id, where it is not `name`
    :param shape: where it is not the unit's dimensions
    :param dtype: where it is not that of the decoded values
    :param parameter_type: ``weight``, ``bias`` or another word
    :param escape: levels outside its limit are not multiples of the step
    :param inference: the number format to keep it in
    :param replaces: in an update: it is no difference, it takes the place of the tensor
    """

    name: str
    offset: int
    size: int
    sha256: str
    unit_name: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    parameter_type: str = "weight"
    order: Order = field(default_factory=Order)
    escape: EscapeTable | None = None
    inference: InferenceFormat | None = None
    options: tuple[ProcessingOption, ...] = ()
    replaces: bool = False

    @property
    def topology_elem_id(self) -> str:
        """The name that the unit has for it."""
        return self.name if self.unit_name is None else self.unit_name

    @property
    def needs_control_data(self) -> bool:
        """Whether the unit alone would be read as something else."""
        said = (self.unit_name, self.shape, self.dtype, self.escape)
        return any(one is not None for one in said) or self.order.kind is not OrderKind.ROW or self.replaces

    @classmethod
    def parse(cls, io: Fields, budget: Budget) -> TensorRecord:
        """From its object."""
        at = io.integers("at", 0, MAX_OFFSET)
        if len(at) != 2:
            raise FieldError(f"{io.way('at')}: {len(at)} numbers, expected an offset and a size")
        shape = io.integers("shape", 1, MAX_DIMENSION) if io.has("shape") else None
        if shape is not None and len(shape) > budget.max_dimensions:
            raise FieldError(f"{io.way('shape')}: {len(shape)} dimensions, the budget has {budget.max_dimensions}")
        dtype = io.text("dtype") if io.has("dtype") else None
        if dtype is not None and dtype not in DTYPES:
            raise FieldError(f"{io.way('dtype')}: found {dtype!r}, expected one of {', '.join(DTYPES)}")
        return cls(
            name=io.text("name"),
            offset=at[0],
            size=at[1],
            sha256=io.digest("sha256"),
            unit_name=io.text("unit") if io.has("unit") else None,
            shape=shape,
            dtype=dtype,
            parameter_type=io.text("type", "weight"),
            order=_order(io.object("order")) if io.has("order") else Order(),
            escape=_escape(io.object("escape")) if io.has("escape") else None,
            inference=_inference(io) if io.has("inference") else None,
            options=tuple(map(ProcessingOption.parse, io.objects("options"))),
            replaces=io.boolean("replaces"),
        )

    def json(self) -> Json:
        """Its object."""
        order: dict[str, Any] = sparse(
            kind=self.order.kind.value, block=self.order.block, permutation=list(self.order.permutation)
        )
        escape = self.escape and {
            "limit": self.escape.limit,
            "positive": list(self.escape.positive),
            "negative": list(self.escape.negative),
        }
        found: dict[str, Any] = {"name": self.name, "at": [self.offset, self.size], "sha256": packed(self.sha256)}
        if self.shape is not None:
            found["shape"] = list(self.shape)
        return found | sparse(
            unit=self.unit_name,
            dtype=self.dtype,
            type=None if self.parameter_type == "weight" else self.parameter_type,
            order=None if self.order.kind is OrderKind.ROW else order,
            escape=escape,
            inference=self.inference and self.inference.name,
            options=[option.json() for option in self.options],
            replaces=self.replaces,
        )


#: Types that a tensor may have had before it was coded, beside float32 and int32.
DTYPES = ("float16", "float64", "bool", "int8", "int16", "int64", "uint8", "uint16", "uint32", "uint64")


class Rule(enum.Enum):
    """How a part makes a tensor of a version out of that of the version it extends (aspect 10)."""

    #: It is the tensor.
    WHOLE = "whole"
    #: It is added to the tensor.
    DIFFERENCE = "difference"
    #: The tensor grows to the part's shape, new places 0, then the part is added: more neurons, or connections.
    GROWTH = "growth"
    #: A layer of its own beside the tensor's layer; their outputs are added.
    COMPENSATION = "compensation"


@dataclass(frozen=True)
class Part:
    """One tensor of a version.

    :param tensor: its name in the model
    :param source: the `TensorRecord` that it is made from, by name
    """

    tensor: str
    source: str
    rule: Rule = Rule.WHOLE

    @classmethod
    def parse(cls, io: Fields) -> Part:
        """From its object."""
        tensor = io.text("tensor")
        return cls(tensor, io.text("source", tensor), member(Rule, io, "rule", "whole"))

    def json(self) -> Json:
        """Its object."""
        source = None if self.source == self.tensor else self.source
        rule = None if self.rule is Rule.WHOLE else self.rule.value
        return {"tensor": self.tensor} | sparse(source=source, rule=rule)


@dataclass(frozen=True)
class Version:
    """A version of the model: its own parts over those of the version that it extends."""

    name: str
    extends: str | None = None
    parts: tuple[Part, ...] = ()

    @classmethod
    def parse(cls, io: Fields) -> Version:
        """From its object."""
        extends = io.text("extends") if io.has("extends") else None
        return cls(io.text("name"), extends, tuple(map(Part.parse, io.objects("parts"))))

    def json(self) -> Json:
        """Its object."""
        return {"name": self.name} | sparse(extends=self.extends, parts=[part.json() for part in self.parts])


@dataclass(frozen=True)
class Supplement:
    """Data beside the model that inference does not need (aspect 11).

    :param kind: ``relevance`` (a score a parameter), ``robustness`` (against perturbation) or another word
    :param tensor: what it is about
    :param source: the `TensorRecord` that holds it, by name
    """

    kind: str
    tensor: str
    source: str

    @classmethod
    def parse(cls, io: Fields) -> Supplement:
        """From its object."""
        return cls(io.text("kind"), io.text("tensor"), io.text("source"))

    def json(self) -> Json:
        """Its object."""
        return {"kind": self.kind, "tensor": self.tensor, "source": self.source}


@dataclass(frozen=True)
class TensorLevel:
    """Level 1: how to find and read the tensors.

    :param removed: in an update: tensors that the model loses
    """

    tensors: tuple[TensorRecord, ...] = ()
    versions: tuple[Version, ...] = ()
    supplements: tuple[Supplement, ...] = ()
    removed: tuple[str, ...] = ()

    @classmethod
    def parse(cls, io: Fields, budget: Budget) -> TensorLevel:
        """From its object."""
        found = cls(
            tuple(TensorRecord.parse(one, budget) for one in io.objects("tensors")),
            tuple(map(Version.parse, io.objects("versions"))),
            tuple(map(Supplement.parse, io.objects("supplements"))),
            io.texts("removed"),
        )
        found.check()
        return found

    def check(self) -> None:
        """Names are unique, and whatever is named is there.

        :raises FieldError: otherwise
        """
        known = unique("tensors", [record.name for record in self.tensors])
        unique("tensors", [record.topology_elem_id for record in self.tensors])
        unique("versions", [version.name for version in self.versions])
        before: set[str] = set()
        for version in self.versions:
            if version.extends is not None and version.extends not in before:
                raise FieldError(
                    f"versions: {version.name!r} extends {version.extends!r}, which does not come before it"
                )
            before.add(version.name)
            unique(f"versions: parts of {version.name!r}", [part.source for part in version.parts])
            for part in version.parts:
                if part.source not in known:
                    raise FieldError(f"versions: {version.name!r} needs the tensor {part.source!r}, which is not there")
        for supplement in self.supplements:
            if supplement.source not in known:
                raise FieldError(f"supplements: the tensor {supplement.source!r} is not there")

    def json(self) -> dict[str, Json]:
        """Its object."""
        return sparse(
            tensors=[record.json() for record in self.tensors],
            versions=[version.json() for version in self.versions],
            supplements=[supplement.json() for supplement in self.supplements],
            removed=list(self.removed),
        )


def _order(io: Fields) -> Order:
    kind = member(OrderKind, io, "kind")
    block, permutation = io.integer("block", 0, MAX_DIMENSION, 0), io.integers("permutation", 0, MAX_DIMENSION)
    try:
        return Order(kind, block, permutation)
    except SettingsError as error:
        raise FieldError(f"{io.way('')}: {error}") from None


def _escape(io: Fields) -> EscapeTable:
    return EscapeTable(io.integer("limit", 0, MAX_DIMENSION), io.numbers("positive"), io.numbers("negative"))


def _inference(io: Fields) -> InferenceFormat:
    try:
        return InferenceFormat(io.text("inference"))
    except SettingsError as error:
        raise FieldError(f"{io.way('inference')}: {error}") from None
