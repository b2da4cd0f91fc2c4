"""adaptive_quant(): what a map's header holds under pre_quant_mode 3, profile `adaptive`, for both directions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...bits import BitCoder, bits_float, float_bits
from ...errors import SettingsError
from .parameters import ClassParameters, Distribution
from .partition import PartitionKind

#: Bytes of a class map at most; more is refused before it is waited for. 256 classes dealt out at random to 512 x 512
#: positions come to less.
MAX_SIDE_INFO = (1 << 18) + (1 << 14)


@dataclass(slots=True)
class ClassFields:
    """One class, as bits: what was read is written again."""

    distribution: int = Distribution.UNIFORM
    class_depth_minus1: int = 7
    #: IEEE-754 binary32 patterns
    center: int = 0
    spread: int = 0x3F800000
    step: int = 0x3F800000
    offset: int = 0x3F000000

    @classmethod
    def of(cls, one: ClassParameters) -> ClassFields:
        """The fields that hold a class."""
        numbers = (float_bits(number) for number in (one.center, one.spread, one.step, one.offset))
        return cls(int(one.distribution), one.bit_depth - 1, *numbers)

    @property
    def parameters(self) -> ClassParameters:
        """The class.

        :raises SettingsError: not one that can be
        """
        numbers = (bits_float(bits) for bits in (self.center, self.spread, self.step, self.offset))
        return ClassParameters(Distribution(self.distribution), self.class_depth_minus1 + 1, *numbers)

    def code(self, io: BitCoder, bit_depth: int) -> None:
        """Read or write the class; refuse by name what cannot be."""
        at = io.position
        self.distribution = io.u(2, self.distribution)
        self.class_depth_minus1 = io.u(4, self.class_depth_minus1)
        depth = self.class_depth_minus1 + 1
        if depth > bit_depth:
            io.refuse("bad-class-depth", f"a class of depth {depth} in a map of depth {bit_depth}", at)
        if depth < 2 and self.distribution != Distribution.UNIFORM:
            io.refuse("bad-class-depth", f"a class of depth {depth} that has levels on both sides of a center", at)
        for name in ("center", "spread", "step", "offset"):
            at = io.position
            bits = io.float32(getattr(self, name))
            setattr(self, name, bits)
            value, positive = bits_float(bits), name in ("spread", "step")
            if not math.isfinite(value) or (positive and value <= 0):
                text = f"{name} is {value}, expected a finite number{' above 0' if positive else ''}"
                io.refuse("bad-class", text, at)
        try:
            _ = self.parameters
        except SettingsError as error:
            io.refuse("bad-class", str(error), at)


@dataclass(slots=True)
class AdaptiveQuant:
    """adaptive_quant() without its heritage_flag."""

    partition_kind: int = PartitionKind.WHOLE
    classes: list[ClassFields] = field(default_factory=lambda: [ClassFields()])
    alignment_bits: int = 0
    #: the class map: see `side_info`
    side_info: bytes = b""

    def code(self, io: BitCoder, bit_depth: int) -> None:
        """Read or write the structure.

        :param bit_depth: of the map
        """
        at = io.position
        self.partition_kind = io.u(2, self.partition_kind)
        count = io.u(8, len(self.classes) - 1) + 1
        if self.partition_kind == PartitionKind.WHOLE and count != 1:
            io.refuse("bad-class-map", f"{count} classes for a map that is one", at)
        if io.reading:
            self.classes = []
        for number in range(count):
            one = ClassFields() if io.reading else self.classes[number]
            one.code(io, bit_depth)
            if io.reading:
                self.classes.append(one)
        self.alignment_bits = io.align(self.alignment_bits)
        at = io.position
        length = io.u(32, len(self.side_info))
        if length > MAX_SIDE_INFO:
            io.refuse("bad-side-info", f"{length} bytes of class map, expected at most {MAX_SIDE_INFO}", at)
        if (self.partition_kind == PartitionKind.WHOLE) != (length == 0):
            io.refuse("bad-side-info", f"{length} bytes of class map in a partition of kind {self.partition_kind}", at)
        self.side_info = io.u(8 * length, int.from_bytes(self.side_info, "big")).to_bytes(length, "big")

    @property
    def parameters(self) -> tuple[ClassParameters, ...]:
        """The classes."""
        return tuple(one.parameters for one in self.classes)
