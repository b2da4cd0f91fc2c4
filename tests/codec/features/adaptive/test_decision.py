"""From maps to a partition with a quantizer for each class."""

import tracemalloc

import numpy as np
import pytest

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import (
    ChannelClasses,
    ClassParameters,
    ClassSettings,
    Distribution,
    PartitionKind,
    Structure,
    check_classes,
    decide_classes,
    fit,
)

SHAPE = (12, 14, 48)
KINDS = list(PartitionKind)


def maps(count=3, seed=4):
    """Channels of very different strength, and one side of the map three times as strong."""
    rng = np.random.default_rng(seed)
    scale = 4.0 ** rng.integers(-2, 3, SHAPE[2])
    side = np.where(np.arange(SHAPE[1]) < 7, 1, 3)[None, :, None]
    return [(rng.normal(0, 1, SHAPE) * scale * side).astype(np.float32) for _ in range(count)]


def settings(kind, **more):
    return ClassSettings(kind, **({"classes": 1 if kind is PartitionKind.WHOLE else 4} | more))


def error_of(decision, values):
    ids = np.broadcast_to(decision.partition.ids_of(*values.shape), values.shape)
    total = 0.0
    for place, one in enumerate(decision.classes):
        quantizer, x = one.quantizer(), values[ids == place]
        total += float(((quantizer.dequantize(quantizer.quantize(x)).astype(np.float64) - x) ** 2).sum())
    return total / values.size


def bits_of(decision):
    ids = np.broadcast_to(decision.partition.ids_of(*SHAPE), SHAPE)
    return sum(int((ids == place).sum()) * one.bit_depth for place, one in enumerate(decision.classes))


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_cover_the_map_and_keep_the_depth_and_the_budget(kind):
    decision = decide_classes(maps(), settings(kind, bits=4.5, bit_depth=6))
    check_classes(decision.partition, decision.classes, *SHAPE, 6)
    assert decision.partition.kind is kind
    assert bits_of(decision) <= 4.5 * np.prod(SHAPE)


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_channel_classes_beat_one_class_at_equal_bits(bits):
    seen, fresh = maps(), maps(4)[3]
    whole = decide_classes(seen, settings(PartitionKind.WHOLE, bit_depth=bits))
    channel = decide_classes(seen, settings(PartitionKind.CHANNEL, bits=bits))
    assert bits_of(channel) <= bits_of(whole)
    assert error_of(channel, fresh) < 0.5 * error_of(whole, fresh)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [3, 5])
def test_classes_are_never_worse_than_one_on_the_maps_that_they_were_made_for(kind, bits):
    x = maps(2)
    whole = decide_classes(x, settings(PartitionKind.WHOLE, bit_depth=bits))
    classes = decide_classes(x, settings(kind, bits=bits))
    assert sum(error_of(classes, one) for one in x) <= 1.01 * sum(error_of(whole, one) for one in x)


def test_regions_by_the_image():
    image = np.zeros((48, 56, 3), np.uint8)
    image[:, 28:] = np.random.default_rng(1).integers(0, 255, (48, 28, 3))
    decision = decide_classes(maps(), settings(PartitionKind.REGION, classes=2), image=image)
    assert decision.partition.ids.tolist() == [[0] * 7 + [1] * 7] * 12


def test_one_class_is_what_fit_gives():
    x = maps()
    decision = decide_classes(x, settings(PartitionKind.WHOLE, decider="next-layer"), structure=Structure("Conv"))
    assert decision.classes == (fit(np.stack(x), Distribution.GAUSSIAN, 8),)


@pytest.mark.parametrize("kind", KINDS)
def test_how_maps_lie_makes_no_difference(kind):
    x = maps()
    planes = [np.ascontiguousarray(one.transpose(2, 0, 1)).transpose(1, 2, 0) for one in x]
    first, second = (decide_classes(one, settings(kind, bits=5)) for one in (x, planes))
    assert first.classes == second.classes
    assert (first.partition.ids_of(*SHAPE) == second.partition.ids_of(*SHAPE)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint16])
def test_other_types_of_elements(dtype):
    x = [np.clip(one * 4, 0, 100).astype(dtype) for one in maps()]
    decision = decide_classes(x, settings(PartitionKind.CHANNEL))
    check_classes(decision.partition, decision.classes, *SHAPE, 8)


