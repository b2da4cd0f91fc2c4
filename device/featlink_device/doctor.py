"""`featlink-device doctor`: what this board has, found out by trying, and what stands in the way of sending maps."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from featlink_codec.errors import FeatlinkError

#: A clock before this was never set: time tags would be wrong.
_EARLIEST = datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp()
#: Less free space than this is said.
_LITTLE_SPACE = 64 << 20
#: The pictures that encoders are tried with: every known encoder takes them.
_TRIAL_WIDTH, _TRIAL_HEIGHT = 256, 144
_TRIAL_QP = 30

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param name: what
    :param state: "ok", "warning" (it works, but see) or "fault" (no map can be sent)
    :param text: for people
    :param facts: for programs
    """

    name: str
    state: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def examine() -> Iterator[Finding]:
    """Look at one thing after the other; what raises is a fault of that thing."""
    for name, look in _LOOKS.items():
        try:
            yield look(name)
        except FeatlinkError as error:
            yield Finding(name, FAULT, str(error))
        except ImportError as error:
            yield Finding(name, FAULT, f"{error.name or 'a package'} is not there: {error}")


def report(findings: list[Finding]) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "healthy": not any(finding.state == FAULT for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def _board(name: str) -> Finding:
    model = Path("/proc/device-tree/model")
    found = model.read_bytes().rstrip(b"\0").decode(errors="replace") if model.exists() else "no device tree"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} CPUs, {memory >> 20} MiB"
    facts = {"model": found, "machine": platform.machine(), "kernel": platform.release(), "memory": memory}
    return Finding(name, OK, f"{found}: {system}", facts)


def _core(name: str) -> Finding:
    from featlink_codec import _core

    paths, chosen = _core.paths(), _core.chosen_path()
    facts = {"path": chosen, "paths": paths}
    if chosen == "portable":
        return Finding(name, WARNING, "plain C: no faster instruction set is known for this CPU", facts)
    return Finding(name, OK, f"{chosen} (there are {', '.join(paths)})", facts)


def _versions(name: str) -> Finding:
    found: dict[str, str | None] = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver())}
    for package in ("featlink-codec", "featlink-device", "numpy", "onnxruntime", "av", "pyav-rkmpp", "linuxpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    text = ", ".join(f"{package} {version}" for package, version in found.items() if version)
    if found["av"] and found["pyav-rkmpp"]:
        return Finding(name, FAULT, f"av and pyav-rkmpp exclude each other, remove one: {text}", found)
    return Finding(name, OK, text, found)


def _backbone(name: str) -> Finding:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    return Finding(
        name, OK, f"onnxruntime with {', '.join(providers)}; the CPU provider is used", {"providers": providers}
    )


def _encoder(name: str) -> Finding:
    """Pictures through each encoder, and back through a decoder: a name alone proves nothing."""
    from .encoders.candidates import candidates
    from .encoders.choose import try_candidate
    from .encoders.session import EncoderSpec

    spec = EncoderSpec(_TRIAL_WIDTH, _TRIAL_HEIGHT, qp=_TRIAL_QP, picture_hash=False)
    trials = [try_candidate(candidate, spec) for candidate in candidates()]
    facts = {"encoders": [trial.as_json() for trial in trials]}
    lines = [trial.text for trial in trials]
    if not any(trial.works for trial in trials):
        return Finding(name, FAULT, "; ".join(lines), facts)
    # An encoder in hardware that does not work is worth a look, though another one does.
    return Finding(name, OK if trials[0].works else WARNING, "; ".join(lines), facts)


def _cameras(name: str) -> Finding:
    nodes = sorted(str(path) for path in Path("/dev").glob("video*"))
    text = ", ".join(nodes) if nodes else "no /dev/video*: files and folders only"
    return Finding(name, OK if nodes else WARNING, text, {"nodes": nodes})


def _clock(name: str) -> Finding:
    now_s = time.time()
    text = datetime.fromtimestamp(now_s, timezone.utc).isoformat(timespec="seconds")
    if now_s < _EARLIEST:
        return Finding(name, WARNING, f"{text}: was never set, and time tags will say so too", {"time_s": now_s})
    return Finding(name, OK, text, {"time_s": now_s})


def _space(name: str) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free >> 20} MiB free in {Path.cwd()}"
    return Finding(name, OK if free >= _LITTLE_SPACE else WARNING, text, {"free": free})


_LOOKS: dict[str, Callable[[str], Finding]] = {
    "board": _board,
    "integer path": _core,
    "versions": _versions,
    "backbone": _backbone,
    "encoder": _encoder,
    "cameras": _cameras,
    "clock": _clock,
    "space": _space,
}
