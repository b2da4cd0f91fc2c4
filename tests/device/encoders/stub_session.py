"""An encoder session over libx265 that does what hardware does, one habit a field."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.video.frame import Frame
from featlink_codec.video.limits import X265_LIMITS
from featlink_codec.video.x265 import X265Encoder, X265Settings
from featlink_device.encoders.session import EncoderSpec, Packet


@dataclass
class Habits:
    """What the encoder does, and what it has done so far in all of its sessions."""

    #: pictures that are kept inside until more come
    delay: int = 0
    #: ways of asking for an intra picture that it minds
    minds: tuple[str, ...] = ("gop", "force", "restart")
    #: pictures, counted over all sessions, that it loses, stalls at, or dies of
    loses: tuple[int, ...] = ()
    stalls: tuple[int, ...] = ()
    #: columns by which every picture is moved
    shift: int = 0
    #: sessions that cannot be opened, counted from 0
    shut: tuple[int, ...] = ()
    sessions: int = 0
    pictures: int = 0
    closed: int = 0
    facts: dict[str, object] = field(default_factory=dict)


class StubSession:
    """See `EncoderSession`."""

    def __init__(self, habits: Habits, spec: EncoderSpec) -> None:
        number, habits.sessions = habits.sessions, habits.sessions + 1
        if number in habits.shut:
            raise EncoderError("the encoder is busy")
        self.facts = {"pixel_format": "GREY", **habits.facts}
        self.limits = X265_LIMITS["400"]
        self._habits, self._spec = habits, spec
        self._memory = bytearray(spec.width * spec.height)
        self._frame = Frame("GREY", spec.width, spec.height, [self._memory], spec.width)
        settings = X265Settings(spec.width, spec.height, lossless=spec.lossless, qp=spec.qp, picture_hash=False)
        self._x265 = X265Encoder(settings)
        self._held: list[Packet] = []
        self._come: list[Packet] = []
        self._stalled = self._first = False
        self._count = 0

    def frame_buffer(self) -> Frame:
        return self._frame

    def submit(self, timestamp_us: int, intra: bool) -> None:
        habits, number = self._habits, self._habits.pictures
        habits.pictures += 1
        self._stalled |= number in habits.stalls
        luma = np.roll(self._frame.luma, habits.shift, axis=1)
        data = self._x265.encode(luma, intra and self._spec.intra_by in habits.minds)
        lost = number in habits.loses
        self._held.append(Packet(b"" if lost else data, timestamp_us, lost))

    def packets(self, in_flight: int = 0) -> list[Packet]:
        if self._stalled or in_flight < min(self._habits.delay, len(self._held)):
            raise EncoderLostError("nothing came for 5 s")
        come, self._held = self._held[: len(self._held) - in_flight], self._held[len(self._held) - in_flight :]
        return come if in_flight else [*come]

    def drain(self) -> list[Packet]:
        if self._stalled:
            raise EncoderLostError("nothing came for 5 s")
        come, self._held = self._held, []
        return come

    def close(self) -> None:
        self._habits.closed += 1
        self._x265.close()


@dataclass(frozen=True)
class StubCandidate:
    """See `Candidate`."""

    habits: Habits
    backend: str = "v4l2"
    node: str | None = "/dev/stub"

    def __str__(self) -> str:
        return f"{self.backend}:{self.node}"

    def open(self, spec: EncoderSpec) -> StubSession:
        return StubSession(self.habits, spec)
