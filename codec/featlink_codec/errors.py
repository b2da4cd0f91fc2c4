"""The one hierarchy of errors. Everything that came from the wire is blamed with a name and a byte offset."""

from __future__ import annotations


class FeatlinkError(Exception):
    """Base of every error that featlink raises on purpose; its text is one line that a user can act on."""


class SettingsError(FeatlinkError, ValueError):
    """A setting, argument or array that the caller gave does not fit. The text says what was found and what fits."""


class EncoderError(FeatlinkError):
    """A video encoder refused its settings, gave back the wrong number of packets, or was not lossless when told to."""


class EncoderLostError(EncoderError):
    """A video encoder that had worked stalled, died or lost a picture. Another try may work.

    :param usable: the session goes on, its next picture must be intra; else it is over
    """

    def __init__(self, text: str, *, usable: bool = False) -> None:
        super().__init__(text)
        self.usable = usable


class StreamError(FeatlinkError):
    """Bytes from the wire that are not what the standard allows.

    :param name: short fixed name of the kind of damage, e.g. ``bad-order``; stable, for machines
    :param offset: byte offset from the start of the stream at which the damage was noticed
    :param text: what was found and what was expected
    """

    def __init__(self, name: str, offset: int, text: str) -> None:
        super().__init__(name, offset, text)
        self.name = name
        self.offset = offset
        self.text = text

    def __str__(self) -> str:
        return f"byte {self.offset}: {self.name}: {self.text}"


class TruncatedError(StreamError):
    """More bytes are needed than have come.

    :param needed: how many bytes, counted from the start of the structure, must be there before another try pays
    """

    def __init__(self, offset: int, needed: int, text: str) -> None:
        super().__init__("truncated", offset, text)
        self.needed = needed


class RefusedError(StreamError):
    """The stream as a whole cannot be read: not a feature-map stream, or one with a codec or profile not known here."""
