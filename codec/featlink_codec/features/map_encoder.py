"""From a map to its feat_map_data(): quantize, pack into the encoder's own picture, encode, choose what to inherit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EncoderLostError
from .map_coding import MapCoding
from .packer import DEFAULT_REFUSED, MapPacker, MapValueError, Saw
from .syntax import FeatMapHeader


class VideoEncoder(Protocol):
    """One encoder session. Access units come out in the order of their pictures, some of them later."""

    def frame_buffer(self) -> NDArray[np.uint8]:
        """The picture to fill: uint8 [rows, columns], rows possibly longer in memory; another one each time."""

    def submit(self, intra: bool) -> list[bytes]:
        """Encode the picture in the buffer; the access units that are ready. Intra: an IDR picture, parameter sets.

        :raises EncoderLostError: a picture was lost; where it says so the session goes on with an intra picture
        """

    def flush(self) -> list[bytes]:
        """The access units of all pictures that are still inside."""

    def close(self) -> None:
        """Free the session."""


#: Makes a session for pictures of (width, height).
EncoderFactory = Callable[[int, int], VideoEncoder]


@dataclass(eq=False)
class CodedMap:
    """A map that came out of the encoder; its fields are what `StreamWriter.feat_map` takes.

    :param time_s: as given to `encode`
    :param refresh: it inherits nothing from maps before it
    """

    header: FeatMapHeader
    time_s: float
    refresh: bool
    units: list[bytes] = field(default_factory=list)

    @property
    def access_units(self) -> bytes:
        """Its pictures, Annex B."""
        return b"".join(self.units)


class MapEncoder:
    """Encodes the maps of one type, in order.

    :param new_encoder: makes the video session, once per picture size
    :param refuse: what a map must not hold
    """

    def __init__(self, settings: MapCoding, new_encoder: EncoderFactory, refuse: Saw = DEFAULT_REFUSED) -> None:
        self.settings = settings
        #: Seconds of the last `encode` that went into quantizing and packing.
        self.pack_s = 0.0
        #: Seconds of the last `encode` that went into deciding on classes.
        self.decide_s = 0.0
        #: As in the settings, or as decided for the present intra period.
        self._quantizer = settings.quantizer
        self._new_encoder = new_encoder
        self._refuse = refuse
        self._encoder: VideoEncoder | None = None
        self._packer: MapPacker | None = None
        self._packed: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
        self._map_size = (0, 0)
        self._refreshed_s: float | None = None
        #: Maps that are not complete, oldest first.
        self._inside: deque[CodedMap] = deque()
        #: Maps that the encoder lost.
        self.lost = 0

    def encode(self, values: NDArray[np.generic], time_s: float) -> list[CodedMap]:
        """Quantize and pack a map straight into the encoder's pictures, and encode them.

        :param values: [H, W, C], any strides: float32 or float16 under a quantizer; else, or where they are levels
            already (see `MapCoding.integer_values`), uint8, int8, uint16 or int16. It may be filled again when this
            returns
        :param time_s: of the map, for the refresh; seconds on any clock that does not go back
        :returns: maps that are complete, oldest first: this one, unless the encoder keeps pictures inside until more
            come
        :raises SettingsError: the map does not fit the packing or the stream
        :raises MapValueError: it holds what it must not: NaN, infinities, integers beyond the depth; nothing is sent
        :raises EncoderLostError: this map, and all that have not come out yet, are lost (`lost` counts them)
        :raises EncoderError: from the encoder; in either case the next map starts anew
        """
        settings = self.settings
        wide = settings.bit_depth == 16
        refresh = self._refresh_due(time_s, values)
        self._decide(values, refresh)
        packer = self._packer_for(values)
        units: list[bytes] = []
        self.pack_s = 0.0
        first = True
        try:
            encoder = self._session(values.shape[0], values.shape[1])
            coded = CodedMap(settings.header(self._quantizer, values.shape, explicit=refresh), time_s, refresh)
            for high in (True, False) if wide else (False,):
                for picture in range(settings.packing.pictures):
                    out = encoder.frame_buffer()
                    begin_s = time.perf_counter()
                    packer.pack(values, picture, None if high else out, out if high else None)
                    self.pack_s += time.perf_counter() - begin_s
                    intra = first and (refresh or not settings.continuous)
                    if first:
                        self._inside.append(coded)
                        first = False
                    units += encoder.submit(intra)
        except MapValueError:
            if not first:  # the host never saw what the next picture would be predicted from
                self._lose(over=True)
            raise
        except EncoderLostError as error:
            self.lost += first  # else it is among those inside
            self._lose(over=not error.usable)
            raise
        except Exception:
            self.close()
            raise
        if refresh:
            self._refreshed_s = time_s
        return self._complete(units)

    def flush(self) -> list[CodedMap]:
        """The maps that are still inside the encoder.

        :raises EncoderLostError: they are lost
        """
        if self._encoder is None:
            return []
        try:
            return self._complete(self._encoder.flush())
        except EncoderLostError:
            self._lose(over=True)
            raise

    def _complete(self, units: list[bytes]) -> list[CodedMap]:
        """Give each access unit to the oldest map that waits for one; those that have all of theirs."""
        pictures = self.settings.packing.pictures * (2 if self.settings.bit_depth == 16 else 1)
        complete = []
        for unit in units:
            coded = self._inside[0]
            coded.units.append(unit)
            if len(coded.units) == pictures:
                complete.append(self._inside.popleft())
        return complete

    def _lose(self, over: bool) -> None:
        """Give up on the maps that are inside."""
        self.lost += len(self._inside)
        self._inside.clear()
        if over:
            self.close()
        self._refreshed_s = None

    def _packer_for(self, values: NDArray[np.generic]) -> MapPacker:
        """The packer of maps of this shape and type; most are like the one before."""
        kind = (values.shape, values.dtype)
        if self._packer is not None and self._packed == kind:
            return self._packer
        self._packer, self._packed = self.settings.packer(values, self._quantizer, self._refuse), kind
        return self._packer

    def restart(self) -> None:
        """The next map is a refresh: something before it was lost on the way."""
        self._refreshed_s = None

    def close(self) -> None:
        """Free the video session; the next map opens another one and is a refresh. Maps inside are gone: `flush`."""
        if self._encoder is not None:
            self._encoder.close()
        self._encoder = None
        self._inside.clear()
        self._refreshed_s = None

    def _refresh_due(self, time_s: float, values: NDArray[np.generic]) -> bool:
        if self._refreshed_s is None or self._encoder is None or self._map_size != values.shape[:2]:
            return True
        return not 0 <= time_s - self._refreshed_s < self.settings.refresh_s

    def _decide(self, values: NDArray[np.generic], refresh: bool) -> None:
        """Where classes are decided here: from the map that begins an intra period."""
        self.decide_s = 0.0
        if self.settings.decide is None or not refresh:
            return
        begin_s = time.perf_counter()
        self._quantizer = self.settings.decided(values)
        self._packer = None
        self.decide_s = time.perf_counter() - begin_s

    def _session(self, height: int, width: int) -> VideoEncoder:
        if self._encoder is None or self._map_size != (height, width):
            self.close()
            self.settings.packing.check_limits(height, width)
            rows, columns = self.settings.packing.picture_size(height, width)
            self._encoder = self._new_encoder(columns, rows)
            self._map_size = (height, width)
        return self._encoder
