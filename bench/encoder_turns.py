"""One device, one size: our way and FFmpeg's into an encoder take turns, in a process with the preloads of `preloads`.

`python -m bench.encoder_turns` reads a `Job` as JSON from standard input and writes what it found to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from featlink_codec.errors import EncoderError
from featlink_codec.video.decoder import open_hevc
from featlink_device.encoders.choose import is_in_place
from featlink_device.encoders.libv4l2_port import Libv4l2Port
from featlink_device.encoders.v4l2_port import KernelPort

from .cases import Size
from .encoder_ways import FPS, MAPS, FFmpegs, Maps, Ours
from .measure import copying, quartiles
from .preloads import CopyCounter, payloads_raised

Row = dict[str, Any]
#: The only one in what stands for /dev.
DEV = "/dev/video0"
#: libx265 opens for no rate far above this one.
MOST_BITS_S = 50_000_000
#: Pictures that are decoded and looked at.
LOOKED_AT = 4
#: Turns before the first that counts.
WARM_UP = 3
#: Samples of a picture by those of its luma.
NV12 = 1.5


@dataclass(frozen=True)
class Job:
    """What the parent asks for.

    :param map_size: C, H, W
    :param node: what our way through libv4l2 opens; the others open /dev/video0
    :param qp: of our lossy sessions
    :param count: count copies instead of time
    """

    map_size: tuple[int, int, int]
    node: str
    qp: int
    rounds: int
    count: bool


def _in_turn(k: int) -> int:
    """0, 1, 2, 3, 2, 1, 0, 1, ...: neighbours are alike."""
    k %= 2 * MAPS - 2
    return min(k, 2 * MAPS - 2 - k)


def work(job: Job) -> Row:
    """All that the parent wants to know of this device and size."""
    maps = Maps(Size(*job.map_size))
    height, width = maps.shape
    ours = Ours(Libv4l2Port(job.node), maps, qp=job.qp, picture_hash=False)
    for k in range(1, LOOKED_AT):
        ours.turn(_in_turn(k))
    bits_s = min(round(np.mean([len(unit) for unit in ours.units]) * 8 * FPS), MOST_BITS_S)
    theirs = FFmpegs(maps, bits_s)
    row: Row = {
        "picture": f"{width}x{height}",
        "stride": ours.session.agreed.stride,
        "rows": ours.session.agreed.rows,
        "line_size": theirs.line_size,
        "picture_bytes": round(height * width * NV12),
        "packed_bytes": height * width,
    }
    if job.count:
        row |= _counted(job.rounds, ours, theirs)
    else:
        hashed = Ours(Libv4l2Port(job.node), maps, qp=job.qp)
        plain = Ours(KernelPort(DEV), maps, qp=job.qp, picture_hash=False)
        row |= _timed(
            job.rounds, {"ours": ours, "v4l2": plain, "hashed": hashed, "ffmpeg": theirs}, row["picture_bytes"]
        )
        hashed.close()
        plain.close()
        lossless = Ours(Libv4l2Port(job.node), maps, lossless=True, picture_hash=False)
        for k in range(1, LOOKED_AT):
            lossless.turn(_in_turn(k))
        raised = payloads_raised()
        row["ours"] |= {**_looked_at(ours, maps), "lossless": _looked_at(lossless, maps)["error"] == 0}
        row["v4l2"] |= _looked_at(plain, maps)
        row["ffmpeg"] |= {**_looked_at(theirs, maps), "refused": raised > 0}
        lossless.close()
    ours.close()
    theirs.close()
    return row


def _counted(rounds: int, ours: Ours, theirs: FFmpegs) -> Row:
    """Bytes that are copied into the encoder's buffers a picture, besides those that the kernel packs."""
    counter = CopyCounter(sum(ours.session.agreed.payload))
    found: Row = {"watched_buffers": counter.buffers}
    for name, one in (("ours", ours), ("ffmpeg", theirs)):
        before = counter.total()
        for k in range(rounds):
            one.turn(_in_turn(k))
        found[f"{name}_copied"] = (counter.total() - before) / rounds
    return found


def _timed(rounds: int, ways: Mapping[str, Ours | FFmpegs], picture_bytes: int) -> Row:
    """Rounds in which everyone has a turn at the same map, and the memory a copy of one picture."""
    copy = copying(2 * picture_bytes)
    series: dict[str, dict[str, list[float]]] = {}
    copies: list[float] = []
    for k in range(-WARM_UP, rounds):
        for name, one in ways.items():
            times = one.turn(_in_turn(k))
            waited = one.waited() if isinstance(one, Ours) else 0
            session = times.session + waited
            parts = {"pack": times.pack, "session": session, "waiting": waited, "units": times.units}
            for what, spent in {**parts, "all": times.pack + session + times.units}.items():
                series.setdefault(name, {}).setdefault(what, []).append(spent)
        begin = time.thread_time_ns()
        copy()
        copies.append(time.thread_time_ns() - begin)
    found: Row = {
        name: {f"{what}_ns": list(quartiles(spent[WARM_UP:])) for what, spent in parts.items()}
        for name, parts in series.items()
    }
    more = [one - other for one, other in zip(series["hashed"]["all"], series["ours"]["all"], strict=True)]
    return {
        **found,
        "hash_ns": list(quartiles(more[WARM_UP:])),
        "memcpy_ns": list(quartiles(copies[WARM_UP:])),
        "rounds": rounds,
    }


def _looked_at(one: Ours | FFmpegs, maps: Maps) -> Row:
    """What FFmpeg's decoder makes of a stream's first pictures, beside what went in."""
    codec = open_hevc(1 << 26)
    frames: list[av.VideoFrame] = []
    for unit in one.units:
        frames += codec.decode(av.Packet(unit))
        if len(frames) == LOOKED_AT:
            break
    errors, in_place = [], True
    for index, frame in zip(one.given, frames, strict=False):
        plane, picture = frame.planes[0], maps.pictures[index]
        height, width = picture.shape
        if frame.width < width or frame.height < height:
            raise EncoderError(f"a picture of {frame.width}x{frame.height} where {width}x{height} went in")
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:height, :width]
        errors.append(float(np.abs(luma.astype(int) - picture).mean()))
        in_place &= is_in_place(luma, picture)
    return {
        "coded": f"{frames[-1].width}x{frames[-1].height}",
        "error": float(np.mean(errors)),
        "in_place": in_place,
        "looked_at": len(errors),
        "bytes_a_picture": round(np.mean([len(unit) for unit in one.units])),
    }


def main() -> None:
    """Read a job, do it, write what came of it."""
    asked = json.load(sys.stdin)
    sys.stdout.write(json.dumps(work(Job(**{**asked, "map_size": tuple(asked["map_size"])}))))


if __name__ == "__main__":
    main()
