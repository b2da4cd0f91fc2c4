"""Choosing the encoder by a trial: pictures go in, come back through a decoder, and must be the ones that went in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, EncoderLostError, SettingsError, StreamError
from featlink_codec.video.limits import EncoderLimits

from .candidates import Candidate
from .session import EncoderSpec

if TYPE_CHECKING:
    from .coder import SessionCoder

#: Pictures that an encoder may keep inside until more come. B pictures are off, so more has never been seen.
_DELAYS = (0, 1, 2)
#: Mean difference of two pictures that have nothing to do with each other: that of random blocks is above 70. The
#: coarsest QP stays below 20.
_UNLIKE = 40.0
#: Side of the blocks of the trial's picture, where it has room for four.
_BLOCK = 16


@dataclass(frozen=True)
class Trial:
    """One candidate, and what became of it.

    :param spec: what worked, with how intra pictures are made; None: nothing did
    :param delay: pictures that stay inside
    :param decoded: whether a decoder was there to look at the pictures
    :param why: what went wrong, or what had to be done another way first
    """

    candidate: Candidate
    spec: EncoderSpec | None
    delay: int = 0
    decoded: bool = False
    spent_s: float = 0.0
    limits: EncoderLimits | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    why: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether it can be used."""
        return self.spec is not None

    @property
    def text(self) -> str:
        """For people, in a line."""
        if self.limits is None:
            # Drivers' errors begin with the node, which the candidate has said.
            return f"{self.candidate}: {self.why[-1].removeprefix(f'{self.candidate.node}: ')}"
        limits = self.limits
        sides = f"{limits.min_width} x {limits.min_height} to {limits.max_width} x {limits.max_height}"
        looked = "" if self.decoded else ", not decoded"
        return f"{self.candidate}: works ({self.spent_s * 1e3:.0f} ms{looked}), {sides}, {'/'.join(limits.formats)}"

    def open(self) -> SessionCoder:
        """A new session, as it worked in the trial.

        :raises EncoderError: it does not work any more
        """
        from .coder import SessionCoder

        assert self.spec is not None
        return SessionCoder(
            self.candidate.open(self.spec), self.spec, self.delay, hash_here=hashes_here(self.candidate, self.spec)
        )

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "backend": self.candidate.backend,
            "node": self.candidate.node,
            "works": self.works,
            "why": list(self.why),
            "trial_ms": self.spent_s * 1e3,
            "delay": self.delay,
            "decoded": self.decoded,
            "hashed": None if self.spec is None else hashed_by(self.candidate, self.spec),
            "limits": None if self.limits is None else dataclasses.asdict(self.limits),
            "facts": self.facts,
        }


def hashes_here(candidate: Candidate, spec: EncoderSpec) -> bool:
    """Whether pictures are decoded on this board to give them their hashes. libx265 makes its own."""
    return spec.picture_hash and candidate.backend != "x265"


def hashed_by(candidate: Candidate, spec: EncoderSpec) -> str:
    """Who makes the hashes: "encoder", "this board's decoder" or "nobody"."""
    if not spec.picture_hash:
        return "nobody"
    return "this board's decoder" if hashes_here(candidate, spec) else "encoder"


def choose(found: Iterable[Candidate], spec: EncoderSpec) -> tuple[Trial, list[Trial]]:
    """The first candidate that works, and the ones before it.

    :raises EncoderError: none does; every reason is said
    """
    refused: list[Trial] = []
    for candidate in found:
        trial = try_candidate(candidate, spec)
        if trial.works:
            return trial, refused
        refused.append(trial)
    reasons = "; ".join(trial.text for trial in refused)
    raise EncoderError(f"no encoder for pictures of {spec.width} x {spec.height}: {reasons}")


def try_candidate(candidate: Candidate, spec: EncoderSpec) -> Trial:
    """Encode a few pictures in every way that an encoder may want it, until one works."""
    trial = _try_ways(candidate, spec)
    if trial.works or candidate.backend != "rkmpp" or not spec.monochrome:
        return trial
    # Which of Rockchip's chips take luma alone is said nowhere.
    other = _try_ways(candidate, dataclasses.replace(spec, monochrome=False))
    return dataclasses.replace(other, why=(*trial.why, *other.why), spent_s=trial.spent_s + other.spent_s)


