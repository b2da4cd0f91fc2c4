"""The control data of a model stream: what NNC has no syntax for, in five levels of growing detail (aspect 12).

Each record is one object of the JSON document that `control_document` lays out. Members at their defaults are left
out; members that nobody knows are skipped. Level 1 stands in `tensor_level`.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field

from .budget import Budget
from .fields import FieldError, Fields, Json, packed, sparse, unique
from .processing import ProcessingOption


@dataclass(frozen=True)
class LayerRecord:
    """Level 2: a layer.

    :param layer_type: ``convolution``, ``depthwise``, ``fully-connected`` or another word
    :param tensors: its tensors by name
    :param sha256: `identity.layer_sha256` of its tensors, hexadecimal
    """

    name: str
    layer_type: str
    tensors: tuple[str, ...]
    sha256: str
    options: tuple[ProcessingOption, ...] = ()

    @classmethod
    def parse(cls, io: Fields) -> LayerRecord:
        """From its object."""
        options = tuple(map(ProcessingOption.parse, io.objects("options")))
        return cls(io.text("name"), io.text("type"), io.texts("tensors"), io.digest("sha256"), options)

    def json(self) -> Json:
        """Its object."""
        found = {
            "name": self.name,
            "type": self.layer_type,
            "tensors": list(self.tensors),
            "sha256": packed(self.sha256),
        }
        return found | sparse(options=[option.json() for option in self.options])


@dataclass(frozen=True)
class LayerLevel:
    """Level 2: which tensors are a layer, and of which type."""

    layers: tuple[LayerRecord, ...] = ()

    @classmethod
    def parse(cls, io: Fields, _budget: Budget) -> LayerLevel:
        """From its object."""
        found = cls(tuple(map(LayerRecord.parse, io.objects("layers"))))
        unique("layers", [layer.name for layer in found.layers])
        return found

    def json(self) -> dict[str, Json]:
        """Its object."""
        return {"layers": [layer.json() for layer in self.layers]}


@dataclass(frozen=True)
class Topology:
    """Level 3: the graph, without weights.

    :param format: ``onnx``, or another word
    :param data: the graph's bytes; deflated and in base85 on the wire
    """

    format: str
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, io: Fields, budget: Budget) -> Topology:
        """From its object."""
        try:
            packed = base64.b85decode(io.text("deflate"))
            inflate = zlib.decompressobj()
            data = inflate.decompress(packed, budget.max_topology_bytes)
            if inflate.unconsumed_tail:
                raise FieldError(f"{io.way('deflate')}: more than {budget.max_topology_bytes} bytes, the budget")
            if not inflate.eof or inflate.unused_data:
                raise FieldError(f"{io.way('deflate')}: not one whole zlib stream")
        except (ValueError, binascii.Error, zlib.error) as error:
            raise FieldError(f"{io.way('deflate')}: {error}") from None
        return cls(io.text("format"), data)

    def json(self) -> dict[str, Json]:
        """Its object."""
        return {"format": self.format, "deflate": base64.b85encode(zlib.compress(self.data, 9)).decode()}


@dataclass(frozen=True)
class ModelInfo:
    """Level 4: the model.

    :param training: how it was trained; any JSON object
    :param performance: what it reaches, e.g. ``{"accuracy": 0.91}``; any JSON object
    """

    name: str = ""
    version: str = ""
    training: dict[str, Json] = field(default_factory=dict)
    performance: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def parse(cls, io: Fields, _budget: Budget) -> ModelInfo:
        """From its object."""
        return cls(io.text("name", ""), io.text("version", ""), io.free("training"), io.free("performance"))

    def json(self) -> dict[str, Json]:
        """Its object."""
        return sparse(name=self.name, version=self.version, training=self.training, performance=self.performance)


@dataclass(frozen=True)
class DataSet:
    """Level 5: what it was trained and tested on; any JSON object beside the name."""

    name: str = ""
    properties: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def parse(cls, io: Fields, _budget: Budget) -> DataSet:
        """From its object."""
        return cls(io.text("name", ""), io.free("properties"))

    def json(self) -> dict[str, Json]:
        """Its object."""
        return sparse(name=self.name, properties=self.properties)
