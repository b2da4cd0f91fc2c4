"""Orders of a map's channels: which neighbours in a picture look alike is found out on calibration maps.

Levels are integers, and so is nearly everything here: the same maps give the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import MapSettings
from featlink_codec.extractor.adaptive import partition_of
from featlink_codec.features.adaptive import ChannelClasses, Partition
from featlink_codec.features.quantizers import Levels

#: Of `similarity`, which holds channels x channels numbers.
MAX_SIMILARITY_CHANNELS = 4096

#: The order that comes from outside: a file, or the extractor's present one.
GIVEN = "given"
#: The extractor's present one, where another one is given.
PRESENT = "present"
#: Of adaptive quantizers with channel classes: the channels of a class stand together.
CLASSES = "classes"

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


def by_class(partition: Partition, order: Sequence[int] | None = None) -> Order | None:
    """Channels by their class; None where classes are not of channels, or all channels are of one.

    :param order: of the channels of a class; None: as they are
    """
    if not isinstance(partition, ChannelClasses) or partition.class_count == 1:
        return None
    ids = partition.ids.tolist()
    return tuple(sorted(order if order is not None else range(len(ids)), key=lambda channel: ids[channel]))


#: By their names on the command line.
ORDERS = {"identity": identity, "descending-difference": descending_difference, "similarity": similarity}


def class_order(feature: MapSettings, folder: Path) -> Order | None:
    """Channels by the class of the extractor's quantizer; None where that has no channel classes.

    :param folder: where the class map lies
    """
    if feature.quantizer.mode != "adaptive" or len(feature.quantizer.classes or ()) < 2:
        return None
    return by_class(partition_of(feature, folder))


def order_names(feature: MapSettings, asked: Sequence[str] | None, named: Mapping[str, Order]) -> list[str]:
    """Names of the orders to try, "identity" apart, which always is.

    :param asked: None: all that can be
    :param named: orders that no maps are needed for
    :raises SettingsError: one that there is not, or that the map does not have
    """
    given = named.get(GIVEN)
    if given is not None and sorted(given) != list(range(feature.channels)):
        found = f"{len(given)} numbers"
        raise SettingsError(f"order {GIVEN}: found {found}, expected each of 0..{feature.channels - 1} once")
    if asked is None:
        fits = feature.channels <= MAX_SIMILARITY_CHANNELS
        asked = [*(name for name in ORDERS if name != "similarity" or fits), *named]
    for name in asked:
        if name not in (*ORDERS, CLASSES, GIVEN):
            raise SettingsError(f"order: found {name!r}, expected one of {', '.join((*ORDERS, CLASSES, GIVEN))}")
    if GIVEN in asked and given is None:
        raise SettingsError(f"order {GIVEN}: found none in extractor.toml, expected one there or in a file")
    if CLASSES in asked and CLASSES not in named:
        raise SettingsError(f"order {CLASSES}: the extractor's quantizer has no channel classes")
    return [name for name in dict.fromkeys(asked) if name != "identity"]


def _checked(maps: Levels) -> NDArray[np.generic]:
    if maps.ndim != 4 or 0 in maps.shape or maps.dtype not in (np.uint8, np.uint16):
        raise SettingsError(f"calibration maps: found {maps.dtype} {list(maps.shape)}, expected levels [N, H, W, C]")
    return maps
