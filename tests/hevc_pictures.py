"""Pictures to code, and what FFmpeg makes of what became of them."""

from __future__ import annotations

from collections.abc import Iterable

import av
import numpy as np
from v4l2_client import Packet


def pictures(size: tuple[int, int] = (64, 48), count: int = 5) -> list[np.ndarray]:
    """Noise that moves: lossless or not, no picture is like another."""
    width, height = size
    ground = np.random.default_rng(3).integers(0, 256, (height + count, width + 2 * count), dtype=np.uint8)
    return [ground[k : k + height, 2 * k : 2 * k + width].copy() for k in range(count)]


def data_of(packets: Iterable[Packet]) -> bytes:
    return b"".join(packet.data for packet in packets)


def decode(data: bytes) -> list[np.ndarray]:
    """Every picture that FFmpeg makes of a stream, luma over chroma: [rows, W]. Nothing is concealed."""
    context = av.CodecContext.create("hevc", "r")
    context.options = {"err_detect": "crccheck+explode"}
    context.thread_count = 1
    packets = [*context.parse(data), *context.parse(None)]
    frames = [frame for packet in packets for frame in context.decode(packet)]
    return [frame.to_ndarray() for frame in [*frames, *context.decode(None)]]
