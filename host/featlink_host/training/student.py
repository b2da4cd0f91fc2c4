"""The student as a PyTorch module. Importing this file imports PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .architecture import Architecture
from .blocks import module


class Student(nn.Module):  # type: ignore[misc,unused-ignore]
    """The network of an `Architecture`: picture [N, C, H, W] -> logits [N, classes]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*map(module, architecture.backbone))
        self.head = nn.Sequential(*map(module, architecture.head))
        self.classifier = nn.Linear(architecture.flat, architecture.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes]."""
        return self.classifier(self.head(self.backbone(x)).flatten(1))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All numbers by name, as `export.student_model` takes them."""
        return {
            name: value.detach().cpu().contiguous().numpy().copy()
            for name, value in self.state_dict().items()
            if value.dtype == torch.float32
        }
