"""Channels, positions and blocks in classes: by what they are told apart, how many, and what they get."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import BlockSettings
from featlink_codec.features.adaptive.block_tree import Split, leaves_of
from featlink_codec.features.adaptive.blocks import classify_blocks
from featlink_codec.features.adaptive.channel_features import ChannelFeatures, logarithm
from featlink_codec.features.adaptive.classes import allocate_depths, merge_and_split
from featlink_codec.features.adaptive.kmeans import kmeans
from featlink_codec.features.adaptive.regions import classify_regions, image_energy, map_energy


def numbers(seed=5):
    return np.random.default_rng(seed)


def features_of(*maps):
    features = ChannelFeatures(maps[0].shape[2])
    for one in maps:
        features.add(one)
    return features


def smooth_and_rough(height=24, width=30):
    """[H, W, 4]: flat, a slope, noise, and noise twice as strong about 3."""
    y, x = np.mgrid[:height, :width]
    noise = numbers().normal(0, 1, (height, width, 2)) * [1, 2] + [0, 3]
    return np.concatenate([np.full((height, width, 1), 7.0), (y + x)[..., None] / 10, noise], axis=2).astype(np.float32)


def test_features_are_those_of_all_maps_together():
    maps = [smooth_and_rough(), smooth_and_rough()[::-1] * 2, smooth_and_rough()[:, :5]]
    features = features_of(*maps)
    together = np.concatenate([one.reshape(-1, 4).astype(np.float64) for one in maps])
    np.testing.assert_allclose(features.means, together.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(features.variances, together.var(axis=0), rtol=1e-9, atol=1e-9)


def test_features_do_not_depend_on_how_a_map_lies():
    values = smooth_and_rough()
    planes = np.ascontiguousarray(values.transpose(2, 0, 1)).transpose(1, 2, 0)
    names = ("mean", "variance", "complexity")
    assert (features_of(values).vectors(names) == features_of(planes).vectors(names)).all()


def test_complexity_is_nothing_for_flat_little_for_smooth_and_much_for_noise():
    flat, slope, noise, strong = features_of(smooth_and_rough()).complexities
    assert flat == 0
    assert slope < 0.2
    assert noise == pytest.approx(2 / math.sqrt(math.pi), rel=0.1)
    assert strong == pytest.approx(noise, rel=0.1)


def test_given_vectors_are_features_too():
    features = features_of(smooth_and_rough())
    vectors = features.vectors(("given", "mean"), np.array([[1, 5], [2, 5], [3, 5], [4, 5]]))
    assert vectors.shape == (4, 3)
    np.testing.assert_allclose(vectors[:, 0], np.array([-3, -1, 1, 3]) / math.sqrt(5))
    assert (vectors[:, 1] == 0).all()
    for given_vectors, text in (
        (None, "channel feature given: found no vectors"),
        (np.zeros(3), r"given features \[3\], expected finite \[4\] or \[4, n\]"),
        (np.array([0, 0, 0, math.nan]), r"given features \[4\], expected finite"),
    ):
        with pytest.raises(SettingsError, match=text):
            features.vectors(("given",), given_vectors)
    with pytest.raises(SettingsError, match="channel feature 'color', expected one of mean, variance, complexity, "):
        features.vectors(("color",))
    with pytest.raises(SettingsError, match="no channel features"):
        features.vectors(())


@given(st.floats(1e-30, 1e30))
def test_the_logarithm_is_near_enough(value):
    assert logarithm(np.array([value]))[0] == pytest.approx(math.log2(value), abs=0.0861)


def inertia(vectors, ids):
    return sum(((vectors[ids == k] - vectors[ids == k].mean(axis=0)) ** 2).sum() for k in set(ids.tolist()))


@given(st.lists(st.integers(-20, 20), min_size=3, max_size=30), st.integers(1, 3))
def test_kmeans_leaves_every_vector_in_the_class_whose_mean_is_nearest(values, classes):
    vectors = np.array(values, np.float64)[:, None]
    found = kmeans(vectors, classes)
    means = np.array([vectors[found == k].mean() for k in range(found.max() + 1)])
    away = np.abs(vectors - means)
    assert (away[np.arange(len(found)), found] <= away.min(axis=1) + 1e-9).all()


def test_kmeans_is_near_the_best_of_all_partitions():
    """Of a few numbers all can be tried: classes on a line are intervals. A single case may be twice the best."""
    rng, ratios = numbers(), []
    for _ in range(200):
        vectors = rng.integers(-20, 21, 8).astype(np.float64)[:, None]
        order = np.argsort(vectors[:, 0], kind="stable")
        best = math.inf
        for cuts in product(range(9), repeat=2):
            ids = np.zeros(8, np.int64)
            for one in cuts:
                ids[order[one:]] += 1
            best = min(best, inertia(vectors, ids))
        ratios.append((inertia(vectors, kmeans(vectors, 3)) + 1) / (best + 1))
    assert min(ratios) > 1 - 1e-9
    assert np.mean(ratios) < 1.1


def test_kmeans_finds_clusters_that_are_there_and_numbers_them_as_they_come():
    centers = numbers().uniform(-10, 10, (5, 3)) * 10
    truth = numbers(1).integers(0, 5, 200)
    truth[:5] = range(5)
    found = kmeans(centers[truth] + numbers(2).normal(0, 1, (200, 3)), 5)
    assert (found == truth).all()


def test_vectors_that_are_alike_share_a_class():
    assert kmeans(np.zeros((6, 2)), 3).tolist() == [0] * 6
    assert kmeans(np.array([[1.0], [2.0], [1.0]]), 3).tolist() == [0, 1, 0]


def test_more_classes_than_channels_are_refused():
    with pytest.raises(SettingsError) as caught:
        kmeans(np.zeros((5, 2)), 6, "channels")
    assert str(caught.value) == "K is 6, expected 1 to 5, the number of channels"
    with pytest.raises(SettingsError, match="K is 0, expected 1 to 5"):
        kmeans(np.zeros((5, 2)), 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 9))
def test_classes_end_within_their_bounds(ids, minimum, more):
    maximum = 2 * minimum - 1 + more
    vectors = numbers().normal(0, 1, (len(ids), 2))
    found = merge_and_split(vectors, np.array(ids), minimum, maximum)
    sizes = np.bincount(found)
    assert sizes.max() <= maximum
    assert sizes.min() >= minimum or len(ids) < minimum
    first = [found.tolist().index(k) for k in range(len(sizes))]
    assert first == sorted(first)


def test_small_classes_go_to_the_nearest_and_large_ones_are_halved_in_order():
    vectors = np.array([[0.0], [0.1], [0.2], [5.0], [9.0], [9.1]])
    assert merge_and_split(vectors, np.array([0, 0, 0, 1, 2, 2]), minimum=2).tolist() == [0, 0, 0, 1, 1, 1]
    line = np.array([[3.0], [1.0], [0.0], [2.0]])
    assert merge_and_split(line, np.zeros(4, np.int64), maximum=2).tolist() == [0, 1, 1, 0]
    with pytest.raises(
        SettingsError, match="classes of 3 to 4, expected a maximum of at least twice the minimum less 1"
    ):
        merge_and_split(vectors, np.zeros(6, np.int64), 3, 4)
    with pytest.raises(SettingsError, match="300 classes after splitting, expected at most 256"):
        merge_and_split(np.arange(300.0)[:, None], np.zeros(300, np.int64), 1, 1)


def high_rate(variances):
    """Errors of classes where each bit takes away three quarters."""
    return lambda k, depth: variances[k] / 4**depth


def total_error(variances, counts, depths):
    return sum(count * variance / 4**depth for variance, count, depth in zip(variances, counts, depths, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(1, 50)), min_size=1, max_size=4),
    st.floats(2, 6),
)
def test_depths_keep_the_budget_and_leave_less_than_a_bit_for_any_class(classes, bits):
    variances, counts = zip(*classes, strict=True)
    budget = int(bits * sum(counts)) + 1
    depths = allocate_depths(high_rate(variances), counts, budget, 2, 6)
    used = sum(depth * count for depth, count in zip(depths, counts, strict=True))
    assert used <= budget
    if len(set(depths)) > 1:
        assert all(count > budget - used for depth, count in zip(depths, counts, strict=True) if depth < 6)
    equal = [min(budget // sum(counts), 6)] * len(counts)
    assert total_error(variances, counts, depths) <= total_error(variances, counts, equal)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-4, 1e4), min_size=2, max_size=4), st.integers(4, 22))
def test_depths_of_classes_of_one_size_are_the_best_of_all(variances, bits):
    count = len(variances)
    budget = min(max(bits, 2 * count), 6 * count)
    depths = allocate_depths(high_rate(variances), [1] * count, budget, 2, 6)
    every = (one for one in product(range(2, 7), repeat=count) if sum(one) <= budget)
    assert total_error(variances, [1] * count, depths) == pytest.approx(
        min(total_error(variances, [1] * count, one) for one in every)
    )


def test_one_depth_for_all_where_bits_one_by_one_go_astray():
    """A large class that no longer fits, and small ones that hardly need what they get instead."""
    errors = {2: (8.0, 10.0), 3: (1.0, 1.0), 4: (0.9, 0.9)}
    assert allocate_depths(lambda k, depth: errors[depth][k], [100, 1], 303, 2, 4) == [3, 3]
    steep = {2: (8.0, 9.0), 3: (1.0, 8.0), 4: (0.0, 0.0)}
    assert allocate_depths(lambda k, depth: steep[depth][k], [10, 10], 60, 2, 4) == [4, 2]
    cliff = {2: (2.0, 9.0), 3: (1.0, 8.5), 4: (0.9, 0.0)}
    assert allocate_depths(lambda k, depth: cliff[depth][k], [10, 10], 80, 2, 4) == [4, 4]


def test_depths_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match="a budget of 5 bits, expected at least 6: 2 each"):
        allocate_depths(high_rate([1.0]), [3], 5)
    with pytest.raises(SettingsError, match=r"class depths of 8 to 4, expected them in order and within 1..16"):
        allocate_depths(high_rate([1.0]), [3], 50, 8, 4)


def test_regions_follow_the_energy_and_hold_no_crumbs():
    energy = np.full((12, 16), 0.1)
    energy[3:9, 4:11] = 50.0
    energy[0, 15] = 50.0
    ids = classify_regions(energy, 2)
    expected = np.zeros((12, 16), np.uint8)
    expected[3:9, 4:11] = 1
    assert (ids == expected).all()
    assert classify_regions(energy, 2, smallest_region=1)[0, 15] == 1
    assert (classify_regions(energy, 2, minimum=60) == 0).all()
    assert np.bincount(classify_regions(energy, 2, maximum=100).ravel()).max() <= 100
    with pytest.raises(SettingsError, match="K is 193, expected 1 to 192, the number of positions"):
        classify_regions(energy, 193)


def test_the_map_s_energy_is_the_mean_square_over_channels():
    values = numbers().normal(0, 1, (5, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(map_energy(values), np.mean(values.astype(np.float64) ** 2, axis=2))


def test_the_image_s_detail_is_found_at_the_map_s_size():
    image = np.full((40, 61, 3), 90, np.uint8)
    image[20:, :31] = numbers().integers(0, 255, (20, 31, 3))
    energy = image_energy(image, 4, 6)
    assert (energy[:2] == 0).all()
    assert (energy[2:, :3] > 500).all()
    assert (energy[2:, 4:] == 0).all()
    np.testing.assert_allclose(image_energy(image[:, :, 0], 40, 61), 0)
    with pytest.raises(SettingsError, match=r"an image \[3, 61, 3\], expected at least \[4, 6\]"):
        image_energy(image[:3], 4, 6)


def blocky(shape=(16, 16, 32)):
    """Means and squares of a map that is loud in one corner and in the last channels."""
    scale = np.ones(shape)
    scale[:8, :8] = 30
    scale[:, :, 16:] = 30
    values = numbers().normal(0, 1, shape) * scale
    return values, values**2, scale > 1


@pytest.mark.parametrize("parts", [(2,), (2, 3, 4, 8), (4, 2), (8, 2)])
def test_blocks_follow_the_map(parts):
    values, squares, loud = blocky()
    blocks = classify_blocks(values, squares, 2, BlockSettings(parts=parts))
    ids = blocks.ids_of(*values.shape)
    blocks.check(*values.shape, blocks.class_count)
    assert (ids == ids[0, 0, 0]).tolist() == loud.tolist()
    assert len(blocks.ids) <= 8
    assert {Split(one).parts for one in blocks.splits.tolist()} <= {0, *parts}


def test_leaves_end_within_their_bounds():
    values = numbers().normal(0, 1, (13, 11, 20)) * numbers(1).exponential(1, (13, 11, 20))
    blocks = classify_blocks(values, values**2, 4, BlockSettings(cell=(2, 2, 2), minimum=40, maximum=200))
    sizes = [math.prod(stop - start for start, stop in box) for box in leaves_of(blocks.splits, 13, 11, 20)]
    assert min(sizes) >= 40
    assert max(sizes) <= 200
    assert sum(sizes) == 13 * 11 * 20


def test_a_map_that_is_all_alike_is_one_block():
    blocks = classify_blocks(np.zeros((4, 4, 8)), np.ones((4, 4, 8)), 1)
    assert (blocks.splits.tolist(), blocks.ids.tolist()) == ([Split.LEAF], [0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cell": (0, 1, 1)}, "cells of [0, 1, 1], expected at least 1 each way"),
        ({"parts": (2, 5)}, "blocks cut into [2, 5] parts, expected some of 2, 3, 4, 8"),
        ({"parts": ()}, "blocks cut into [] parts, expected some of 2, 3, 4, 8"),
        ({"minimum": 0}, "blocks of 0 to None elements, expected them in order, from 1"),
        ({"maximum": 100}, "blocks of 128 to 100 elements, expected them in order, from 1"),
        ({"mixed": 1.0}, "mixed is 1.0, expected 0 or above, below 1"),
    ],
)
def test_block_settings_that_make_no_sense_are_refused(change, text):
    with pytest.raises(SettingsError) as caught:
        BlockSettings(**change)
    assert str(caught.value) == text


def test_more_block_classes_than_cells_are_refused():
    with pytest.raises(SettingsError, match="K is 3, expected 1 to 2, the number of cells"):
        classify_blocks(np.zeros((4, 8, 8)), np.zeros((4, 8, 8)), 3)
