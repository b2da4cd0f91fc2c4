"""What deciding classes on a camera takes: time and memory by kind of partition, as a table.

Run: python -m bench.adaptive_decide [--maps 4] [--classes 4] [--rounds 9]

Maps are synthetic: Gaussian, channels of different strength, stronger to one side. Memory is what a decision allocates
at most beside the maps, by tracemalloc, which counts NumPy's arrays.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from time import perf_counter_ns, process_time_ns

import numpy as np
from numpy.typing import NDArray

from featlink_codec.features.adaptive import ClassSettings, PartitionKind, decide_classes

from .measure import quartiles

SHAPES = ((19, 19, 192), (75, 75, 64))
HEADER = ("map", "partition", "K", "fit", "ms", "CPU ms", "MiB")


def maps_of(shape: tuple[int, int, int], count: int) -> list[NDArray[np.float32]]:
    """float32 [H, W, C] each."""
    rng = np.random.default_rng(1)
    strength = rng.lognormal(0, 1, shape[2]) * np.linspace(1, 3, shape[1])[:, None]
    return [(rng.standard_normal(shape, np.float32) * strength).astype(np.float32) for _ in range(count)]


def measured(maps: list[NDArray[np.float32]], settings: ClassSettings, rounds: int) -> tuple[float, float, float]:
    """(median of wall clock time in ms, of CPU time in ms, peak in MiB)."""
    wall, cpu = [], []
    for _ in range(rounds):
        begin, begin_cpu = perf_counter_ns(), process_time_ns()
        decide_classes(maps, settings)
        wall.append((perf_counter_ns() - begin) / 1e6)
        cpu.append((process_time_ns() - begin_cpu) / 1e6)
    tracemalloc.start()
    decide_classes(maps, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return quartiles(wall)[1], quartiles(cpu)[1], peak / 2**20


def rows(count: int, classes: int, rounds: int, shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> list[list[str]]:
    """The table's rows."""
    found = []
    for shape in shapes:
        maps = maps_of(shape, count)
        for kind in PartitionKind:
            for how in ("literal", "least-squares"):
                k = 1 if kind is PartitionKind.WHOLE else classes
                ms, cpu, peak = measured(maps, ClassSettings(kind, k, bits=5, how=how), rounds)
                size = "x".join(map(str, shape))
                found.append([size, kind.name.lower(), str(k), how, f"{ms:.0f}", f"{cpu:.0f}", f"{peak:.1f}"])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=4, help="maps that a decision looks at")
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(arguments)
    table = [list(HEADER), ["---"] * len(HEADER), *rows(given.maps, given.classes, given.rounds)]
    sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in table))


if __name__ == "__main__":
    main()
