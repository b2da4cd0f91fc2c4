"""The extractor: the agreement of both ends on models, maps, quantizer, packing, video and preprocessing."""

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

__all__ = [
    "PARTS",
    "SETTINGS_FILE",
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
    "sha256_of",
]
