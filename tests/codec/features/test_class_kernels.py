"""Maps with several quantizers: the C core gives what NumPy defines, bit for bit, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from codec.features.maps import FLOATS, INTEGERS, fill, memory, packings, pictures
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec import _core
from featlink_codec.errors import SettingsError
from featlink_codec.features.adaptive import (
    BlockClasses,
    ChannelClasses,
    ClassParameters,
    Distribution,
    RegionClasses,
    Split,
    Whole,
)
from featlink_codec.features.adaptive.adaptive import AdaptiveMap
from featlink_codec.features.adaptive.block_tree import can_cut, cut
from featlink_codec.features.packer import MapPacker, MapValueError, Saw
from featlink_codec.features.packing import Packing
from featlink_codec.features.samples import Sampling
from featlink_codec.features.syntax import RepackMode
from featlink_codec.features.unpacker import MapUnpacker


@pytest.fixture(scope="module", params=_core.paths())
def path(request):
    before = _core.chosen_path()
    _core.choose_path(request.param)
    yield request.param
    _core.choose_path(before)


def tree(shape: tuple[int, int, int], seed: int, most: int = 20) -> np.ndarray:
    """Random cuts in preorder."""
    rng = np.random.default_rng(seed)
    splits, waiting, leaves = [], [tuple((0, size) for size in shape)], 1
    while waiting:
        box = waiting.pop()
        fitting = [one for one in Split if can_cut(box, one) and leaves + one.parts <= most]
        split = Split(int(rng.choice(fitting)))
        splits.append(split)
        if split is not Split.LEAF:
            leaves += split.parts - 1
            waiting.extend(reversed(cut(box, split)))
    return np.array(splits, np.uint8)


@st.composite
def classes(draw, count: int, kinds=tuple(Distribution)):
    """Parameters of that many classes of all depths."""
    found = []
    for _ in range(count):
        kind = draw(st.sampled_from(kinds))
        depth = draw(st.integers(2 if kind.signed else 1, 8))
        center, spread = draw(st.floats(-4, 4, width=32)), draw(st.floats(2.0**-6, 16, width=32))
        step = draw(st.sampled_from([1.0, 1.0, 0.75, 3.0]))
        found.append(ClassParameters(kind, depth, center, spread, step, draw(st.sampled_from([0.5, 0.0, 0.25]))))
    return tuple(found)


@st.composite
def adaptive_maps(draw, shape: tuple[int, int, int]):
    """Any partition of a map of that shape, with its classes. Often all are lines, which have ways of their own."""
    height, width, channels = shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["whole", "channel", "region", "block"]))
    if kind == "whole":
        count, partition = 1, Whole()
    elif kind == "channel":
        ids = rng.integers(0, count, channels)
        partition = ChannelClasses((np.sort(ids) if draw(st.booleans()) else ids).astype(np.uint8))
    elif kind == "region":
        ids = rng.integers(0, count, (height, 1 + width // 5)).repeat(5, 1)[:, :width]
        partition = RegionClasses(ids.astype(np.uint8))
    else:
        splits = tree(shape, int(rng.integers(2**32)))
        partition = BlockClasses(splits, rng.integers(0, count, int((splits == 0).sum())).astype(np.uint8))
    kinds = draw(st.sampled_from([tuple(Distribution), (Distribution.UNIFORM, Distribution.GAUSSIAN)]))
    return AdaptiveMap(partition, draw(classes(count, kinds)))


def defined(packing: Packing, samples, picture: int):
    """The picture by the NumPy definition."""
    out = np.full(packing.picture_size(*samples.shape[:2]), 7, np.uint8)
    packing.pack(samples, picture, out)
    return out


def check(data, packer: MapPacker, packing: Packing, values, samples) -> None:
    for picture in range(packing.pictures):
        out, around = data.draw(pictures(packing.picture_size(*samples.shape[:2])))
        packer.pack(values, picture, out)
        assert np.array_equal(out, defined(packing, samples, picture))
        out[...] = 99
        assert (around == 99).all(), "wrote beside the picture"


@given(data=st.data())
def test_float_maps_with_classes_are_packed_as_defined(path, data):
    packing, height, width = data.draw(packings())
    shape = (height, width, packing.channels)
    adaptive, scaling = data.draw(adaptive_maps(shape)), data.draw(st.booleans())
    dtype = data.draw(st.sampled_from(FLOATS))
    values = data.draw(memory(shape, dtype))
    bounds = np.concatenate([one.thresholds for one in adaptive.quantizers])
    fill(values, data.draw(st.integers(0, 2**32)), bounds[np.isfinite(bounds)] if np.isfinite(bounds).any() else bounds)
    samplings, ids = adaptive.samplings(dtype, 8, scaling), adaptive.partition.ids_of(*shape)
    packer = MapPacker(packing, height, width, dtype, classes=samplings, ids=ids)
    check(data, packer, packing, values, adaptive.samples(adaptive.quantize(values), scaling))


@given(data=st.data())
def test_integer_maps_with_classes_are_packed_as_defined(path, data):
    packing, height, width = data.draw(packings())
    shape = (height, width, packing.channels)
    adaptive, scaling = data.draw(adaptive_maps(shape)), data.draw(st.booleans())
    dtype = data.draw(st.sampled_from(INTEGERS))
    values = data.draw(memory(shape, dtype))
    fill(values, data.draw(st.integers(0, 2**32)))
    samplings = adaptive.samplings(dtype, 8, scaling, integer_values=True)
    packer = MapPacker(packing, height, width, dtype, classes=samplings, ids=adaptive.partition.ids_of(*shape))
    check(data, packer, packing, values, adaptive.samples(adaptive.quantize(values.astype(np.float32)), scaling))


@given(data=st.data())
def test_pictures_of_maps_with_classes_are_unpacked_as_defined(path, data):
    packing, height, width = data.draw(packings())
    shape = (height, width, packing.channels)
    adaptive = data.draw(adaptive_maps(shape))
    dtype = data.draw(st.sampled_from(["uint8", "float16", "float32"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tables = rng.integers(0, 256, (len(adaptive.classes), 256 * np.dtype(dtype).itemsize)).astype(np.uint8).view(dtype)
    ids = adaptive.partition.ids_of(*shape)
    unpacker = MapUnpacker(packing, height, width, tables, ids)
    out = data.draw(memory(shape, dtype))
    base = out.base
    while base.base is not None:
        base = base.base
    samples = np.zeros((packing.channels, height, width), np.uint8)
    for picture in range(packing.pictures):
        plane, _ = data.draw(pictures(packing.picture_size(height, width)))
        plane[...] = rng.integers(0, 256, plane.shape)
        packing.unpack(plane, picture, samples)
        unpacker.unpack(plane, picture, out)
    expected = tables[np.broadcast_to(ids, shape), samples.transpose(1, 2, 0)]
    assert out.tobytes() == expected.tobytes()
    out[...] = 0
    assert not base.any(), "wrote beside the map"


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_lines_are_right_at_every_threshold_and_beside_it(path, depth, scaling, layout):
    rng = np.random.default_rng(depth)
    kinds = [Distribution.UNIFORM] + ([Distribution.GAUSSIAN, Distribution.LAPLACE] if depth > 1 else [])
    many = tuple(
        ClassParameters.rounded(kinds[k % len(kinds)], depth, rng.normal() * 3, float(np.exp(rng.normal())))
        for k in range(24)
    )
    adaptive = AdaptiveMap(ChannelClasses(np.arange(24, dtype=np.uint8)), many)
    bounds = adaptive.thresholds
    below, above = (np.nextafter(bounds, np.float32(end)) for end in (-np.inf, np.inf))
    near = np.concatenate([bounds, below, above], 1)
    values = near[:, None, :] if layout == "CHW" else np.ascontiguousarray(near.T[None]).transpose(2, 0, 1)
    values = values.transpose(1, 2, 0)
    packing, width = Packing(RepackMode.TILE, 24, 24, 1), near.shape[1]
    samplings = adaptive.samplings("float32", 8, scaling)
    packer = MapPacker(packing, 1, width, "float32", classes=samplings, ids=adaptive.partition.ids_of(1, width, 24))
    for one in samplings:
        assert MapPacker(packing, 1, width, "float32", thresholds=one.thresholds, step=one.step).kernel == "linear"
    out = np.zeros((24, width), np.uint8)
    packer.pack(values, 0, out)
    assert np.array_equal(out, defined(packing, adaptive.samples(adaptive.quantize(values), scaling), 0))


def test_what_a_map_with_classes_held_is_told(path):
    adaptive = AdaptiveMap(
        ChannelClasses(np.array([0, 1], np.uint8)),
        (ClassParameters(Distribution.GAUSSIAN, 8, 0.0, 1.0), ClassParameters(Distribution.LOGARITHMIC, 4, 0.0, 2.0)),
    )
    packing, ids = Packing(RepackMode.TILE, 2, 1, 2), adaptive.partition.ids_of(3, 5, 2)
    packer = MapPacker(packing, 3, 5, "float32", classes=adaptive.samplings("float32", 8, False), ids=ids)
    values, out = np.zeros((3, 5, 2), np.float32), np.zeros((3, 10), np.uint8)
    assert packer.pack(values, 0, out) == Saw(0)
    values[1, 2, 1] = -1
    assert packer.pack(values, 0, out) == Saw.NEGATIVE
    for culprit, name in ((np.nan, "NaN"), (-np.inf, "infinity")):
        values[2, 4, 1] = culprit
        with pytest.raises(MapValueError, match=rf"{name} \(1 of 30, the first .* at \(2, 4, 1\)\)"):
            packer.pack(values, 0, out)


def test_classes_that_do_not_fit_the_map_are_refused():
    packing = Packing(RepackMode.TILE, 2, 1, 2)
    one = Sampling(thresholds=np.array([1, 2, 3], np.float32))
    ids = np.zeros((1, 1, 2), np.uint8)
    for arguments, text in [
        ({"classes": [one]}, "classes go with their ids"),
        ({"ids": ids, "thresholds": one.thresholds}, "classes go with their ids"),
        ({"classes": [one], "ids": np.zeros((1, 1, 3), np.uint8)}, r"class ids are uint8 \[1, 1, 3\]"),
        ({"classes": [one], "ids": ids + np.uint8(1)}, "class id 1 where there are 1 classes"),
        ({"classes": [one], "ids": ids.astype(np.int32)}, "class ids are int32"),
    ]:
        with pytest.raises(SettingsError, match=text):
            MapPacker(packing, 3, 5, "float32", **arguments)
    for values, given_ids in ((np.zeros(256, np.uint8), ids), (np.zeros((1, 65536), np.uint16), ids)):
        with pytest.raises(SettingsError, match="expected"):
            MapUnpacker(packing, 3, 5, values, given_ids)
