"""What the legal driver makes of pictures: byte streams that name their luma by its hash, and a log of all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from device.encoders.legal_behaviour import Behaviour
from device.encoders.legal_buffers import LegalBuffer
from device.encoders.legal_controls import Controls
from device.encoders.legal_formats import Layout
from numpy.typing import NDArray

TRAIL_R, CRA, DELIMITER = 1, 21, 35
PARAMETER_SETS = (32, 33, 34)


def nal(kind: int, payload: bytes) -> bytes:
    """A NAL unit with a start code; the payload has no zeros."""
    return b"\0\0\0\1" + bytes([kind << 1, 1]) + payload


def luma_name(luma: NDArray[np.uint8]) -> bytes:
    """Shape and hash of a picture, in letters, as the slice of its packet says it."""
    height, width = luma.shape
    return f"{width}x{height}:{hashlib.sha256(np.ascontiguousarray(luma)).hexdigest()}".encode()


def slice_of(kind: int, name: bytes) -> bytes:
    """A picture's only slice; its first payload byte has first_slice_segment_in_pic_flag."""
    return nal(kind, b"\x80" + name)


@dataclass(frozen=True)
class Coded:
    """One picture that went through the driver."""

    time_us: int
    name: bytes
    #: nal_unit_type of its slice
    kind: int
    #: FLAG_ERROR stands on what came of it
    lost: bool
    #: an IDR picture was asked for
    forced: bool
    #: hash of all luma bytes around the picture
    around: bytes
    #: every chroma sample of the picture is 128
    neutral: bool


class Coding:
    """Picture types, parameter sets, and packets."""

    def __init__(self, behaviour: Behaviour, controls: Controls) -> None:
        self._behaviour = behaviour
        self._controls = controls
        #: in the order of coding
        self.log: list[Coded] = []
        self.reset()

    def reset(self) -> None:
        """What is coded next depends on nothing before it."""
        self._since_intra = 0
        self._first = True

    def code(
        self, buffer: LegalBuffer, layout: Layout, crop: tuple[int, int, int, int], lost: bool
    ) -> list[tuple[bytes, bool]]:
        """Code what stands in an OUTPUT buffer.

        :returns: what goes into one CAPTURE buffer each, and whether there is a picture in it
        """
        luma, around, neutral = _samples(buffer, layout, crop)
        kind = self._kind(buffer.force)
        name = luma_name(luma)
        self.log.append(
            Coded(buffer.time_ns // 1000, name, kind, lost, buffer.force, hashlib.sha256(around).digest(), neutral)
        )
        sets = b"".join(nal(one, b"set") for one in PARAMETER_SETS)
        headers = self._headers()
        apart = headers == "separate" and self._first
        data = b""
        if kind >= 16 and (headers == "each" or (self._first and headers == "first")):
            data = sets
        if self._behaviour.delimiters:
            data = nal(DELIMITER, b"\x50") + data
        # What a lost picture left behind looks like a picture: nobody may take it for one.
        data += slice_of(kind, b"spoilt" if lost else name)
        self._first = False
        return [(sets, False), (data, True)] if apart else [(data, True)]

    def _kind(self, forced: bool) -> int:
        self._since_intra += 1
        idr = self._behaviour.idr_type
        if self._first or forced:
            kind = idr
        else:
            nvidia = self._behaviour.dialect == "nvidia"
            period = self._controls.value("idr_interval" if nvidia else "gop_size") or 0
            if not period or self._since_intra < period:
                return TRAIL_R
            refresh = None if nvidia else self._controls.value("refresh_type")
            kind = {None: idr, 0: TRAIL_R, 1: CRA, 2: idr}[refresh]
        self._since_intra = 0
        return kind

    def _headers(self) -> str:
        on = [self._controls.value(name) for name in ("prepend_spspps", "repeat_seq_header", "insert_sps_pps")]
        if any(on):
            return "each"
        mode = self._controls.value("header_mode")
        if mode is not None:
            return "first" if mode else "separate"
        there = [value for value in on if value is not None]
        return "first" if there and self._behaviour.headers == "each" else self._behaviour.headers


def _samples(
    buffer: LegalBuffer, layout: Layout, crop: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
    """Luma inside of the crop rectangle, luma around it (one row behind the other), and whether chroma is neutral."""
    left, top, width, height = crop
    planes = [np.frombuffer(bytes(plane), np.uint8) for plane in buffer.planes]
    line, rows = layout.lines[0], layout.height
    whole = planes[0][: line * rows].reshape(rows, line)
    outside = np.ones(whole.shape, bool)
    outside[top : top + height, left : left + width] = False
    if layout.name == "GREY":
        chroma = []
    elif layout.name in ("NV12", "NV12M"):
        place = planes[0][line * rows :] if layout.name == "NV12" else planes[1]
        chroma = [(place, 0, line, 2 * (width // 2))]
    else:
        lines = (line // 2, line // 2) if layout.name == "YUV420" else layout.lines[1:]
        ends = (line * rows, line * rows + lines[0] * rows // 2)
        places = [planes[0][end:] for end in ends] if layout.name == "YUV420" else planes[1:]
        chroma = [(place, 0, own, width // 2) for place, own in zip(places, lines, strict=True)]
    neutral = all(
        bool((place[: own * rows // 2].reshape(rows // 2, own)[: height // 2, :wide] == 128).all())
        for place, _, own, wide in chroma
    )
    return whole[top : top + height, left : left + width], whole[outside], neutral
