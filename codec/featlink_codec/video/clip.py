"""Pictures of a video file, of one image, or of a folder of images, in order, through FFmpeg."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from ..errors import FeatlinkError, SettingsError

#: What counts as an image, by the end of its name in lower case.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
#: Pictures a second of a folder, and of a video that does not say its own.
DEFAULT_FPS = 10.0


class Picture(NamedTuple):
    """One picture of a clip."""

    #: its place, from 0
    number: int
    #: seconds since the first picture
    time_s: float
    #: as decoded, in its own size and pixel format
    frame: VideoFrame


class Clip:
    """A source of pictures that can be gone through again and again; files are open only while it is iterated.

    :param path: a video file, an image, or a folder whose images are taken in the order of their names
    :param fps: pictures a second where the source has no times of its own
    :raises FeatlinkError: nothing there, no video, no image in the folder
    """

    def __init__(self, path: Path | str, fps: float = DEFAULT_FPS) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise SettingsError(f"fps: found {fps}, expected a finite number above 0")
        self.path = Path(path)
        self.fps = fps
        #: the image files; empty for a video
        self.images: tuple[Path, ...] = ()
        if self.path.is_dir():
            self.images = tuple(sorted(file for file in self.path.iterdir() if _is_image(file)))
            if not self.images:
                raise FeatlinkError(f"{self.path}: no image in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
        elif not self.path.exists():
            raise FeatlinkError(f"{self.path}: no such file or folder")
        elif _is_image(self.path):
            self.images = (self.path,)
        else:
            with _open(self.path) as container:
                _video_stream(container, self.path)

    def __iter__(self) -> Iterator[Picture]:
        """The pictures from the first on.

        :raises FeatlinkError: an image or a part of the video that cannot be decoded, or a video without a picture
        """
        if self.images:
            for index, file in enumerate(self.images):
                yield Picture(index, index / self.fps, _read_image(file))
        else:
            yield from self._video()

    def picked(self, numbers: Iterable[int]) -> Iterator[Picture]:
        """The pictures of these numbers, from the first on; those behind the last of them are not decoded."""
        wanted = set(numbers)
        last = max(wanted, default=-1)
        for picture in self:
            if picture.number in wanted:
                yield picture
            if picture.number >= last:
                return

    def count(self) -> int:
        """How many pictures there are; for a video whose file does not say it, its packets are counted, not decoded."""
        if self.images:
            return len(self.images)
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            if stream.frames > 0:
                return stream.frames
            try:
                return sum(1 for packet in container.demux(stream) if packet.size)
            except av.FFmpegError as error:
                raise FeatlinkError(f"{self.path}: cannot be read on: {error.strerror}") from None

    def _video(self) -> Iterator[Picture]:
        index, first_s = 0, 0.0
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            rate = float(stream.average_rate or 0) or self.fps
            try:
                for frame in container.decode(stream):
                    found_s = frame.time if frame.pts is not None else None
                    if index == 0:
                        first_s = found_s or 0.0
                    yield Picture(index, index / rate if found_s is None else found_s - first_s, frame)
                    index += 1
            except av.FFmpegError as error:
                raise FeatlinkError(f"{self.path}: picture {index} cannot be decoded: {error.strerror}") from None
        if index == 0:
            raise FeatlinkError(f"{self.path}: its video stream holds no picture")


def open_source(path: Path | str, fps: float = DEFAULT_FPS) -> Clip:
    """The pictures of a video file, an image or a folder of images; see `Clip`."""
    return Clip(path, fps)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _open(path: Path) -> InputContainer:
    """The open file; ``file:`` keeps FFmpeg from reading a protocol out of a name with a colon."""
    try:
        container = av.open(f"file:{path}", mode="r")
    except av.FFmpegError as error:
        raise FeatlinkError(f"{path}: not a video that FFmpeg can read: {error.strerror}") from None
    if container.format.name == "tty":  # FFmpeg plays any text file as a terminal's output
        container.close()
        raise FeatlinkError(f"{path}: not a video that FFmpeg can read: it is text")
    return container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    if container.streams.video:
        return container.streams.video[0]
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise FeatlinkError(f"{path}: no video stream in this file (found: {kinds})")


def _read_image(path: Path) -> VideoFrame:
    """The picture in an image file; its type is told from its bytes, since a name with % is a pattern to FFmpeg."""
    try:
        with path.open("rb") as file, av.open(file, mode="r") as container:
            for frame in container.decode(_video_stream(container, path)):
                return frame
    except av.FFmpegError as error:
        raise FeatlinkError(f"{path}: not an image that FFmpeg can read: {error.strerror}") from None
    except OSError as error:
        raise FeatlinkError(f"{path}: {error.strerror}") from None
    raise FeatlinkError(f"{path}: this image file holds no picture")
