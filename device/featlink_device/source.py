"""Where pictures come from: a clip (file, image, folder) or a V4L2 camera, behind one small protocol."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from featlink_codec.errors import FeatlinkError
from featlink_codec.video.clip import Clip, Picture


class Source(Protocol):
    """Pictures in order."""

    #: A live source cannot wait: when the pipeline is behind, pictures are dropped and counted.
    live: bool
    #: Seconds since 1970 of the picture at time_s 0.
    epoch_s: float
    #: Pictures that never came out of it, so far.
    lost: int
    #: What it is, for the figures of a run.
    facts: dict[str, Any]

    def __iter__(self) -> Iterator[Picture]:
        """The pictures; time_s counts from the first."""

    def __len__(self) -> int:
        """How many there will be; 0 where nobody can know."""


class ClipSource:
    """A clip, as fast as the pipeline takes it or at its own pace.

    :param clip: what to play
    :param paced: hand out pictures at their own times, as a camera would, and drop what nobody takes
    :param limit: stop after so many pictures; None plays all
    """

    def __init__(self, clip: Clip, paced: bool = False, limit: int | None = None) -> None:
        self._clip = clip
        self._limit = limit
        self.live = paced
        self.epoch_s = time.time()
        self.lost = 0
        self.facts: dict[str, Any] = {"kind": "clip"}

    def __iter__(self) -> Iterator[Picture]:
        """The pictures of the clip."""
        begin_s = time.perf_counter()
        for picture in self._clip:
            if self._limit is not None and picture.number >= self._limit:
                return
            if self.live:
                time.sleep(max(0.0, picture.time_s - (time.perf_counter() - begin_s)))
            yield picture

    def __len__(self) -> int:
        """Pictures in the clip, or the limit."""
        count = self._clip.count()
        return count if self._limit is None else min(count, self._limit)


def open_source(name: str, *, fps: float, paced: bool, limit: int | None) -> Source:
    """The source that a user named.

    :param name: a video file, an image, a folder of images, or a V4L2 device such as /dev/video0
    :param fps: pictures a second where the source has no times of its own, and what a camera is asked for
    :param paced: play a clip at its own pace
    :param limit: stop after so many pictures
    :raises FeatlinkError: nothing there, or nothing in it that could be read
    """
    path = Path(name)
    if path.exists() and stat.S_ISCHR(path.stat().st_mode):
        from .camera import CameraSource  # linuxpy is for cameras only

        return CameraSource(path, fps, limit)
    if name.startswith("/dev/video"):
        raise FeatlinkError(f"{name}: no such camera; `v4l2-ctl --list-devices` shows those that there are")
    return ClipSource(Clip(path, fps), paced, limit)
