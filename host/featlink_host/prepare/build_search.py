"""Which way to code maps: the best within a rate, or the cheapest that is good enough."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from featlink_codec.errors import SettingsError

from .build_points import CodedPoint, Way
from .quantizer_fits import AdaptiveChoice

#: QPs that quantizers are tried at, by depth: few levels are spread over all samples, where a low QP only costs.
COARSE = {8: (10, 16, 22, 28, 34, 40), 7: (16, 22, 28), 6: (22, 28, 34), 5: (24, 30, 36), 4: (24, 32, 38), 3: (28, 36),
          2: (32, 38)}  # fmt: skip
#: What a build tries of adaptive quantizers; `prepare quantizers` compares them all.
ADAPTIVE = (
    AdaptiveChoice(depth=8),
    AdaptiveChoice(depth=6),
    AdaptiveChoice("histogram", "least-squares", depth=4),
    AdaptiveChoice(partition="channel", classes=4, bits=6),
)
#: Quantizers that are looked at more closely between those.
CLOSER = 3
MAX_QP = 51
#: Of means of merits.
ROUNDING = 1e-9

Measure = Callable[[Way], CodedPoint]


@dataclass(frozen=True)
class Target:
    """What is wanted: exactly one of the two.

    :param kbps: most kilobits a second
    :param agreement: least merit, 0..1: F1 of detections, share of right labels, or 1 - distortion
    """

    kbps: float | None = None
    agreement: float | None = None

    def __post_init__(self) -> None:
        if (self.kbps is None) == (self.agreement is None):
            raise SettingsError("a target: give exactly one of --kbps and --agreement")
        if self.kbps is not None and not self.kbps > 0:
            raise SettingsError(f"--kbps: found {self.kbps:g}, expected a number above 0")
        if self.agreement is not None and not 0 < self.agreement <= 1:
            raise SettingsError(f"--agreement: found {self.agreement:g}, expected a number above 0, at most 1")

    def met_by(self, point: CodedPoint) -> bool:
        """Whether a point is good enough."""
        if self.kbps is not None:
            return point.kbps <= self.kbps
        return point.score.merit >= (self.agreement or 0)

    def best(self, points: Sequence[CodedPoint]) -> CodedPoint | None:
        """Of the points that meet it: within a rate the best, of those that are good enough the cheapest.

        For an agreement it is what a point has without luck that counts, see `expected_merits`, and a standard error
        more than was asked for: other pictures are other ones. Where no point has so much (few objects, few labels),
        what was asked for is enough. Within a rate merits that differ by less than a standard error of the best one
        count as equal: of them the one whose outputs are nearest to the network's is taken.
        """
        if self.kbps is None:
            least = (self.agreement or 0) - ROUNDING
            merits = list(zip(points, expected_merits(points), strict=True))
            sure = [one for one, merit in merits if merit - one.score.uncertainty_of(merit) >= least]
            fitting = sure or [one for one, merit in merits if merit >= least]
            return min(fitting, key=lambda one: (one.map_bytes, -one.score.merit), default=None)
        fitting = [point for point in points if self.met_by(point)]
        top = max((one.score for one in fitting), key=lambda score: score.merit, default=None)
        if top is None:
            return None
        equal = [one for one in fitting if one.score.merit >= top.merit - top.uncertainty]
        return min(equal, key=lambda one: (one.score.distortion, -one.score.merit, one.map_bytes))


def expected_merits(points: Sequence[CodedPoint]) -> list[float]:
    """What merits are but for luck: those of points with about as much distortion, never rising with it.

    Among dozens of settings and few objects a coarse one loses nothing now and then, and would be the cheapest that is
    good enough. Its neighbours were measured on the same pictures: isotonic regression of merits over distortions.
    """
    if len({one.score.merit for one in points}) < 2:
        return [one.score.merit for one in points]
    from sklearn.isotonic import IsotonicRegression  # takes a second

    distortions = [min(one.score.distortion, sys.float_info.max) for one in points]
    merits = [one.score.merit for one in points]
    found: list[float] = IsotonicRegression(increasing=False).fit_transform(distortions, merits).tolist()
    return found


def build_kinds(modes: Sequence[str], depths: Sequence[int], signed: bool) -> list[Way]:
    """The quantizers that a build tries, as lossless ways.

    :param signed: the map has values below 0, which the standard's quantizers do not take
    """
    kinds = [] if signed else [Way(mode, depth, None) for mode in modes if mode != "adaptive" for depth in depths]
    if signed or "adaptive" in modes:
        kinds += [Way.adapted(choice, None) for choice in ADAPTIVE]
    return kinds


def with_qps(kinds: Sequence[Way]) -> list[Way]:
    """Each without loss and at a few QPs."""
    return [replace(kind, qp=qp) for kind in kinds for qp in (None, *COARSE[kind.bit_depth])]


def search(
    target: Target,
    measure: Measure,
    ways: Sequence[Way],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CodedPoint, list[CodedPoint]]:
    """Try some ways, then the most promising quantizers at the QPs between.

    :param progress: called with points measured, and how many there may be
    :returns: the best one, and all by quantizer and QP
    :raises SettingsError: no point meets the target; says which comes nearest
    """
    points = explore(target, measure, ways, CLOSER, progress)
    best = target.best(points)
    if best is None:
        raise SettingsError(missed(target, points))
    return best, points


def explore(
    target: Target,
    measure: Measure,
    ways: Sequence[Way],
    closer: int = CLOSER,
    progress: Callable[[int, int], None] | None = None,
) -> list[CodedPoint]:
    """The same, whether any point meets the target or none.

    :param closer: quantizers that are looked at more closely
    """
    found: dict[Way, CodedPoint] = {}
    most = len(ways) + 3 * closer

    def look(way: Way) -> CodedPoint:
        if way not in found:
            found[way] = measure(way)
            if progress:
                progress(len(found), max(most, len(found)))
        return found[way]

    for way in ways:
        look(way)
    left = closer
    for kind in _promising(target, list(found.values())):
        own = [point for point in found.values() if point.way.kind == kind]
        best = target.best(list(found.values()))
        # A rate is shared by all quantizers: the best few are looked at. For an agreement, those that may be cheaper.
        if left and (target.kbps is not None or best is None or _least(target, own) < best.map_bytes):
            _close_in(target, look, [one.way for one in own])
            left -= target.kbps is not None
    return sorted(found.values(), key=_rank)


def _least(target: Target, points: Sequence[CodedPoint]) -> float:
    """Bytes that a quantizer needs at least for an agreement: more than the dearest point with loss that misses it."""
    return max((one.map_bytes for one in points if one.way.qp is not None and not target.met_by(one)), default=0.0)


def _rank(one: CodedPoint) -> tuple[str, int, str, int]:
    return one.way.mode, one.way.bit_depth, one.way.name, -1 if one.way.qp is None else one.way.qp


def _promising(target: Target, points: Sequence[CodedPoint]) -> list[Way]:
    """Quantizers, the best first by their own best point; those that never meet the target last."""
    kinds = list(dict.fromkeys(one.way.kind for one in points))
    bests = {kind: target.best([one for one in points if one.way.kind == kind]) for kind in kinds}

    def rank(kind: Way) -> tuple[float, ...]:
        best = bests[kind]
        if best is None:
            return (1.0,)
        if target.kbps is not None:
            return 0.0, -best.score.merit, best.score.distortion
        return 0.0, best.map_bytes

    return sorted(kinds, key=rank)


def _close_in(target: Target, look: Callable[[Way], CodedPoint], ways: Sequence[Way]) -> None:
    """The QP where the target is just met, by halving: a higher one takes fewer bytes and gives less.

    :param ways: of one quantizer, that are known
    """
    rate = target.kbps is not None
    qps = sorted(way.qp for way in ways if way.qp is not None)
    if not qps:
        return
    kind = ways[0].kind
    # Rates are met by all above some QP, agreements by all below one (but for noise, which is why all is kept).
    good = [qp for qp in qps if target.met_by(look(replace(kind, qp=qp)))]
    bad = [qp for qp in qps if qp not in good]
    if rate:
        low, high = max((qp for qp in bad if not good or qp < min(good)), default=-1), min(good, default=MAX_QP + 1)
    else:
        low, high = max(good, default=-1), min((qp for qp in bad if not good or qp > max(good)), default=MAX_QP + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if target.met_by(look(replace(kind, qp=middle))) == rate:
            high = middle
        else:
            low = middle


def missed(target: Target, points: Sequence[CodedPoint]) -> str:
    """What to say where no point meets a target."""
    if target.kbps is not None:
        near = min(points, key=lambda one: one.kbps)
        return (
            f"--kbps {target.kbps:g}: no setting stays within it; the nearest: {near.way}, {near.kbps:.0f} kbit/s "
            f"({near.score}); or another cut, see `prepare survey`"
        )
    merits = expected_merits(points)
    merit, near = max(zip(merits, points, strict=True), key=lambda pair: (pair[0], pair[1].score.merit))
    luck = f"; {merit:.3f} with settings of like distortion" if near.score.merit - merit > ROUNDING else ""
    return (
        f"--agreement {target.agreement:g}: no setting reaches it; the nearest: {near.way}, {near.score}, "
        f"{near.kbps:.0f} kbit/s{luck}"
    )
