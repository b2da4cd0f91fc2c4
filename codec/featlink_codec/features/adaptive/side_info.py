"""side_info of adaptive_quant(): the class map by the model stream's arithmetic coder. One definition for both ways.

All bins have adaptive contexts. A number below n is a path through a binary tree of ceil(log2(n)) bins, most
significant first, with a context at each node.

    by channel   for each channel, whether it is of the class before it; if not, its class
    by region    for each position, row by row, whether it is of the class to its left (in the first column: above it);
                 if not and the one above is another, whether it is of that; if not, its class
    by block     for each node in preorder how it is cut, with contexts by its depth in the tree; then for each leaf
                 whether it is of the predicted class, with contexts by how many neighbours agree on it, and if not,
                 the difference to the prediction, modulo the number of classes

Which bin follows depends on nothing but earlier ones, and on the map's shape; so a codeword is read in a time that is
bounded by the shape, however long it says it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import SettingsError, StreamError
from ...model.engine import ArithmeticDecoder, ArithmeticEncoder, Bins, Context
from .block_tree import MAX_LEAVES, Box, Split, can_cut, cut, leaves_of, neighbours_of, predicted
from .partition import BlockClasses, ChannelClasses, Partition, PartitionKind, RegionClasses, Whole

#: Positions of a region mask, and elements of a map in blocks, at most.
MAX_POSITIONS = 1 << 18
MAX_BLOCK_ELEMENTS = 1 << 24
#: Depths of a node that have contexts of their own.
_DEPTHS = 6

Shape = tuple[int, int, int]


class _Number:
    """Contexts of a number below `count`."""

    def __init__(self, count: int) -> None:
        self._bits = max(count - 1, 0).bit_length()
        self._contexts: dict[int, Context] = {}

    def code(self, bins: Bins, value: int) -> int:
        """Read or write the number; it may come out as one that is not below the count."""
        node = 1
        for bit in range(self._bits - 1, -1, -1):
            context = self._contexts.get(node)
            if context is None:
                context = self._contexts[node] = Context()
            node = node << 1 | bins.bin(context, value >> bit & 1)
        return node - (1 << self._bits)


def write_side_info(partition: Partition, shape: Shape, classes: int) -> bytes:
    """The class map of a map [H, W, C] with that many classes; empty for a whole map.

    :raises SettingsError: it does not cover the map, or is beyond what can be carried
    """
    partition.check(*shape, classes)
    if isinstance(partition, Whole):
        return b""
    _check_size(partition.kind, shape, SettingsError)
    bins = ArithmeticEncoder()
    if isinstance(partition, BlockClasses):
        _code_blocks(bins, shape, classes, partition.splits.tolist(), partition.ids.tolist())
    elif isinstance(partition, ChannelClasses):
        _code_channels(bins, shape[2], classes, partition.ids.tolist())
    else:
        _code_regions(bins, shape, classes, partition.ids.tolist())
    return bins.finish()


def read_side_info(kind: PartitionKind, data: bytes, shape: Shape, classes: int, offset: int) -> Partition:
    """The partition that `write_side_info` wrote.

    :param offset: of the first byte in the stream, for errors
    :raises StreamError: ``bad-class-map``: more classes than channels, or a map too large for its kind;
        ``bad-side-info``: anything else
    """
    if kind is PartitionKind.WHOLE:
        return Whole()

    def refused(text: str) -> StreamError:
        return StreamError("bad-class-map", offset, text)

    if kind is PartitionKind.CHANNEL and classes > shape[2]:
        raise refused(f"{classes} channel classes, but the map has {shape[2]} channels")
    _check_size(kind, shape, refused)
    try:
        bins = ArithmeticDecoder(data)
        partition: Partition
        if kind is PartitionKind.CHANNEL:
            partition = ChannelClasses(np.array(_code_channels(bins, shape[2], classes, None), np.uint8))
        elif kind is PartitionKind.REGION:
            partition = RegionClasses(np.array(_code_regions(bins, shape, classes, None), np.uint8))
        else:
            splits, ids = _code_blocks(bins, shape, classes, None, None)
            partition = BlockClasses(np.array(splits, np.uint8), np.array(ids, np.uint8))
        if (end := bins.finish()) != len(data):
            raise StreamError("bad-side-info", end, f"{len(data) - end} bytes behind the class map")
    except StreamError as error:
        raise StreamError("bad-side-info", offset + error.offset, error.text) from None
    return partition


def _check_size(kind: PartitionKind, shape: Shape, refused: Callable[[str], Exception]) -> None:
    height, width, channels = shape
    text = ""
    if kind is PartitionKind.REGION and height * width > MAX_POSITIONS:
        text = f"regions of a map of {height} x {width}, expected at most {MAX_POSITIONS} positions"
    if kind is PartitionKind.BLOCK and height * width * channels > MAX_BLOCK_ELEMENTS:
        text = f"blocks of a map of {height} x {width} x {channels}, expected at most {MAX_BLOCK_ELEMENTS} elements"
    if text:
        raise refused(text)


def _checked(bins: Bins, value: int, count: int, what: str) -> int:
    if value >= count:
        raise StreamError("bad-side-info", bins.position, f"{what} {value} where there are {count}")
    return value


def _code_channels(bins: Bins, channels: int, classes: int, ids: list[int] | None) -> list[int]:
    same, number, found = Context(), _Number(classes), [0]
    for k in range(channels):
        wanted = ids[k] if ids is not None else 0
        here = found[-1]
        if classes > 1 and not bins.bin(same, int(wanted == here)):
            here = _checked(bins, number.code(bins, wanted), classes, "class")
        found.append(here)
    return found[1:]


def _code_regions(bins: Bins, shape: Shape, classes: int, ids: list[list[int]] | None) -> list[list[int]]:
    height, width, _ = shape
    agree, differ, second, number = Context(), Context(), Context(), _Number(classes)
    found: list[list[int]] = []
    above = [0] * width
    for h in range(height):
        row: list[int] = []
        wanted_row = ids[h] if ids is not None else above
        left = above[0]
        for w in range(width):
            wanted, up = wanted_row[w], above[w]
            if classes > 1 and not bins.bin(agree if left == up else differ, int(wanted == left)):
                if left != up and bins.bin(second, int(wanted == up)):
                    left = up
                else:
                    left = _checked(bins, number.code(bins, wanted), classes, "class")
            row.append(left)
        found.append(row)
        above = row
    return found


def _code_blocks(
    bins: Bins, shape: Shape, classes: int, splits: list[int] | None, ids: list[int] | None
) -> tuple[list[int], list[int]]:
    cuts = [_Number(len(Split)) for _ in range(_DEPTHS)]
    found: list[int] = []
    leaves, waiting = 1, [(_whole(shape), 0)]
    while waiting:
        box, depth = waiting.pop()
        wanted = splits[len(found)] if splits is not None else 0
        value = cuts[min(depth, _DEPTHS - 1)].code(bins, wanted)
        split = Split(_checked(bins, value, len(Split), "split"))
        found.append(int(split))
        if split is Split.LEAF:
            continue
        leaves += split.parts - 1
        if not can_cut(box, split) or leaves > MAX_LEAVES:
            text = f"split {split.name.lower()} of a block too small for it, or one of too many"
            raise StreamError("bad-side-info", bins.position, text)
        waiting.extend((part, depth + 1) for part in reversed(cut(box, split)))
    return found, _code_leaves(bins, leaves_of(np.array(found, np.uint8), *shape), classes, ids)


def _code_leaves(bins: Bins, boxes: list[Box], classes: int, ids: list[int] | None) -> list[int]:
    same, number = [Context() for _ in range(4)], _Number(classes)
    neighbours = neighbours_of(boxes)
    found: list[int] = []
    for k, row in enumerate(neighbours):
        guess = predicted(found, row)
        here = guess
        wanted = ids[k] if ids is not None else 0
        if classes > 1 and not bins.bin(same[_agreeing(found, row, guess)], int(wanted == guess)):
            difference = _checked(bins, number.code(bins, (wanted - guess) % classes), classes, "difference")
            here = (guess + difference) % classes
        found.append(here)
    return found


def _agreeing(found: list[int], neighbours: NDArray[np.int32], guess: int) -> int:
    return sum(k >= 0 and found[k] == guess for k in neighbours.tolist())


def _whole(shape: Shape) -> Box:
    height, width, channels = shape
    return (0, height), (0, width), (0, channels)
