"""The measurements, one function a table: each gives rows as they stand in the JSON file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from featlink_codec import _core

from . import cases, peers
from .allocations import isolated
from .cases import PACK_KINDS, PACKINGS, UNPACK_TABLES, Case, Size, prepare
from .measure import Budget, Call, Pair, alternate, copying, in_turn

Row = dict[str, Any]
#: Tells of progress: stage, steps done, steps in all.
Progress = Callable[[str, int, int], None]
#: Least share of memcpy's speed, by the elements of the map. None is set for elements of 16 bits.
AIMS = {"uint8": 0.8, "float32": 0.6}
#: Least times faster than what people use.
PEER_AIM = 10.0
#: A few maps of every size, more or less evenly on a logarithmic scale: 64 channels with these sides.
GROWTH = tuple(Size(64, side, side) for side in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384))
#: The slope is fitted from this many elements on, where calls cost next to nothing.
FIT_FROM = 50_000


def fixed_costs(budget: Budget) -> Row:
    """Nanoseconds of calls that have nothing to do."""
    core = _core.library()
    pack = cases.prepare(Case("pack", "uint8, identity", Size(1, 1, 1))).calls[0]
    unpack = cases.prepare(Case("unpack", "uint8, levels", Size(1, 1, 1))).calls[0]
    one = alternate(pack, copying(2), budget)
    other = alternate(unpack, core.fl_abi, budget)
    clock = alternate(partial(int), partial(int), budget)
    return {
        "pack_1x1x1_ns": one.one_ns[1],
        "unpack_1x1x1_ns": other.one_ns[1],
        "memcpy_1_byte_ns": one.other_ns[1],
        "fl_abi_ns": other.other_ns[1],
        "clock_and_int_ns": clock.one_ns[1],
    }


def _pair(pair: Pair, one: str, other: str) -> Row:
    return {
        "ratio": pair.ratio,
        f"{one}_ns": list(pair.one_ns),
        f"{other}_ns": list(pair.other_ns),
        "rounds": pair.rounds,
    }


def against_memory(case: Case, budget: Budget) -> Row:
    """One case beside memcpy of as many bytes in as many calls."""
    prepared = prepare(case)
    copy = copying(prepared.nbytes, len(prepared.calls))
    pair = alternate(in_turn(prepared.calls), copy, budget)
    kind = case.kind.split(",")[0]
    return {
        "direction": case.direction,
        "kind": case.kind,
        "size": str(case.size),
        "elements": case.size.elements,
        "packing": case.packing,
        "layout": case.layout,
        "path": _core.chosen_path(),
        "kernel": prepared.kernel,
        "calls": len(prepared.calls),
        "bytes": prepared.nbytes,
        "aim": AIMS.get(kind),
        **_pair(pair, "core", "memcpy"),
    }


def _each(stage: str, these: Sequence[Case], budget: Budget, progress: Progress) -> list[Row]:
    rows = []
    for done, case in enumerate(these):
        progress(stage, done, len(these))
        rows.append(against_memory(case, budget))
    progress(stage, len(these), len(these))
    return rows


def _kinds() -> list[tuple[str, str]]:
    return [*(("pack", kind) for kind in PACK_KINDS), *(("unpack", kind) for kind in UNPACK_TABLES)]


def by_kind(sizes: Sequence[Size], budget: Budget, progress: Progress) -> list[Row]:
    """Every kind at every size: tiles, channels first."""
    these = [Case(direction, kind, size) for direction, kind in _kinds() for size in sizes]
    return _each("kinds and sizes", these, budget, progress)


def by_packing(sizes: Sequence[Size], budget: Budget, progress: Progress) -> list[Row]:
    """Every packing and layout, for bytes and for float32."""
    some = [("pack", "uint8, identity"), ("pack", "float32, uniform"), ("unpack", "uint8, levels")]
    these = [
        Case(direction, kind, size, packing, layout)
        for direction, kind in [*some, ("unpack", "float32, uniform")]
        for layout in cases.LAYOUTS
        for packing in PACKINGS
        for size in sizes
    ]
    return _each("packings and layouts", these, budget, progress)


def by_path(size: Size, budget: Budget, progress: Progress) -> list[Row]:
    """Every kind with every instruction set that is here."""
    rows = []
    for path in _core.paths():
        with _path(path):
            these = [Case(direction, kind, size) for direction, kind in _kinds()]
            rows += _each(f"instruction set {path}", these, budget, progress)
    return rows


@contextmanager
def _path(name: str) -> Iterator[None]:
    before = _core.chosen_path()
    _core.choose_path(name)
    try:
        yield
    finally:
        _core.choose_path(before)


def against_peers(sizes: Sequence[Size], budget: Budget, progress: Progress) -> list[Row]:
    """float32 under a uniform quantizer, to one tiled picture and back, beside what people use."""
    rows = []
    for done, size in enumerate(sizes):
        progress("peers", done, len(sizes))
        packing, quantizer = cases.packing_of("tile", size), cases.uniform()
        shape = (size.channels, size.height, size.width)
        pack = prepare(Case("pack", "float32, uniform", size))
        unpack = prepare(Case("unpack", "float32, uniform", size))
        values, picture = pack.values.transpose(2, 0, 1), unpack.pictures[0]
        for peer in peers.peers(packing, quantizer, shape):
            _check_peer(peer, pack, unpack)
            theirs: dict[str, Call] = {"pack": partial(peer.pack, values), "unpack": partial(peer.unpack, picture)}
            for direction, ours in (("pack", pack), ("unpack", unpack)):
                pair = alternate(in_turn(ours.calls), theirs[direction], budget)
                what = {"peer": peer.name, "direction": direction, "size": str(size), "aim": PEER_AIM}
                rows.append({**what, **_pair(pair, "core", "peer")})
    progress("peers", len(sizes), len(sizes))
    return rows


def _check_peer(peer: peers.Peer, pack: cases.Prepared, unpack: cases.Prepared) -> None:
    """Only who does the same work is compared. CompressAI-Vision rounds down, so its levels may be one lower."""
    exact = "definition" in peer.name
    for call in (*pack.calls, *unpack.calls):
        call()
    theirs = peer.pack(pack.values.transpose(2, 0, 1)).astype(int)
    rows, columns = pack.pictures[0].shape
    difference = pack.pictures[0] - theirs[:rows, :columns]
    if difference.min() < 0 or difference.max() > (0 if exact else 1):
        raise AssertionError(f"{peer.name} packs something else")
    back = peer.unpack(unpack.pictures[0])
    if not np.allclose(back, unpack.values.transpose(2, 0, 1), rtol=0 if exact else 1e-6, atol=0 if exact else 1e-6):
        raise AssertionError(f"{peer.name} unpacks something else")


def growth(sizes: Sequence[Size], budget: Budget, progress: Progress) -> Row:
    """Time against size, and the slopes of straight lines through the logarithms."""
    kinds = [("pack", "uint8, identity"), ("pack", "float32, uniform")]
    kinds += [("unpack", "uint8, levels"), ("unpack", "float32, uniform")]
    these = [Case(direction, kind, size) for direction, kind in kinds for size in sizes]
    rows = _each("growth", these, budget, progress)
    slopes = []
    for direction, kind in kinds:
        line = [row for row in rows if (row["direction"], row["kind"]) == (direction, kind)]
        long = [row for row in line if row["elements"] >= FIT_FROM] or line
        slope = {name: _slope(long, name) for name in ("core", "memcpy")}
        slopes.append({"direction": direction, "kind": kind, "from_elements": long[0]["elements"], **slope})
    return {"rows": rows, "slopes": slopes}


def _slope(rows: Sequence[Row], name: str) -> float | None:
    if len(rows) < 2:
        return None
    x = [np.log(row["elements"]) for row in rows]
    y = [np.log(row[f"{name}_ns"][1]) for row in rows]
    return float(np.polyfit(x, y, 1)[0])


def memory_held(maps: int, progress: Progress) -> Row:
    """What many maps leave behind."""
    progress(f"{maps} maps", 0, 1)
    found = isolated(maps)
    progress(f"{maps} maps", 1, 1)
    return found
