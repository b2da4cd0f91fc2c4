"""Adaptive quantization, profile "adaptive": fitted quantizers, and classes of channels, regions and blocks."""

from .block_tree import Split
from .blocks import BlockSettings
from .deciders import DECIDERS, SIMILARITY, DeciderOptions, decide
from .decision import TASKS, ClassSettings, Decision, decide_classes, use_partial
from .fitting import HOWS, expected_error, fit
from .histogram import Histogram
from .parameters import ClassParameters, Distribution
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
from .structure import BatchNorm, Connection, Structure, SumKind, Summation

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
