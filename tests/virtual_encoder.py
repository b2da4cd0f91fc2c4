"""The virtual encoder for tests: a libv4l2 that knows it, built once, nodes of it to order, and what they refuse.

Building takes packages from Debian's mirror the first time. Where they cannot be had the tests fail, and say why.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hil.virtual_encoder.build import private_library
from hil.virtual_encoder.profiles import PROFILES, node_text


@functools.cache
def library() -> Path:
    """The private libv4l2, for ctypes.CDLL or FEATLINK_LIBV4L2."""
    return private_library()


def node(folder: Path, *, name: str = "encoder", **switches: object) -> Path:
    """A device of the given switches: a file in `folder` that this libv4l2 opens."""
    path = folder / name
    path.write_text(node_text({key: str(value) for key, value in switches.items()}))
    return path


def profile_node(folder: Path, profile: str, *, name: str = "", **switches: object) -> Path:
    """A device of a profile, with switches of its own on top."""
    return node(folder, name=name or profile, **{**PROFILES[profile], **switches})


def refused(number: int, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """The call fails with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is looked at)
        call(*arguments, **options)
    assert caught.value.errno == number, os.strerror(caught.value.errno or 0)
