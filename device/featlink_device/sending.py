"""The last stage: maps through the encoder into the stream, and going on when the encoder loses some."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import EncoderLostError, FeatlinkError
from featlink_codec.features import CodedMap, MapEncoder, StreamWriter, TagMaker

from .sink import Sink
from .stats import PipelineStats

#: An encoder that fails so many times in a row, without a map between, has failed.
_FAILURES = 5
#: Before it is opened again, in seconds, times the failures in a row: a driver may need to come back.
_PAUSE_S = 0.1


class MapSender:
    """Writes maps to a sink as the encoder gives them.

    An encoder that stalls, dies or loses a picture costs the maps that were inside it. They are counted, and the stream
    goes on with an intra picture and everything explicit, so that the host needs nothing of what was lost.
    """

    def __init__(self, coder: MapEncoder, writer: StreamWriter, sink: Sink, stats: PipelineStats) -> None:
        self._coder = coder
        self._writer = writer
        self._sink = sink
        self._stats = stats
        self._tags = TagMaker()
        self._given_s: deque[float] = deque()
        self._failures = 0

    def start(self) -> None:
        """Write what stands before the first map."""
        self._write(self._writer.start())

    def send(self, values: NDArray[np.generic], time_s: float, given_s: float) -> None:
        """One map.

        :param values: [H, W, C]
        :param time_s: of its picture, since 1970
        :param given_s: time.perf_counter() when the source gave the picture
        :raises FeatlinkError: the map does not fit, or the encoder has failed for good
        """
        self._given_s.append(given_s)
        begin_s = time.perf_counter()
        try:
            complete = self._coder.encode(values, time_s)
        except EncoderLostError as error:
            self._lost(error)
            return
        stages = self._stats.stages
        stages["pack"].add(self._coder.pack_s)
        if self._coder.decide_s:
            stages["decide"].add(self._coder.decide_s)
        stages["encode"].add(time.perf_counter() - begin_s - self._coder.pack_s - self._coder.decide_s)
        self._finish(complete)

    def end(self) -> None:
        """Write the maps that are still inside the encoder, and the stream's end.

        :raises FeatlinkError: there was no map at all
        """
        try:
            self._finish(self._coder.flush())
        except EncoderLostError as error:
            self._lost(error)
        if self._stats.maps == 0:
            lost = f", the encoder lost all {self._stats.maps_lost} maps" if self._stats.maps_lost else ""
            why = "the source gave no picture" if not lost else "no map came out"
            raise FeatlinkError(f"{why}{lost}: there is nothing to send")
        self._write(self._writer.end())

    def _finish(self, complete: list[CodedMap]) -> None:
        stats = self._stats
        for coded in complete:
            self._failures = 0
            with stats.stages["write"].timed():
                tag = self._writer.time_tag(self._tags.tag(coded.time_s, coded.refresh))
                self._write(tag + self._writer.feat_map(coded.header, coded.access_units))
            stats.latency.add(time.perf_counter() - self._given_s.popleft())
            stats.maps += 1

    def _lost(self, error: EncoderLostError) -> None:
        self._given_s.clear()
        self._stats.maps_lost = self._coder.lost
        self._stats.last_loss = str(error)
        if not error.usable:
            self._stats.encoder_restarts += 1
        self._failures += 1
        if self._failures >= _FAILURES:
            raise FeatlinkError(f"{error}; {self._failures} failures in a row") from None
        time.sleep(_PAUSE_S * self._failures)

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._stats.bytes_out += len(data)
