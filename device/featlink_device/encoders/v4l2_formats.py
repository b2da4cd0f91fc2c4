"""Agreeing with a V4L2 encoder: formats, sizes, rows in memory, the rectangle that is coded.

The order is the kernel's (dev-encoder.rst, "Initialization"): the coded format, then the raw one, then both read again.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linuxpy.video import raw

from featlink_codec.errors import EncoderError
from featlink_codec.video.frame import PIXEL_FORMATS

from .session import EncoderSpec
from .v4l2 import (
    FIELD_NONE,
    IOC,
    MAX_PLANES,
    OUTPUT,
    RAW_FORMATS,
    SEL_TGT_CROP,
    Port,
    fourcc,
    fourcc_name,
)
from .v4l2_device import DeviceFacts

#: Bytes of CAPTURE buffers that are asked for beyond the picture's own samples: headers.
_HEADROOM = 1 << 16


@dataclass(frozen=True)
class Agreed:
    """What driver and spec agreed on.

    :param stride: bytes from one row of luma to the next
    :param rows: of luma in memory, behind which a single plane's chroma begins
    :param payload: bytes of a raw picture in each of its memory planes
    :param capture_planes: of a coded one
    :param crop: whether the driver was told the rectangle to code
    """

    pixel_format: str
    stride: int
    rows: int
    payload: tuple[int, ...]
    capture_planes: int
    capture_size: int
    crop: bool


def agree(port: Port, device: DeviceFacts, spec: EncoderSpec, pixel_format: str) -> Agreed:
    """Set both formats, the rate and the rectangle to code, and read back what the driver made of it.

    :raises EncoderError: what it made of it is not the picture of the spec
    """
    size = f"{spec.width} x {spec.height}"
    coded = _format(device.capture, device.multi, spec, fourcc(device.coded), spec.width * spec.height * 2 + _HEADROOM)
    _set(port, coded, f"{device.coded} {size}")
    wanted = fourcc(RAW_FORMATS[pixel_format])
    raw_format = _format(device.output, device.multi, spec, wanted, 0)
    _set(port, raw_format, f"{pixel_format} {size}")
    picture = raw_format.fmt.pix_mp if device.multi else raw_format.fmt.pix
    if picture.pixelformat != wanted:
        raise EncoderError(f"{port.name}: asked for {pixel_format}, got {fourcc_name(picture.pixelformat)}")
    stride = picture.plane_fmt[0].bytesperline if device.multi else picture.bytesperline
    # "The encoder may adjust the width and height": what it gives back is what counts.
    width, rows = int(picture.width), int(picture.height)
    if width < spec.width or rows < spec.height or stride < spec.width:
        raise EncoderError(
            f"{port.name}: asked for {size}, got {width} x {rows} in rows of {stride} bytes: "
            "plan the packing for this encoder's limits"
        )
    crop = _crop(port, spec, padded=(width, rows) != (spec.width, spec.height))
    try:
        port.call(IOC.G_FMT, coded)  # the raw format and the crop may have changed it
    except OSError as error:
        raise EncoderError(f"{port.name}: the coded format cannot be read: {error.strerror}") from None
    if not crop and (width, rows) != (spec.width, spec.height):
        _check_coded_size(port, coded.fmt.pix_mp if device.multi else coded.fmt.pix, spec)
    if device.multi:
        planes, capture_size = int(coded.fmt.pix_mp.num_planes), int(coded.fmt.pix_mp.plane_fmt[0].sizeimage)
        raw_planes = int(picture.num_planes)
    else:
        planes, capture_size, raw_planes = 1, int(coded.fmt.pix.sizeimage), 1
    if raw_planes != PIXEL_FORMATS[pixel_format] or not 1 <= planes <= MAX_PLANES:
        raise EncoderError(f"{port.name}: {pixel_format} in {raw_planes} planes, {device.coded} in {planes}")
    strides = [int(picture.plane_fmt[plane].bytesperline) for plane in range(raw_planes)] if device.multi else [stride]
    payload = _payload(pixel_format, strides, rows)
    _set_rate(port, device.output, spec.fps)
    return Agreed(pixel_format, int(stride), rows, payload, planes, capture_size, crop)


def _payload(pixel_format: str, strides: Sequence[int], rows: int) -> tuple[int, ...]:
    """Bytes of each memory plane: rows of its own stride, or all three components behind one another."""
    luma = strides[0] * rows
    if pixel_format == "GREY":
        return (luma,)
    if len(strides) == 1:
        return (luma * 3 // 2,)
    return (luma, *(stride * rows // 2 for stride in strides[1:]))


def _set(port: Port, form: Any, what: str) -> None:
    try:
        port.call(IOC.S_FMT, form)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise EncoderError(f"{port.name}: busy: another program encodes with it") from None
        raise EncoderError(f"{port.name}: it refuses {what}: {error.strerror}") from None


def _format(kind: int, multi: bool, spec: EncoderSpec, number: int, sizeimage: int) -> Any:
    form = raw.v4l2_format()
    form.type = kind
    picture = form.fmt.pix_mp if multi else form.fmt.pix
    picture.width, picture.height = spec.width, spec.height
    picture.pixelformat = number
    picture.field = FIELD_NONE
    if multi:
        picture.num_planes = 1 if sizeimage else {"NM12": 2, "YM12": 3}.get(fourcc_name(number), 1)
        picture.plane_fmt[0].sizeimage = sizeimage
    else:
        picture.sizeimage = sizeimage
    return form


def _set_rate(port: Port, queue: int, fps: float) -> None:
    """The frame interval is for rate control alone, so a driver without one is as good."""
    parameters = raw.v4l2_streamparm()
    parameters.type = queue
    interval = parameters.parm.output.timeperframe
    interval.numerator, interval.denominator = 1000, max(1, round(fps * 1000))
    try:
        port.call(IOC.S_PARM, parameters)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise EncoderError(f"{port.name}: frame rate: {error.strerror}") from None


def _crop(port: Port, spec: EncoderSpec, padded: bool) -> bool:
    """Say which rectangle is the picture. The driver sets it to everything with each S_FMT."""
    selection = raw.v4l2_selection()
    # Selections have the single-planar types alone (v4l2_selection, "type").
    selection.type = OUTPUT
    selection.target = SEL_TGT_CROP
    rectangle = selection.r
    rectangle.left = rectangle.top = 0
    rectangle.width, rectangle.height = spec.width, spec.height
    try:
        port.call(IOC.S_SELECTION, selection)
        port.call(IOC.G_SELECTION, selection)
    except OSError as error:
        if padded and error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise EncoderError(f"{port.name}: crop: {error.strerror}") from None
        return False  # the sequence parameter set tells whether it matters
    found = (rectangle.left, rectangle.top, rectangle.width, rectangle.height)
    if found != (0, 0, spec.width, spec.height):
        raise EncoderError(
            f"{port.name}: asked to code {spec.width} x {spec.height}, it codes {found[2]} x {found[3]} at "
            f"({found[0]}, {found[1]}): plan the packing for this encoder's limits"
        )
    return True


def _check_coded_size(port: Port, coded: Any, spec: EncoderSpec) -> None:
    """Without a crop everything in the buffers is coded, unless the coded format says otherwise."""
    if (coded.width, coded.height) not in ((spec.width, spec.height), (0, 0)):
        raise EncoderError(
            f"{port.name}: asked for {spec.width} x {spec.height}, it codes {coded.width} x {coded.height} and cannot "
            "crop: plan the packing for this encoder's limits"
        )
