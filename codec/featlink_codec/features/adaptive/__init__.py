"""Adaptive quantization, profile "adaptive": fitted quantizers, and classes of channels, regions and blocks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .block_tree import Split
from .parameters import DECIDERS, HOWS, ClassParameters, Distribution
from .partition import (
    BlockClasses,
    ChannelClasses,
    Partition,
    PartitionKind,
    RegionClasses,
    Whole,
    check_classes,
)
from .quantizers import AdaptiveQuantizer

if TYPE_CHECKING:
    from .blocks import BlockSettings
    from .deciders import SIMILARITY, DeciderOptions, decide
    from .decision import TASKS, ClassSettings, Decision, decide_classes, use_partial
    from .fitting import expected_error, fit
    from .histogram import Histogram
    from .structure import BatchNorm, Connection, Structure, SumKind, Summation

#: What decides on quantizers is imported once it is asked for: readers, and cameras with a table, never do.
_DECIDING = {
    "blocks": ("BlockSettings",),
    "deciders": ("SIMILARITY", "DeciderOptions", "decide"),
    "decision": ("TASKS", "ClassSettings", "Decision", "decide_classes", "use_partial"),
    "fitting": ("expected_error", "fit"),
    "histogram": ("Histogram",),
    "structure": ("BatchNorm", "Connection", "Structure", "SumKind", "Summation"),
}
_MODULES = {name: module for module, names in _DECIDING.items() for name in names}

__all__ = [
    "DECIDERS",
    "HOWS",
    "SIMILARITY",
    "TASKS",
    "AdaptiveQuantizer",
    "BatchNorm",
    "BlockClasses",
    "BlockSettings",
    "ChannelClasses",
    "ClassParameters",
    "ClassSettings",
    "Connection",
    "DeciderOptions",
    "Decision",
    "Distribution",
    "Histogram",
    "Partition",
    "PartitionKind",
    "RegionClasses",
    "Split",
    "Structure",
    "SumKind",
    "Summation",
    "Whole",
    "check_classes",
    "decide",
    "decide_classes",
    "expected_error",
    "fit",
    "use_partial",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
