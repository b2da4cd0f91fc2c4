"""Runs on a virtual board: encoder sessions over the kernel's vicodec, whose V4L2 core checks every ioctl of theirs.

    python3 vicodec_session.py NODE OUT

vicodec codes FWHT, not HEVC: a transform of 8 x 8 blocks with a QP of its own. Everything else of a session is what an
HEVC encoder of the kernel gets. `test_8_vicodec.py` knows the jobs from here too, and looks at what they leave in OUT.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from linuxpy.video import raw
from numpy.typing import NDArray

from featlink_device.encoders.session import EncoderSpec, Packet
from featlink_device.encoders.stateful import StatefulEncoder
from featlink_device.encoders.v4l2 import IOC, OUTPUT, OUTPUT_MPLANE, fourcc
from featlink_device.encoders.v4l2_controls import KERNEL
from featlink_device.encoders.v4l2_port import KernelPort
from featlink_device.encoders.v4l2_queue import BufferQueue

#: The finest: the error's bound is the least, and a moved picture is beyond it.
QP = 1
#: FWHT's own, by HEVC's: V4L2_CID_FWHT_I_FRAME_QP and V4L2_CID_FWHT_P_FRAME_QP.
_QPS = {KERNEL["i_qp"]: 0x00990A22, KERNEL["p_qp"]: 0x00990A23}
#: The chroma that encoders are given.
NEUTRAL = 128
#: Pictures that are inside while the next is filled.
_IN_FLIGHT = 1
#: Between timestamps, in microseconds: beyond a second they need both fields of a timeval.
_STEP_US = 700_001


@dataclass(frozen=True)
class Segment:
    """Pictures that build on one another.

    :param begins: how: with the session ("start"), behind a drain ("drain"), because an intra picture is asked for
        ("intra"), or with other settings ("reconfigure")
    :param pictures: how many
    """

    begins: str
    width: int
    height: int
    pictures: int


@dataclass(frozen=True)
class Job:
    """One session, from opening the device to closing it."""

    pixel_format: str
    segments: tuple[Segment, ...]
    all_intra: bool = False

    @property
    def gop(self) -> int:
        """GOP_SIZE that the session asks for, or the most that vicodec has."""
        return 1 if self.all_intra else 16


JOBS = {
    "GREY": Job("GREY", (Segment("start", 640, 360, 7),)),
    # Whole blocks of 8 x 8 are coded, so that 648 x 368 are in memory: the rectangle says what is the picture.
    "GREY, odd, cropped": Job("GREY", (Segment("start", 643, 365, 7),)),
    "NV12": Job("NV12", (Segment("start", 640, 368, 5),)),
    # 656 x 368, since chroma has whole blocks too; luma has no block that is partly padding.
    "NV12, cropped, chroma padded": Job("NV12", (Segment("start", 648, 360, 5),)),
    "NV12, cropped, all padded": Job("NV12", (Segment("start", 646, 366, 5),)),
    "all intra": Job("GREY", (Segment("start", 640, 360, 4),), all_intra=True),
    "one session of four": Job(
        "GREY",
        (
            Segment("start", 640, 360, 3),
            Segment("drain", 640, 360, 4),
            Segment("intra", 640, 360, 2),
            Segment("reconfigure", 704, 405, 3),
        ),
    ),
}
#: Of the job that is looked at in the kernel's log.
LOGGED = "one session of four"


class FwhtPort(KernelPort):
    """vicodec, with its QP under HEVC's numbers, and the rate control that it has not got switched off."""

    def call(self, request: int, argument: Any) -> None:
        """See Port."""
        if request == IOC.QUERY_EXT_CTRL:
            control = argument
        elif request in (IOC.S_EXT_CTRLS, IOC.G_EXT_CTRLS):
            control = argument.controls[0]
        else:
            super().call(request, argument)
            return
        number = int(control.id)
        if number == KERNEL["frame_rc_enable"]:
            return  # read back, it is 0 as it was set
        control.id = _QPS.get(number, number)
        try:
            super().call(request, argument)
        finally:
            control.id = number


