"""Orders of a map's channels: which neighbours in a picture look alike is found out on calibration maps.

Levels are integers, and so is nearly everything here: the same maps give the same order on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.features.quantizers import Levels

#: Of `similarity`, which holds channels x channels numbers.
MAX_SIMILARITY_CHANNELS = 4096

Order = tuple[int, ...]


def identity(maps: Levels) -> Order:
    """The channels as they are.

    :param maps: levels, uint8 or uint16 [N, H, W, C]
    """
    return tuple(range(_checked(maps).shape[3]))


def descending_difference(maps: Levels) -> Order:
    """The channel that differs most from the mean channel first.

    The mean channel is, at each place of each map, the mean of all channels. The difference of a channel is the mean
    of |channel - mean channel| over all places of all maps. Equal differences stay in the order of their numbers.

    :param maps: levels, uint8 or uint16 [N, H, W, C]
    """
    channels = _checked(maps).shape[3]
    # channels times too large, but whole: at most 2^16 * 2^16 at each place, and 2^30 places
    differences = np.zeros(channels, np.int64)
    for one in maps:
        for row in one:
            levels = row.astype(np.int64)
            differences += np.abs(levels * channels - levels.sum(axis=1, keepdims=True)).sum(axis=0)
    return tuple(int(channel) for channel in np.argsort(-differences, kind="stable"))


def similarity(maps: Levels) -> Order:
    """A walk from channel to channel, each time to the one most like the last.

    It begins with the channel of the largest variance; then follows, again and again, the channel not yet taken whose
    Pearson correlation with the last one, over all places of all maps, is the highest. Channels that never change
    correlate with nothing and come last. Equals stay in the order of their numbers.

    :param maps: levels, uint8 or uint16 [N, H, W, C]
    :raises SettingsError: more than MAX_SIMILARITY_CHANNELS
    """
    channels = _checked(maps).shape[3]
    if channels > MAX_SIMILARITY_CHANNELS:
        raise SettingsError(f"order similarity: found {channels} channels, expected at most {MAX_SIMILARITY_CHANNELS}")
    places = maps[..., 0].size
    sums = np.zeros(channels)
    products = np.zeros((channels, channels))
    for one in maps:
        levels = one.reshape(-1, channels).astype(np.float64)
        sums += levels.sum(axis=0)
        products += levels.T @ levels  # whole numbers, exact up to 2^53: however they are summed up
    variances = places * np.diagonal(products) - sums * sums
    alive = variances > 0
    scale = np.sqrt(np.where(alive, variances, 1.0))
    free = alive.copy()
    order: list[int] = []
    while free.any():
        if order:
            last = order[-1]
            # The correlation but for the last channel's own scale, which is the same for all.
            closeness = (places * products[last] - sums[last] * sums) / scale
        else:
            closeness = variances
        best = int(np.argmax(np.where(free, closeness, -np.inf)))
        free[best] = False
        order.append(best)
    return (*order, *(int(channel) for channel in np.flatnonzero(~alive)))


#: By their names on the command line.
ORDERS = {"identity": identity, "descending-difference": descending_difference, "similarity": similarity}


def _checked(maps: Levels) -> NDArray[np.generic]:
    if maps.ndim != 4 or 0 in maps.shape or maps.dtype not in (np.uint8, np.uint16):
        raise SettingsError(f"calibration maps: found {maps.dtype} {list(maps.shape)}, expected levels [N, H, W, C]")
    return maps
