"""The feature-map stream (T/AI part 4, deep feature maps): syntax, quantizers, packing, reader and writer."""

from .adaptive.adaptive import AdaptiveMap
from .events import Damage, Event, FeatureMap, SequenceEnd, SequenceStart, Tag
from .map_coding import MapCoding
from .map_encoder import CodedMap, MapEncoder, VideoEncoder
from .map_target import Wanted
from .packer import MapValueError, Saw
from .packing import Packing
from .presets import annex_b
from .quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from .reader import StreamReader
from .syntax import FeatMapHeader, PreQuantMode, Profile, RepackMode, SequenceHeader, TimeTag
from .timing import TagMaker
from .writer import StreamWriter

__all__ = [
    "AdaptiveMap",
    "CodedMap",
    "CustomQuantizer",
    "Damage",
    "Event",
    "FeatMapHeader",
    "FeatureMap",
    "LogQuantizer",
    "MapCoding",
    "MapEncoder",
    "MapValueError",
    "Packing",
    "PreQuantMode",
    "Profile",
    "Quantizer",
    "RepackMode",
    "Saw",
    "SequenceEnd",
    "SequenceHeader",
    "SequenceStart",
    "StreamReader",
    "StreamWriter",
    "Tag",
    "TagMaker",
    "TimeTag",
    "UniformQuantizer",
    "VideoEncoder",
    "Wanted",
    "annex_b",
]
