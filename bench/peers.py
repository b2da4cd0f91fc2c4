"""The same work as other people do it: this project's definition in NumPy, and CompressAI-Vision's way.

CompressAI-Vision (InterDigitalInc/CompressAI-Vision on GitHub) makes frames of feature maps in
compressai_vision/codecs/utils.py: `reshape_feature_pyramid_to_frame` with `tensor_to_tiled`, `min_max_normalization`,
and back; `encode` and `decode` of compressai_vision/codecs/ffmpeg.py call them, and `readwriteYUV` of
compressai_vision/utils/dataio.py pads the frame and makes integers of it (or floats, and crops). Here are the same
operations in the same order, in our own words, for one map and one frame; files and video are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.features import Packing, Quantizer
from featlink_codec.features.samples import samples_of

from .cases import TOP

#: `readwriteYUV` makes both sides of a frame multiples of this.
ALIGN = 2
PEAK = 255


@dataclass(frozen=True)
class Peer:
    """One way of doing it.

    :param pack: float32 [C, H, W] to a picture uint8
    :param unpack: a picture uint8 to float32 [C, H, W]
    """

    name: str
    pack: Callable[[NDArray[np.float32]], NDArray[np.uint8]]
    unpack: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def numpy_definition(packing: Packing, quantizer: Quantizer, shape: tuple[int, int, int]) -> Peer:
    """`Quantizer` and `Packing`, which define what the C core must give."""
    _, height, width = shape

    def pack(values: NDArray[np.float32]) -> NDArray[np.uint8]:
        levels = quantizer.quantize(values.transpose(1, 2, 0))
        picture = np.empty(packing.picture_size(height, width), np.uint8)
        packing.pack(samples_of(levels, 8, False)[0], 0, picture)
        return picture

    def unpack(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        levels = np.empty(shape, np.uint8)
        packing.unpack(picture, 0, levels)
        return quantizer.dequantize(levels)

    return Peer("this project's definition in NumPy", pack, unpack)


def numpy_frames(packing: Packing, shape: tuple[int, int, int]) -> Peer:
    """CompressAI-Vision's steps with NumPy's functions of the same names."""
    _, height, width = shape
    down, across = packing.tile_h, packing.tile_w
    rows, columns = down * height, across * width

    def pack(values: NDArray[np.float32]) -> NDArray[np.uint8]:
        tiled = values.reshape(down, across, height, width).swapaxes(1, 2).reshape(rows, columns)
        frames = np.stack([np.concatenate([tiled])])
        frames = np.floor(np.clip((frames - 0.0) / (TOP - 0.0), 0, 1) * PEAK)
        padded = np.pad(frames, ((0, 0), (0, -rows % ALIGN), (0, -columns % ALIGN)))
        return np.array(padded[0], np.uint8)

    def unpack(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        frames = np.stack([picture.astype(np.float32)[:rows, :columns].copy()])
        frames = np.float32(TOP - 0.0) * (frames / np.float32(PEAK)) + np.float32(0.0)
        maps = [f.reshape(down, height, across, width).swapaxes(1, 2).reshape(1, *shape) for f in frames]
        back: NDArray[np.float32] = np.concatenate(maps)[0]
        return back

    return Peer("CompressAI-Vision's way in NumPy", pack, unpack)


def torch_frames(torch: Any, packing: Packing, shape: tuple[int, int, int]) -> Peer:
    """CompressAI-Vision's steps as it takes them."""
    _, height, width = shape
    down, across = packing.tile_h, packing.tile_w
    rows, columns = down * height, across * width
    pad = torch.nn.functional.pad

    def pack(values: NDArray[np.float32]) -> NDArray[np.uint8]:
        tensor = torch.from_numpy(values)[None]
        tiled = tensor.reshape(down, across, height, width).swapaxes(1, 2).reshape(rows, columns)
        frames = torch.stack([torch.cat([tiled])])
        frames = (((frames - 0.0) / (TOP - 0.0)).clamp_(0, 1) * PEAK).floor()
        frame = pad(frames[0][None], (0, -columns % ALIGN, 0, -rows % ALIGN), mode="constant", value=0)
        return np.array(frame[0].numpy(force=True), np.uint8)

    def unpack(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        frame = torch.from_numpy(picture.astype("float32"))
        frame = pad(frame, (0, columns - picture.shape[1], 0, rows - picture.shape[0]), mode="constant", value=0)
        frames = torch.stack([frame]) / PEAK * (TOP - 0.0) + 0.0
        maps = [f.reshape(down, height, across, width).swapaxes(1, 2).reshape(1, *shape) for f in frames]
        return np.asarray(torch.cat(maps)[0])

    return Peer("CompressAI-Vision's way in PyTorch", pack, unpack)


def find_torch() -> Any:
    """PyTorch on one thread, or None where it is not installed."""
    if find_spec("torch") is None:
        return None
    torch = import_module("torch")
    torch.set_num_threads(1)
    return torch


def peers(packing: Packing, quantizer: Quantizer, shape: tuple[int, int, int]) -> list[Peer]:
    """All that can be measured here."""
    found = [numpy_definition(packing, quantizer, shape), numpy_frames(packing, shape)]
    torch = find_torch()
    return found if torch is None else [*found, torch_frames(torch, packing, shape)]
