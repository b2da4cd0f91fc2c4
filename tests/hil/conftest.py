"""What several suites of boards need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from v4l2_client import Device
from virtual_encoder import library


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """connect(Device or Encoder, node, ...) opens a virtual encoder, which is closed in the end."""
    devices: list[Device] = []

    def open_(kind: type[Device], *arguments: Any, **options: Any) -> Device:
        devices.append(kind(library(), *arguments, **options))
        return devices[-1]

    yield open_
    for device in devices:
        device.close()
