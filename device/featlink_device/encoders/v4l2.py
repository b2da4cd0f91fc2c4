"""V4L2's structures and numbers for encoders, over linuxpy's raw ones, and the port through which they go to a driver.

The sizes are those of the C headers on 64-bit Linux: a wrong one would let the kernel write past a structure.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

from linuxpy.video import raw

from featlink_codec.errors import FeatlinkError

IOC = raw.IOC
_SIZES = {
    "v4l2_buffer": 88,
    "v4l2_plane": 64,
    "v4l2_format": 208,
    "v4l2_pix_format_mplane": 192,
    "v4l2_plane_pix_format": 20,
    "v4l2_requestbuffers": 20,
    "v4l2_exportbuffer": 64,
    "v4l2_ext_control": 20,
    "v4l2_ext_controls": 32,
    "v4l2_query_ext_ctrl": 232,
    "v4l2_selection": 64,
    "v4l2_streamparm": 204,
    "v4l2_encoder_cmd": 40,
    "v4l2_capability": 104,
    "v4l2_fmtdesc": 64,
    "v4l2_frmsizeenum": 44,
}
for _name, _size in _SIZES.items():
    if ctypes.sizeof(getattr(raw, _name)) != _size:
        raise FeatlinkError(
            f"linuxpy: {_name} has {ctypes.sizeof(getattr(raw, _name))} bytes, expected {_size}: "
            "featlink drives V4L2 encoders on 64-bit Linux alone"
        )

CAPTURE, OUTPUT = int(raw.BufType.VIDEO_CAPTURE), int(raw.BufType.VIDEO_OUTPUT)
CAPTURE_MPLANE, OUTPUT_MPLANE = int(raw.BufType.VIDEO_CAPTURE_MPLANE), int(raw.BufType.VIDEO_OUTPUT_MPLANE)
MMAP = int(raw.Memory.MMAP)
FIELD_NONE = int(raw.Field.NONE)

FLAG_ERROR = int(raw.BufferFlag.ERROR)
FLAG_LAST = int(raw.BufferFlag.LAST)
FLAG_TIMESTAMP_COPY = int(raw.BufferFlag.TIMESTAMP_COPY)

CAP_M2M = int(raw.Capability.VIDEO_M2M)
CAP_M2M_MPLANE = int(raw.Capability.VIDEO_M2M_MPLANE)
CAP_STREAMING = int(raw.Capability.STREAMING)
CAP_DEVICE_CAPS = int(raw.Capability.DEVICE_CAPS)

ENC_CMD_START, ENC_CMD_STOP = 0, 1
SEL_TGT_CROP = 0x0000
FRMSIZE_DISCRETE = 1
CTRL_FLAG_DISABLED, CTRL_FLAG_READ_ONLY, CTRL_FLAG_INACTIVE = 0x0001, 0x0004, 0x0010

#: VIDEO_MAX_PLANES
MAX_PLANES = 8
#: What `v4l2_buffer.m.planes` points to.
Planes = raw.v4l2_plane * MAX_PLANES


def fourcc(name: str) -> int:
    """The number of a format's four letters."""
    return int.from_bytes(name.ljust(4).encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The four letters of a format's number."""
    return (number & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace").rstrip()


#: V4L2's fourcc by the names of featlink_codec.video.limits.FORMATS.
RAW_FORMATS = {"GREY": "GREY", "NV12": "NV12", "NV12M": "NM12", "YUV420": "YU12", "YUV420M": "YM12"}


class Port(Protocol):
    """The way to one open device. A fake one drives the state machine in tests."""

    #: for messages
    name: str

    def call(self, request: int, argument: Any) -> None:
        """One ioctl; `argument` is a ctypes structure or c_int, changed in place.

        :raises OSError: with the driver's errno
        """

    def stream(self, queue: int, on: bool) -> None:
        """STREAMON or STREAMOFF of a queue.

        :param queue: a v4l2_buf_type
        :raises OSError: with the driver's errno
        """

    def dequeue(self, buffer: Any) -> bool:
        """DQBUF without waiting.

        :param buffer: v4l2_buffer with type and memory, and planes and length where there are several planes
        :returns: whether a buffer was there; it is described in `buffer` then
        :raises OSError: with the driver's errno: EPIPE behind the last buffer, EIO when all is over
        """

    def wait(self, timeout_s: float) -> None:
        """Wait until one of the queues may have a buffer to dequeue, but no longer than `timeout_s` seconds."""

    def map(self, length: int, offset: int, exported_fd: int | None) -> memoryview:
        """Map a plane of a buffer, writable.

        :param offset: as QUERYBUF gave it
        :param exported_fd: of EXPBUF: it is mapped instead
        :raises OSError: it cannot be mapped
        """

    def unmap(self, memory: list[memoryview], exported_fds: list[int]) -> None:
        """End mappings, and close what EXPBUF gave. What `close` finds left over it ends likewise."""

    def sync(self, exported_fd: int, plane: int) -> None:
        """Hand a plane that was written to the device, where caches want it."""

    def close(self) -> None:
        """Close device and mappings. May be called twice."""
