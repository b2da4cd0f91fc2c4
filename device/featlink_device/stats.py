"""What the pipeline measures of itself: time by stage, rate, queue depth; bounded however long it runs."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


class PipelineStats:
    """Counters of a run. Each is written by one thread; readers may see them a moment apart."""

    def __init__(self) -> None:
        self.started_s = time.perf_counter()
        self.stages = {name: Stage(name) for name in ("capture", "preprocess", "backbone", "pack", "encode", "write")}
        self.frames_captured = 0
        self.frames_dropped = 0
        self.maps = 0
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
            "frames_captured": self.frames_captured,
            "frames_dropped": self.frames_dropped,
            "maps": self.maps,
            "bytes": self.bytes_out,
            "fps": self.maps / elapsed_s if elapsed_s else 0.0,
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
