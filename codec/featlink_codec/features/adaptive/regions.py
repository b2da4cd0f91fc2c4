"""Classes of positions, shared by all channels: by the map's energy or by the input image ([0214]-[0218], [0232])."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError
from .channel_features import logarithm, standardised
from .classes import merge_and_split
from .kmeans import in_order, kmeans

Floats = NDArray[np.float64]

#: Rounds of smoothing at most.
_ROUNDS = 8


def map_energy(values: NDArray[np.generic]) -> Floats:
    """Mean square over the channels.

    :param values: [H, W, C]
    :returns: float64 [H, W]
    """
    height, width, channels = values.shape
    energy = np.zeros((height, width))
    for row in range(height):
        x = np.ascontiguousarray(values[row], np.float64)
        energy[row] = np.add.accumulate(x * x, axis=1)[:, -1] / channels
    return energy


def image_energy(image: NDArray[np.generic], height: int, width: int) -> Floats:
    """Variance of the image under each position of a map: what detail there is.

    :param image: [rows, columns] or [rows, columns, colors], at least as large as the map
    :param height: of the map
    :param width: of the map
    :returns: float64 [height, width]
    :raises SettingsError: another shape, or a smaller image
    """
    if image.ndim not in (2, 3) or image.shape[0] < height or image.shape[1] < width:
        raise SettingsError(f"an image {list(image.shape)}, expected at least [{height}, {width}]")
    flat = np.asarray(image, np.float64)
    light = flat if flat.ndim == 2 else np.add.accumulate(flat, axis=2)[:, :, -1] / flat.shape[2]
    mean = _resampled(light, height, width)
    square = _resampled(light * light, height, width)
    found: Floats = np.maximum(square - mean * mean, 0.0)
    return found


def classify_regions(
    energy: Floats, classes: int, minimum: int = 1, maximum: int | None = None, smallest_region: int = 3
) -> NDArray[np.uint8]:
    """A class for each position by its energy, in classes of a size and regions without crumbs.

    A position with fewer than `smallest_region` of its class among itself and its eight neighbours takes the class that
    most of them have, the lowest of equals; up to eight rounds.

    :param energy: float64 [H, W], 0 or above
    :param classes: K
    :param minimum: positions of a class at least: smaller ones are merged
    :param maximum: and at most: larger ones are halved by their energy; None: any number
    :param smallest_region: 1 to 9; 1: crumbs stay
    :returns: uint8 [H, W]
    :raises SettingsError: K is not within 1 .. H * W, or bounds that do not fit
    """
    vectors = standardised(logarithm(energy.reshape(-1))[:, None])
    ids = kmeans(vectors, classes, "positions").reshape(energy.shape)
    for _ in range(_ROUNDS):
        calm = _calmed(ids, smallest_region)
        if (calm == ids).all():
            break
        ids = calm
    bounded = merge_and_split(vectors, in_order(ids.reshape(-1)), minimum, maximum)
    return bounded.reshape(energy.shape).astype(np.uint8)


def _calmed(ids: NDArray[np.int64], smallest: int) -> NDArray[np.int64]:
    height, width = ids.shape
    padded = np.pad(ids, 1, constant_values=-1)
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    classes = range(int(ids.max()) + 1)
    votes = np.stack([np.add.reduce([(one == k).astype(np.int64) for one in around]) for k in classes])
    own = np.take_along_axis(votes, ids[None], axis=0)[0]
    return np.where(own < smallest, np.argmax(votes, axis=0), ids)


def _resampled(plane: Floats, height: int, width: int) -> Floats:
    """Means over the pixels that begin in each position's part of the plane."""
    rows = np.arange(height) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
    row_counts = np.diff(np.append(rows, plane.shape[0]))
    column_counts = np.diff(np.append(columns, plane.shape[1]))
    found: Floats = sums / (row_counts[:, None] * column_counts[None, :])
    return found
