"""The encoders that this board might have, in the order of trial. That one is listed proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featlink_codec.errors import EncoderError, SettingsError

from .session import EncoderSession, EncoderSpec

BACKENDS = ("libv4l2", "v4l2", "rkmpp", "x265")
#: NVIDIA's plugin answers for these; which of them is there depends on the release.
NVIDIA_NODES = ("/dev/v4l2-nvenc", "/dev/nvhost-msenc")
MPP_NODE = "/dev/mpp_service"


@dataclass(frozen=True)
class Candidate:
    """One encoder.

    :param node: device file; None where there is none
    """

    backend: str
    node: str | None = None

    def __str__(self) -> str:
        return self.backend if self.node is None else f"{self.backend}:{self.node}"

    def open(self, spec: EncoderSpec) -> EncoderSession:
        """A session.

        :raises EncoderError: it is not there, or cannot do what the spec says
        """
        return _OPEN[self.backend](self, spec)


def candidates(wanted: str = "auto") -> list[Candidate]:
    """What is worth a trial.

    :param wanted: "auto", a back end's name, or BACKEND:NODE
    :raises SettingsError: no such back end
    """
    if wanted == "auto":
        return [one for backend in BACKENDS for one in _found(backend)]
    backend, _, node = wanted.partition(":")
    if backend not in BACKENDS:
        raise SettingsError(f"encoder {wanted!r}: expected auto or one of {', '.join(BACKENDS)}, :/dev/NODE behind it")
    if node:
        if backend not in ("libv4l2", "v4l2"):
            raise SettingsError(f"encoder {wanted!r}: {backend} has no device node")
        return [Candidate(backend, node)]
    found = _found(backend)
    if not found:
        raise EncoderError(f"encoder {backend}: this board has no device for it")
    return found


def _found(backend: str) -> list[Candidate]:
    if backend == "x265":
        return [Candidate(backend)]
    if backend == "rkmpp":
        return [Candidate(backend)] if Path(MPP_NODE).exists() else []
    if backend == "libv4l2":
        return [Candidate(backend, node) for node in NVIDIA_NODES if Path(node).exists()]
    nodes = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    return [Candidate(backend, str(node)) for node in nodes if _is_encoder(str(node))]


def _is_encoder(node: str) -> bool:
    """Cameras and decoders are no candidates; looking at them changes nothing."""
    from .v4l2_device import examine
    from .v4l2_port import KernelPort

    try:
        port = KernelPort(node)
        try:
            examine(port)
        finally:
            port.close()
    except EncoderError:
        return False
    return True


def _open_v4l2(candidate: Candidate, spec: EncoderSpec) -> EncoderSession:
    from .stateful import StatefulEncoder
    from .v4l2_port import KernelPort

    assert candidate.node is not None
    return StatefulEncoder(KernelPort(candidate.node), spec)


def _open_libv4l2(candidate: Candidate, spec: EncoderSpec) -> EncoderSession:
    from .libv4l2_port import Libv4l2Port
    from .stateful import StatefulEncoder

    assert candidate.node is not None
    return StatefulEncoder(Libv4l2Port(candidate.node), spec)


def _open_rkmpp(candidate: Candidate, spec: EncoderSpec) -> EncoderSession:
    from .rkmpp import RkmppEncoder

    return RkmppEncoder(spec)


def _open_x265(candidate: Candidate, spec: EncoderSpec) -> EncoderSession:
    from .x265 import X265Session

    return X265Session(spec)


_OPEN: dict[str, Callable[[Candidate, EncoderSpec], EncoderSession]] = {
    "v4l2": _open_v4l2,
    "libv4l2": _open_libv4l2,
    "rkmpp": _open_rkmpp,
    "x265": _open_x265,
}
