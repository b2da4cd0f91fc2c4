"""What one would send instead of features: each picture as JPEG, or all of them as an x265 stream."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av import VideoFrame
from av.video.frame import PictureType
from numpy.typing import NDArray
from PIL import Image

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.extractor.preprocess import PIXEL_FORMATS, Preprocessor
from featlink_codec.video.convert import Converter

JPEG_QUALITY = 85
X265_PRESET = "medium"

_MAX_CRF = 51
#: libx265 codes no picture with a shorter side.
_MIN_SIDE = 16
#: Times are told to x265 in these; it codes none of them.
_TIME_BASE = Fraction(1, 90000)


class Rival(Protocol):
    """One way to send pictures."""

    #: short and fixed, for machines
    key: str
    label: str
    #: how exactly the pictures are coded
    how: str

    def code(self, frame: VideoFrame, time_s: float) -> tuple[int, VideoFrame]:
        """Code the next picture.

        :param frame: the original
        :param time_s: seconds since the first picture
        :returns: bytes that were needed, and the picture that the far end would see
        """


class JpegRival:
    """Each original picture as a JPEG file of its own, in its own size."""

    key = f"jpeg-{JPEG_QUALITY}"
    label = f"JPEG q{JPEG_QUALITY}"
    how = f"each original picture a JPEG file in its own size, quality {JPEG_QUALITY}, 4:2:0 (libjpeg through Pillow)"

    def __init__(self) -> None:
        self._to_rgb = Converter("rgb24")
        self._decoder = _decoder("mjpeg")

    def code(self, frame: VideoFrame, time_s: float) -> tuple[int, VideoFrame]:
        """See Rival.

        :raises EncoderError: not one decoded picture
        """
        file = io.BytesIO()
        rgb = self._to_rgb(frame).to_ndarray()
        Image.fromarray(rgb).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
        data = file.getvalue()
        return len(data), _one(self._decoder.decode(av.Packet(data)), self.label)


class SmallPictures:
    """The pictures as the network takes them, in 4:2:0 (or gray): what x265 is given, and what it gives back.

    :param size: the [input] table: size and colours that the network takes
    """

    def __init__(self, size: InputSettings) -> None:
        # 4:2:0 has no odd sides
        self.width, self.height = size.width + size.width % 2, size.height + size.height % 2
        self.pixel_format = "gray" if size.colour == "gray" else "yuv420p"
        self.what = f"{self.width} x {self.height} {'gray' if self.pixel_format == 'gray' else '4:2:0'}"
        # The network's own preprocessing, but with samples as they are, 0..255.
        self._shrink = Preprocessor(
            replace(size, width=self.width, height=self.height, layout="NHWC", scale=1.0, offset=0.0)
        )
        self._format = PIXEL_FORMATS[size.colour]
        self._to_coded, self._from_coded = Converter(self.pixel_format), Converter(self._format)

    def shrink(self, frame: VideoFrame) -> VideoFrame:
        """A picture in the network's size, ready to be coded."""
        samples = self._shrink(frame)[0].astype(np.uint8)
        return self._to_coded(_frame(samples, self._format))

    def restore(self, frame: VideoFrame) -> VideoFrame:
        """The same after decoding, in the network's colours."""
        return self._from_coded(frame)


class PlainRival:
    """The network's own picture in 4:2:0, not coded: no stream of such pictures can agree better, but for luck."""

    key = "plain"

    def __init__(self, size: InputSettings) -> None:
        self._small = SmallPictures(size)
        self.label = "raw gray" if self._small.pixel_format == "gray" else "raw 4:2:0"
        self.how = (
            f"the picture as the network takes it, {self._small.what}, not coded: "
            "what x265 is given, so that its own losses can be told from those before it"
        )

    def code(self, frame: VideoFrame, time_s: float) -> tuple[int, VideoFrame]:
        """See Rival."""
        small = self._small.shrink(frame)
        samples = self._small.width * self._small.height
        return samples if small.format.name == "gray" else samples * 3 // 2, self._small.restore(small)