def picture(width: int, height: int, number: int) -> NDArray[np.uint8]:
    """uint8 [height, width]: blocks of 16 beside FWHT's own, others after four pictures; a square moves over them."""
    rng = np.random.default_rng(number // 4)
    levels = rng.integers(16, 236, (height // 16 + 2, width // 16 + 2), np.uint8)
    made = levels.repeat(16, 0).repeat(16, 1)[3 : 3 + height, 5 : 5 + width].copy()
    left = 24 * number % (width - 96)
    made[40:136, left : left + 96] = np.linspace(30, 220, 96).astype(np.uint8)
    return made


def raw_file(pixel_format: str, pictures: list[NDArray[np.uint8]]) -> bytes:
    """Pictures behind one another without padding, as v4l2-ctl reads them."""
    chroma = b"" if pixel_format == "GREY" else bytes([NEUTRAL])
    return b"".join(one.tobytes() + chroma * (one.size // 2) for one in pictures)


def run_job(job: Job, node: str, out: Path) -> None:
    """One session; its packets go into OUT/coded-N and its pictures into OUT/raw-N, N being a segment."""
    session: StatefulEncoder | None = None
    facts: list[dict[str, Any]] = []
    packets: list[list[Packet]] = []
    number = 0
    try:
        for index, segment in enumerate(job.segments):
            spec = EncoderSpec(
                segment.width,
                segment.height,
                qp=QP,
                all_intra=job.all_intra,
                monochrome=job.pixel_format == "GREY",
                intra_by="gop" if job.all_intra else "force",
            )
            come: list[Packet] = []
            if session is None:
                session = StatefulEncoder(FwhtPort(node), spec, coded="FWHT", has_picture=lambda data: len(data) > 0)
                session.drain()  # of nothing, before the first picture
            elif segment.begins == "drain":
                come = session.drain()
                come += session.drain()
            elif segment.begins == "reconfigure":
                come = session.reconfigure(spec)
            facts.append(dict(session.facts))
            made = []
            for k in range(segment.pictures):
                made.append(picture(segment.width, segment.height, number))
                np.copyto(session.frame_buffer().luma, made[-1])
                session.submit(
                    number * _STEP_US, intra=job.all_intra or (k == 0 and segment.begins in ("start", "intra"))
                )
                come += session.packets(_IN_FLIGHT)
                number += 1
            if index + 1 == len(job.segments):
                come += session.drain()
            packets.append(come)
            (out / f"raw-{index}").write_bytes(raw_file(job.pixel_format, made))
    finally:
        if session is not None:
            session.close()
    _write(job, facts, [packet for come in packets for packet in come], out)


def _write(job: Job, facts: list[dict[str, Any]], packets: list[Packet], out: Path) -> None:
    """Packets by their timestamps to the segments of their pictures."""
    begin = 0
    for index, segment in enumerate(job.segments):
        times = range(begin * _STEP_US, (begin + segment.pictures) * _STEP_US, _STEP_US)
        begin += segment.pictures
        data = [packet.data for packet in packets if packet.timestamp_us in times]
        (out / f"coded-{index}").write_bytes(b"".join(data))
    said = [{"time_us": one.timestamp_us, "bytes": len(one.data), "lost": one.lost} for one in packets]
    (out / "session.json").write_text(json.dumps({"facts": facts, "packets": said}))


def run_exported(node: str, multi: bool) -> dict[str, Any]:
    """Buffers that are mapped through EXPBUF, as NVIDIA's are: the same memory as through their offsets."""
    port = FwhtPort(node)
    try:
        kind = OUTPUT_MPLANE if multi else OUTPUT
        form = raw.v4l2_format()
        form.type = kind
        asked = form.fmt.pix_mp if multi else form.fmt.pix
        asked.width, asked.height, asked.pixelformat, asked.field = 640, 360, fourcc("GREY"), int(raw.Field.NONE)
        port.call(IOC.S_FMT, form)
        queue = BufferQueue(port, kind, 1, multi, export=True)
        queue.allocate(2)
        same = []
        for index, buffer in enumerate(queue.buffers):
            buffer.memory[0][:4] = bytes([index, 1, 2, 3])
            offset = buffer.planes[0].m.mem_offset if buffer.planes is not None else buffer.raw.m.offset
            other = port.map(len(buffer.memory[0]), int(offset), None)
            same.append(bytes(other[:4]) == bytes([index, 1, 2, 3]))
            port.unmap([other], [])
            del other
        exported = [len(buffer.exported) for buffer in queue.buffers]
        queue.release()
        queue.allocate(1)
        queue.release()
        return {"same": same, "exported": exported}
    finally:
        port.close()


def main() -> None:
    """All jobs; each has a folder in OUT, with what the kernel logged meanwhile."""
    node, out = sys.argv[1], Path(sys.argv[2])
    multi = Path("/sys/module/vicodec/parameters/multiplanar").read_text().strip() == "Y"
    debug = Path(f"/sys/class/video4linux/{Path(node).name}/dev_debug")
    for name, job in JOBS.items():
        folder = out / name
        folder.mkdir(parents=True)
        subprocess.run(["dmesg", "--clear"], check=True)
        # Every ioctl with its arguments, but for QBUF and DQBUF.
        debug.write_text("3\n")
        try:
            run_job(job, node, folder)
        finally:
            debug.write_text("0\n")
            log = subprocess.run(["dmesg", "--notime"], capture_output=True, text=True, check=True).stdout
            (folder / "kernel.log").write_text(log)
    (out / "exported.json").write_text(json.dumps(run_exported(node, multi)))


if __name__ == "__main__":
    main()
