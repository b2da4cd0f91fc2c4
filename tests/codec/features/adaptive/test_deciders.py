"""The four ways to a distribution, and when maps are quantized in parts."""

import math

import numpy as np
import pytest

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import (
    DECIDERS,
    SIMILARITY,
    DeciderOptions,
    Distribution,
    Structure,
    SumKind,
    Summation,
    decide,
    use_partial,
)
from featlink_codec.features.adaptive.deciders import similarities
from featlink_codec.features.adaptive.fitting import summary_of

UNIFORM, GAUSSIAN, LAPLACE, _ = Distribution
ADDED = Summation(SumKind.ADDITION, 5, (2,))

PLAIN = Structure("Conv", ("Conv",), 3, 9)
BEFORE_SUM = Structure("Conv", ("Add",), 3, 9, sums=(ADDED,))
BEFORE_SUM_AND_MORE = Structure("Conv", ("Conv", "Add"), 3, 9, sums=(ADDED,))
NORM = Structure("BatchNormalization", ("Relu",), 3, 9, after_batch_norm=True)
NORM_BEFORE_SUM = Structure("BatchNormalization", ("Add",), 3, 9, sums=(ADDED,), after_batch_norm=True)
FUSED_BEFORE_SUM = Structure("Conv", ("Add",), 3, 9, sums=(ADDED,), after_batch_norm=True, fused=True)
OUTPUT = Structure("Conv", (), 3, 9)


def drawn(name, count, seed=3):
    rng = np.random.default_rng(seed)
    make = {
        "gaussian": lambda: rng.normal(4, 3, count),
        "laplace": lambda: rng.laplace(-1, 0.2, count),
        "uniform": lambda: rng.uniform(-1, 1, count),
        "relu": lambda: np.maximum(rng.normal(0, 1, count), 0),
        "exponential": lambda: rng.exponential(1, count),
        "two humps": lambda: rng.normal(0, 1, count) + np.where(rng.random(count) < 0.5, -4, 4),
    }
    return make[name]().astype(np.float32)


@pytest.mark.parametrize("count", [1000, 5000, 100_000])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gaussian", GAUSSIAN),
        ("laplace", LAPLACE),
        ("uniform", UNIFORM),
        ("relu", UNIFORM),
        ("exponential", UNIFORM),
        ("two humps", UNIFORM),
    ],
)
def test_histogram(name, expected, count):
    for seed in range(5):
        assert decide("histogram", drawn(name, count, seed)) is expected


def test_similarity_is_the_overlap_of_the_densities():
    """A Gaussian and a Laplace density of one variance share 0.859, a uniform one shares 0.802 and 0.688 with them."""
    gaussian, laplace, uniform = (
        similarities(summary_of(drawn(name, 400_000))) for name in ("gaussian", "laplace", "uniform")
    )
    assert gaussian[GAUSSIAN] == pytest.approx(1, abs=0.01)
    assert laplace[LAPLACE] == pytest.approx(1, abs=0.01)
    assert gaussian[LAPLACE] == pytest.approx(0.859, abs=0.01)
    assert laplace[GAUSSIAN] == pytest.approx(0.859, abs=0.01)
    assert uniform[GAUSSIAN] == pytest.approx(0.802, abs=0.02)
    assert uniform[LAPLACE] == pytest.approx(0.688, abs=0.02)
    assert max(laplace[GAUSSIAN], uniform[GAUSSIAN]) < SIMILARITY < gaussian[GAUSSIAN]


def test_the_threshold_is_the_user_s():
    laplace = drawn("laplace", 5000)
    assert decide("histogram", laplace, options=DeciderOptions(similarity=0.8)) is GAUSSIAN
    assert decide("histogram", drawn("gaussian", 5000), options=DeciderOptions(similarity=1.0)) is UNIFORM
    for similarity in (0.0, 1.1, math.nan):
        with pytest.raises(SettingsError, match="is not above 0 and at most 1"):
            DeciderOptions(similarity=similarity)


def test_a_map_of_one_value_is_uniform():
    assert decide("histogram", np.full(10, 2.5, np.float32)) is UNIFORM


@pytest.mark.parametrize(
    ("structure", "next_layer", "by_structure"),
    [
        (PLAIN, GAUSSIAN, GAUSSIAN),
        (BEFORE_SUM, LAPLACE, LAPLACE),
        (BEFORE_SUM_AND_MORE, GAUSSIAN, GAUSSIAN),
        (NORM, GAUSSIAN, GAUSSIAN),
        (NORM_BEFORE_SUM, LAPLACE, GAUSSIAN),
        (FUSED_BEFORE_SUM, LAPLACE, GAUSSIAN),
        (OUTPUT, GAUSSIAN, GAUSSIAN),
    ],
)
def test_structure(structure, next_layer, by_structure):
    assert decide("next-layer", structure=structure) is next_layer
    assert decide("structure", structure=structure) is by_structure
    assert decide("structure-or-uniform", structure=structure) is by_structure
    # the switch comes before everything, and the others do not know it
    for switched in (DeciderOptions(uniform=True), DeciderOptions(uniform_layers=frozenset({3}))):
        assert decide("structure-or-uniform", structure=structure, options=switched) is UNIFORM
        assert decide("structure", structure=structure, options=switched) is by_structure
    elsewhere = DeciderOptions(uniform_layers=frozenset({2}))
    assert decide("structure-or-uniform", structure=structure, options=elsewhere) is by_structure


def test_what_a_decider_lacks_is_named():
    assert DECIDERS == ("histogram", "next-layer", "structure", "structure-or-uniform")
    with pytest.raises(SettingsError, match="decider histogram needs the map's values"):
        decide("histogram", structure=PLAIN)
    for name in DECIDERS[1:]:
        with pytest.raises(SettingsError, match=f"decider {name} needs the network's structure"):
            decide(name, drawn("uniform", 10))
    with pytest.raises(SettingsError, match="decider 'best', expected one of histogram, next-layer, structure, "):
        decide("best", drawn("uniform", 10))


def test_maps_are_quantized_in_parts_by_the_user_or_by_the_task():
    assert [use_partial(task=task) for task in ("detection", "localisation", "tracking")] == [True] * 3
    assert not use_partial(task="classification")
    assert not use_partial()
    assert use_partial(True, "classification")
    assert not use_partial(False, "detection")
    with pytest.raises(SettingsError, match="task 'nothing', expected one of classification, detection, "):
        use_partial(task="nothing")
