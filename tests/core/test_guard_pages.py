"""The kernels touch nothing outside of their arrays: the pages on either side of them may not be touched.

In a process of its own: a fault ends it, and is a failed test here.
"""

from __future__ import annotations

import mmap
import signal

import pytest
from core import guarded

from featlink_codec import _core


@pytest.mark.parametrize("path", _core.paths())
def test_nothing_beside_the_arrays_is_touched(path):
    note = mmap.mmap(-1, 4096)  # shared with the child

    def tell(what: str) -> None:
        note[:256] = what.encode()[:256].ljust(256)

    code = guarded.outcome(guarded.run, path, tell)
    assert code == 0, f"exit code {code} at {note[:256].decode().strip()}"


@pytest.mark.parametrize("path", _core.paths())
@pytest.mark.parametrize("kind", [("pack", "f32", "uniform8", False), ("unpack", "u8", "identity", False)])
def test_a_byte_too_many_would_be_noticed(path, kind):
    assert guarded.outcome(guarded.overrun, path, kind) == -signal.SIGSEGV
