"""Streams to order, made by the project's own writer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from featlink_codec.features import (
    MapCoding,
    MapEncoder,
    Packing,
    Profile,
    RepackMode,
    StreamWriter,
    TimeTag,
    UniformQuantizer,
)
from featlink_codec.video.x265 import X265Encoder, X265Settings


def lossless(width: int, height: int) -> X265Encoder:
    return X265Encoder(X265Settings(width, height, lossless=True, preset="ultrafast"))


@dataclass
class Made:
    """A stream, where its pieces begin, and the levels that went in."""

    data: bytearray = field(default_factory=bytearray)
    #: (kind, offset) in order: sequence, tag, map, end
    pieces: list[tuple[str, int]] = field(default_factory=list)
    levels: list[np.ndarray] = field(default_factory=list)
    #: offset of each map's video
    videos: list[int] = field(default_factory=list)

    def offsets(self, kind: str) -> list[int]:
        return [offset for k, offset in self.pieces if k == kind]

    def put(self, kind: str, data: bytes) -> None:
        self.pieces.append((kind, len(self.data)))
        self.data += data


def make_stream(
    codings: list[MapCoding],
    maps: int = 3,
    size: tuple[int, int] | None = None,
    profile: Profile = Profile.STANDARD,
    universal_s: float = 1.7e9,
    seed: int = 1,
    explicit: bool = False,
    new_encoder=lossless,
) -> Made:
    """`maps` time tags with a map of every coding under each; random levels.

    :param explicit: parameters and an intra picture with every map
    """
    rng = np.random.default_rng(seed)
    made = Made()
    writer = StreamWriter(profile, 3)
    coders = [MapEncoder(coding, new_encoder) for coding in codings]
    made.put("sequence", writer.start())
    for k in range(maps):
        made.put("tag", writer.time_tag(TimeTag.universal(universal_s) if k == 0 else TimeTag(interval_time=4)))
        for coder in coders:
            if explicit:
                coder.restart()
            stack = coder.settings.packing.mode is RepackMode.STACK
            shape = (*(size or ((17, 18) if stack else (6, 7))), coder.settings.packing.channels)
            peak = (1 << coder.settings.bit_depth) - 1
            dtype = np.uint16 if peak > 255 else np.uint8
            levels = rng.integers(0, peak + 1, shape).astype(dtype)
            (coded,) = coder.encode(levels, k * 0.04)
            video = coded.access_units
            made.put("map", writer.feat_map(coded.header, video))
            made.videos.append(len(made.data) - len(video))
            made.levels.append(levels)
    made.put("end", writer.end())
    for coder in coders:
        coder.close()
    return made


def tiled(type_id: int = 1, **changes) -> MapCoding:
    """6 channels in 3 x 3 tiles of 6 x 7: one picture of 18 x 21."""
    values = {
        "feat_type_id": type_id,
        "bit_depth": 8,
        "quantizer": UniformQuantizer(6.0, 8),
        "packing": Packing(RepackMode.TILE, 6, 3, 3),
        "continuous": True,
    }
    return MapCoding(**{**values, **changes})


def stacked(type_id: int = 2, **changes) -> MapCoding:
    """3 channels of 17 x 18, a picture each."""
    values = {
        "feat_type_id": type_id,
        "bit_depth": 8,
        "quantizer": UniformQuantizer(6.0, 8),
        "packing": Packing(RepackMode.STACK, 3, order=(2, 0, 1), pad_h=0, pad_w=0),
        "continuous": True,
    }
    return MapCoding(**{**values, **changes})


@pytest.fixture(scope="session")
def make():
    return make_stream


@pytest.fixture(scope="session")
def codings():
    return {"tiled": tiled, "stacked": stacked}


@pytest.fixture(scope="session")
def lossless_encoder():
    return lossless
