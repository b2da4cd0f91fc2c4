"""How a model is coded: settings for all tensors and for single ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from ..errors import SettingsError
from .inference import DATA_FORMATS, InferenceFormat
from .orders import Order
from .reconstruction import step_size
from .tensor_syntax import MAX_SCAN_ORDER

#: Orders that the encoder finds out by itself: rows by their mean, or whichever takes the fewest bytes.
OrderChoice = Order | Literal["monotone", "cheapest"]


@dataclass(frozen=True)
class TensorSettings:
    """How one tensor is coded.

    :param qp: quantization parameter; 4 more double the step at a density of 2. Raised where levels would not fit
    :param dq: dependent quantization rather than uniform
    :param rate_weight: lambda of rate-distortion optimised quantization; 0: least distortion
    :param row_skip: rows that are all zero take one bin
    :param scan_order: 1 to 4: blocks of 8 to 64, with an entry point at each block row, for decoding by several threads
    :param order: how the parameters are arranged in the stream; the control data says so
    :param codebook: where it takes fewer bytes, code places in a table of the levels that occur
    :param escape_limit: levels beyond it are exact, from a table in the control data; not with `dq` or `codebook`
    :param raw: binary32 as it is
    :param inference: the format to keep the tensor in, for the control data
    """

    qp: int = -32
    dq: bool = True
    rate_weight: float = 0.0
    row_skip: bool = True
    scan_order: int = 0
    order: OrderChoice = field(default_factory=Order)
    codebook: bool = False
    escape_limit: int | None = None
    raw: bool = False
    inference: InferenceFormat | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_weight) and self.rate_weight >= 0):
            raise SettingsError(f"rate_weight is {self.rate_weight}, expected a number from 0 up")
        if not 0 <= self.scan_order <= MAX_SCAN_ORDER:
            raise SettingsError(f"scan_order is {self.scan_order}, expected 0 to {MAX_SCAN_ORDER}")
        if isinstance(self.order, str) and self.order not in ("monotone", "cheapest"):
            raise SettingsError(f"order is {self.order!r}, expected an Order, monotone or cheapest")
        if self.escape_limit is not None and (self.dq or self.codebook or self.escape_limit < 0):
            raise SettingsError("escape_limit is a number from 0 up, and goes with neither dq nor codebook")


@dataclass(frozen=True)
class Block:
    """Tensors that share a BLOCK unit: a weight, and what is there once for each of its rows.

    :param weight: name of the weight
    :param local_scaling: factors
    :param normalization: of batch normalization: beta, gamma, mean, variance; or nothing
    """

    weight: str
    local_scaling: str | None = None
    normalization: tuple[str, ...] = ()
    bias: str | None = None

    def __post_init__(self) -> None:
        if len(self.normalization) not in (0, 4):
            raise SettingsError(f"block of {self.weight!r}: {len(self.normalization)} tensors of normalization, not 4")
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise SettingsError(f"block of {self.weight!r}: {', '.join(self.names)}; expected different tensors")

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of topology_elem_id_list."""
        scaling, bias = ((name,) if name is not None else () for name in (self.local_scaling, self.bias))
        return (self.weight, *scaling, *self.normalization, *bias)


@dataclass(frozen=True)
class EncodeSettings:
    """How a model is coded.

    :param weights: for tensors of two dimensions and more
    :param vectors: for the others; they are few and matter much
    :param tensors: for single tensors, by name
    :param qp_density: the step doubles every 2 ** qp_density quantization parameters; 0 to 7
    :param unary_length: greater-than bins before Exp-Golomb, 1 to 256
    :param raw_elements: tensors with at most so many elements are binary32 as they are
    :param choose_sets: begin each context with the set of states that costs least
    :param temporal: updates are coded in the light of the updates before
    :param blocks: tensors that share a unit, in models; an update has a unit for each tensor
    :param data_formats: tell in each unit the type that its tensors have; where a tensor's `inference` is set, that is
        told anyhow
    :param control_data: write it; without, the stream holds nothing but what NNC has syntax for
    """

    weights: TensorSettings = field(default_factory=TensorSettings)
    vectors: TensorSettings = field(default_factory=lambda: TensorSettings(qp=-75))
    tensors: Mapping[str, TensorSettings] = field(default_factory=dict)
    qp_density: int = 2
    unary_length: int = 11
    raw_elements: int = 16
    choose_sets: bool = True
    temporal: bool = True
    control_data: bool = True
    blocks: tuple[Block, ...] = ()
    data_formats: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        if not 0 <= self.qp_density <= 7:
            raise SettingsError(f"qp_density is {self.qp_density}, expected 0 to 7")
        if not 1 <= self.unary_length <= 256:
            raise SettingsError(f"unary_length is {self.unary_length}, expected 1 to 256")
        members = [name for block in self.blocks for name in block.names]
        if len(set(members)) < len(members):
            raise SettingsError("a tensor stands in two blocks")
        # Deltas from the model's quantization parameter, which is that of the weights.
        if not -(1 << 12) <= self.weights.qp < 1 << 12:
            raise SettingsError(f"qp is {self.weights.qp}, expected -4096 to 4095")
        low, high = self.qp_bounds
        for name, settings in (("weights", self.weights), ("vectors", self.vectors), *self.tensors.items()):
            step_size(settings.qp, self.qp_density)
            if not low <= settings.qp <= high:
                raise SettingsError(f"{name}: qp is {settings.qp}, expected {low} to {high} beside {self.weights.qp}")

    @property
    def qp_bounds(self) -> tuple[int, int]:
        """Least and greatest quantization parameter that a tensor can have beside that of the weights."""
        half = 1 << 5 + self.qp_density
        return self.weights.qp - half, self.weights.qp + half - 1

    def data_format(self, dtype: str, settings: TensorSettings) -> int | None:
        """nnr_decompressed_data_format of a tensor of a type; None: it is not told."""
        if settings.inference is not None:
            return settings.inference.data_format
        return DATA_FORMATS.get(dtype) if self.data_formats else None

    def of(self, name: str, dimensions: int) -> TensorSettings:
        """The settings for a tensor."""
        return self.tensors.get(name, self.weights if dimensions > 1 else self.vectors)
