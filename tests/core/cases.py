"""The cases of golden.txt. `python -m core.cases` in tests/ writes it, and thresholds.inc, by the NumPy definition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from core.twin import QUANTIZERS, STORED_QUANTIZERS, Case

GOLDEN = Path(__file__).with_name("golden.txt")
STORED = Path(__file__).with_name("thresholds.inc")
#: FL_BAD_TYPE twice, FL_BAD_TABLE five times, FL_BAD_MEMORY, FL_BAD_PICTURE, FL_BAD_PLANE twice.
ERRORS = "errors -1 -1 -2 -2 -2 -2 -2 -3 -4 -5 -5"

#: Map, tiles, pads, order, layout, offset, margin.
GEOMETRIES = [
    ((7, 33, 19), (3, 4), (1, 2), "shuffled", "hwc", 3, 5),
    ((5, 64, 6), (2, 2), (0, 0), "-", "chw", 0, 0),
    ((9, 7, 12), (3, 3), (2, 7), "-", "chw", 1, -1),
    ((4, 300, 3), (1, 1), (0, 1), "-", "hcw", 0, 3),
    ((1, 1, 37), (5, 5), (0, 0), "shuffled", "hwc", 0, 0),
    ((13, 1, 5), (1, 1), (3, 0), "shuffled", "chw", 2, 9),
    ((6, 31, 17), (4, 5), (0, 0), "-", "hwc", 1, 1),
    ((3, 20, 20), (7, 3), (0, 0), "-", "whc", 0, 0),
    ((11, 15, 4), (2, 1), (1, 1), "-", "cHW", 5, -4),
    ((8, 17, 3), (1, 2), (0, 3), "shuffled", "c2hw3", 0, 0),
    ((2, 130, 5), (1, 5), (7, 0), "shuffled", "Chw", 7, 64),
    ((3, 5, 300), (17, 18), (0, 0), "-", "hwc", 0, 0),
    ((2, 16, 260), (16, 9), (0, 0), "shuffled", "hwc", 6, 2),
    ((1, 1030, 2), (1, 2), (0, 0), "-", "wch", 0, 0),
    ((2, 97, 7), (2, 2), (0, 5), "-", "hwc2", 0, -3),
    ((3, 65, 3), (3, 1), (0, 0), "-", "Hcw", 1, 0),
    ((1, 63, 4), (4, 1), (0, 1), "-", "ch2w", 0, 1),
    ((20, 3, 30), (6, 5), (1, 0), "-", "chw", 3, 0),
    ((17, 32, 2), (1, 2), (0, 0), "-", "chw", 0, 7),
]
ALL_HALVES = ((256, 256, 1), (1, 1), (0, 0), "-", "chw", 0, 0)
#: A megabyte: large planar pictures are written in another order.
LARGE = ((128, 128, 64), (8, 8), (0, 0), "shuffled", "chw", 0, 0)

STEPS = {"uniform2": 85, "log2": 85, "signed2": 85, "uniform4": 17, "log4": 17, "signed4": 17, "dyadic4": 17}
#: Of signed maps, for classes; alone they come last.
SIGNED = ["apart8", "gauss8", "laplace5", "signedlog8", "signedlog6"]
NARROW = [name for name, quantizer in QUANTIZERS.items() if quantizer.bit_depth <= 8 and name not in SIGNED]
WIDE = [name for name, quantizer in QUANTIZERS.items() if quantizer.bit_depth == 16]
#: Element type -> planes -> tables.
SAMPLE_TABLES = {
    "u8": {"one": ["identity", "clamp15", "affine", "ramp", "steps", "random"], "both": ["identity", "random"]},
    "i8": {"one": ["identity", "clamp15", "affine", "ramp", "steps", "random"], "low": ["random"], "high": ["random"]},
    "u16": {"one": ["clamp15", "random"], "both": ["identity", "random"], "low": ["identity"], "high": ["identity"]},
    "i16": {"one": ["clamp15", "random"], "both": ["identity", "random"], "high": ["affine"]},
}
VALUE_TABLES = {
    "u8": {"one": ["identity", "random"]},
    "i8": {"one": ["random"]},
    "u16": {"one": ["identity", "random"], "both": ["identity", "random"]},
    "i16": {"one": ["random"], "both": ["random"]},
    "f16": {"one": ["random"], "both": ["random"]},
    "f32": {"one": ["uniform", "random"], "both": ["uniform", "random"]},
}


def cases() -> Iterator[Case]:
    """All of them, in the order of golden.txt."""
    for number, arguments in enumerate(_unnumbered(), 1):
        yield Case(*arguments, seed=number)


def _unnumbered() -> Iterator[tuple[Any, ...]]:
    places = cycle(GEOMETRIES)
    for kind in ("f32", "f16"):
        for name in NARROW:
            for _ in range(3):
                yield "pack", kind, name, 1, *next(places), "one", "finite"
            yield "pack", kind, name, STEPS.get(name, 1), *next(places), "one", "any"
        for name in WIDE:
            for planes in ("both", "low", "high"):
                yield "pack", kind, name, 1, *next(places), planes, "any" if planes == "both" else "finite"
    for name in ("uniform8", "log8", "walk8"):
        yield "pack", "f16", name, 1, *ALL_HALVES, "one", "count"
    for kind, tables in SAMPLE_TABLES.items():
        for planes, names in tables.items():
            for name in names:
                fills = ["small", "any"] if name == "clamp15" else ["any", "any"]
                for fill in fills:
                    yield "pack", kind, name, 1, *next(places), planes, fill
    for kind, tables in VALUE_TABLES.items():
        for planes, names in tables.items():
            for name in names:
                for _ in range(5):
                    yield "unpack", kind, name, 1, *next(places), planes, "any"
    yield "pack", "f32", "odd8", 1, *LARGE, "one", "finite"
    yield "pack", "u8", "ramp", 1, *LARGE, "one", "any"
    for kind in ("f32", "f16"):
        for name in SIGNED:
            yield "pack", kind, name, int("8" in name), *next(places), "one", "any"
    yield from _with_classes()


def _with_classes() -> Iterator[tuple[Any, ...]]:
    # Where the order is shuffled, which channels are looked at depends on the way that several kernels take.
    for place in [*GEOMETRIES, LARGE]:
        for number, kind in enumerate(("f32", "f16")):
            for name in ("lines", "buckets"):
                step = number if name == "lines" else 1 - number
                yield "pack", kind, name, step, *place, "channel", "any"
            if place[3] == "-":
                yield "pack", kind, "mixed", 1, *place, "channel", "any"
            yield "pack", kind, ("lines", "mixed")[number], 1, *place, "region", "finite"
        for number, kind in enumerate(("u8", "i8", "u16", "i16")):
            yield "pack", kind, "tables", 1, *place, ("channel", "region")[number % 3 == 2], "any"


def golden() -> str:
    """golden.txt."""
    return "".join(f"{line}\n" for line in [ERRORS, *(f"{case} {case.result()}" for case in cases())])


def stored() -> str:
    """thresholds.inc."""
    text = "/* Thresholds that a machine without NumPy cannot derive, as bits. Written by cases.py. */\n"
    text += "static const struct {\n    const char *name;\n    uint32_t count, bits[255];\n} STORED[] = {\n"
    for name, quantizer in STORED_QUANTIZERS.items():
        words = [f"0x{word:08x}" for word in quantizer.thresholds.view(np.uint32)]
        text += f'    {{"{name}", {len(words)},\n     {{'
        text += ",\n      ".join(", ".join(words[k : k + 9]) for k in range(0, len(words), 9)) + "}},\n"
    return text + "};\n"


if __name__ == "__main__":
    STORED.write_text(stored())
    GOLDEN.write_text(golden())