@pytest.mark.parametrize(("kind", "per_element"), [(1, 4), (2, 4), (3, 60)])
def test_memory_is_bounded_by_one_map(kind, per_element):
    """Beside the histograms; copies of all maps would be above the limit."""
    some = maps(48)
    limit = 3 * (1 << 20) + per_element * np.prod(SHAPE)
    tracemalloc.start()
    decide_classes(some, settings(PartitionKind(kind), how="literal"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit
    assert peak + sum(one.nbytes for one in some) > limit


def test_what_does_not_fit_the_map_is_refused():
    classes = [ClassParameters(Distribution.GAUSSIAN, depth, 0.0, 1.0) for depth in (4, 8)]
    partition = ChannelClasses(np.array([0, 1, 0], np.uint8))
    check_classes(partition, classes, 5, 5, 3, 8)
    for channels, depth, text in (
        (3, 4, "class 1 has depth 8, above the map's 4"),
        (4, 8, "the class map covers 3 channels, the map has 4"),
    ):
        with pytest.raises(SettingsError) as caught:
            check_classes(partition, classes, 5, 5, channels, depth)
        assert str(caught.value) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": 0}, "K is 0, expected 1 to 256"),
        ({"classes": 257}, "K is 257, expected 1 to 256"),
        ({"kind": PartitionKind.WHOLE}, "K is 4 for a map that is one class, expected 1"),
        ({"least_depth": 9}, "class depths of 9 to 8, expected 2 to 16, in order"),
        ({"bits": 9.0}, "9.0 bits an element, expected 2 to 8"),
        ({"decider": "best"}, "decider 'best', expected one of histogram, next-layer, structure, structure-or-uniform"),
        ({"how": "best"}, "fit 'best', expected one of least-squares, literal"),
        ({"features": ("hue",)}, "channel feature 'hue', expected one of mean, variance, complexity, given"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, text):
    with pytest.raises(SettingsError) as caught:
        ClassSettings(**({"kind": PartitionKind.CHANNEL} | change))
    assert str(caught.value) == text


def test_maps_that_make_no_sense_are_refused():
    one = settings(PartitionKind.CHANNEL)
    with pytest.raises(SettingsError, match="maps none, expected at least one"):
        decide_classes([], one)
    with pytest.raises(SettingsError, match=r"maps \[12, 14, 48\], \[3, 4, 5\], expected at least one, all"):
        decide_classes([*maps(1), np.zeros((3, 4, 5), np.float32)], one)
    with pytest.raises(SettingsError, match="K is 49, expected 1 to 48, the number of channels"):
        decide_classes(maps(1), settings(PartitionKind.CHANNEL, classes=49))
    broken = maps(1)
    broken[0][1, 2, 3] = np.inf
    with pytest.raises(SettingsError, match="the map holds inf, expected finite values"):
        decide_classes(broken, settings(PartitionKind.WHOLE))


@pytest.mark.parametrize("distribution", list(Distribution))
def test_a_given_distribution_is_that_of_every_class(distribution):
    decision = decide_classes(maps(), settings(PartitionKind.CHANNEL, distribution=distribution, how="literal"))
    assert {one.distribution for one in decision.classes} == {distribution}


def test_bits_go_to_the_channels_that_count():
    values = maps()
    weights = np.where(np.arange(SHAPE[2]) < 24, 1.0, 0.0)
    given = weights[:, None]
    how = settings(PartitionKind.CHANNEL, classes=2, bits=4, features=("given",))
    counted = decide_classes(values, how, given=given, weights=weights)
    assert [one.bit_depth for one in counted.classes] == [6, 2]
    # One factor for all changes nothing.
    alike = decide_classes(values, how, given=given, weights=np.full(SHAPE[2], 7.0))
    plain = decide_classes(values, how, given=given)
    assert [one.bit_depth for one in alike.classes] == [one.bit_depth for one in plain.classes]


@pytest.mark.parametrize("weights", [np.ones(3), np.full(SHAPE[2], -1.0), np.full(SHAPE[2], np.nan)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(SettingsError, match=r"weights \[.*\], expected finite numbers from 0, \[48\]"):
        decide_classes(maps(1), settings(PartitionKind.CHANNEL, bits=4), weights=weights)
    with pytest.raises(SettingsError, match="weights of channels need classes of channels"):
        decide_classes(maps(1), settings(PartitionKind.REGION, bits=4), weights=np.ones(SHAPE[2]))
