"""Partitions: what they cover, what they refuse, and trees of blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import BlockClasses, ChannelClasses, PartitionKind, RegionClasses, Split, Whole
from featlink_codec.features.adaptive.block_tree import (
    can_cut,
    cut,
    from_differences,
    leaf_count,
    leaves_of,
    neighbours_of,
    predicted,
    to_differences,
)


def u8(*values):
    return np.array(values, np.uint8)


@st.composite
def trees(draw, shape=None):
    """(splits, (height, width, channels)) of a random tree that fits."""
    shape = shape or tuple(draw(st.integers(1, 9)) for _ in range(3))
    splits = []

    def grow(box, depth):
        fitting = [s for s in Split if s is not Split.LEAF and can_cut(box, s)]
        split = draw(st.sampled_from([Split.LEAF, *fitting])) if depth < 4 and len(splits) < 60 else Split.LEAF
        splits.append(split)
        if split is not Split.LEAF:
            for part in cut(box, split):
                grow(part, depth + 1)

    grow(tuple((0, n) for n in shape), 0)
    return np.array(splits, np.uint8), shape


@settings(max_examples=40, deadline=None)
@given(trees())
def test_leaves_cover_every_element_once(tree):
    splits, shape = tree
    boxes = leaves_of(splits, *shape)
    assert len(boxes) == leaf_count(splits)
    count = np.zeros(shape, int)
    for box in boxes:
        count[tuple(slice(*span) for span in box)] += 1
    assert (count == 1).all()


@settings(max_examples=40, deadline=None)
@given(trees(), st.data())
def test_ids_come_back_from_differences(tree, data):
    splits, shape = tree
    boxes = leaves_of(splits, *shape)
    classes = data.draw(st.integers(1, 256))
    ids = np.array([data.draw(st.integers(0, classes - 1)) for _ in boxes], np.uint8)
    neighbours = neighbours_of(boxes)
    assert (neighbours < np.arange(len(boxes))[:, None]).all()
    assert (neighbours[1:] >= 0).any(axis=1).all()
    differences = to_differences(ids, neighbours, classes)
    assert differences.max() < classes
    assert (from_differences(differences, neighbours, classes) == ids).all()
    assert not to_differences(np.full(len(boxes), ids[0], np.uint8), neighbours, classes)[1:].any()


def test_prediction_is_the_middle_one_the_lower_one_the_only_one_or_nothing():
    ids = u8(5, 9, 2)
    for neighbours, expected in (((0, 1, 2), 5), ((-1, 0, 1), 5), ((1, -1, 2), 2), ((-1, 1, -1), 9), ((-1, -1, -1), 0)):
        assert predicted(ids, np.array(neighbours, np.int32)) == expected


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        (Split.TWO_BY_HEIGHT, [(4, 8, 9), (3, 8, 9)]),
        (Split.TWO_BY_CHANNEL, [(7, 8, 5), (7, 8, 4)]),
        (Split.THREE_BY_WIDTH, [(7, 2, 9), (7, 4, 9), (7, 2, 9)]),
        (Split.THREE_BY_HEIGHT, [(1, 8, 9), (5, 8, 9), (1, 8, 9)]),
        (Split.FOUR, [(4, 4, 9), (4, 4, 9), (3, 4, 9), (3, 4, 9)]),
        (Split.EIGHT, [(h, 4, c) for h in (4, 3) for _ in (0, 1) for c in (5, 4)]),
    ],
)
def test_where_nodes_are_cut(split, sizes):
    parts = cut(((0, 7), (0, 8), (0, 9)), split)
    assert [tuple(stop - start for start, stop in box) for box in parts] == sizes


def test_ids_fill_the_map():
    assert Whole().ids_of(3, 4, 5).shape == (1, 1, 1)
    assert ChannelClasses(u8(0, 1, 1)).ids_of(2, 2, 3).tolist() == [[[0, 1, 1]]]
    assert RegionClasses(np.eye(2, dtype=np.uint8)).ids_of(2, 2, 7).tolist() == [[[1], [0]], [[0], [1]]]
    blocks = BlockClasses(u8(Split.TWO_BY_WIDTH, Split.LEAF, Split.TWO_BY_CHANNEL, Split.LEAF, Split.LEAF), u8(3, 1, 2))
    assert blocks.ids_of(1, 2, 2).tolist() == [[[3, 3], [1, 2]]]
    assert [p.kind for p in (Whole(), blocks)] == [PartitionKind.WHOLE, PartitionKind.BLOCK]
    assert blocks.class_count == 4


@pytest.mark.parametrize(
    ("partition", "classes", "text"),
    [
        (Whole(), 2, "2 classes for a map that is one, expected 1"),
        (ChannelClasses(u8(0, 1)), 2, "the class map covers 2 channels, the map has 5"),
        (ChannelClasses(u8(0, 1, 2, 3, 4)), 6, "6 channel classes, but the map has 5 channels"),
        (ChannelClasses(u8(0, 1, 2, 3, 4)), 4, "class id 4 where there are 4 classes"),
        (ChannelClasses(u8(0, 1, 2, 3, 4)), 0, "0 classes, expected 1..256"),
        (RegionClasses(np.zeros((4, 3), np.uint8)), 1, "the class map covers 4x3 positions, the map has 3x4"),
        (
            BlockClasses(u8(Split.TWO_BY_HEIGHT, Split.THREE_BY_HEIGHT, 0, 0, 0, 0), u8(0, 0, 0, 0)),
            1,
            "node 1 of 2x4x5 is too small for split three_by_height",
        ),
        (BlockClasses(u8(0), u8(1)), 1, "class id 1 where there are 1 classes"),
    ],
)
def test_what_does_not_cover_the_map_is_refused(partition, classes, text):
    with pytest.raises(SettingsError) as caught:
        partition.check(3, 4, 5, classes)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ChannelClasses(np.zeros(3)), r"class ids are float64 \[3\], expected uint8 \[channels\]"),
        (lambda: ChannelClasses(u8()), r"class ids are uint8 \[0\], expected uint8 \[channels\]"),
        (lambda: RegionClasses(u8(1)), r"class ids are uint8 \[1\], expected uint8 \[height, width\]"),
        (lambda: BlockClasses(u8(), u8(0)), r"splits are uint8 \[0\], expected uint8 \[nodes\]"),
        (lambda: BlockClasses(u8(9), u8(0)), "split 9 is not within 0..8"),
        (lambda: BlockClasses(u8(1, 0), u8(0, 0)), "2 splits are not one tree in preorder"),
        (lambda: BlockClasses(u8(0, 0), u8(0, 0)), "2 splits are not one tree in preorder"),
        (lambda: BlockClasses(u8(1, 0, 0), u8(0)), "the class map covers 1 leaves, the tree has 2"),
    ],
)
def test_what_is_no_class_map_is_refused(make, text):
    with pytest.raises(SettingsError, match=text):
        make()


def test_class_maps_do_not_change_behind_the_back():
    ids = u8(0, 1)
    partition = ChannelClasses(ids)
    ids[0] = 1
    assert partition.ids.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        partition.ids[0] = 1