def _try_ways(candidate: Candidate, spec: EncoderSpec) -> Trial:
    begin_s = time.perf_counter()
    why: list[str] = []
    ways = ("gop", "force", "restart") if spec.all_intra else ("force", "restart")
    for delay in _DELAYS:
        stalled = False
        for intra_by in ways:
            way = dataclasses.replace(spec, intra_by=intra_by)
            try:
                trial = _try(candidate, way, delay)
            except EncoderLostError as error:
                stalled = True
                why.append(f"{error} (intra by {intra_by}, {delay} inside)")
                break  # with more pictures inside it may go on
            except _CannotOpenError as error:
                return _failed(candidate, begin_s, [*why, str(error)])
            except EncoderError as error:
                why.append(str(error))
            else:
                return dataclasses.replace(trial, spent_s=time.perf_counter() - begin_s, why=tuple(why))
        if not stalled:
            break
    return _failed(candidate, begin_s, why)


class _CannotOpenError(EncoderError):
    """No other way of coding helps."""


def _failed(candidate: Candidate, begin_s: float, why: list[str]) -> Trial:
    return Trial(candidate, None, spent_s=time.perf_counter() - begin_s, why=tuple(why))


def trial_picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Flat blocks of random levels, uint8 [height, width]: rows at the wrong stride cannot look like it."""
    side = max(2, min(_BLOCK, min(width, height) // 4))
    levels = np.random.default_rng(seed).integers(16, 236, (-(-height // side), -(-width // side)), np.uint8)
    return levels.repeat(side, 0).repeat(side, 1)[:height, :width]


def _try(candidate: Candidate, spec: EncoderSpec, delay: int) -> Trial:
    """An intra picture, one that may build on it, and one that is intra because it was asked to be."""
    hash_here = hashes_here(candidate, spec)
    pictures = [trial_picture(spec.width, spec.height, seed) for seed in range(3 + delay)]
    try:
        from .coder import SessionCoder

        coder = SessionCoder(candidate.open(spec), spec, delay, hash_here)
    except (EncoderError, SettingsError) as error:
        raise _CannotOpenError(str(error)) from None
    except ImportError as error:
        raise _CannotOpenError(f"{error.name or 'a package'} is not there: {error}") from None
    try:
        units: list[bytes] = []
        for number, picture in enumerate(pictures):
            np.copyto(coder.frame_buffer(), picture)
            units += coder.submit(intra=spec.all_intra or number in (0, 2))
        units += coder.flush()
        if len(units) != len(pictures):
            raise EncoderError(f"{len(units)} pictures came out of {len(pictures)}")
        decoded = _compare(pictures, units, spec)
        facts = dict(coder.session.facts)
        return Trial(candidate, spec, delay, decoded, limits=coder.session.limits, facts=facts)
    finally:
        coder.close()


def _compare(pictures: list[NDArray[np.uint8]], units: list[bytes], spec: EncoderSpec) -> bool:
    """Decode, and look whether each picture is where it belongs. False: no decoder is on this board."""
    try:
        from featlink_codec.video.decoder import HevcDecoder
    except ImportError:  # without PyAV; a session that hashes would not have been opened
        return False
    decoder = HevcDecoder(spec.width, spec.height)
    for number, (picture, unit) in enumerate(zip(pictures, units, strict=True)):
        try:
            found = decoder.decode(unit)
        except StreamError as error:
            raise EncoderError(f"picture {number} of the trial does not decode: {error}") from None
        if spec.lossless and not np.array_equal(found, picture):
            raise EncoderError(f"picture {number} of the trial is not lossless")
        if not is_in_place(found, picture):
            raise EncoderError(f"picture {number} of the trial came back as another one, or moved")
    decoder.close()
    return True


def is_in_place(found: NDArray[np.uint8], picture: NDArray[np.uint8]) -> bool:
    """Whether a lossy copy is like the picture, and less so when it is moved by one sample anywhere."""
    core = found[1:-1, 1:-1].astype(np.int32)
    height, width = picture.shape

    def error(down: int, across: int) -> float:
        moved = picture[1 + down : height - 1 + down, 1 + across : width - 1 + across]
        return float(np.abs(core - moved).mean())

    here = error(0, 0)
    moves = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1) if (down, across) != (0, 0)]
    return here < _UNLIKE and all(here < error(*move) for move in moves)
