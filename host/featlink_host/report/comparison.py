"""The figures of a comparison: plain numbers, frozen, ready for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..detector import Agreement, Detection

#: Key of our own method.
FEATURES = "features"


def f1_score(agreement: Agreement) -> float:
    """Harmonic mean of recall and precision; 1 where there is nothing to find and nothing was found."""
    both = 2 * agreement.matched + agreement.missed + agreement.extra
    return 2 * agreement.matched / both if both else 1.0


def p95(values: Sequence[float]) -> float:
    """The 95th percentile, as the camera's own statistics take it: a value that occurred."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


class ByteCounts:
    """Bytes of each picture, and what they come to."""

    nbytes: tuple[int, ...]

    @property
    def median_bytes(self) -> float:
        """Median bytes of a picture."""
        return statistics.median(self.nbytes)

    @property
    def mean_bytes(self) -> float:
        """Mean bytes of a picture."""
        return statistics.fmean(self.nbytes)


@dataclass(frozen=True)
class Method(ByteCounts):
    """One way to send the pictures, and what came of it; lists go by picture, as Comparison.pictures does."""

    #: "features", "jpeg-85", "x265-28"
    key: str
    label: str
    #: how exactly pictures were coded
    how: str
    nbytes: tuple[int, ...]
    #: with the whole network on the original picture; empty where the extractor has no task
    agreements: tuple[Agreement, ...]

    @property
    def agreement(self) -> Agreement | None:
        """Over all pictures; None where it was not measured."""
        return sum(self.agreements, Agreement()) if self.agreements else None


@dataclass(frozen=True)
class ComparedPicture:
    """A picture of the source whose map came."""

    #: its place in the source, from 0
    number: int
    #: seconds since the source's first picture
    time_s: float
    #: the map's record
    k: int


@dataclass(frozen=True)
class ShownPicture:
    """A picture to be shown in the report."""

    number: int
    time_s: float
    k: int
    #: "rich": most objects of its share of the run; "worst": most missed and extra objects of the whole run
    why: str
    #: of the whole network on the original picture
    reference: tuple[Detection, ...]
    #: of the split network
    found: tuple[Detection, ...]
    #: the picture, without boxes
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """Features beside JPEG and x265 of the same pictures."""

    source: str
    #: (width, height) of the source's first picture
    source_size: tuple[int, int]
    #: pictures a second: mean over the part of the source that was gone through
    fps: float
    #: detections below it did not count
    score: float
    #: boxes that overlap by less did not match
    iou: float
    pictures: tuple[ComparedPicture, ...]
    #: features first
    methods: tuple[Method, ...]
    #: milliseconds of the whole network, by picture; empty where the extractor has no task
    whole_ms: tuple[float, ...]
    #: maps that belong to no picture of the source
    unmatched: int
    shown: tuple[ShownPicture, ...]

    @property
    def features(self) -> Method:
        """Our own method."""
        return next(method for method in self.methods if method.key == FEATURES)

    def kbps(self, method: Method) -> float:
        """kbit/s of a method at the source's pace."""
        return method.mean_bytes * 8 * self.fps / 1e3

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures themselves, ready for JSON."""
        return {
            "source": self.source,
            "source_size": list(self.source_size),
            "fps": self.fps,
            "score": self.score,
            "iou": self.iou,
            "unmatched_maps": self.unmatched,
            "whole_network_ms": _median_and_p95(self.whole_ms),
            "methods": [self._method_as_dict(method) for method in self.methods],
            "pictures": [asdict(picture) for picture in self.pictures],
            "shown": [
                {
                    "number": one.number,
                    "time_s": one.time_s,
                    "k": one.k,
                    "why": one.why,
                    "reference": [asdict(box) for box in one.reference],
                    "found": [asdict(box) for box in one.found],
                }
                for one in self.shown
            ],
        }

    def _method_as_dict(self, method: Method) -> dict[str, Any]:
        total = method.agreement
        return {
            "key": method.key,
            "label": method.label,
            "how": method.how,
            "median_bytes": method.median_bytes,
            "mean_bytes": method.mean_bytes,
            "kbps": self.kbps(method),
            "recall": None if total is None else total.recall,
            "precision": None if total is None else total.precision,
            "f1": None if total is None else f1_score(total),
            **({} if total is None else asdict(total)),
            "bytes": list(method.nbytes),
            "agreements": [asdict(one) for one in method.agreements],
        }


def _median_and_p95(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": statistics.median(values), "p95": p95(values)} if values else None
