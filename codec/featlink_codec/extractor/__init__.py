"""The extractor: the agreement of both ends on models, maps, quantizer, packing, video and preprocessing."""

from .adaptive import ClassTable, write_class_map
from .maps import MapSettings, PackingSettings, QuantizerSettings
from .settings import (
    PARTS,
    SETTINGS_FILE,
    ExtractorSettings,
    Identity,
    InputSettings,
    ModelFiles,
    Part,
    SourceModel,
    VideoSettings,
    sha256_of,
)
from .task import NoTask, SsdDetectorTask, Task
from .thresholds import read_thresholds, thresholds_of, write_thresholds

__all__ = [
    "PARTS",
    "SETTINGS_FILE",
    "ClassTable",
    "ExtractorSettings",
    "Identity",
    "InputSettings",
    "MapSettings",
    "ModelFiles",
    "NoTask",
    "PackingSettings",
    "Part",
    "QuantizerSettings",
    "SourceModel",
    "SsdDetectorTask",
    "Task",
    "VideoSettings",
    "read_thresholds",
    "sha256_of",
    "thresholds_of",
    "write_class_map",
    "write_thresholds",
]
