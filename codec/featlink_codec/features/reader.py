"""Reads a feature-map stream as its bytes come in: sans I/O, bounded memory, one map of latency.

Headers are parsed by syntax and only video bytes are scanned for start codes, since lists and times may hold what
looks like one. After damage the reader hunts for the next structure that proves itself, and reports what was lost.
"""

from __future__ import annotations

from collections.abc import Callable

from ..bits import BitReader
from ..errors import RefusedError, StreamError, TruncatedError
from .events import Damage, Event, SequenceEnd, SequenceStart
from .framing import ANY_START_CODE, END_OF_VIDEO, NOT_ZERO, State, end_code_ends, sequence_header, tag_size
from .map_decoder import EXTENT_KNOWN, DecoderFactory, MapDecoder, pyav_decoder
from .map_target import Wanted
from .syntax import (
    FEAT_MAP_SEQUENCE_END_CODE,
    FEAT_MAP_START_CODE,
    TIME_TAG_START_CODE,
    FeatMapHeader,
    Profile,
    SequenceHeader,
    TimeTag,
)
from .timing import Timeline

#: Bytes of one map that are held while its end is awaited.
DEFAULT_MAX_MAP_BYTES = 1 << 28


class StreamReader:
    """Bytes in, events out.

    :param profile: as agreed with the writer; it is not in the stream
    :param level_scaling: likewise
    :param decode: False: check everything but the pixels, maps come without levels
    :param require_hash: refuse maps whose pictures carry no MD5: without one most damage to video passes unseen, and
        FFmpeg gives a picture that was cut short as good, with stale memory in it. A type that was hashed must stay so
        in any case
    :param wanted: what a decoded map shall hold: its levels, the head's input tensor, or both
    :param new_decoder: makes a video decoder for (width, height); PyAV where left out
    :param max_map_bytes: a map, or zero bytes between structures, beyond this are damage
    """

    def __init__(
        self,
        profile: Profile = Profile.STANDARD,
        level_scaling: bool = False,
        *,
        decode: bool = True,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
        require_hash: bool = False,
        new_decoder: DecoderFactory | None = None,
        max_map_bytes: int = DEFAULT_MAX_MAP_BYTES,
    ) -> None:
        self._profile = profile
        self._max_map_bytes = max_map_bytes
        decoder = (new_decoder or pyav_decoder) if decode else None
        self._decoder = MapDecoder(level_scaling, decoder, require_hash, wanted)
        self._timeline = Timeline()
        self._state = State.START
        self._buffer = bytearray()
        self._base = 0  # stream offset of _buffer[0]
        self._at = 0  # where the present structure starts, or the hunt goes on
        self._scan = 0  # up to here the buffer was searched
        self._body = 0  # where the present map's video starts
        self._wanted = 0  # bytes that the present header needs at least, from _at
        self._hunting = False  # the present structure was found by hunting and has yet to prove itself
        self._at_end = False  # no more bytes will come
        self._pending: SequenceHeader | TimeTag | None = None
        self._header = FeatMapHeader()
        self._trailing_at: int | None = None
        self._trailing = 0
        self._events: list[Event] = []

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take in the next bytes, of any number.

        :returns: what they complete, in stream order
        :raises RefusedError: the stream as a whole cannot be read; nothing more will come out
        """
        self._buffer += data
        return self._run()

    def unit_ended(self) -> list[Event]:
        """The transport says that the bytes so far end a structure: the last map is complete without a start code."""
        if self._state is State.VIDEO:
            self._finish_map(len(self._buffer), len(self._buffer))
        elif self._state is State.GAP:
            self._finish_pending(len(self._buffer) - self._body)
            self._at = self._body = self._scan = len(self._buffer)
        elif self._state in (State.TAG, State.MAP):
            self._damaged(self._truncated("the unit"), self._at + 4)
        return self._run()

    def close(self) -> list[Event]:
        """No more bytes will come: give what is left, and report what is not whole."""
        self._at_end = True
        events = self._run()
        self._decoder.close()
        return events

    def _run(self) -> list[Event]:
        try:
            while _STEPS[self._state](self):
                pass
        except RefusedError:
            self._decoder.close()
            self._at, self._state = len(self._buffer), State.END
            self._events.clear()
            raise
        keep_from = self._at
        del self._buffer[:keep_from]
        self._base += keep_from
        self._at = 0
        self._scan -= keep_from
        self._body -= keep_from
        events, self._events = self._events, []
        return events

    # --- one step a state: each returns whether another step may follow on the bytes at hand

    def _start(self) -> bool:
        header = sequence_header(self._buffer, self._at_end)
        if header is None:
            return False
        self._pend(header, 5)
        return True

    def _pend(self, structure: SequenceHeader | TimeTag, size: int) -> None:
        self._pending = structure
        self._body = self._scan = self._at + size
        self._state = State.GAP

    def _gap(self) -> bool:
        match = NOT_ZERO.search(self._buffer, self._scan)
        if self._too_long((match.start() if match else len(self._buffer)) - 3):
            return self._damaged(self._overlong("zero bytes"), self._body)
        if match is None:
            self._scan = len(self._buffer)
            return self._at_end and self._damaged(self._truncated("next_start_code()"), self._body)
        code_at = match.start() - 3
        if code_at < self._body or not 0xE0 <= self._buffer[match.start()] <= 0xE3:
            found = self._buffer[match.start()]
            error = StreamError("garbage", self._base + match.start(), f"found 0x{found:02x}, expected a start code")
            # Behind the end of a unit no structure stands at _at: the next one may begin right there.
            return self._damaged(error, self._at + 4 if self._pending is not None else self._at)
        self._finish_pending(code_at - self._body)
        return self._dispatch(code_at)

    def _finish_pending(self, zero_bytes: int) -> None:
        """The sequence header or the tag has proved itself."""
        offset = self._base + self._at
        if isinstance(self._pending, SequenceHeader):
            self._events.append(SequenceStart(offset=offset, zero_bytes=zero_bytes, header=self._pending))
        elif self._pending is not None:
            try:
                self._events.append(self._timeline.accept(self._pending, offset, zero_bytes))
            except StreamError as error:
                self._report(error, None)
        self._pending = None
        self._hunting = False

    def _dispatch(self, code_at: int) -> bool:
        """Go on at a start code where one is due."""
        code = int.from_bytes(self._buffer[code_at : code_at + 4], "big")
        self._at, self._wanted = code_at, 0
        offset = self._base + code_at
        if code == TIME_TAG_START_CODE:
            self._state = State.TAG
        elif code == FEAT_MAP_START_CODE:
            self._state = State.MAP
            if self._timeline.empty:
                return self._damaged(StreamError("no-time-tag", offset, "a map before any time tag"), code_at + 4)
        elif code == FEAT_MAP_SEQUENCE_END_CODE:
            self._ended(code_at)
        else:
            error = StreamError("second-sequence", offset, "feat_map_sequence_start_code inside a sequence")
            return self._damaged(error, code_at + 4)
        return True

    def _tag(self) -> bool:
        size = tag_size(self._buffer, self._at)
        if len(self._buffer) - self._at < size:
            return self._at_end and self._damaged(self._truncated("time_tag()"), self._at + 4)
        tag = TimeTag()
        tag.code(BitReader(self._buffer, self._at, self._base))
        self._pend(tag, size)
        return True

    def _map(self) -> bool:
        if len(self._buffer) - self._at < self._wanted and not self._at_end:
            return False
        io = BitReader(self._buffer, self._at, self._base)
        try:
            self._header = FeatMapHeader.read(io, self._profile)
            self._decoder.resolve(self._header, self._base + self._at)
        except TruncatedError as error:
            self._wanted = error.needed
            return self._at_end and self._damaged(self._truncated("feat_map_data()"), self._at + 4)
        except StreamError as error:
            return self._damaged(error, self._at + 4)
        self._body = self._scan = io.index
        self._state = State.VIDEO
        return True

    def _video(self) -> bool:
        match = END_OF_VIDEO.search(self._buffer, self._scan)
        if self._too_long(match.start() if match else len(self._buffer) - 3):
            return self._damaged(self._overlong("video bytes"), self._body)
        if match is None:
            self._scan = max(self._body, len(self._buffer) - 3)
            return self._at_end and self._damaged(self._truncated("video_codec_stream()"), self._body)
        code_at = match.start()
        last = self._buffer[code_at + 3]
        if not 0xE0 <= last <= 0xE3:
            error = StreamError("illegal-bytes", self._base + code_at, f"found 000000{last:02x} in the video")
            return self._damaged(error, self._body)
        if not self._finish_map(code_at, code_at):
            return True
        return self._dispatch(code_at)

    def _finish_map(self, video_end: int, next_at: int) -> bool:
        """Decode the present map. Returns False when the reader has to hunt on."""
        raw = bytes(self._buffer[self._body : video_end])
        video = raw.rstrip(b"\0")
        offset = self._base + self._at
        where, zeros, timeline = self._base + self._body, len(raw) - len(video), self._timeline
        try:
            found = self._decoder.decode(
                self._header, offset, video, where, zeros, timeline.index, timeline.time_s
            )  # fmt: skip
            self._events.append(found)
        except StreamError as error:
            if error.name not in EXTENT_KNOWN:
                self._damaged(error, self._body)
                return False
            self._report(error, offset)
        self._hunting = False
        self._state = State.GAP
        self._at = self._body = self._scan = next_at
        return True

    def _hunt(self) -> bool:
        """After damage: a tag counts once a start code follows it, an end code at the end or before a new sequence."""
        match = ANY_START_CODE.search(self._buffer, self._at)
        if match is None:
            self._at = max(self._at, len(self._buffer) - 3)
            if self._at_end:
                self._ended_by_damage()
            return False
        self._at, self._wanted, self._hunting = match.start(), 0, True
        last = self._buffer[self._at + 3]
        if last == TIME_TAG_START_CODE & 0xFF:
            self._state = State.TAG
        elif last == FEAT_MAP_START_CODE & 0xFF:
            self._state = State.MAP
        elif last == FEAT_MAP_SEQUENCE_END_CODE & 0xFF:
            ends = end_code_ends(self._buffer, self._at, self._at_end)
            if ends is None:
                return False
            if ends:
                self._ended(self._at)
            else:
                self._at += 1
        else:
            self._at += 1
        return True

    def _ended(self, code_at: int) -> None:
        offset = self._base + code_at
        if self._timeline.empty:
            raise RefusedError("no-time-tag", offset, "the sequence has no time tag")
        self._events.append(SequenceEnd(offset=offset))
        self._at = code_at + 4
        self._state = State.END
        self._trailing_at = self._base + self._at

    def _ended_by_damage(self) -> None:
        if self._timeline.empty:
            raise RefusedError("no-time-tag", self._base + self._at, "the sequence has no time tag")
        self._at = len(self._buffer)
        self._state = State.END

    def _end(self) -> bool:
        self._trailing += len(self._buffer) - self._at
        self._at = len(self._buffer)
        if self._at_end and self._trailing and self._trailing_at is not None:
            text = f"{self._trailing} bytes behind feat_map_sequence_end_code, not read"
            self._report(StreamError("trailing-bytes", self._trailing_at, text), None)
            self._trailing = 0
        return False

    # --- damage

    def _damaged(self, error: StreamError, hunt_from: int) -> bool:
        """Report, forget what may be stale, hunt from there. A tag that hunting tried in vain was none: no report."""
        in_map = self._state in (State.MAP, State.VIDEO)
        if in_map or not self._hunting:
            self._report(error, self._base + self._at if in_map else None)
        if error.name != "no-time-tag":
            self._timeline.lose()
        self._decoder.clear()
        self._pending = None
        self._hunting = True
        self._at = self._scan = hunt_from
        self._state = State.HUNT
        return True

    def _report(self, error: StreamError, map_offset: int | None) -> None:
        """Give the error out as an event, without the frames that it came through: they hold the map's bytes."""
        error.__traceback__ = error.__context__ = None
        self._events.append(Damage(error, map_offset))

    def _truncated(self, where: str) -> StreamError:
        return StreamError("truncated", self._base + len(self._buffer), f"the data end in {where}")

    def _too_long(self, end: int) -> bool:
        """Whether the structure is too long, `end` being the first place where its end can be: however it arrives."""
        return end - self._at > self._max_map_bytes

    def _overlong(self, what: str) -> StreamError:
        return StreamError("too-long", self._base + self._at, f"more than {self._max_map_bytes} {what} without an end")


#: The step of each state. Not bound methods in the reader: a cycle would keep a dropped reader's bytes alive for long.
_STEPS: dict[State, Callable[[StreamReader], bool]] = {
    State.START: StreamReader._start,
    State.GAP: StreamReader._gap,
    State.TAG: StreamReader._tag,
    State.MAP: StreamReader._map,
    State.VIDEO: StreamReader._video,
    State.HUNT: StreamReader._hunt,
    State.END: StreamReader._end,
}
