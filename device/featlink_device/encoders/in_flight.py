"""The pictures inside an encoder, and the packets that have come of them: matched by time, given out in order."""

from __future__ import annotations

from .session import Packet


class InFlight:
    """What is inside, oldest first."""

    def __init__(self) -> None:
        #: by timestamp; with its packet where an older picture's is still to come
        self._inside: dict[int, Packet | None] = {}
        self._come: list[Packet] = []

    def __len__(self) -> int:
        """Pictures that have not come out, or wait for an older one."""
        return len(self._inside)

    def __contains__(self, timestamp_us: int) -> bool:
        """Whether the picture of that time is inside, and nothing has come of it."""
        return self._inside.get(timestamp_us, _NOTHING) is None

    def enter(self, timestamp_us: int) -> None:
        """A picture goes in."""
        self._inside[timestamp_us] = None

    def announce(self, packet: Packet) -> None:
        """Parameter sets alone."""
        self._come.append(packet)

    def settle(self, packet: Packet) -> None:
        """A picture's end; it is given out when all older ones are."""
        assert packet.timestamp_us is not None
        self._inside[packet.timestamp_us] = packet
        while self._inside:
            oldest, settled = next(iter(self._inside.items()))
            if settled is None:
                break
            del self._inside[oldest]
            self._come.append(settled)

    def lose(self, timestamp_us: int) -> None:
        """A picture is lost."""
        self.settle(Packet(b"", timestamp_us, lost=True))

    def lose_all(self) -> None:
        """Nothing more comes."""
        for timestamp_us in [time_us for time_us, packet in self._inside.items() if packet is None]:
            self.lose(timestamp_us)

    def give(self) -> list[Packet]:
        """The packets that have come, in the order of their pictures; once each."""
        come, self._come = self._come, []
        return come


_NOTHING = Packet(b"", None)
