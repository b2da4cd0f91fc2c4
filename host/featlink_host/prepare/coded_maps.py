"""Maps through the encoder and back: bytes of each, and what the head is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from featlink_codec.errors import FeatlinkError
from featlink_codec.extractor import VideoSettings
from featlink_codec.extractor.coding import x265_settings
from featlink_codec.features.map_coding import MapCoding
from featlink_codec.features.map_decoder import MapDecoder
from featlink_codec.features.map_encoder import MapEncoder
from featlink_codec.features.map_target import Wanted
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.x265 import X265Encoder

from .build_maps import KeptMaps
from .planner import running_mean
from .scoring_runs import Runner, Tensor


class CodedSize(NamedTuple):
    """Of one map."""

    nbytes: int
    refresh: bool
    #: of nbytes
    header: int


def mean_bytes(sizes: Sequence[CodedSize], every: int) -> float:
    """Of a map in a running stream.

    :param every: maps from refresh to refresh there
    """
    refreshes = [one.nbytes for one in sizes if one.refresh]
    return running_mean(refreshes, [one.nbytes for one in sizes if not one.refresh], every)


def coded_sizes(maps: KeptMaps, coding: MapCoding, video: VideoSettings) -> list[CodedSize]:
    """What the maps take; nothing is decoded."""
    return [size for size, _ in _coded(maps, coding, video, decode=False)]


def decoded_maps(
    maps: KeptMaps, coding: MapCoding, video: VideoSettings, sizes: list[CodedSize] | None = None
) -> Iterator[Tensor]:
    """The maps as the head gets them, float32 [1, C, H, W], each coded and decoded when it is asked for.

    :param sizes: takes what each map took
    """
    for size, tensor in _coded(maps, coding, video, decode=True):
        if sizes is not None:
            sizes.append(size)
        yield tensor


def head_runner(head: Runner, tensor: str, maps: Iterator[Tensor]) -> Runner:
    """What a judge scores: it gives the head's outputs for the next maps, as many as there are samples in a batch.

    :param tensor: name of the head's input
    :param maps: [1, C, H, W] each
    """

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        count = len(next(iter(inputs.values())))
        tensors = list(islice(maps, count))
        if len(tensors) != count:
            raise FeatlinkError(f"{count} pictures, but {len(tensors)} maps of them")
        return head({tensor: np.concatenate(tensors)})

    return run


def _coded(
    maps: KeptMaps, coding: MapCoding, video: VideoSettings, *, decode: bool
) -> Iterator[tuple[CodedSize, Tensor]]:
    encoder = MapEncoder(coding, lambda width, height: X265Encoder(x265_settings(video, width, height)))
    decoder = MapDecoder(video.level_scaling, HevcDecoder, False, Wanted(levels=False, tensor="float32"))
    try:
        times = maps.stream_times(video.refresh_s)
        for one, time_s in zip(maps.values, times, strict=True):
            (coded,) = encoder.encode(one.transpose(1, 2, 0), time_s)
            head, units = bytes(coded.header), coded.access_units
            size = CodedSize(len(head) + len(units), coded.refresh, len(head))
            if not decode:
                yield size, np.empty(0, np.float32)
                continue
            decoded = decoder.decode(coded.header, 0, units, 0, 0, None, time_s)
            assert decoded.tensor is not None
            yield size, decoded.tensor.copy()
    finally:
        encoder.close()
        decoder.close()
