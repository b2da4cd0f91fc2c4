"""libx265 as an encoder session: where a board has no encoder in hardware, and to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.video.frame import Frame
from featlink_codec.video.limits import X265_LIMITS
from featlink_codec.video.x265 import X265Encoder, X265Settings

from .session import EncoderSpec, Packet


class X265Session:
    """An `EncoderSession` that never holds a picture back. Lossless pictures are decoded and compared at once.

    `intra_by` says nothing here: libx265 makes IDR pictures where they are asked for.

    :raises EncoderError: libx265 is missing, or cannot do what the spec says
    """

    def __init__(self, spec: EncoderSpec) -> None:
        chroma = "400" if spec.monochrome else "420"
        try:
            settings = X265Settings(
                spec.width,
                spec.height,
                lossless=spec.lossless,
                qp=spec.qp,
                crf=spec.crf,
                all_intra=spec.all_intra,
                preset=spec.preset,
                picture_hash=spec.picture_hash,
                chroma=chroma,
            )
        except SettingsError as error:
            raise EncoderError(str(error)) from error
        # libx265 has been seen to be lossy where it was told not to be, and nothing else would notice.
        self._encoder = X265Encoder(settings, verify=spec.lossless)
        self.limits = X265_LIMITS[chroma]
        self.facts: Mapping[str, Any] = {
            "codec": "libx265",
            "pixel_format": self.limits.formats[0],
            "preset": settings.preset,
            "all_intra": settings.intra_only,
            "verified": spec.lossless,
        }
        self._come: list[Packet] = []
        self._last_us = -1
        self._anew = False

    def frame_buffer(self) -> Frame:
        """See EncoderSession: the same memory each time, free again when `submit` returns."""
        return self._encoder.picture

    def submit(self, timestamp_us: int, intra: bool) -> None:
        """See EncoderSession.

        :raises EncoderError: the timestamp is not above the one before, or libx265 failed: the session is over then
        """
        if timestamp_us <= self._last_us:
            raise EncoderError(f"timestamp {timestamp_us} is not above the one before, {self._last_us}")
        self._come.append(Packet(self._encoder.encode_frame(intra or self._anew), timestamp_us))
        self._last_us = timestamp_us
        self._anew = False

    def packets(self, in_flight: int = 0) -> list[Packet]:
        """See EncoderSession."""
        come, self._come = self._come, []
        return come

    def drain(self) -> list[Packet]:
        """See EncoderSession."""
        self._anew = True
        return self.packets()

    def close(self) -> None:
        """See EncoderSession."""
        self._encoder.close()
