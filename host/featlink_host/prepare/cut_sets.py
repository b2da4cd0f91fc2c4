"""Sets of a few tensors that together separate a network's input from its outputs, as pyramids need them.

The near side grows operator by operator from the input on. What crosses from it to the far side at each step is such
a set; straight runs of operators count as one, and sets grow no larger than a bound.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import onnx

from .graph import DataGraph

#: Sets may be this much larger on the way than those that are wanted.
SLACK = 2
#: Steps after which the search ends, complete or not.
MAX_STATES = 20_000
#: Sets that are given at most, those with the fewest values.
MAX_SETS = 40


@dataclass(frozen=True)
class CutSets:
    """What was found.

    :param sets: by their numbers of values; names in graph order
    :param complete: no bound ended the search
    """

    sets: tuple[tuple[str, ...], ...]
    complete: bool


@dataclass(frozen=True)
class _Run:
    """Operators one behind the other: what the first reads, what the last makes, and all that is made on the way."""

    reads: frozenset[str]
    makes: tuple[str, ...]
    tensors: tuple[str, ...]


def cut_sets(graph: DataGraph, largest: int = 3, *, max_states: int = MAX_STATES, max_sets: int = MAX_SETS) -> CutSets:
    """Sets of 2..largest tensors, all of which the head reads; the network's own input and outputs are in none.

    Either none of them could be left out, or they are a pyramid: maps of different sizes, of which the largest alone
    would do, but then the head would have to make the others of it.

    Of a straight run of operators the tensor that serves best stands for all: one that is never negative, and of those
    the one with the fewest values.

    :param largest: tensors in a set, 2..4
    """
    runs = _runs(graph)
    readers: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        for tensor in run.reads:
            readers.setdefault(tensor, []).append(index)
    ends = set(graph.outputs)
    # A state: the runs on the near side, as a bit set; its boundary follows from it.
    start = (frozenset({graph.input}), 0)
    waiting = deque([start])
    seen = {start[1]}
    found: dict[tuple[str, ...], int] = {}
    complete = True
    order = {name: place for place, name in enumerate(graph.tensors)}
    by_end = {tensor: run for run in runs for tensor in run.makes}
    while waiting:
        boundary, near = waiting.popleft()
        for index in sorted({one for tensor in boundary for one in readers.get(tensor, [])}):
            run = runs[index]
            if near >> index & 1 or not run.reads <= boundary:
                continue
            then = near | 1 << index
            if then in seen:
                continue
            grown = boundary.union(run.makes)
            left = frozenset(
                tensor
                for tensor in grown
                if tensor in ends or any(not then >> reader & 1 for reader in readers.get(tensor, []))
            )
            if len(left) > largest + SLACK:
                complete = False
                continue
            if len(seen) >= max_states:
                complete = False
                break
            seen.add(then)
            waiting.append((left, then))
            inner = graph.input not in left and not left & ends
            if inner and 2 <= len(left) <= largest and (_minimal(runs, graph, left) or _scales(graph, left)):
                names = tuple(sorted((_best(graph, by_end[one], one) for one in left), key=order.__getitem__))
                values = [_values(graph, name) for name in names]
                found.setdefault(names, sum(one if one is not None else 1 << 62 for one in values))
    chosen = sorted(found, key=lambda names: (found[names], len(names), [order[name] for name in names]))
    return CutSets(tuple(chosen[:max_sets]), complete and len(chosen) <= max_sets)


def _runs(graph: DataGraph) -> list[_Run]:
    """The operators on data that lead to an output, those in a straight row as one."""
    found: list[_Run] = []
    #: of each tensor that one operator alone reads: the run that ends with it
    open_end: dict[str, int] = {}
    uses: dict[str, int] = {}
    operators = [(set(used), [one for one in made if graph.is_used(one)]) for used, made in graph.edges if made]
    operators = [(used, made) for used, made in operators if made]
    for used, _ in operators:
        for tensor in used:
            uses[tensor] = uses.get(tensor, 0) + 1
    for used, made in operators:
        (only,) = used if len(used) == 1 else (None,)
        # What makes an output stays by itself: else no set could be right before it.
        last = any(tensor in graph.outputs for tensor in made)
        at = open_end.pop(only, None) if only is not None and not last else None
        if at is not None:
            run = found[at]
            found[at] = _Run(run.reads, tuple(made), (*run.tensors, *made))
        else:
            at = len(found)
            found.append(_Run(frozenset(used), tuple(made), tuple(made)))
        if len(made) == 1 and uses.get(made[0]) == 1 and made[0] not in graph.outputs:
            open_end[made[0]] = at
    return found


def _minimal(runs: list[_Run], graph: DataGraph, boundary: frozenset[str]) -> bool:
    """Whether each of them can be reached from the input without passing another one."""
    reached = {graph.input}
    for run in runs:  # in graph order: a run's beginning comes behind all that it reads
        if run.reads & (reached - boundary):
            reached.update(run.makes)
    return boundary <= reached


def _scales(graph: DataGraph, boundary: frozenset[str]) -> bool:
    """Whether all of them are maps, and no two of one height."""
    shapes = [graph.type_of(tensor).shape for tensor in boundary]
    if not all(shape is not None and len(shape) == 4 and shape[2] is not None for shape in shapes):
        return False
    return len({shape[2] for shape in shapes if shape is not None}) == len(shapes)


def _best(graph: DataGraph, run: _Run, end: str) -> str:
    """Of a run's tensors the one to send: never negative if possible, few values, late."""
    if len(run.makes) > 1:
        return end
    place = {name: at for at, name in enumerate(run.tensors)}

    def rank(name: str) -> tuple[bool, bool, int, int]:
        values = _values(graph, name)
        kind = graph.type_of(name)
        fits = kind.dtype == "float32" and kind.shape is not None and len(kind.shape) == 4
        return not fits, name not in graph.non_negative, values if values is not None else 1 << 62, -place[name]

    return min(run.tensors, key=rank)


def _values(graph: DataGraph, tensor: str) -> int | None:
    shape = graph.type_of(tensor).shape
    if shape is None:
        return None
    count = 1
    for side in shape:
        count *= 1 if side is None else side
    return count


def near_nodes(graph: onnx.GraphProto, ends: set[str], stop: set[str] | None = None) -> set[int]:
    """Which operators are needed to make some tensors, without going behind those in `stop`."""
    stop = stop or set()
    wanted, found = set(ends), set()
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if wanted.intersection(node.output):
            found.add(index)
            wanted.update(one for one in node.input if one not in stop)
            for attribute in node.attribute:
                for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                    wanted.update(one for inside in inner.node for one in inside.input if one not in stop)
                    wanted.update(one.name for one in inner.output if one.name not in stop)
    return found
