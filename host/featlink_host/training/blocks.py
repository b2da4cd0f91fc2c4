"""The blocks of `architecture` as PyTorch modules. Importing this file imports PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from .architecture import Block, Convolution, DepthwiseSeparable, Ghost


def convolution(one: Convolution) -> nn.Sequential:
    """Convolution, batch normalisation, and ReLU where it has one."""
    layers: OrderedDict[str, Any] = OrderedDict(
        conv=nn.Conv2d(
            one.inputs, one.outputs, one.kernel, one.stride, one.kernel // 2, groups=one.groups, bias=False
        ),
        norm=nn.BatchNorm2d(one.outputs),
    )  # fmt: skip
    if one.relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class GhostModule(nn.Module):  # type: ignore[misc,unused-ignore]  # PyTorch's classes are unknown where it is not
    """A Ghost module: see `architecture.Ghost`."""

    def __init__(self, block: Ghost) -> None:
        super().__init__()
        self.primary = convolution(block.primary)
        self.linear = convolution(block.linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, D_i, H, W] -> [N, D_o, H, W], not negative."""
        intrinsic = self.primary(x)
        return torch.relu(torch.cat([intrinsic, self.linear(intrinsic)], dim=1))


def module(block: Block) -> nn.Module:
    """The module of a block."""
    if isinstance(block, Ghost):
        return GhostModule(block)
    if isinstance(block, DepthwiseSeparable):
        layers = OrderedDict(depthwise=convolution(block.depthwise), pointwise=convolution(block.pointwise))
        return nn.Sequential(layers)
    return convolution(block)
