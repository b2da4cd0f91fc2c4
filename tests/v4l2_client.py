"""A plain V4L2 client over libv4l2, as the kernel's dev-encoder has it; it knows no encoder of ours."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from linuxpy.video import raw

SINGLE = (raw.BufType.VIDEO_OUTPUT, raw.BufType.VIDEO_CAPTURE)
MULTI = (raw.BufType.VIDEO_OUTPUT_MPLANE, raw.BufType.VIDEO_CAPTURE_MPLANE)
STOP, START = 1, 0
#: Controls, the kernel's and NVIDIA's.
CODEC = 0x990900
GOP_SIZE = CODEC + 203
B_FRAMES = CODEC + 202
BITRATE = CODEC + 207
FRAME_RC = CODEC + 215
HEADER_MODE = CODEC + 216
REPEAT_SEQ_HEADER = CODEC + 226
FORCE_KEY_FRAME = CODEC + 229
LOSSLESS = CODEC + 625
I_QP = CODEC + 602
P_QP = CODEC + 603
PREPEND_SPSPPS = CODEC + 644
IDR_INTERVAL = CODEC + 514
INSERT_SPS_PPS = CODEC + 535
QP_RANGE = CODEC + 539
ALL_INTRA = CODEC + 555
FORCE_IDR = CODEC + 567
INIT_FRAME_QP = CODEC + 574
MIN_BUFFERS_FOR_OUTPUT = 0x980900 + 40
#: Nothing here takes that long.
PATIENCE_S = 20


def fourcc(name: str) -> int:
    known = {"GREY": "GREY", "NV12": "NV12", "YUV420": "YU12", "NV12M": "NM12", "YUV420M": "YM12"}
    return int.from_bytes(known.get(name, name).encode(), "little")


@dataclass(frozen=True)
class Packet:
    data: bytes
    flags: int
    number: int  # of the picture, by its timestamp

    @property
    def key(self) -> bool:
        return bool(self.flags & raw.BufferFlag.KEYFRAME)

    @property
    def last(self) -> bool:
        return bool(self.flags & raw.BufferFlag.LAST)

    @property
    def error(self) -> bool:
        return bool(self.flags & raw.BufferFlag.ERROR)


class Device:
    """An opened node."""

    # Blocking calls let other threads go on: ctypes.CDLL releases the lock of the interpreter.

    def __init__(self, library: Path, node: Path, flags: int = os.O_NONBLOCK) -> None:
        self._library = ctypes.CDLL(str(library), use_errno=True)
        self._library.v4l2_mmap.restype = ctypes.c_void_p
        self._library.v4l2_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        self.fd = self._library.v4l2_open(os.fsencode(node), os.O_RDWR | os.O_CLOEXEC | flags)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "v4l2_open")
        capabilities = self.ask("QUERYCAP", raw.v4l2_capability()).device_caps
        self.multi = bool(capabilities & raw.Capability.VIDEO_M2M_MPLANE)
        self.output, self.capture = MULTI if self.multi else SINGLE

    def ask(self, name: str, argument: Any) -> Any:
        """An ioctl; its argument comes back changed (OSError: it was refused)."""
        request = ctypes.c_ulong(int(getattr(raw.IOC, name)) & 0xFFFFFFFF)
        if self._library.v4l2_ioctl(self.fd, request, ctypes.byref(argument)):
            raise OSError(ctypes.get_errno(), name)
        return argument

    def mmap(self, length: int, offset: int, fd: int = -1) -> memoryview:
        fd = self.fd if fd < 0 else fd
        protection, how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
        address = self._library.v4l2_mmap(None, length, protection, how, fd, offset)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "v4l2_mmap")
        return memoryview((ctypes.c_uint8 * length).from_address(address)).cast("B")

    def close(self) -> None:
        self._library.v4l2_close(self.fd)

    def get_format(self, kind: int, ioctl: str = "G_FMT", **fields: int) -> Any:
        """A format as the device has it; with fields: as it takes them."""
        format_ = raw.v4l2_format(type=kind)
        pix = format_.fmt.pix_mp if self.multi else format_.fmt.pix
        for name, value in fields.items():
            setattr(pix, name, value)
        self.ask(ioctl, format_)
        return format_.fmt.pix_mp if self.multi else format_.fmt.pix

    def set_format(self, kind: int, **fields: int) -> Any:
        return self.get_format(kind, "S_FMT", **fields)

    def crop(self, ioctl: str = "G_SELECTION", **rect: int) -> tuple[int, int, int, int]:
        selection = raw.v4l2_selection(type=self.output, target=0, r=raw.v4l2_rect(**rect))
        r = self.ask(ioctl, selection).r
        return r.left, r.top, r.width, r.height

    def control(self, number: int, value: int | list[int] | None = None, ioctl: str | None = None) -> Any:
        """The value of a control; of a struct control a list of words, of as many as were given."""
        control = raw.v4l2_ext_control(id=number)
        words = (ctypes.c_uint32 * len(value))(*value) if isinstance(value, list) else None
        if words is not None:
            control.string = ctypes.cast(words, type(control.string))
        elif value is not None:
            control.value = value
        all_ = raw.v4l2_ext_controls(count=1, controls=ctypes.pointer(control))
        self.ask(ioctl or ("S_EXT_CTRLS" if value is not None else "G_EXT_CTRLS"), all_)
        return list(words) if words is not None else control.value

    def controls(self) -> list[Any]:
        """Every control that the device tells of."""
        found: list[Any] = []
        asked = raw.v4l2_query_ext_ctrl(id=0xC0000000)
        while True:
            try:
                found.append(self.ask("QUERY_EXT_CTRL", asked))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return found
            asked = raw.v4l2_query_ext_ctrl(id=found[-1].id | 0xC0000000)

    def command(self, number: int) -> None:
        self.ask("ENCODER_CMD", raw.v4l2_encoder_cmd(cmd=number))

    def stream(self, on: bool, *kinds: int) -> None:
        for kind in kinds or (self.output, self.capture):
            self.ask("STREAMON" if on else "STREAMOFF", ctypes.c_int(kind))


class Encoder(Device):
    """A device that streams: pictures go in, packets come out."""

    def __init__(
        self,
        library: Path,
        node: Path,
        size: tuple[int, int] = (64, 48),
        pixels: str = "NV12",
        *,
        coded: str = "HEVC",
        buffers: tuple[int, int] = (3, 3),
        controls: Iterable[tuple[int, int | list[int]]] = (),
        crop: bool = False,
        flags: int = os.O_NONBLOCK,
        start: bool = True,
    ) -> None:
        super().__init__(library, node, flags)
        self.size = width, height = size
        self.set_format(self.capture, pixelformat=fourcc(coded))
        self.format = self.set_format(self.output, width=width, height=height, pixelformat=fourcc(pixels))
        assert self.format.pixelformat == fourcc(pixels)
        self.pixels = pixels
        if crop:
            self.crop("S_SELECTION", width=width, height=height)
        for number, value in controls:
            self.control(number, value)
        kinds = (self.output, self.capture)
        self.memory = {kind: self._buffers(kind, n) for kind, n in zip(kinds, buffers, strict=True)}
        self.free = list(range(len(self.memory[self.output])))
        self.packets: list[Packet] = []
        if start:
            for k in range(len(self.memory[self.capture])):
                self.queue(self.capture, k)
            self.stream(True)

    def _planes(self, kind: int) -> int:
        return self.get_format(kind).num_planes if self.multi else 1

    def _buffer(self, kind: int, index: int = 0) -> tuple[Any, Any]:
        planes = (raw.v4l2_plane * self._planes(kind))()
        buffer = raw.v4l2_buffer(index=index, type=kind, memory=raw.Memory.MMAP, field=1)
        if self.multi:
            buffer.m.planes, buffer.length = planes, len(planes)
        return buffer, planes

    def _buffers(self, kind: int, count: int) -> list[list[memoryview]]:
        given = self.ask("REQBUFS", raw.v4l2_requestbuffers(count=count, type=kind, memory=raw.Memory.MMAP)).count
        return [self._map(kind, index) for index in range(given)]

    def _map(self, kind: int, index: int) -> list[memoryview]:
        buffer, planes = self._buffer(kind, index)
        self.ask("QUERYBUF", buffer)
        places = [(p.length, p.m.mem_offset) for p in planes] if self.multi else [(buffer.length, buffer.m.offset)]
        mapped = []
        for number, (length, offset) in enumerate(places):
            try:
                mapped.append(self.mmap(length, offset))
            except OSError:
                exported = raw.v4l2_exportbuffer(type=kind, index=index, plane=number, flags=os.O_CLOEXEC | os.O_RDWR)
                fd = self.ask("EXPBUF", exported).fd
                mapped.append(self.mmap(length, 0, fd))
                os.close(fd)
        return mapped

    def fill(self, index: int, luma: np.ndarray, chroma: np.ndarray | None = None) -> list[int]:
        """Write a picture where the device's format has it; the bytes used of each plane.

        :param chroma: samples [2, H/2, W/2], or 128 everywhere
        """
        planes = [np.asarray(plane) for plane in self.memory[self.output][index]]
        for plane in planes:
            plane[:] = 0xAA  # what lies beside the picture
        height, width = luma.shape
        strides = [p.bytesperline for p in self.format.plane_fmt] if self.multi else [self.format.bytesperline]
        rows = self.format.height
        _put(planes[0], 0, strides[0], luma)
        if self.pixels != "GREY":
            u, v = np.full((2, height // 2, width // 2), 128, np.uint8) if chroma is None else chroma
            parts = [np.stack([u, v], axis=2).reshape(height // 2, width)] if "NV12" in self.pixels else [u, v]
            at, plane = strides[0] * rows, 0
            for part in parts:
                stride = strides[0] // (1 if len(parts) == 1 else 2)
                if len(planes) > 1:
                    plane, at = plane + 1, 0
                    stride = strides[plane]
                _put(planes[plane], at, stride, part)
                at += stride * (rows // 2)
        if self.multi:
            return [p.sizeimage for p in self.format.plane_fmt[: len(planes)]]
        return [self.format.sizeimage]

    def queue(self, kind: int, index: int, used: Iterable[int] = (0, 0, 0), number: int = 0) -> None:
        buffer, planes = self._buffer(kind, index)
        buffer.timestamp.secs, buffer.timestamp.usecs = number, 7
        if self.multi:
            for plane, bytes_ in zip(planes, used, strict=False):
                plane.bytesused = bytes_
        else:
            buffer.bytesused = next(iter(used))
        self.ask("QBUF", buffer)

    def dequeue(self, kind: int) -> tuple[Any, Any]:
        buffer, planes = self._buffer(kind)
        self.ask("DQBUF", buffer)
        return buffer, planes

    def put(self, number: int, luma: np.ndarray, **chroma: Any) -> None:
        """Queue a picture, as soon as there is a buffer for it."""
        self._until(lambda: self.free or self._collect())
        index = self.free.pop(0)
        self.queue(self.output, index, self.fill(index, luma, **chroma), number)

    def get(self, *, again: bool = True) -> Packet | None:
        """The next packet, if there is one; its buffer is queued again."""
        try:
            buffer, planes = self.dequeue(self.capture)
        except BlockingIOError:
            return None
        start, used = (planes[0].data_offset, planes[0].bytesused) if self.multi else (0, buffer.bytesused)
        data = bytes(self.memory[self.capture][buffer.index][0][start:used])
        packet = Packet(data, buffer.flags, buffer.timestamp.secs)
        if again and not packet.last:
            self.queue(self.capture, buffer.index)
        return packet

    def get_all(self, count: int) -> list[Packet]:
        """The first packets."""
        while len(self.packets) < count:
            self.packets.append(self.wait())
        return self.packets

    def wait(self) -> Packet:
        found = self._until(self.get)
        assert found is not None
        return found

    def _collect(self) -> bool:
        try:
            self.free.append(self.dequeue(self.output)[0].index)
        except BlockingIOError:
            if packet := self.get():
                self.packets.append(packet)
            return False
        return True

    @staticmethod
    def _until(what: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < end, "the device gives nothing"
            time.sleep(0.001)
        return found

    def encode(self, pictures: Iterable[np.ndarray]) -> list[Packet]:
        """Every packet of pictures that are numbered from 0, the last one too."""
        for number, luma in enumerate(pictures):
            self.put(number, luma)
        self.command(STOP)
        while not (self.packets and self.packets[-1].last):
            self.packets.append(self.wait())
        return self.packets


def _put(plane: np.ndarray, at: int, stride: int, samples: np.ndarray) -> None:
    rows, width = samples.shape
    assert at + stride * (rows - 1) + width <= len(plane)
    np.lib.stride_tricks.as_strided(plane[at:], (rows, width), (stride, 1))[:] = samples
