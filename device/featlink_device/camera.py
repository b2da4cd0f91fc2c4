"""A V4L2 camera through linuxpy: what to ask it for, its driver's times, and the pictures that the driver lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linuxpy.video.device import BufferFlag, BufferType, Capability, Device, PixelFormat, V4L2Error, VideoCapture
from linuxpy.video.device import Frame as DeviceFrame

from featlink_codec.errors import FeatlinkError
from featlink_codec.video.clip import Picture

from .camera_frames import FORMATS, DamagedFrameError, FrameReader

#: Buffers that the driver fills in turn: with two it loses pictures whenever the board is busy for a moment.
_BUFFERS = 4
#: A camera that sends nothing for so long has failed.
STALLED_S = 10.0
#: So many damaged frames in a row are a failure, fewer are counted as lost.
_DAMAGED_LIMIT = 30
_CAPTURE = BufferType.VIDEO_CAPTURE


class CameraSource:
    """Pictures of a camera, timestamped by its driver.

    The size is the one that the camera stands at, and so is the format where it is known here, not compressed and as
    fast as asked for: `v4l2-ctl --set-fmt-video` chooses both. Else it is the cheapest known one that is fast enough.

    :param path: of the device, e.g. /dev/video0
    :param fps: what the camera is asked for; not every camera can be asked
    :param limit: stop after so many pictures; None goes on
    """

    live = True

    def __init__(self, path: Path, fps: float, limit: int | None) -> None:
        self._path = path
        self._fps = fps
        self._limit = limit
        self.epoch_s = time.time()
        #: Pictures that the driver dropped (gaps in its numbers) or marked as damaged, or that hold none.
        self.lost = 0
        #: What was agreed on with the driver; filled when the first picture is asked for.
        self.facts: dict[str, Any] = {"kind": "camera", "node": str(path)}

    def __len__(self) -> int:
        """Unknown, unless a limit says it."""
        return self._limit or 0

    def __iter__(self) -> Iterator[Picture]:
        """Pictures until the limit.

        :raises FeatlinkError: the device cannot be opened, has no format known here, fails, or sends nothing more
        """
        try:
            with Device(str(self._path)) as device:
                yield from self._pictures(device)
        except (OSError, V4L2Error) as error:
            raise FeatlinkError(f"{self._path}: {getattr(error, 'strerror', None) or error}") from None

    def _pictures(self, device: Device) -> Iterator[Picture]:
        capture, read = self._negotiate(device)
        first_s: float | None = None
        number = damaged = 0
        with capture:
            for frame in self._frames(capture):
                try:
                    if BufferFlag.ERROR in frame.flags:
                        raise DamagedFrameError("the driver marks its frames as damaged")
                    picture = read(bytes(frame))
                except DamagedFrameError as error:
                    self.lost += 1
                    damaged += 1
                    if damaged == _DAMAGED_LIMIT:
                        raise FeatlinkError(f"{self._path}: {damaged} damaged frames in a row: {error}") from None
                    continue
                damaged = 0
                now_s = time.monotonic()
                monotonic = frame.flags & BufferFlag.TIMESTAMP_MASK == BufferFlag.TIMESTAMP_MONOTONIC
                taken_s = frame.timestamp if monotonic else now_s
                if first_s is None:
                    first_s = taken_s
                    # Read once: a clock that is set while we run must not move the pictures apart.
                    self.epoch_s = time.time() - (now_s - taken_s)
                    self.facts["timestamps"] = "driver, monotonic" if monotonic else "when read"
                yield Picture(number, taken_s - first_s, picture)
                number += 1
                if self._limit is not None and number >= self._limit:
                    return

    def _negotiate(self, device: Device) -> tuple[VideoCapture, FrameReader]:
        """Agree on a format and a rate with the driver."""
        capabilities = device.info.device_capabilities
        if Capability.VIDEO_CAPTURE not in capabilities:
            multiplanar = Capability.VIDEO_CAPTURE_MPLANE in capabilities
            found = "one of several planes (MPLANE), which are not read yet" if multiplanar else "not a camera"
            raise FeatlinkError(f"{self._path}: {device.info.card}: {found}")
        offered = [form.pixel_format for form in device.info.buffer_formats(_CAPTURE)]
        known = [form for form in FORMATS if form in offered]
        if not known:
            names = ", ".join(form.name for form in offered) or "none"
            raise FeatlinkError(f"{self._path}: no pixel format known here (it offers {names})")
        current = device.get_format(_CAPTURE)
        if FORMATS.get(current.pixel_format, "mjpeg") != "mjpeg":
            known.sort(key=lambda form: form != current.pixel_format)
        chosen = next((form for form in known if self._reaches(device, form, current.width, current.height)), known[0])
        capture = VideoCapture(device, _BUFFERS)
        if current.pixel_format != chosen:  # else it stays as it is, length of rows included
            capture.set_format(current.width, current.height, chosen)
            current = device.get_format(_CAPTURE)
            if current.pixel_format != chosen:
                raise FeatlinkError(f"{self._path}: asked for {chosen.name}, got {current.pixel_format.name}")
        self.facts |= {
            "card": device.info.card,
            "pixel_format": chosen.name,
            "width": current.width,
            "height": current.height,
            "bytes_per_line": current.bytes_per_line,
            "fps": self._set_rate(device),
        }
        return capture, FrameReader(chosen, current.width, current.height, current.bytes_per_line)

    def _reaches(self, device: Device, pixel_format: PixelFormat, width: int, height: int) -> bool:
        """Whether the driver says that it gives as many pictures a second as asked for, or does not say."""
        rates = device.info.fps_intervals(pixel_format, width, height)
        fastest = max((float(max(rate.min_fps, rate.max_fps)) for rate in rates), default=0.0)
        return fastest == 0.0 or fastest >= self._fps

    def _set_rate(self, device: Device) -> float | None:
        """Ask for the rate; what the driver makes of it, None where it does not say."""
        try:
            device.set_fps(_CAPTURE, self._fps)
            return float(device.get_fps(_CAPTURE))
        except (OSError, ZeroDivisionError):
            return None

    def _frames(self, capture: VideoCapture) -> Iterator[DeviceFrame]:
        """Frames as the driver gives them; gaps in its numbers are counted as lost."""
        last: int | None = None
        while True:
            # linuxpy's own iterators wait for ever.
            frame = capture.buffer.frame_reader.read(timeout=STALLED_S)
            if frame is None:
                raise FeatlinkError(f"{self._path}: no picture for {STALLED_S:g} s")
            if last is not None:
                # Numbers wrap at 2^32; a driver that does not count, or begins again, loses nothing by that.
                gap = (frame.frame_nb - last - 1) % (1 << 32)
                self.lost += gap if gap < 1 << 31 else 0
            last = frame.frame_nb
            yield frame
