"""Are our ioctls the kernel's? The encoder's session over vicodec: the real V4L2 core checks, codes and logs.

vicodec codes FWHT: 8 x 8 blocks, each by itself, their coefficients rounded down to a step or left out. v4l2-ctl codes
the same pictures with the same settings: the bytes must be the same. vicodec's decoder shows that they are the pictures
that went in.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.board import Board
from hil.suite import vicodec_session
from hil.suite.vicodec_session import JOBS, LOGGED, QP, Job, Segment, picture
from hil.virtual_board.guest_files import INSTALLED

#: Shifts of FWHT's coefficients, as many times (codec-fwht.c, quant_table and quant_table_p).
INTRA_SHIFTS = {2: 43, 3: 6, 6: 14, 8: 1}
INTER_SHIFTS = {3: 49, 6: 9, 9: 5, 10: 1}
#: Jobs whose padding v4l2-ctl fills in another way than we do: black luma is 16 to it.
OTHER_PADDING = ("NV12, cropped, all padded",)
#: What v4l2-ctl fills padding with: 100 % black. It is 0 in GREY and 128 in chroma.
BLACK = 5
#: On a busy machine v4l2-ctl now and then takes a device for drained that is not, and leaves out the last pictures.
TRIES = 5
#: fwht_cframe_hdr, big endian: magic twice, version, width, height, flags, four of colour, size of what follows.
HEADER = struct.Struct(">11I")
MAGIC = (0x4F4F4F4F, 0xFFFFFFFF)
I_FRAME, LUMA_UNCOMPRESSED = 1 << 10, 1 << 4
EINVAL, ENOTTY = 22, 25
#: Refusals of vicodec that belong to asking: a list's end, a control that it has not got, the frame rate that nothing
#: of FWHT depends on.
REFUSED = {("ENUM_FMT", EINVAL), ("QUERY_EXT_CTRL", EINVAL), ("S_PARM", ENOTTY), ("S_EXT_CTRLS", EINVAL)}
#: What no driver is made to say by a program that keeps to the interface.
COMPLAINTS = re.compile(r"WARNING|BUG|Oops|Call trace|deprecated|videobuf2|vicodec\.\d.*fail", re.IGNORECASE)
#: Of /proc/sys/kernel/tainted: the kernel has warned.
TAINT_WARN = 1 << 9

Picture = NDArray[np.uint8]


def worst_error(shifts: dict[int, int], qp: int) -> float:
    """Root of the mean square error of a block, at worst.

    A coefficient C becomes C >> shift, and 0 where that is -QP .. QP: it is wrong by (QP + 1) << shift at most. Squares
    of a block's 64 coefficients add up to 64 times those of its samples, so that the mean square error is that of the
    coefficients, added up, by 64 * 64; the inverse rounds down, which is 1 more.
    """
    return float(np.sqrt(sum(count * ((qp + 1) << shift) ** 2 for shift, count in shifts.items()) / 64**2)) + 1


@dataclass(frozen=True)
class Frame:
    """A coded picture, by its own header."""

    width: int
    height: int
    flags: int
    bytes: int

    @property
    def intra(self) -> bool:
        """Whether it builds on nothing."""
        return bool(self.flags & I_FRAME)


@dataclass
class Ran:
    """A job that was run on the board, and what v4l2-ctl made of the same pictures."""

    job: Job
    node: str
    facts: list[dict[str, Any]]
    packets: list[dict[str, Any]]
    log: list[str]
    #: by segment: coded by us, by v4l2-ctl, and both decoded by vicodec: luma alone
    ours: list[bytes] = field(default_factory=list)
    theirs: list[bytes] = field(default_factory=list)
    ours_decoded: list[list[Picture]] = field(default_factory=list)
    theirs_decoded: list[list[Picture]] = field(default_factory=list)


@dataclass(frozen=True)
class Vicodec:
    """All jobs over one of the two interfaces."""

    multi: bool
    jobs: dict[str, Ran]
    #: of buffers mapped through EXPBUF
    exported: dict[str, Any]
    tainted: int
    log: str


@pytest.fixture(scope="module", params=["single-planar", "multi-planar"])
def vicodec(request: pytest.FixtureRequest, board: Board, tmp_path_factory: pytest.TempPathFactory) -> Vicodec:
    """vicodec loaded, and every job of vicodec_session.py run over it with the board's own Python."""
    if not board.virtual:
        pytest.skip("vicodec, the kernel's virtual codec, is on virtual boards alone")
    multi, here = request.param == "multi-planar", tmp_path_factory.mktemp("vicodec")
    board.run("dmesg --clear").check()
    board.run(f"modprobe vicodec multiplanar={int(multi)}").check()
    try:
        encoder, decoder = (node_named(board, name) for name in ("stateful-encoder", "stateful-decoder"))
        remote = board.run("mktemp -d /tmp/featlink-vicodec.XXXXXX").check().stdout.strip()
        log = board.run("dmesg --notime").check().stdout
        board.put(Path(vicodec_session.__file__), f"{remote}/session.py")
        folder = board.run(f"readlink -f {board.launcher}").check().stdout.strip().rsplit("/", 2)[0]
        # The tree's own modules, as the launcher finds them; the script is in no package there.
        paths = f"PYTHONPATH={folder}:{INSTALLED}"
        board.run(f"{paths} python3 {remote}/session.py {encoder} {remote}/out", timeout_s=240).check()
        for name, job in JOBS.items():
            for index, segment in enumerate(job.segments):
                code_and_decode(board, encoder, decoder, f"{remote}/out/{name}", job, index, segment)
        board.get(f"{remote}/out", here)
        log += board.run("dmesg --notime").check().stdout
        board.run(f"rm -rf {remote}")
        tainted = int(board.run("cat /proc/sys/kernel/tainted").check().stdout)
    finally:
        board.run("modprobe -r vicodec")
    exported = json.loads((here / "out" / "exported.json").read_text())
    jobs = {name: read(here / "out" / name, job, encoder) for name, job in JOBS.items()}
    log += "".join("\n".join(one.log) for one in jobs.values())
    return Vicodec(multi, jobs, exported, tainted, log)


