"""Strategies for maps in memory: any shape, layout, stride and alignment, and pictures to write them to."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from featlink_codec.features.packing import Packing
from featlink_codec.features.quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer
from featlink_codec.features.syntax import RepackMode

FLOATS = ("float32", "float16")
INTEGERS = ("uint8", "int8", "uint16", "int16")


@st.composite
def packings(draw: st.DrawFn) -> tuple[Packing, int, int]:
    """A packing, and height and width of its maps."""
    height = draw(st.integers(1, 40))
    width = draw(st.one_of(st.integers(1, 40), st.integers(41, 300)))
    channels = draw(st.one_of(st.integers(1, 20), st.integers(250, 300) if height * width < 300 else st.nothing()))
    mode = draw(st.sampled_from(RepackMode))
    tile_h, tile_w = (1, 1) if mode is RepackMode.STACK else (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    order = None
    if mode is RepackMode.ORDERED_TILE or (mode is RepackMode.STACK and draw(st.booleans())):
        order = tuple(draw(st.permutations(range(channels))))
    pads = draw(st.tuples(st.integers(0, 7), st.integers(0, 7)))
    return Packing(mode, channels, tile_h, tile_w, order, *pads), height, width


@st.composite
def memory(draw: st.DrawFn, shape: tuple[int, int, int], dtype: str) -> NDArray[np.generic]:
    """An array [H, W, C] of zeros: axes in any order in memory, gaps, backward axes, and misaligned."""
    size = np.dtype(dtype).itemsize
    axes = draw(st.one_of(st.sampled_from([(2, 0, 1), (0, 1, 2)]), st.permutations(range(3))))
    gaps = draw(st.one_of(st.just((1, 1, 1)), st.tuples(*[st.integers(1, 2)] * 3)))
    backward = draw(st.one_of(st.just((1, 1, 1)), st.tuples(*[st.sampled_from([1, -1])] * 3)))
    offset = draw(st.integers(0, 9))
    whole = [shape[axis] * gap for axis, gap in zip(axes, gaps, strict=True)]
    buffer = np.zeros(offset + int(np.prod(whole)) * size, np.uint8)
    array = buffer[offset:].view(dtype).reshape(whole)
    array = array[tuple(slice(None, None, gap * way) for gap, way in zip(gaps, backward, strict=True))]
    return array[tuple(slice(0, shape[axis]) for axis in axes)].transpose(np.argsort(axes))


@st.composite
def pictures(draw: st.DrawFn, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture to write to, full of 99, and the buffer around it."""
    margin, before = draw(st.integers(0, 70)), draw(st.integers(0, 70))
    buffer = np.full(before + size[0] * (size[1] + margin) + 70, 99, np.uint8)
    rows = buffer[before : before + size[0] * (size[1] + margin)].reshape(size[0], size[1] + margin)
    picture = rows[:, : size[1]]
    return (picture[::-1] if draw(st.booleans()) else picture), buffer


@st.composite
def quantizers(draw: st.DrawFn, depths: tuple[int, ...] = (2, 4, 8)) -> Quantizer:
    """Of any kind, with thresholds near, far and below 0."""
    depth = draw(st.sampled_from(depths))
    kind = draw(st.sampled_from(["uniform", "logarithmic", "custom"]))
    if kind == "custom":
        seed, scale = draw(st.integers(0, 2**32)), draw(st.sampled_from([1e-40, 1e-3, 1.0, 1e30]))
        peak = 2**depth - 1
        drawn = np.random.default_rng(seed).normal(0, scale, 2 * peak + 4).astype(np.float32)
        special = np.array([0.0, 1e-45, -1e-45], np.float32)[: draw(st.integers(0, 3))]
        bounds = np.unique(np.concatenate([special + np.float32(0), drawn]))
        first = draw(st.integers(0, len(bounds) - peak))
        return CustomQuantizer(bounds[first : first + peak].copy(), depth)
    largest = draw(st.floats(np.float32(1e-3), np.float32(120), width=32))
    return (UniformQuantizer if kind == "uniform" else LogQuantizer)(largest, depth)


def fill(array: NDArray[np.generic], seed: int, near: NDArray[np.float32] | None = None) -> None:
    """Random elements; floats of both signs, zeros of both signs, subnormals, and the neighbourhood of thresholds."""
    rng = np.random.default_rng(seed)
    if array.dtype.kind in "ui":
        info = np.iinfo(array.dtype)
        array[...] = rng.integers(info.min, info.max + 1, array.shape)
        return
    assert near is not None
    scale = float(np.abs(near).max())
    values = rng.normal(0, 1, array.shape) * scale
    at = near[rng.integers(0, len(near), array.shape)]
    steps = rng.integers(-2, 3, array.shape)
    for _ in range(2):
        at = np.where(
            steps < 0,
            np.nextafter(at, np.float32(-np.inf)),
            np.where(steps > 0, np.nextafter(at, np.float32(np.inf)), at),
        )
        steps = steps - np.sign(steps)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38])[rng.integers(0, 6, array.shape)]
    with np.errstate(over="ignore", under="ignore"):
        chosen = np.select([rng.random(array.shape) < 0.5, rng.random(array.shape) < 0.8], [at, values], special)
        array[...] = np.clip(chosen, np.finfo(array.dtype).min, np.finfo(array.dtype).max).astype(array.dtype)
