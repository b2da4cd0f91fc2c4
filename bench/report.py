"""The tables, written from the figures: what reaches its aim, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
_TITLE = """# How fast the C core is

Written by `uv run invoke bench` (with `--torch` for the rows of PyTorch) from the figures in
[bench.json](bench.json); do not edit.
"""
_MEMORY = """## Against memory

Bytes that the core reads and writes per second, divided by those of libc's `memcpy`, which moves as many bytes in as
many calls: 1.00 is as fast as memory. The two calls take turns on one thread, buffers are aligned to 64 bytes and
reused (so small maps stay in the caches, on both sides), and a figure is the ratio of the two medians. Channels first,
tiles. **Bold**: below its aim. The aims are {aims}; maps of 16-bit elements have none.
"""
_CALLS = """Everything is called from Python, and each time holds the call itself: a bound `pack` of one element takes
{pack} ns and such an `unpack` {unpack} ns, `memcpy` of one byte with prepared arguments {memcpy} ns, an empty function
of the C core (`fl_abi`) {abi} ns through ctypes, the clock with an empty call of Python {clock} ns. {small}
"""
_PACKINGS = """## Packings and layouts

The same, by packing, layout of the map in memory and size. A stack has one call a channel, of `memcpy` too.
"""
_PATHS = """## Instruction sets

The same, for {size}, channels first, tiles; `{path}` is what this machine takes by itself.
"""
_PEERS = """## Against what people use

How many times faster than other ways of the same work on one thread: float32 channels first, quantized uniformly to 8
bits into one tiled picture, and back. CompressAI-Vision's way is its operations in its order on one map and one frame
(see `bench/peers.py`), without its files and video. Small maps are ruled by the fixed costs of calls, on both sides.
**Bold**: below the aim of {aim:g} times.
"""
_HELD = """## Memory over many maps

What {maps:,} maps (float32, 64x19x19, pack and unpack) leave behind after a warm-up, in a process of its own: calls
bound once, and calls that check their arrays for every map. The C core itself knows no allocator: it imports none (a
test looks). Between two maps Python's temporaries come and go; their peak is given.
"""
_GROWTH = """## Cost as the map grows

![Time against size]({svg})

Slopes of straight lines through the logarithms of time and elements, from {start:,} elements on; 1 is linear. Caches
bend both lines alike, so `memcpy`'s slope on the same buffers' sizes stands beside ours.
"""


def markdown(found: Row, svg: str) -> str:
    """The whole document.

    :param svg: name of the plot's file
    """
    kinds = found["by_kind"]
    aims = {row["kind"].split(",")[0]: row["aim"] for row in kinds if row["aim"]}
    texts = [
        _TITLE,
        _about(found),
        _in_short(found),
        _MEMORY.format(aims=" and ".join(f"{aim} for {kind} maps" for kind, aim in aims.items())),
        _kinds_table(kinds, "size"),
        _summary(kinds),
        _calls(found),
        _PACKINGS,
        _packings_table(found["by_packing"]),
        _summary(found["by_packing"]),
        _PATHS.format(size=found["by_path"][0]["size"], path=found["path"]),
        _kinds_table(found["by_path"], "path"),
        _PEERS.format(aim=found["peers"][0]["aim"]),
        _peers_table(found["peers"]),
        _peers_summary(found),
        _HELD.format(maps=found["memory_held"]["bound"]["maps"]),
        _held_table(found["memory_held"]),
        _GROWTH.format(svg=svg, start=found["growth"]["slopes"][0]["from_elements"]),
        _slopes_table(found["growth"]["slopes"]),
    ]
    return "\n".join(text.rstrip() + "\n" for text in texts)


def _about(found: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    quick = "\n**A quick run on tiny maps: these figures mean nothing.**\n" if found["quick"] else ""
    text = f"{found['machine']} ({found['system']}), instruction set `{found['path']}`, {found['date']}; {versions}."
    return f"{text}\n{quick}"


def _in_short(found: Row) -> str:
    """How many figures reach their aims, before anything else is said."""
    judged = [row for name in ("by_kind", "by_packing") for row in found[name] if row["aim"]]
    memory = f"{sum(not _short(row) for row in judged)} of {len(judged)} figures against memory reach their aim"
    rows = found["peers"]
    people = f"{sum(not _short(row) for row in rows)} of {len(rows)} against what people use"
    blocks = found["memory_held"]["bound"]["python_blocks"]
    return (
        f"In short: {memory}, {people}; {blocks} blocks of memory are left by bound calls. What falls short is bold.\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> str:
    """A table whose first `names` columns are text."""
    rule = ["---"] * names + ["--:"] * (len(head) - names)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"


def _distinct(rows: Sequence[Row], *names: str) -> list[tuple[Any, ...]]:
    """Values of these fields, each once, in the order of the rows."""
    return list(dict.fromkeys(tuple(row[name] for name in names) for row in rows))


def _pivot(rows: Sequence[Row], down: Sequence[str], across: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Cells of ratios: one row per value of the fields `down`, one column per value of `across`."""
    cells = {(tuple(row[n] for n in down), tuple(row[n] for n in across)): _ratio(row) for row in rows}
    columns = _distinct(rows, *across)
    lines = [[*map(str, key), *(cells.get((key, column), "-") for column in columns)] for key in _distinct(rows, *down)]
    return lines, [" ".join(map(str, column)) for column in columns]