def node_named(board: Board, name: str) -> str:
    """The device file of one of vicodec's devices."""
    found = board.run(f"grep -lx {name} /sys/class/video4linux/*/name").check().stdout.split()
    assert len(found) == 1
    return f"/dev/{found[0].split('/')[-2]}"


def code_and_decode(
    board: Board, encoder: str, decoder: str, folder: str, job: Job, index: int, segment: Segment
) -> None:
    """v4l2-ctl codes FOLDER/raw-N with our settings, and has vicodec decode both streams; each until it is whole."""
    size = f"width={segment.width},height={segment.height}"
    controls = {"video_gop_size": job.gop, "fwht_i_frame_qp_value": QP, "fwht_p_frame_qp_value": QP}
    files = {name: f"{folder}/{name}-{index}" for name in ("raw", "coded", "theirs", "decoded", "theirs-decoded")}

    def stream(device: str, source: str, out: str, *words: str) -> str:
        how = ["--stream-out-mmap", "--stream-mmap", f"--stream-from={files[source]}", f"--stream-to={files[out]}"]
        return shlex.join(["v4l2-ctl", "-d", device, *words, *how])

    words = [f"--set-fmt-video-out={size},pixelformat={job.pixel_format}"]
    words += [f"--set-selection-output=target=crop,top=0,left=0,{size}", f"--stream-out-pattern={BLACK}"]
    words += ["-c", ",".join(f"{name}={value}" for name, value in controls.items())]
    code = stream(encoder, "raw", "theirs", *words)
    decode = [stream(decoder, "coded", "decoded"), stream(decoder, "theirs", "theirs-decoded")]
    whole = board.run(f"stat -c %s {shlex.quote(files['raw'])}").check().stdout
    for command, out in (
        (f"{code} && {decode[1]}", "theirs-decoded"),
        (decode[0], "decoded"),
    ):
        for _ in range(TRIES):
            found = board.run(f"{command} >&2 && stat -c %s {shlex.quote(files[out])}", timeout_s=120).check().stdout
            if found == whole:
                break
        else:
            pytest.fail(f"{command}: {found.strip()} bytes, expected {whole.strip()}")


def read(folder: Path, job: Job, node: str) -> Ran:
    """What a job left."""
    said = json.loads((folder / "session.json").read_text())
    ran = Ran(job, node, said["facts"], said["packets"], (folder / "kernel.log").read_text().splitlines())
    for index, segment in enumerate(job.segments):
        ran.ours.append((folder / f"coded-{index}").read_bytes())
        ran.theirs.append((folder / f"theirs-{index}").read_bytes())
        ran.ours_decoded.append(luma_of(folder / f"decoded-{index}", job, segment))
        ran.theirs_decoded.append(luma_of(folder / f"theirs-decoded-{index}", job, segment))
    return ran


