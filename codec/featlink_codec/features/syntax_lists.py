"""Lists of the feature-map stream's headers, T/AI part 4 tables 12 and 13: checked while they are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..bits import BitCoder
from ..errors import SettingsError

#: Entries of a list that are checked before the rest is read.
PROBE = 512


def code_order_list(io: BitCoder, order: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    """repack_order_list(), table 13: a permutation of 0 .. total_order_number - 1."""
    at = io.position
    count = io.u(16, 0 if order is None else len(order))
    if not count:
        io.refuse("bad-order", "total_order_number is 0", at)

    def check(part: NDArray[np.uint32]) -> None:
        """Every index within range, none twice; a whole list of such is a permutation."""
        times = np.bincount(part, minlength=count)  # bounded by the 16 bits of an index
        if len(times) > count:
            io.refuse("bad-order", f"not a permutation of 0..{count - 1}: {len(times) - 1} is out of range", at)
        if times.max() > 1:
            io.refuse("bad-order", f"not a permutation of 0..{count - 1}: {int(times.argmax())} stands twice", at)

    return _code_checked(io, 16, count, order, check)


def code_partitions(io: BitCoder, peak: int, bits: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    """quant_partitions(), table 12: peak bounds, finite and strictly increasing."""
    at = io.position

    def check(part: NDArray[np.uint32]) -> None:
        bounds = part.view(np.float32)
        if not np.isfinite(bounds).all():
            k = int(np.argmin(np.isfinite(bounds)))
            io.refuse("bad-partitions", f"bound {k} is {bounds[k]}", at)
        steps = bounds[1:] > bounds[:-1]
        if not steps.all():
            k = int(np.argmin(steps))
            io.refuse("bad-partitions", f"bound {k + 1} is {bounds[k + 1]}, not above bound {k}, {bounds[k]}", at)

    return _code_checked(io, 32, peak, bits, check)


def _code_checked(
    io: BitCoder,
    bits: int,
    count: int,
    values: NDArray[np.uint32] | None,
    check: Callable[[NDArray[np.uint32]], None],
) -> NDArray[np.uint32]:
    """A list whose beginning is checked before the rest is looked at.

    What looks like a header need not be one, and a hostile stream can hold one every ten bytes: each must be cheap to
    refuse, however long the list that it claims.
    """
    first = min(count, PROBE)
    if values is not None and len(values) != count:
        raise SettingsError(f"{count} values wanted, found {len(values)}")
    head = io.array(bits, first, None if values is None else values[:first])
    check(head)
    if first == count:
        return head
    whole = np.concatenate((head, io.array(bits, count - first, None if values is None else values[first:])))
    check(whole)
    return whole
