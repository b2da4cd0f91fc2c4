"""What time it is on the far side: time tags in, seconds since 1970 out (6.2, interval_time)."""

from __future__ import annotations

import math

from ..errors import SettingsError, StreamError
from .events import Tag
from .syntax import INTERVAL_UNIT_S, MAX_INTERVAL_TIME, TimeTag

_UNITS_PER_S = round(1 / INTERVAL_UNIT_S)


class Clock:
    """Follows the tags of a sequence. Intervals are summed as integers, so that they do not drift."""

    def __init__(self) -> None:
        self._origin_s: float | None = None
        self._units = 0

    @property
    def time_s(self) -> float | None:
        """Seconds since 1970 of the last tag; None while no universal time is known."""
        return None if self._origin_s is None else self._origin_s + self._units / _UNITS_PER_S

    def forget(self) -> None:
        """A tag was, or may have been, lost: intervals say nothing until the next universal time."""
        self._origin_s = None

    def advance(self, tag: TimeTag) -> None:
        """Take in the next tag. Its universal time must be finite."""
        if tag.universal_time_flag:
            self._origin_s = tag.universal_time_s
            self._units = 0
        else:
            self._units += tag.interval_time


class Timeline:
    """Which tag of a sequence the next map stands under, and what time that is; tags can be lost."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._tags = 0
        #: Neither has a tag come, nor anything that may have been one.
        self.empty = True
        #: Index of the present tag; None when it was lost.
        self.index: int | None = None

    @property
    def time_s(self) -> float | None:
        """Seconds since 1970 of the present tag; None while it cannot be known."""
        return self._clock.time_s

    def accept(self, tag: TimeTag, offset: int, zero_bytes: int) -> Tag:
        """Go on to the next tag; the rest describes it for its event.

        :raises StreamError: ``bad-time``: a universal time that is no number; the tag counts as lost
        """
        if tag.universal_time_flag and not math.isfinite(tag.universal_time_s):
            self.lose()
            raise StreamError("bad-time", offset, f"universal_time is {tag.universal_time_s}")
        self._clock.advance(tag)
        self.empty = False
        self.index, self._tags = self._tags, self._tags + 1
        return Tag(offset=offset, zero_bytes=zero_bytes, index=self.index, tag=tag, time_s=self.time_s)

    def lose(self) -> None:
        """A tag was, or may have been, lost."""
        self._clock.forget()
        self.empty = False
        self.index = None


class TagMaker:
    """Gives each time the shorter tag that holds it: the interval where it fits, else the universal time.

    Intervals are rounded against the time that a reader has by then, so that rounding errors do not add up.
    """

    def __init__(self) -> None:
        self._clock = Clock()

    def tag(self, time_s: float, universal: bool = False) -> TimeTag:
        """The tag for `time_s`.

        :param time_s: seconds since 1970, finite, not negative
        :param universal: ask for a universal time, as every refresh should, so that a late reader knows the time
        """
        if not math.isfinite(time_s) or time_s < 0:
            raise SettingsError(f"time {time_s} s is not a finite number of seconds since 1970")
        known_s = self._clock.time_s
        units = -1 if known_s is None else round((time_s - known_s) / INTERVAL_UNIT_S)
        if universal or not 0 <= units <= MAX_INTERVAL_TIME:
            tag = TimeTag.universal(time_s + 0.0)
        else:
            tag = TimeTag(interval_time=units)
        self._clock.advance(tag)
        return tag
