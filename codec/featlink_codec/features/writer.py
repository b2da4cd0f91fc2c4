"""Writes a feature-map stream: structures in, bytes out. Refuses what a reader would refuse."""

from __future__ import annotations

from ..errors import SettingsError
from .heritage import Heritage, NotInheritableError
from .syntax import (
    FEAT_MAP_SEQUENCE_END_CODE,
    TIME_TAG_START_CODE,
    FeatMapHeader,
    Profile,
    SequenceHeader,
    TimeTag,
)

_TIME_TAG_START = TIME_TAG_START_CODE.to_bytes(4, "big")


class StreamWriter:
    """Gives the bytes of each structure, in the order of table 8: start, then tags with maps, then end.

    A map is complete for a reader only when the next start code has come. A live writer therefore sends the start code
    of the next time tag right behind the last map of a tag; when no more maps come, an empty tag takes it up.

    :param profile: agreed with the reader
    :param feat_extractor_id: 0 to 7
    :param live: do so
    """

    def __init__(self, profile: Profile = Profile.STANDARD, feat_extractor_id: int = 0, *, live: bool = False) -> None:
        self._profile = profile
        self._header = SequenceHeader(feat_extractor_id=feat_extractor_id)
        self._live = live
        self._tag_begun = False
        self._heritage = Heritage()
        self._tags = 0
        self._started = False
        self._ended = False

    def start(self) -> bytes:
        """feat_map_sequence_header()."""
        self._check(not self._started, "the sequence has started")
        self._started = True
        return bytes(self._header)

    def time_tag(self, tag: TimeTag) -> bytes:
        """time_tag(), without its start code where that is on its way already; legal without maps behind it."""
        self._check(self._started, "start comes first")
        self._tags += 1
        data = bytes(tag)[4:] if self._tag_begun else bytes(tag)
        self._tag_begun = False
        return data

    def feat_map(self, header: FeatMapHeader, video: bytes, *, last_of_tag: bool = True) -> bytes:
        """feat_map_data().

        :param video: whole access units, Annex B, as many as the packing says
        :param last_of_tag: no other map follows under the same tag; matters only to a live writer
        :raises SettingsError: no time tag yet, another profile, nothing to inherit, or no video
        """
        self._check(self._tags > 0 and not self._tag_begun, "a map stands under a time tag")
        self._check(header.profile is self._profile, f"the map is of profile {header.profile.value}")
        self._check(video.startswith((b"\0\0\1", b"\0\0\0\1")), "the video does not begin with a NAL start code")
        try:
            resolved = self._heritage.resolve(header)
        except NotInheritableError as error:
            raise SettingsError(f"no-inherit: {error}") from None
        data = bytes(header) + video
        self._heritage.remember(header, resolved)
        if self._live and last_of_tag:
            self._tag_begun = True
            data += _TIME_TAG_START
        return data

    def end(self) -> bytes:
        """feat_map_sequence_end_code."""
        self._check(self._tags > 0, "a sequence has at least one time tag")
        rest = self.time_tag(TimeTag(interval_time=0)) if self._tag_begun else b""
        self._ended = True
        return rest + FEAT_MAP_SEQUENCE_END_CODE.to_bytes(4, "big")

    def _check(self, holds: bool, otherwise: str) -> None:
        if self._ended:
            raise SettingsError("the sequence has ended")
        if not holds:
            raise SettingsError(otherwise)