def luma_of(path: Path, job: Job, segment: Segment) -> list[Picture]:
    """The pictures of a raw file."""
    luma = segment.width * segment.height
    whole = luma if job.pixel_format == "GREY" else luma * 3 // 2
    pictures = np.fromfile(path, np.uint8).reshape(-1, whole)
    return [one[:luma].reshape(segment.height, segment.width) for one in pictures]


def frames_of(data: bytes) -> list[Frame]:
    """The pictures of a FWHT stream, which must be nothing but pictures."""
    found, at = [], 0
    while at < len(data):
        fields = HEADER.unpack_from(data, at)
        assert fields[:2] == MAGIC
        at += HEADER.size + fields[10]
        found.append(Frame(fields[3], fields[4], fields[5], HEADER.size + fields[10]))
    assert at == len(data)
    return found


def sent(ran: Ran) -> list[list[Picture]]:
    """The pictures that went in, by segment."""
    numbers = itertools.count()
    return [[picture(one.width, one.height, next(numbers)) for _ in range(one.pictures)] for one in ran.job.segments]


def rms(one: Picture, other: Picture) -> float:
    """Root of the mean square of two pictures' difference."""
    return float(np.sqrt(np.mean((one.astype(np.int32) - other) ** 2)))


@pytest.mark.parametrize("name", JOBS)
def test_every_picture_comes_out_under_its_time(vicodec: Vicodec, board: Board, name: str) -> None:
    """A packet a picture, whole, in order, of the size that was asked for; intra pictures are where they belong."""
    ran = vicodec.jobs[name]
    count = sum(segment.pictures for segment in ran.job.segments)
    step_us = ran.packets[1]["time_us"]
    assert [one["time_us"] for one in ran.packets] == [k * step_us for k in range(count)]
    assert step_us > 0
    assert not any(one["lost"] for one in ran.packets)
    frames = [frames_of(data) for data in ran.ours]
    assert [one.bytes for found in frames for one in found] == [one["bytes"] for one in ran.packets]
    for facts, segment, found in zip(ran.facts, ran.job.segments, frames, strict=True):
        assert {(one.width, one.height) for one in found} == {(segment.width, segment.height)}
        assert [one.intra for one in found] == [ran.job.all_intra or k == 0 for k in range(segment.pictures)]
        assert not any(one.flags & LUMA_UNCOMPRESSED for one in found)
        assert facts["planes"] == ("multi" if vicodec.multi else "single")
        assert facts["pixel_format"] == ran.job.pixel_format
        assert (facts["stride"], facts["rows"]) >= (segment.width, segment.height)
        assert facts["crop"]
        assert (facts["controls"]["i_qp"], facts["controls"]["gop_size"]) == (QP, ran.job.gop)
    board.record("stride x rows", ", ".join(f"{facts['stride']} x {facts['rows']}" for facts in ran.facts))
    board.record("buffers", ", ".join("{output} + {capture}".format(**facts["buffers"]) for facts in ran.facts))


@pytest.mark.parametrize("name", JOBS)
def test_the_bytes_are_those_of_v4l2_ctl(vicodec: Vicodec, board: Board, name: str) -> None:
    """Picture for picture; where v4l2-ctl pads in another way, every block without padding decodes to the same."""
    ran = vicodec.jobs[name]
    if name not in OTHER_PADDING:
        assert ran.ours == ran.theirs
        board.record("identical pictures", len(ran.packets))
        return
    for segment, ours, theirs in zip(ran.job.segments, ran.ours_decoded, ran.theirs_decoded, strict=True):
        rows, columns = segment.height // 8 * 8, segment.width // 8 * 8
        assert (rows, columns) != (segment.height, segment.width)
        assert len(ours) == segment.pictures
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one[:rows, :columns], other[:rows, :columns])
    board.record("pictures with identical whole blocks", len(ran.packets))


