"""The search finds the best point within a rate, and the cheapest that is good enough; and says what came nearest."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_host.prepare.build_points import CodedPoint, Way, point_of
from featlink_host.prepare.build_search import MAX_QP, Target, build_kinds, expected_merits, missed, search, with_qps
from featlink_host.prepare.scoring import Score


def point(way: Way, slope: float = 0.9) -> CodedPoint:
    """As measured: of few levels lossless coding is the cheap one, with loss rates hardly depend on the depth."""
    qp = 0 if way.qp is None else way.qp
    kbps = way.bit_depth**1.5 * 50 if way.qp is None else 1000 * slope**qp + way.bit_depth
    value = 1 - (qp / 51) ** 2 * 0.5 - 0.3 / way.bit_depth**2 - (0.01 if way.mode == "uniform" else 0)
    return CodedPoint(way, kbps * 10, kbps, Score("accuracy", value, None, None, 1 - value, 8))


ALL = [
    point(Way(mode, depth, qp))
    for mode in ("uniform", "logarithmic")
    for depth in (2, 4, 8)
    for qp in (None, *range(MAX_QP + 1))
]


def found(target: Target) -> tuple[CodedPoint, list[CodedPoint]]:
    return search(target, point, with_qps(build_kinds(("uniform", "logarithmic"), (2, 4, 8), signed=False)))


@given(st.floats(12, 3000))
def test_within_a_rate_nothing_that_could_be_measured_is_much_better(kbps: float) -> None:
    best, points = found(Target(kbps=kbps))
    assert best in points
    assert best.kbps <= kbps
    assert best.score.value >= max(one.score.value for one in ALL if one.kbps <= kbps) - 0.01
    assert len(points) < len(ALL) / 4


@settings(max_examples=25)
@given(st.floats(0.5, 0.98))
def test_of_those_that_are_good_enough_one_not_far_from_the_cheapest_is_found(agreement: float) -> None:
    best, _ = found(Target(agreement=agreement))
    assert best.score.value >= agreement
    assert best.kbps <= 1.01 * min(one.kbps for one in ALL if one.score.value >= agreement)


def test_what_cannot_be_met_is_told_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"--kbps 0.1: .* the nearest: .* kbit/s"):
        found(Target(kbps=0.1))
    with pytest.raises(SettingsError, match=r"--agreement 1: .* the nearest: .*accuracy 0.99"):
        found(Target(agreement=1.0))
    for wrong in ({}, {"kbps": 1.0, "agreement": 0.5}, {"kbps": -1.0}, {"agreement": 2.0}):
        with pytest.raises(SettingsError):
            Target(**wrong)


def test_false_alarms_count() -> None:
    keen = CodedPoint(Way("uniform", 2, None), 10, 10, Score("detections", 1.0, 0.3, 0.46, 0.2, 8))
    sound = CodedPoint(Way("uniform", 8, 30), 10, 10, Score("detections", 0.75, 1.0, 0.86, 0.02, 8))
    assert Target(kbps=20).best([keen, sound]) is sound


def test_a_difference_that_is_noise_does_not_outweigh_the_distortion() -> None:
    def seen(value: float, distortion: float, counted: int) -> CodedPoint:
        return CodedPoint(
            Way("uniform", 8, 1), 1, 1, Score("accuracy", value, None, None, distortion, counted, counted)
        )

    for counted, lucky_wins in ((8, False), (8000, True)):
        lucky, near = seen(0.75, 0.2, counted), seen(0.70, 0.01, counted)
        assert Target(kbps=2).best([lucky, near]) is (lucky if lucky_wins else near)


def test_a_point_is_that_of_its_figures() -> None:
    lost = CodedPoint(Way("uniform", 4, None), 1.5, 2.5, Score("outputs", 0.0, None, None, float("inf"), 3))
    assert point_of(lost.figures()) == lost


def test_luck_of_a_coarse_setting_does_not_make_it_good_enough() -> None:
    """Its neighbours, measured on the same pictures, say what it is worth."""

    def measured(distortion: float, f1: float, kbps: float, objects: int = 30) -> CodedPoint:
        score = Score("detections", f1, f1, f1, distortion, 64, objects)
        return CodedPoint(Way("uniform", 8, int(1e4 * distortion)), kbps * 10, kbps, score)

    fine = [measured(0.0003, 0.98, 900), measured(0.0008, 0.96, 800), measured(0.0013, 0.97, 600)]
    lucky = measured(0.0092, 0.956, 300)
    coarse = [measured(0.005, 0.85, 400), measured(0.007, 0.87, 350), measured(0.012, 0.8, 250)]
    assert Target(agreement=0.95).best([*fine, lucky, *coarse]) is fine[2]
    merits = expected_merits([*fine, lucky, *coarse])
    assert merits[3] == pytest.approx((0.85 + 0.87 + 0.956) / 3)
    assert Target(agreement=0.95).best([lucky, *coarse]) is None
    # With a hundred objects it can be told which one has it on other pictures, too.
    many = [replace(one, score=replace(one.score, counted=100)) for one in (*fine, lucky, *coarse)]
    many.append(measured(0.0001, 0.99, 1000, 100))
    assert Target(agreement=0.95).best(many) is many[0]
    said = missed(Target(agreement=0.95), [lucky, *coarse])
    assert "recall 0.9560" in said
    assert said.endswith("; 0.892 with settings of like distortion")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_expected_merits_never_rise_with_the_distortion(pairs: list[tuple[float, float]]) -> None:
    points = [
        CodedPoint(Way("uniform", 8, None), 1.0, 1.0, Score("accuracy", merit, None, None, distortion, 8))
        for distortion, merit in pairs
    ]
    merits = expected_merits(points)
    ordered = [merit for _, merit in sorted(zip([one for one, _ in pairs], merits, strict=True), key=lambda p: p[0])]
    assert all(a >= b - 1e-9 for a, b in pairwise(ordered))
    assert sum(merits) == pytest.approx(sum(merit for _, merit in pairs))
