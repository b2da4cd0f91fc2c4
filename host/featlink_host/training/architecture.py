"""Light-weight building blocks as descriptions: what convolutions they are made of, their parameters and MACs.

The blocks and their parameter counts are the usual ones. With kernels of h x w, D_i channels in and D_o out:

* convolution h w D_i D_o; in g groups h w D_i D_o / g
* depthwise separable: depthwise (g = D_i) h w D_i, then pointwise (1 x 1) D_i D_o
* Ghost module: D_o / s channels by an ordinary convolution, and of each of them s - 1 more by a linear map (a
  depthwise convolution of d x d): h w D_i D_o / s + (s - 1) d d D_o / s

Batch normalisation is folded into the convolutions when a network is exported; its two numbers a channel (a factor,
which ends in the weights, and an offset, the bias) are not in these counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featlink_codec.errors import SettingsError


@dataclass(frozen=True)
class Convolution:
    """A convolution with batch normalisation, padded so that stride 1 keeps the size.

    :param inputs: channels in, D_i
    :param outputs: channels out, D_o
    :param kernel: side of the square kernel, odd
    :param groups: g; D_i is a depthwise convolution
    :param relu: ReLU behind it
    """

    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    relu: bool = True

    def __post_init__(self) -> None:
        if min(self.inputs, self.outputs, self.kernel, self.stride, self.groups) < 1:
            raise SettingsError(f"convolution: found {self}, expected numbers of at least 1")
        if not self.kernel % 2:
            raise SettingsError(f"convolution: kernel: found {self.kernel}, expected an odd number")
        if self.inputs % self.groups or self.outputs % self.groups:
            raise SettingsError(
                f"convolution: groups: found {self.groups}, expected a divisor of {self.inputs} and {self.outputs}"
            )

    @property
    def parameters(self) -> int:
        """Weights, h w D_i D_o / g; biases are not counted."""
        return self.kernel * self.kernel * self.inputs * self.outputs // self.groups

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """As PyTorch and ONNX have it: [D_o, D_i / g, h, w]."""
        return self.outputs, self.inputs // self.groups, self.kernel, self.kernel

    def side(self, side: int) -> int:
        """Of the result, for an input of that side."""
        return (side - 1) // self.stride + 1


@dataclass(frozen=True)
class DepthwiseSeparable:
    """A depthwise convolution, then a pointwise one; ReLU behind the second only."""

    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1

    @property
    def depthwise(self) -> Convolution:
        """Each channel by itself."""
        return Convolution(self.inputs, self.inputs, self.kernel, self.stride, self.inputs, relu=False)

    @property
    def pointwise(self) -> Convolution:
        """All channels of a place."""
        return Convolution(self.inputs, self.outputs)

    @property
    def parameters(self) -> int:
        """Weights: h w D_i + D_i D_o."""
        return self.depthwise.parameters + self.pointwise.parameters


@dataclass(frozen=True)
class Ghost:
    """A Ghost module: intrinsic maps by a convolution, ghosts of them by linear maps, both behind one another; ReLU.

    :param ratio: s, of all maps to intrinsic ones; divides the outputs
    :param kernel: of the ordinary convolution
    :param linear_kernel: d, of the linear maps
    """

    inputs: int
    outputs: int
    ratio: int = 2
    kernel: int = 1
    linear_kernel: int = 3

    def __post_init__(self) -> None:
        if self.ratio < 2 or self.outputs % self.ratio:
            raise SettingsError(
                f"Ghost module: ratio: found {self.ratio}, expected 2 or more that divides {self.outputs}"
            )

    @property
    def primary(self) -> Convolution:
        """What makes the intrinsic maps."""
        return Convolution(self.inputs, self.outputs // self.ratio, self.kernel, relu=False)

    @property
    def linear(self) -> Convolution:
        """What makes the ghosts: s - 1 of each intrinsic map."""
        intrinsic = self.outputs // self.ratio
        return Convolution(
            intrinsic, intrinsic * (self.ratio - 1), self.linear_kernel, groups=intrinsic, relu=False
        )  # fmt: skip

    @property
    def parameters(self) -> int:
        """Weights: h w D_i D_o / s + (s - 1) d d D_o / s."""
        return self.primary.parameters + self.linear.parameters


Block = Convolution | DepthwiseSeparable | Ghost


def convolutions(block: Block, name: str) -> Iterator[tuple[str, Convolution]]:
    """The convolutions of a block in the order they are run, each with its name."""
    if isinstance(block, DepthwiseSeparable):
        yield f"{name}.depthwise", block.depthwise
        yield f"{name}.pointwise", block.pointwise
    elif isinstance(block, Ghost):
        yield f"{name}.primary", block.primary
        yield f"{name}.linear", block.linear
    else:
        yield name, block


@dataclass(frozen=True)
class Architecture:
    """A student: blocks up to the cut, blocks behind it, a fully connected layer over all places and channels.

    :param backbone: up to and with the tensor `features`, which a ReLU makes: it is never negative
    :param head: behind it
    :param classes: of the fully connected layer
    :param size: side of the square picture
    """

    backbone: tuple[Block, ...]
    head: tuple[Block, ...]
    classes: int
    size: int

    def __post_init__(self) -> None:
        if not self.backbone or (isinstance(self.backbone[-1], Convolution) and not self.backbone[-1].relu):
            raise SettingsError("student: the backbone has to end with a ReLU: features are not negative")
        for one, other in zip(self.blocks, self.blocks[1:], strict=False):
            if one.outputs != other.inputs:
                raise SettingsError(f"student: {one} gives {one.outputs} channels, {other} takes {other.inputs}")
        if self.classes < 2 or self.size < 1:
            raise SettingsError(f"student: found {self.classes} classes and size {self.size}, expected 2 and 1 or more")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All of them."""
        return self.backbone + self.head

    def names(self) -> list[str]:
        """Of the blocks."""
        return [f"backbone.{k}" for k in range(len(self.backbone))] + [f"head.{k}" for k in range(len(self.head))]

    @property
    def flat(self) -> int:
        """Numbers that the fully connected layer takes."""
        side = self.size
        for name, block in zip(self.names(), self.blocks, strict=True):
            for _, one in convolutions(block, name):
                side = one.side(side)
        return self.blocks[-1].outputs * side * side

    @property
    def parameters(self) -> int:
        """Numbers of the exported network: weights, one bias a channel, the fully connected layer."""
        found = (self.flat + 1) * self.classes
        for name, block in zip(self.names(), self.blocks, strict=True):
            found += sum(one.parameters + one.outputs for _, one in convolutions(block, name))
        return found

    @property
    def macs(self) -> int:
        """Multiplications of a picture."""
        side, found = self.size, self.flat * self.classes
        for name, block in zip(self.names(), self.blocks, strict=True):
            for _, one in convolutions(block, name):
                side = one.side(side)
                found += one.parameters * side * side
        return found


def student(width: int = 8, channels: int = 1, size: int = 28, classes: int = 10) -> Architecture:
    """The student for small pictures (Fashion-MNIST): 28 x 28 become features of 6 width x 7 x 7.

    :param width: channels of the first convolution; 8 makes a network of some fifteen thousand parameters
    """
    return Architecture(
        backbone=(
            Convolution(channels, width, kernel=5, stride=2),
            DepthwiseSeparable(width, 4 * width, stride=2),
            Ghost(4 * width, 6 * width),
        ),
        head=(DepthwiseSeparable(6 * width, 8 * width, stride=2),),
        classes=classes,
        size=size,
    )
