"""What time it is on the far side: time tags in, seconds since 1970 out (6.2, interval_time)."""

from __future__ import annotations

import math

from ..errors import SettingsError
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
