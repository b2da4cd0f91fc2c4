"""What the pipeline measures of itself: time by stage, rate, queue depth; bounded however long it runs."""

from __future__ import annotations

import resource
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Durations kept for the medians, per stage.
WINDOW = 4096


@dataclass
class Stage:
    """Durations of one stage of the pipeline."""

    name: str
    count: int = 0
    total_s: float = 0.0
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the block."""
        begin = time.perf_counter()
        yield
        self.add(time.perf_counter() - begin)

    def add(self, duration_s: float) -> None:
        """Take in one duration, in seconds."""
        self.count += 1
        self.total_s += duration_s
        self.recent_s.append(duration_s)

    def summary(self) -> dict[str, float]:
        """Median and 95th percentile of the last `WINDOW` durations in ms, and the total in s."""
        if not self.recent_s:
            return {"count": 0, "median_ms": 0.0, "p95_ms": 0.0, "total_s": 0.0}
        ordered = sorted(self.recent_s)
        return {
            "count": self.count,
            "median_ms": statistics.median(ordered) * 1e3,
            "p95_ms": ordered[int(0.95 * (len(ordered) - 1))] * 1e3,
            "total_s": self.total_s,
        }


def peak_memory_bytes() -> int:
    """The most memory that this process had at a time.

    getrusage alone would count what the process that started us had before it ran our program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class PipelineStats:
    """Counters of a run. Each is written by one thread; readers may see them a moment apart.

    :param source: what the source says of itself
    :param encoder: what the encoder says of itself
    """

    def __init__(self, source: dict[str, Any] | None = None, encoder: dict[str, Any] | None = None) -> None:
        self.source = {} if source is None else source
        self.encoder = {} if encoder is None else encoder
        self.started_s = time.perf_counter()
        self.stages = {name: Stage(name) for name in ("capture", "preprocess", "backbone", "pack", "encode", "write")}
        #: From the source's picture to its map's last byte, waiting included.
        self.latency = Stage("latency")
        self.frames_captured = 0
        #: Nothing was free to take them.
        self.frames_dropped = 0
        #: They never came out of the source.
        self.frames_lost_by_driver = 0
        self.maps = 0
        #: The encoder lost them.
        self.maps_lost = 0
        #: Why, the last time.
        self.last_loss = ""
        #: Times that the encoder was closed and opened anew.
        self.encoder_restarts = 0
        self.bytes_out = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started_s

    def summary(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        elapsed_s = self.elapsed_s
        return {
            "seconds": elapsed_s,
            "source": dict(self.source),
            "encoder": dict(self.encoder),
            "frames_captured": self.frames_captured,
            "frames_dropped": self.frames_dropped,
            "frames_lost_by_driver": self.frames_lost_by_driver,
            "maps": self.maps,
            "maps_lost": self.maps_lost,
            "encoder_restarts": self.encoder_restarts,
            "bytes": self.bytes_out,
            "fps": self.maps / elapsed_s if elapsed_s else 0.0,
            "peak_memory_bytes": peak_memory_bytes(),
            "latency": self.latency.summary(),
            "stages": {name: stage.summary() for name, stage in self.stages.items()},
        }


class RateMeter:
    """Once a second: what happened in that second."""

    def __init__(self, stats: PipelineStats) -> None:
        self._stats = stats
        self._at_s = stats.started_s
        self._maps = 0
        self._bytes = 0

    def sample(self) -> dict[str, float]:
        """Rates since the last sample: maps a second, kbit/s, bytes a map."""
        now_s = time.perf_counter()
        maps, nbytes = self._stats.maps, self._stats.bytes_out
        span_s = max(now_s - self._at_s, 1e-9)
        rates = {
            "seconds": now_s - self._stats.started_s,
            "maps": float(maps),
            "fps": (maps - self._maps) / span_s,
            "kbps": (nbytes - self._bytes) * 8 / span_s / 1e3,
            "bytes_per_map": (nbytes - self._bytes) / max(maps - self._maps, 1),
        }
        self._at_s, self._maps, self._bytes = now_s, maps, nbytes
        return rates
