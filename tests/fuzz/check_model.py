"""What must hold for any bytes that are read as a model stream: one check for the fuzzer and for the ordinary tests.

The first byte of an input chooses what is done with the rest:

==== ==================================================================================
bits
==== ==================================================================================
0    by two threads, where there are entry points
1    the twin reads it as well, within TWIN's budget
2-4  what it is an update of: a place in `seeds_model.bases`
5    the base is said to be the one that the update is for, whatever it is
6    the budget is TIGHT
7    what is allocated is measured, which is slow
==== ==================================================================================
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import seeds_model
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError, StreamError
from featlink_codec.model import Budget, ModelStream, apply_update, compose, tensor_core, twin, version_names
from featlink_codec.model.onnx_bytes import parse_graph
from featlink_codec.model.syntax import UnitType
from featlink_codec.model.update_chain import UpdateChain, graph_of

BUDGET = Budget(1 << 17, 1 << 18, 512, 16, 8, 1 << 12, 1 << 10, 1 << 17, 1 << 17)
TIGHT = Budget(1 << 9, 1 << 10, 16, 8, 4, 64, 4, 1 << 12, 1 << 9)
TWIN = Budget(1 << 10, 1 << 11, 64, 16, 8, 1 << 8, 1 << 6, 1 << 14, 1 << 14)
#: Only so many tensors of a stream are asked for one by one.
MAX_NAMES = 12
#: CPU time that one question may take, and what sanitizers add for each byte of input.
SECONDS = 1.0
SECONDS_PER_BYTE = 1.0 / (1 << 16) if "libasan" in os.environ.get("LD_PRELOAD", "") else 0.0


@dataclass
class Report:
    """What became of an input.

    :param results: by question: "" or the error's name and the line that raised it
    :param seconds: CPU time of the slowest question
    :param held: most bytes that one question allocated
    """

    results: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    held: int = 0


def allowance(budget: Budget, size: int, threads: int) -> int:
    """Bytes that one question may allocate: by the budget's elements, and as objects of what stands in the stream.

    64 bytes for an element of a tensor that a thread works on (levels, a codebook's places, a coding order), 8 for one
    that is done, 64 and 16 for an entry point and for a codebook's entry; 64 for a byte of the stream (JSON's objects).
    """
    elements = 64 * threads * budget.max_tensor_elements + 8 * budget.max_total_elements
    tables = 64 * budget.max_entry_points + 64 * budget.max_codebook
    return elements + tables + 2 * budget.max_topology_bytes + 64 * size + (1 << 20)


def check(data: bytes) -> Report:
    """Raise AssertionError, or whatever the codec raises against its promise, where something does not hold."""
    report = Report()
    if data:
        measured = bool(data[0] & 128)
        if measured:
            tracemalloc.start(1)
        try:
            _Reading(data[0], bytes(data[1:]), report).everything()
        finally:
            if measured:
                tracemalloc.stop()
    return report


def _exactly(payload: bytes | memoryview) -> tensor_core.PayloadDecoder:
    """With nothing of ours behind the payload, so that a sanitizer sees whoever reads on."""
    return tensor_core.PayloadDecoder(memoryview(np.frombuffer(payload, np.uint8).copy()))


CORE: Any = SimpleNamespace(**{**vars(tensor_core), "PayloadDecoder": _exactly})


class _Reading:
    def __init__(self, options: int, data: bytes, report: Report) -> None:
        self._data = data
        self._report = report
        self._budget = TIGHT if options & 64 else BUDGET
        self._threads = 1 + (options & 1)
        self._twin = bool(options & 2)
        self._base = seeds_model.bases()[options >> 2 & 7]
        self._believe = bool(options & 32)

    def _ask(self, question: str, answer: Callable[[], Any]) -> Any:
        """An answer, or None where the codec refuses; within the limits of time and memory."""
        measured = tracemalloc.is_tracing()
        if measured:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
        start = time.process_time()
        found, result = None, ""
        try:
            found = answer()
        except (StreamError, SettingsError) as error:
            result = self._refused(error)
        seconds = time.process_time() - start
        limit = SECONDS + SECONDS_PER_BYTE * len(self._data)
        if not measured:
            assert seconds < limit, f"{question} took {seconds:.2f} s, {limit:.2f} s are its limit"
            self._report.seconds = max(self._report.seconds, seconds)
        else:
            held = tracemalloc.get_traced_memory()[1] - before
            limit = allowance(self._budget, len(self._data), self._threads)
            assert held <= limit, f"{question} took {held} bytes, {limit} are its limit"
            self._report.held = max(self._report.held, held)
        self._report.results[question] = result
        return found

    def _refused(self, error: FeatlinkError) -> str:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        line = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
        if not isinstance(error, StreamError):
            return line
        assert 0 <= error.offset <= len(self._data), f"{error}: the stream has {len(self._data)} bytes"
        assert error.name
        assert error.text
        return f"{error.name} {line}"

    def everything(self) -> None:
        """All that a reader may be asked for."""
        stream = self._ask("start", lambda: self._opened(self._threads))
        if stream is None:
            return
        self._ask("units", lambda: self._headers(stream))
        names = self._ask("names", lambda: stream.names(supplements=True)) or []
        self._control(stream)
        alone = {}
        for number, name in enumerate(names[:MAX_NAMES]):
            alone[name] = self._ask(f"tensor {number}", lambda name=name: stream.tensor(name))
            self._ask(f"hash {number}", lambda name=name: stream.decoded(name).sha256())
            self._ask(f"materialized {number}", lambda name=name: stream.materialized(name))
        together = self._ask("tensors", stream.tensors)
        if together is not None:
            assert all(_same(alone[name], together[name]) for name in alone.keys() & together.keys())
        self._ask("verify", stream.verify)
        self._ask("model", stream.model_sha256)
        self._versions(stream)
        self._update(stream)
        if self._threads > 1:
            self._one_thread(alone)
        if self._twin:
            self._compare(names)

    def _opened(self, threads: int) -> ModelStream:
        return ModelStream(self._data, self._budget, CORE, threads)

    def _headers(self, stream: ModelStream) -> None:
        end = 0
        for unit in stream.units():
            assert unit.offset == end
            assert unit.offset < unit.body <= unit.end <= len(self._data)
            end = unit.end
            if unit.unit_type is UnitType.NDU:
                stream.header(unit)
        assert end == len(self._data)

    def _control(self, stream: ModelStream) -> None:
        control = stream.control
        if control is None:
            return
        for level in ("tensors", "layers", "topology", "model", "data_set"):
            self._ask(level, lambda level=level: getattr(control, level))
        self._ask("graph", lambda: parse_graph(graph_of(stream) or b"", control.head.model).size)
        tensors = self._ask("tensors of level 1", lambda: control.tensors)
        for number, one in enumerate(tensors.supplements[:MAX_NAMES] if tensors else ()):
            self._ask(f"supplement {number}", lambda one=one: stream.supplement(one.kind, one.tensor))

    def _versions(self, stream: ModelStream) -> None:
        names = self._ask("versions", lambda: version_names(stream)) or []
        self._ask("whole", lambda: compose(stream))
        for number, name in enumerate([*names[:3], *names[3:][-1:]]):
            self._ask(f"version {number}", lambda name=name: compose(stream, name))

    def _update(self, stream: ModelStream) -> None:
        base = self._base
        if base is None:
            return
        before = {name: tensor.tobytes() for name, tensor in base.tensors.items()}
        identity = base.model_sha256
        if self._believe and stream.control is not None and stream.control.head.base is not None:
            identity = stream.control.head.base
        self._ask("update", lambda: apply_update(base.tensors, identity, stream, base.contexts))
        assert {name: tensor.tobytes() for name, tensor in base.tensors.items()} == before, "the base was changed"
        opened = [ModelStream(data) for data in base.streams]
        chain = self._ask("chain", lambda: UpdateChain(opened[0], [*opened[1:], stream]))
        for number, name in enumerate(chain.names()[-4:] if chain is not None else ()):
            self._ask(f"chained {number}", lambda name=name: chain.tensor(name))

    def _one_thread(self, alone: Mapping[str, NDArray[Any] | None]) -> None:
        """Threads begin where the stream says, and see that this is where others end: the numbers are the same."""
        stream = self._opened(1)
        for number, (name, tensor) in enumerate(alone.items()):
            found = self._ask(f"one thread {number}", lambda name=name: stream.tensor(name))
            if tensor is not None:
                assert found is not None, f"{name!r}: refused by one thread, not by two"
                assert _same(found, tensor), f"{name!r}: other values by two threads"

    def _compare(self, names: list[str]) -> None:
        """The C core gives what its definition gives, or both refuse; either may say first what is wrong."""
        try:
            fast, slow = (ModelStream(self._data, TWIN, core) for core in (CORE, twin))
        except StreamError:
            return
        for name in names[:4]:
            core, definition = (_outcome(stream, name) for stream in (fast, slow))
            if isinstance(core, str):
                # These are no matter to the twin.
                same = isinstance(definition, str) or core in ("bad-index", "bad-register")
            else:
                same = core == definition
            assert same, f"{name!r}: {_shown(core)} by the core, {_shown(definition)} by the twin"


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _outcome(stream: ModelStream, name: str) -> str | bytes:
    try:
        return stream.decoded(name).sha256()
    except StreamError as error:
        return error.name


def _shown(outcome: str | bytes) -> str:
    return outcome if isinstance(outcome, str) else f"integers with the hash {outcome.hex()[:16]}..."