def _ratio(row: Row) -> str:
    text = f"{row['ratio']:.2f}" if row["ratio"] < 10 else f"{row['ratio']:.0f}"
    return f"**{text}**" if _short(row) else text


def _short(row: Row) -> bool:
    """Below its aim, judged by the figure that is printed."""
    return row["aim"] is not None and round(row["ratio"], 2) < row["aim"]


def _kinds_table(rows: Sequence[Row], across: str) -> str:
    # The kernel's name depends on the kind alone, so it is a column of its own.
    lines, columns = _pivot(rows, ("direction", "kind", "kernel"), (across,))
    return table(["", "map", "kernel", *columns], lines, 3)


def _packings_table(rows: Sequence[Row]) -> str:
    lines, columns = _pivot(rows, ("direction", "kind", "layout"), ("size", "packing"))
    return table(["", "map", "layout", *columns], lines, 3)


def _summary(rows: Sequence[Row]) -> str:
    parts = []
    for direction, kind in _distinct([{**row, "type": row["kind"].split(",")[0]} for row in rows], "direction", "type"):
        these = [row for row in rows if row["direction"] == direction and row["kind"].split(",")[0] == kind]
        if these[0]["aim"] is None:
            continue
        least, best = (choose(these, key=lambda row: row["ratio"]) for choose in (min, max))
        reached = sum(not _short(row) for row in these)
        parts.append(
            f"* {direction} of {kind} maps: {reached} of {len(these)} reach {these[0]['aim']}; from "
            f"{least['ratio']:.2f} ({_where(least)}) to {best['ratio']:.2f} ({_where(best)})."
        )
    return "\n".join(parts) + "\n"


def _where(row: Row) -> str:
    _, _, kind = row["kind"].partition(", ")
    plain = row["packing"] == "tile" and row["layout"] == "CHW"
    return ", ".join([kind, row["size"], *([] if plain else [row["packing"], row["layout"]])])


def _calls(found: Row) -> str:
    costs, rows = found["fixed_costs"], found["by_kind"]
    fixed: Callable[[Row], float] = lambda row: costs[f"{row['direction']}_1x1x1_ns"]  # noqa: E731
    ruled = [row for row in rows if fixed(row) * 10 > row["core_ns"][1]]
    sizes = ", ".join(size for (size,) in _distinct(ruled, "size"))
    small = f"That is over a tenth of the core's time in {len(ruled)} of the {len(rows)} figures above"
    return _CALLS.format(
        pack=round(costs["pack_1x1x1_ns"]),
        unpack=round(costs["unpack_1x1x1_ns"]),
        memcpy=round(costs["memcpy_1_byte_ns"]),
        abi=round(costs["fl_abi_ns"]),
        clock=round(costs["clock_and_int_ns"]),
        small=f"{small} ({sizes})." if ruled else f"{small}.",
    )


def _peers_table(rows: Sequence[Row]) -> str:
    lines, columns = _pivot(rows, ("direction", "peer"), ("size",))
    return table(["", "core against", *columns], lines, 2)


def _peers_summary(found: Row) -> str:
    rows = found["peers"]
    least = min(rows, key=lambda row: row["ratio"])
    reached = sum(not _short(row) for row in rows)
    text = f"{reached} of {len(rows)} reach {least['aim']:g} times; the least is {least['ratio']:.2f} "
    text += f"({least['direction']}, {least['peer']}, {least['size']})."
    if "torch" not in found["versions"]:
        text += " PyTorch was not installed, so CompressAI-Vision's way in PyTorch was not measured."
    return text + "\n"


_HELD_NAMES = {
    "python_blocks": "blocks of Python's allocator still held (`sys.getallocatedblocks`)",
    "traced_bytes": "bytes still held (`tracemalloc`, another run of as many maps)",
    "traced_peak_bytes": "bytes of temporaries at their peak (`tracemalloc`)",
    "c_library_bytes": "bytes that the C library's malloc still gives out (`mallinfo2`)",
    "peak_rss_bytes": "growth of the process's peak memory, bytes (`ru_maxrss`)",
}


def _held_table(held: Row) -> str:
    ways = list(held)
    lines = [
        [text, *("not known" if held[way][name] is None else f"{held[way][name]:,}" for way in ways)]
        for name, text in _HELD_NAMES.items()
    ]
    return table(["", *ways], lines, 1)


def _slopes_table(slopes: Sequence[Row]) -> str:
    def text(slope: float | None) -> str:
        return "-" if slope is None else f"{slope:.3f}"

    lines = [[one["direction"], one["kind"], text(one["core"]), text(one["memcpy"])] for one in slopes]
    return table(["", "map", "core", "memcpy"], lines, 2)
