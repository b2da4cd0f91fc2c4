"""The search for quantization: the best stream of a size, or the smallest one of an accuracy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.model import EncodedModel, EncodeSettings, TensorSettings

from .notes import Notes

Tensor = NDArray[Any]
#: Common quantization parameters that are tried, in quarters.
LOWEST, HIGHEST = -60 * 4, 0
#: Of tensors of one dimension, where nothing is known of what they do to the outputs.
VECTOR_QP = -75
#: The step doubles every 2 ** DENSITY quantization parameters.
DENSITY, FINE_DENSITY = 2, 4


@dataclass(frozen=True)
class Way:
    """A way to round.

    :param rate_weight: lambda, in squares of the step per bit
    :param feedback: with error feedback, which has no lambda
    """

    rate_weight: float = 0.0
    feedback: bool = False

    @property
    def text(self) -> str:
        """For a reader."""
        return "error feedback" if self.feedback else f"lambda {self.rate_weight:g}"


#: The ways that are tried where nothing is said.
WAYS = (Way(feedback=True), Way(), Way(0.1), Way(0.3))


@dataclass(frozen=True)
class Point:
    """What the search varies.

    :param quarters: four times the common quantization parameter
    """

    quarters: int
    way: Way = field(default_factory=Way)

    @property
    def qp(self) -> float:
        """The common quantization parameter."""
        return self.quarters / 4


@dataclass(frozen=True)
class Chosen:
    """What a search found.

    :param score: how good the model is that the stream holds; None where nobody asked
    :param trials: streams that were made for it, all in all
    """

    point: Point
    size: int
    score: float | None
    trials: int
    made: EncodedModel = field(repr=False)


def settings_at(
    tensors: Mapping[str, Tensor],
    point: Point,
    *,
    dq: bool = True,
    offsets: Mapping[str, float] | None = None,
    vector_qp: int | None = None,
    rounded: Collection[str] = (),
) -> EncodeSettings:
    """Settings for a point. Steps are a fourth of a quantization parameter apart where that is asked for.

    :param rounded: tensors that are on their grid already
    :param offsets: of each tensor against the common quantization parameter, see `sensitivity.offsets`
    :param vector_qp: of tensors of one dimension, instead of their offset
    """
    offsets = offsets or {}
    density, fine = (FINE_DENSITY, 4) if offsets or point.quarters % 4 else (DENSITY, 1)
    common = round(point.qp * fine)
    reach = 1 << 5 + density

    def within(qp: float) -> int:
        # What a unit can have beside the common one.
        return max(common - reach, min(common + reach - 1, round(qp * fine)))

    weights = TensorSettings(qp=common, rate_weight=0.0 if point.way.feedback else point.way.rate_weight, dq=dq)
    vectors = replace(weights, qp=within(VECTOR_QP if vector_qp is None else vector_qp))
    own = {}
    for name, values in tensors.items():
        if name in offsets and (values.ndim > 1 or vector_qp is None):
            own[name] = replace(weights, qp=within(point.qp + offsets[name]))
        if name in rounded:
            own[name] = replace(own.get(name, weights), dq=False, rate_weight=0.0)
    base = EncodeSettings(weights=weights, vectors=vectors, tensors=own, qp_density=density)
    # With steps chosen tensor by tensor, small ones need no exception.
    return replace(base, raw_elements=1) if offsets else base


class Search:
    """Tries points.

    :param encode: makes the stream of a point
    :param score: how good a decoded model is: the more the better
    :param notes: keep what was found
    :param progress: is told of trials: stage, done, total
    """

    def __init__(
        self,
        encode: Callable[[Point], EncodedModel],
        score: Callable[[Mapping[str, Tensor]], float] | None = None,
        notes: Notes | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._encode = encode
        self._score = score
        self._notes = notes or Notes(None, "")
        self._progress = progress
        self._last: tuple[Point, EncodedModel] | None = None
        self.trials = 0
        self._expected = 1

    def make(self, point: Point) -> EncodedModel:
        """The stream of a point; the last one is kept."""
        if self._last is None or self._last[0] != point:
            self._last = (point, self._encode(point))
        return self._last[1]

    def size(self, point: Point) -> int:
        """Bytes of a point's stream."""
        found: int = self._noted(f"bytes {point.quarters} {point.way}", lambda: len(self.make(point).data))
        return found

    def score(self, point: Point) -> float:
        """How good a point's model is."""
        score = self._score
        if score is None:
            raise SettingsError("nothing says how good a model is")
        name = f"score {point.quarters} {point.way}"
        found: float = self._noted(name, lambda: score(self.make(point).tensors))
        return found

    def _noted(self, name: str, find: Callable[[], Any]) -> Any:
        found = self._notes.get(name)
        if found is None:
            found = find()
            self._notes.put(name, found)
            self.trials += 1
            if self._progress is not None:
                self._progress("trials", min(self.trials, self._expected), self._expected)
        return found

    def to_size(self, target: int, ways: Sequence[Way] = WAYS) -> Chosen:
        """The finest stream of at most `target` bytes each way, and the best of those by their score.

        :raises SettingsError: even the coarsest has more bytes
        """
        self._expected = len(ways) * 9
        points = []
        for way in ways if self._score is not None else ways[:1]:
            found = _first(partial(self._fits, target, way), LOWEST, HIGHEST)
            if found is not None:
                points.append(Point(found, way))
        if not points:
            least = self.size(Point(HIGHEST, ways[0]))
            raise SettingsError(f"the coarsest stream has {least} bytes, the target is {target}")
        best = points[0] if self._score is None else max(points, key=self.score)
        return self._chosen(best)

    def to_score(self, wanted: float, ways: Sequence[Way] = WAYS) -> Chosen:
        """The smallest stream whose score is at least `wanted`.

        Scores are not quite monotone: a point is taken for good when it is, not because finer ones are.

        :raises SettingsError: even the finest is not as good
        """
        self._expected = len(ways) * 17
        points = []
        for way in ways:
            # The first one from the coarse end that is good enough.
            found = _first(partial(self._is_good, wanted, way), -HIGHEST, -LOWEST)
            if found is not None:
                points.append(Point(-found, way))
        if not points:
            finest = self.score(Point(LOWEST, ways[0]))
            raise SettingsError(f"the finest stream reaches {finest:.4f}, the target is {wanted}")
        return self._chosen(min(points, key=self.size))

    def _fits(self, target: int, way: Way, quarters: int) -> bool:
        return self.size(Point(quarters, way)) <= target

    def _is_good(self, wanted: float, way: Way, negative_quarters: int) -> bool:
        return self.score(Point(-negative_quarters, way)) >= wanted

    def _chosen(self, point: Point) -> Chosen:
        made = self.make(point)
        score = self.score(point) if self._score is not None else None
        return Chosen(point, len(made.data), score, self.trials, made)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from which on it holds, by halves; None where it does not even hold at the end."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
