"""From an encoder's session to the access units of the feature-map stream: checked, whole, hashed, in order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.session_units import SessionUnits

from .session import EncoderSession, EncoderSpec, Packet

if TYPE_CHECKING:
    from featlink_codec.video.picture_hasher import PictureHasher


class SessionCoder:
    """A `VideoEncoder` of the codec over an `EncoderSession`.

    :param delay: pictures that the encoder keeps inside until more come; its access units come so much later
    :param hash_here: pictures are decoded here to give each its MD5 hash; else they go as they come
    """

    def __init__(self, session: EncoderSession, spec: EncoderSpec, delay: int, hash_here: bool) -> None:
        self.session = session
        self._delay = delay
        self._units = SessionUnits(spec.width, spec.height)
        self.hasher: PictureHasher | None = None
        if hash_here:  # else no decoder needs to be on the board
            from featlink_codec.video.picture_hasher import PictureHasher

            self.hasher = PictureHasher(spec.width, spec.height)
        self._interval_us = max(1, round(1e6 / spec.fps))
        self._next_us = 0
        #: (timestamp, whether an intra picture was asked for), oldest first
        self._inside: deque[tuple[int, bool]] = deque()

    def frame_buffer(self) -> NDArray[np.uint8]:
        """The encoder's own memory for the next picture, uint8 [height, width]."""
        return self.session.frame_buffer().luma

    def submit(self, intra: bool) -> list[bytes]:
        """Encode what stands in the frame buffer; access units that are ready, oldest first.

        :raises EncoderLostError: a picture is lost, or the encoder has died
        :raises EncoderError: what it gives is not what the stream may carry
        """
        self._inside.append((self._next_us, intra))
        self.session.submit(self._next_us, intra)
        self._next_us += self._interval_us
        return self._finished(self.session.packets(self._delay))

    def flush(self) -> list[bytes]:
        """The access units of all pictures that are still inside.

        :raises EncoderLostError: as `submit`
        """
        return self._finished(self.session.drain()) if self._inside else []

    def close(self) -> None:
        """Free the session."""
        self.session.close()

    def _finished(self, packets: list[Packet]) -> list[bytes]:
        units = []
        for packet in packets:
            if packet.timestamp_us is None:
                self._units.take(packet.data, intra=False)
                continue
            if not self._inside or packet.timestamp_us != self._inside[0][0]:
                raise EncoderError(f"picture {packet.timestamp_us} us comes out before one that went in earlier")
            _, intra = self._inside.popleft()
            if packet.lost:
                # Whatever is inside may be predicted from it.
                raise EncoderLostError(
                    f"the encoder lost the picture of {packet.timestamp_us} us", usable=not self._inside
                )
            unit = self._units.take(packet.data, intra)
            if unit is None:
                raise EncoderError(f"no picture in the packet of {packet.timestamp_us} us")
            units.append(unit if self.hasher is None else self.hasher.append(unit))
        return units