@pytest.mark.parametrize("name", JOBS)
def test_they_decode_to_the_pictures_that_went_in(vicodec: Vicodec, board: Board, name: str) -> None:
    """Within the error that FWHT's steps allow at worst; the same picture one sample away, or another one, is not."""
    ran = vicodec.jobs[name]
    bounds = {True: worst_error(INTRA_SHIFTS, QP), False: worst_error(INTER_SHIFTS, QP)}
    worst = {True: 0.0, False: 0.0}
    for data, decoded, pictures in zip(ran.ours, ran.ours_decoded, sent(ran), strict=True):
        for frame, found, wanted in zip(frames_of(data), decoded, pictures, strict=True):
            error = rms(found, wanted)
            worst[frame.intra] = max(worst[frame.intra], error)
            assert 0 < error <= bounds[frame.intra]
            # What the bound tells apart: of intra pictures every shift, of the others only other pictures.
            assert bounds[True] < min(rms(wanted[1:], wanted[:-1]), rms(wanted[:, 1:], wanted[:, :-1]))
            assert bounds[False] < rms(wanted, picture(found.shape[1], found.shape[0], 400))
            # A P picture that is shifted or is the one before is further away than itself all the same.
            assert error < min(rms(found, one) for one in pictures if one is not wanted)
            assert error < min(rms(found[1:], wanted[:-1]), rms(found[:, 1:], wanted[:, :-1]))
    board.record("error of intra pictures", f"{worst[True]:.2f}, bound {bounds[True]:.1f}", "RMS")
    if worst[False]:
        board.record("error of P pictures", f"{worst[False]:.2f}, bound {bounds[False]:.1f}", "RMS")


def test_the_kernel_saw_the_order_that_it_wants(vicodec: Vicodec, board: Board) -> None:
    """Its own log of a session that drains, restarts, is asked for an intra picture and for another size."""
    ran = vicodec.jobs[LOGGED]
    lines = [match.groups() for line in ran.log if (match := re.match(r"video\d+: VIDIOC_(\w+):(.*)", line))]
    refused = {(name, int(code[1])) for name, rest in lines if (code := re.match(r" error -(\d+)", rest))}
    assert refused <= REFUSED
    steps: list[str] = []
    watched = ("S_FMT", "S_SELECTION", "S_EXT_CTRLS", "REQBUFS", "STREAMON", "STREAMOFF", "ENCODER_CMD")
    # Behind the first S_FMT of CAPTURE, without which raw formats cannot be listed.
    begin = next(k for k, (name, _) in enumerate(lines) if name == "ENUM_FRAMESIZES")
    for name, rest in lines[begin:]:
        if name not in watched:
            continue
        queue = {"vid-cap": " capture", "vid-out": " output"}.get((re.findall(r"vid-(?:cap|out)", rest) or [""])[0], "")
        none = " 0" if name == "REQBUFS" and "count=0" in rest else ""
        step = f"{name}{queue}{none}" + (" refused" if rest.startswith(" error") else "")
        if step != "S_EXT_CTRLS" or steps[-1] != step:
            steps.append(step)
    board.record("ioctls that the kernel logged", len(lines))
    agree = ["S_FMT capture", "S_FMT output", "S_SELECTION output", "S_EXT_CTRLS", "REQBUFS output", "REQBUFS capture"]
    start, stop = ["STREAMON output", "STREAMON capture"], ["STREAMOFF output", "STREAMOFF capture"]
    anew = ["ENCODER_CMD", "STREAMOFF capture", "STREAMON capture"]
    free = ["REQBUFS output 0", "REQBUFS capture 0"]
    # Each queue is stopped before its buffers are freed; which queue is first does not matter there.
    between = ["STREAMOFF output", "REQBUFS output 0", "STREAMOFF capture", "REQBUFS capture 0"]
    expected = [*agree, *start, *anew, "S_EXT_CTRLS refused", *anew, "ENCODER_CMD", *between]
    assert steps == [*expected, *agree, *start, "ENCODER_CMD", *stop, *free]


def test_buffers_map_by_expbuf_too(vicodec: Vicodec) -> None:
    """As NVIDIA's must be: the exported plane is the same memory as the one behind the buffer's offset."""
    assert vicodec.exported == {"same": [True, True], "exported": [1, 1]}


def test_the_kernel_has_nothing_to_complain_of(vicodec: Vicodec, board: Board) -> None:
    """No warning, nothing deprecated, no leftover buffer from any session: in its log, and in its taint."""
    found = [line for line in vicodec.log.splitlines() if COMPLAINTS.search(line)]
    assert not found
    assert "stateful-encoder" in vicodec.log  # it is the log of this driver's life
    assert not vicodec.tainted & TAINT_WARN
    board.record("lines of the kernel's log", len(vicodec.log.splitlines()))
