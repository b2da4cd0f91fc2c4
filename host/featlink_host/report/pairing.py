"""Which map belongs to which picture of the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from featlink_codec.video.clip import Picture

from ..run import MapRecord


class Pair(NamedTuple):
    """A picture and its map."""

    picture: Picture
    record: MapRecord
    #: seconds to the next picture (of the last one: from the one before)
    gap_s: float


def pair_up(
    pictures: Iterable[Picture], records: Sequence[MapRecord], start_s: float | None, lone_gap_s: float
) -> Iterator[Pair]:
    """Go through the pictures, once, as far as there are maps, and give those whose map came.

    A map belongs to the picture that is nearest in time, within half the distance to that picture's neighbours; where
    no map has a time, map k belongs to picture k. Times on the wire are multiples of 10 ms: above 50 pictures a second
    some maps may find no picture.

    :param start_s: seconds since 1970 of the source's first picture; None: the first map with a time is of it
    :param lone_gap_s: distance to the neighbours of a picture that has none
    """
    timed = sorted((record for record in records if record.time_s is not None), key=_time)
    if not timed:
        yield from _by_number(pictures, records, lone_gap_s)
        return
    if start_s is None:
        start_s = _time(timed[0])
    at = 0
    before_s: float | None = None
    for picture, after in _with_next(pictures):
        gap_s = lone_gap_s
        if after is not None:
            gap_s = after.time_s - picture.time_s
        elif before_s is not None:
            gap_s = picture.time_s - before_s
        low_s = picture.time_s - (gap_s if before_s is None else picture.time_s - before_s) / 2
        mine: list[MapRecord] = []
        while at < len(timed) and _time(timed[at]) - start_s < picture.time_s + gap_s / 2:
            if _time(timed[at]) - start_s >= low_s:
                mine.append(timed[at])
            at += 1
        if mine:
            shift_s = start_s + picture.time_s
            yield Pair(picture, min(mine, key=lambda record: abs(_time(record) - shift_s)), gap_s)
        if at == len(timed):
            return
        before_s = picture.time_s


def _by_number(pictures: Iterable[Picture], records: Sequence[MapRecord], lone_gap_s: float) -> Iterator[Pair]:
    by_number = {record.k: record for record in records}
    last = max(by_number, default=-1)
    gap_s = lone_gap_s
    for picture, after in _with_next(pictures):
        gap_s = gap_s if after is None else after.time_s - picture.time_s
        if picture.number in by_number:
            yield Pair(picture, by_number[picture.number], gap_s)
        if picture.number >= last:
            return


def _time(record: MapRecord) -> float:
    assert record.time_s is not None
    return record.time_s


def _with_next(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Picture | None]]:
    """Each picture with the one behind it."""
    held: Picture | None = None
    for picture in pictures:
        if held is not None:
            yield held, picture
        held = picture
    if held is not None:
        yield held, None