class X265Rival:
    """The pictures, resized as the network takes them, as an x265 stream such as one would send live.

    :param crf: constant rate factor, 0 (best) .. 51
    :param size: the [input] table: size and colours that the network takes
    :param refresh_s: seconds between intra pictures with parameter sets
    :param gap_s: seconds between two pictures, roughly
    :raises SettingsError: the CRF, or a size that x265 does not take
    :raises EncoderError: libx265 is missing or refuses the settings
    """

    def __init__(self, crf: float, size: InputSettings, refresh_s: float, gap_s: float) -> None:
        check_crf(crf)
        self._small = SmallPictures(size)
        if min(self._small.width, self._small.height) < _MIN_SIDE:
            found = f"{size.width} x {size.height}"
            raise SettingsError(f"x265 codes no pictures of {found}: compare without it (no CRF)")
        self.key = f"x265-{crf:g}"
        self.label = f"x265 CRF {crf:g}"
        self.how = (
            f"the picture as the network takes it, {self._small.what}, x265 preset {X265_PRESET}, tune zerolatency "
            f"(no B-pictures, no look-ahead), CRF {crf:g}, an IDR picture every {refresh_s:g} s; "
            "parameter sets counted, no picture hashes"
        )
        self._refresh_s = refresh_s
        self._intra_s = -math.inf
        self._encoder = self._new_encoder(crf, gap_s)
        self._decoder = _decoder("hevc")

    def _new_encoder(self, crf: float, gap_s: float) -> av.VideoCodecContext:
        parameters = {
            "crf": crf,
            "keyint": -1,  # intra pictures are asked for by time, below
            "repeat-headers": 1,
            "annexb": 1,
            "info": 0,  # no SEI with x265's own settings: the rival pays for pictures only
            "pools": "none",  # wavefronts would make the bytes depend on the number of cores
            "log-level": "none",
        }
        try:
            codec = av.CodecContext.create("libx265", "w")
            assert isinstance(codec, av.VideoCodecContext)
            codec.width, codec.height, codec.pix_fmt = self._small.width, self._small.height, self._small.pixel_format
            codec.time_base = _TIME_BASE
            codec.framerate = Fraction(1 / gap_s).limit_denominator(1001)
            codec.options = {
                "preset": X265_PRESET,
                "tune": "zerolatency",
                "forced-idr": "1",
                "x265-params": ":".join(f"{name}={value}" for name, value in parameters.items()),
            }
            codec.open()
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(f"libx265 refused CRF {crf:g} at {self._small.what}: {error}") from error
        return codec

    def code(self, frame: VideoFrame, time_s: float) -> tuple[int, VideoFrame]:
        """See Rival.

        :raises EncoderError: not one packet and one decoded picture
        """
        picture = self._small.shrink(frame)
        picture.pts, picture.time_base = round(time_s / _TIME_BASE), _TIME_BASE
        intra = time_s - self._intra_s >= self._refresh_s - 1e-6
        picture.pict_type = PictureType.I if intra else PictureType.NONE
        if intra:
            self._intra_s = time_s
        try:
            packets = self._encoder.encode(picture)
            decoded = [one for packet in packets for one in self._decoder.decode(packet)]
        except av.FFmpegError as error:
            raise EncoderError(f"{self.label}: {error}") from error
        return sum(packet.size for packet in packets), self._small.restore(_one(decoded, self.label))


def check_crf(crf: float) -> None:
    """Whether x265 knows this CRF (SettingsError if not)."""
    if not 0 <= crf <= _MAX_CRF:
        raise SettingsError(f"CRF: found {crf}, expected 0..{_MAX_CRF}")


def _decoder(name: str) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1  # with more, pictures come out later than their packets
    return decoder


def _one(frames: Sequence[VideoFrame], label: str) -> VideoFrame:
    if len(frames) != 1:
        raise EncoderError(f"{label}: {len(frames)} pictures came out for one that went in")
    return frames[0]


def _frame(samples: NDArray[np.uint8], pixel_format: str) -> VideoFrame:
    """A frame of samples, uint8 [H, W, channels]."""
    return VideoFrame.from_ndarray(samples[..., 0] if samples.shape[2] == 1 else samples, pixel_format)
