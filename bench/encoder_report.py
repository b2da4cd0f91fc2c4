"""The section Figures of docs/encoders.md, written from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .report import table

Row = dict[str, Any]
_HEAD = """## Figures

Written by `uv run invoke bench-encoders` from [encoders.json](encoders.json); do not edit this section.

{about}

**This is the virtual encoder on a shared x86 machine**: no figure says how fast a real encoder or board is. Our way is
the pack kernel into the mapped buffers and the state machine, through `libv4l2` and `v4l2`; the other is FFmpeg's
`hevc_v4l2m2m` through PyAV (FFmpeg {ffmpeg}), with the same kernel into one picture of PyAV's that is used again and
again. To FFmpeg and to `v4l2` a preloaded library (`bench/onto_libv4l2.c`) makes the virtual encoder /dev/video0. All
take turns at the same maps (float32, smooth, half zeros) in one process; NV12 everywhere.

### What is copied, and what comes out
"""
_COPIES = """
*Copied* is what `memcpy` and `memmove` write into the encoder's buffers a picture, in bytes, counted by a second
preloaded library: our kernel writes there itself, `v4l2_bufref_to_buf` (FFmpeg's libavcodec/v4l2_buffers.c) copies the
whole picture. Packets are left out. The virtual encoder itself takes interleaved chroma apart, for both sides.

FFmpeg's `v4l2_buffer_swframe_to_buf` copies `linesize` times the driver's rows in one piece, wherever `bytesperline`
says that rows begin, and it sets no crop rectangle. So pictures are torn unless PyAV's rows happen to be as long as
the driver's ({right} of {all} cases here). *Error* is the mean difference of {looked_at} decoded pictures' samples from
what was packed, of 255; ours at QP {qp}, FFmpeg's at the bit rate of our first pictures, for it has no QP: its packets
are {larger} times as large. *Lossless* (LOSSLESS_CU): every sample came back. *Refused*: the picture's bytes end before
its last sample, which the virtual encoder does not take, where a driver need not look; the preloaded library then says
more.

### CPU time

Microseconds a picture, median (25 % to 75 %) of {rounds} turns, of all but the encoder: the CPU clock of the calling
thread and, for `libv4l2`, of the two threads that wait in DQBUF. The encoder's own threads are not in it. *Units* is
our look at what came out (NAL units, parameter sets), for which FFmpeg's side has nothing. *Copy* is `memcpy` of one
picture (width x height x 1.5 bytes), in the same turns.
"""
_CPU = """
Packing into the encoder's memory takes {pack} times as long as into PyAV's picture. The session is Python where
FFmpeg's is C. Beside FFmpeg's, with its copy in it, ours costs

{sessions}

A copy of a picture is {copy} us here, and no more than that can be saved by not copying.

### Picture hashes

Milliseconds a picture that `picture_hash = true` costs over `false`, in the same turns: decoding and MD5, at QP {qp}.
"""


def section(found: Row) -> str:
    """The whole section, from its heading on."""
    cases = found["cases"]
    first = cases[0]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    about = f"{found['machine']} ({found['system']}), {found['date']};\n{versions}."
    if found["quick"]:
        about += "\n\n**A quick run: these figures mean nothing.**"
    head = _HEAD.format(about=about, ffmpeg=found["ffmpeg"])
    copies = _COPIES.format(
        right=sum(row["ffmpeg"]["in_place"] for row in cases),
        all=len(cases),
        looked_at=first["ours"]["looked_at"],
        qp=found["qp"],
        larger=_span([row["ffmpeg"]["bytes_a_picture"] / row["ours"]["bytes_a_picture"] for row in cases], ".1f"),
        rounds=first["rounds"],
    )
    texts = [head, _copies_table(cases), copies, _cpu_table(cases), _cpu_text(found), _hash_table(cases)]
    return "\n".join(text.strip("\n") + "\n" for text in texts)


def _names(row: Row) -> list[str]:
    return [row["picture"].replace("x", " x "), row["device"]]


def _copies_table(cases: Sequence[Row]) -> str:
    lines = []
    for row in cases:
        ours, theirs = row["ours"], row["ffmpeg"]
        lossless = "lossless" if ours["lossless"] else "**not lossless**"
        lines.append(
            [
                *_names(row),
                f"{row['stride']}, {row['line_size']}",
                f"{row['ours_copied']:,.0f}",
                f"{row['ffmpeg_copied']:,.0f}",
                f"{lossless}; {ours['error']:.1f}" + ("" if ours["in_place"] else " **torn**"),
                _theirs(row["picture"], theirs),
            ]
        )
    head = ["picture", "padded to", "bytes a row: driver, PyAV", "copied: ours", "FFmpeg", "error: ours", "FFmpeg"]
    return table(head, lines, 2)


def _theirs(picture: str, theirs: Row) -> str:
    parts = [f"{theirs['error']:.1f}" if theirs["in_place"] else f"**{theirs['error']:.1f}, torn**"]
    if theirs["coded"] != picture:
        parts.append(f"coded as {theirs['coded'].replace('x', ' x ')}")
    if theirs["refused"]:
        parts.append("refused")
    return "; ".join(parts)


def _us(times: Sequence[float]) -> str:
    low, middle, high = (f"{time / 1e3:.0f}" for time in times)
    return f"{middle} ({low} to {high})"


def _cpu_table(cases: Sequence[Row]) -> str:
    lines = [
        [
            *_names(row),
            _us(row["ours"]["pack_ns"]),
            _us(row["ours"]["session_ns"]),
            _us(row["v4l2"]["session_ns"]),
            _us(row["v4l2"]["units_ns"]),
            _us(row["ffmpeg"]["pack_ns"]),
            _us(row["ffmpeg"]["session_ns"]),
            _us(row["memcpy_ns"]),
        ]
        for row in cases
    ]
    head = ["picture", "padded to", "our pack", "`libv4l2`", "`v4l2`", "units", "PyAV: pack", "FFmpeg", "copy"]
    return table(head, lines, 2)


def _cpu_text(found: Row) -> str:
    cases = found["cases"]

    def times(way: str, what: str, picture: str | None = None) -> str:
        """What it is by FFmpeg's."""
        rows = [row for row in cases if picture in (None, row["picture"])]
        return _span([row[way][what][1] / row["ffmpeg"][what][1] for row in rows], ".1f")

    sessions = [
        f"* {picture.replace('x', ' x ')}: {times('ours', 'session_ns', picture)} times as much through `libv4l2`, "
        f"{times('v4l2', 'session_ns', picture)} times through `v4l2`"
        for picture in dict.fromkeys(row["picture"] for row in cases)
    ]
    return _CPU.format(
        pack=times("ours", "pack_ns"),
        sessions="\n".join(sessions),
        copy=_span([row["memcpy_ns"][1] / 1e3 for row in cases], ".0f"),
        qp=found["qp"],
    )


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _hash_table(cases: Sequence[Row]) -> str:
    lines = []
    for row in cases:
        low, middle, high = (f"{time / 1e6:.1f}" for time in row["hash_ns"])
        lines.append([*_names(row), f"{middle} ({low} to {high})", f"{row['ours']['bytes_a_picture']:,}"])
    return table(["picture", "padded to", "ms", "bytes coded"], lines, 2)
