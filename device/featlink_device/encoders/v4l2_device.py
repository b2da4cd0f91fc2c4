"""What a V4L2 device says of itself: whether it encodes HEVC, the formats and sizes that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from linuxpy.video import raw

from featlink_codec.errors import EncoderError
from featlink_codec.video.limits import EncoderLimits
from featlink_codec.video.sps import MAX_PIXELS, MAX_SIDE

from .v4l2 import (
    CAP_DEVICE_CAPS,
    CAP_M2M,
    CAP_M2M_MPLANE,
    CAP_STREAMING,
    CAPTURE,
    CAPTURE_MPLANE,
    FRMSIZE_DISCRETE,
    IOC,
    OUTPUT,
    OUTPUT_MPLANE,
    RAW_FORMATS,
    Port,
    fourcc,
    fourcc_name,
)

#: Names of HEVC: the kernel's, and NVIDIA's.
CODED = ("HEVC", "H265")
#: A driver that lists formats or sizes for ever is not believed.
_MOST_LISTED = 256
#: In the order of liking: luma alone is least work for everyone.
_LIKING = ("GREY", "NV12", "NV12M", "YUV420", "YUV420M")


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself.

    :param multi: it has the multi-planar interface
    :param coded: fourcc of the coded format
    :param pixel_formats: names of `RAW_FORMATS`, in the order of liking
    """

    driver: str
    card: str
    multi: bool
    coded: str
    pixel_formats: tuple[str, ...]
    limits: EncoderLimits

    @property
    def capture(self) -> int:
        """v4l2_buf_type of coded pictures."""
        return CAPTURE_MPLANE if self.multi else CAPTURE

    @property
    def output(self) -> int:
        """v4l2_buf_type of raw pictures."""
        return OUTPUT_MPLANE if self.multi else OUTPUT


def examine(port: Port, coded: Sequence[str] = CODED) -> DeviceFacts:
    """Ask a device what it is.

    :param coded: fourccs of coded formats that fit
    :raises EncoderError: it is no stateful encoder of such a format, or takes no raw format known here
    """
    capability = raw.v4l2_capability()
    try:
        port.call(IOC.QUERYCAP, capability)
    except OSError as error:
        raise EncoderError(f"{port.name}: not a V4L2 device: {error.strerror}") from None
    own = capability.device_caps if capability.capabilities & CAP_DEVICE_CAPS else capability.capabilities
    card = bytes(capability.card).rstrip(b"\0").decode(errors="replace")
    if not own & (CAP_M2M | CAP_M2M_MPLANE) or not own & CAP_STREAMING:
        raise EncoderError(f"{port.name}: {card} is no memory-to-memory device")
    multi = bool(own & CAP_M2M_MPLANE)
    offered = list(_formats(port, CAPTURE_MPLANE if multi else CAPTURE))
    found = next((name for name in coded if fourcc(name) in offered), None)
    if found is None:
        names = ", ".join(fourcc_name(number) for number in offered) or "nothing"
        raise EncoderError(f"{port.name}: {card} encodes no HEVC (it gives {names})")
    # What can go in is listed for the coded format that is set (dev-encoder.rst, "Querying Capabilities").
    form = raw.v4l2_format()
    form.type = CAPTURE_MPLANE if multi else CAPTURE
    try:
        port.call(IOC.G_FMT, form)
        (form.fmt.pix_mp if multi else form.fmt.pix).pixelformat = fourcc(found)
        port.call(IOC.S_FMT, form)
    except OSError as error:
        raise EncoderError(f"{port.name}: {card}: {found} cannot be set: {error.strerror}") from None
    raws = list(_formats(port, OUTPUT_MPLANE if multi else OUTPUT))
    known = [name for name in _LIKING if fourcc(RAW_FORMATS[name]) in raws]
    if not known:
        names = ", ".join(fourcc_name(number) for number in raws) or "nothing"
        raise EncoderError(f"{port.name}: {card} takes {names}, expected one of {', '.join(_LIKING)}")
    limits = _size_limits(port, fourcc(found), tuple(known))
    driver = bytes(capability.driver).rstrip(b"\0").decode(errors="replace")
    return DeviceFacts(driver, card, multi, found, tuple(known), limits)


def _formats(port: Port, queue: int) -> Iterator[int]:
    for index in range(_MOST_LISTED):
        entry = raw.v4l2_fmtdesc()
        entry.index, entry.type = index, queue
        try:
            port.call(IOC.ENUM_FMT, entry)
        except OSError:
            return
        yield int(entry.pixelformat)


def _size_limits(port: Port, number: int, formats: tuple[str, ...]) -> EncoderLimits:
    """What ENUM_FRAMESIZES says of the coded format; nothing said is no limit, and trying finds out."""
    entry = raw.v4l2_frmsizeenum()
    entry.index, entry.pixel_format = 0, number
    even = not any(name == "GREY" for name in formats)
    plain = EncoderLimits(name=port.name, formats=formats, even=even)
    try:
        port.call(IOC.ENUM_FRAMESIZES, entry)
    except OSError:
        return plain
    if entry.type == FRMSIZE_DISCRETE:
        return plain  # single sizes are not a range: S_FMT decides
    step = entry.stepwise
    if not 0 < step.min_width <= step.max_width or not 0 < step.min_height <= step.max_height:
        return plain
    return EncoderLimits(
        name=port.name,
        formats=formats,
        even=even,
        min_width=_within(step.min_width, MAX_SIDE),
        max_width=_within(step.max_width, MAX_SIDE),
        min_height=_within(step.min_height, MAX_SIDE),
        max_height=_within(step.max_height, MAX_SIDE),
        max_pixels=min(MAX_PIXELS, _within(step.max_width, MAX_SIDE) * _within(step.max_height, MAX_SIDE)),
        multiple_of_width=_within(step.step_width, MAX_SIDE),
        multiple_of_height=_within(step.step_height, MAX_SIDE),
    )


def _within(value: int, most: int) -> int:
    return min(max(int(value), 1), most)
