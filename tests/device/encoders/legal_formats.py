"""Formats, sizes and the crop rectangle of the legal driver, and where samples lie in its buffers."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from typing import Any

from device.encoders.legal_behaviour import Behaviour

from featlink_device.encoders import v4l2

SELECTION_GE, SELECTION_LE = 1, 2
SELECTION_TARGETS = {0: "crop", 1: "default", 2: "bounds"}
#: What the driver takes for other codecs: no format that featlink knows.
FOREIGN_RAW = "YUYV"
_CAPTURE_LEAST = 4096


def law(holds: bool, rule: str) -> None:
    """The application broke a rule of V4L2 unless `holds`."""
    if not holds:
        raise AssertionError(rule)


def up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Layout:
    """A raw picture in memory, as S_FMT returned it."""

    name: str
    width: int
    height: int
    #: bytesperline of each memory plane
    lines: tuple[int, ...]
    #: sizeimage of each memory plane
    sizes: tuple[int, ...]

    @property
    def payload(self) -> tuple[int, ...]:
        """Bytes of each memory plane that hold samples."""
        luma = self.lines[0] * self.height
        if self.name in ("NV12", "YUV420"):
            return (luma * 3 // 2,)
        return (luma, *(line * self.height // 2 for line in self.lines[1:]))


class Formats:
    """What ENUM_FMT, S_FMT and S_SELECTION know."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.coded = behaviour.coded[0]
        self.coded_size = _CAPTURE_LEAST
        #: the application has set them, CAPTURE before OUTPUT
        self.capture_set = self.output_set = False
        self.output = self._layout(self.raw_formats()[0], 640, 480)
        self.crop = (0, 0, self.output.width, self.output.height)
        #: the application has set the rectangle since the last S_FMT
        self.crop_set = False

    def raw_formats(self) -> tuple[str, ...]:
        """Raw formats for the coded format that is set now."""
        return self.behaviour.formats if self.coded == self.behaviour.coded_format else (FOREIGN_RAW,)

    def limits(self, name: str) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Least and largest sides and steps of a format, (width, height) each."""
        own = self.behaviour
        even = 2 if name in v4l2.RAW_FORMATS and name != "GREY" else 1
        steps = (1, 1) if own.sizes == "continuous" else own.step
        step = (math.lcm(steps[0], even), math.lcm(steps[1], even))
        least = (up(own.min_size[0], step[0]), up(own.min_size[1], step[1]))
        return least, own.max_size, step

    def _layout(self, name: str, width: int, height: int) -> Layout:
        own = self.behaviour
        if own.sizes == "discrete":
            fitting = [size for size in own.discrete if size[0] >= width and size[1] >= height]
            width, height = (fitting or [own.discrete[-1]])[0]
        else:
            least, most, step = self.limits(name)
            width, height = (
                up(min(max(asked, low), high), by)
                for asked, low, high, by in zip((width, height), least, most, step, strict=True)
            )
        even = 1 if name == "GREY" else 2
        height = up(height, math.lcm(own.align_rows, even))
        line = up(width, math.lcm(own.align_line, even))
        if name == "YUV420M":
            lines: tuple[int, ...] = (line, *2 * (up(width // 2, own.align_line),))
        else:
            lines = (line, line) if name == "NV12M" else (line,)
        plain = Layout(name, width, height, lines, ())
        return Layout(name, width, height, lines, tuple(size + own.spare for size in plain.payload))

    def enumerate(self, argument: Any, capture: bool) -> None:
        """ENUM_FMT."""
        names = self.behaviour.coded if capture else [_fourcc(one) for one in self.raw_formats()]
        if argument.index >= len(names):
            raise OSError(errno.EINVAL, "ENUM_FMT: no more")
        argument.pixelformat = v4l2.fourcc(names[argument.index])
        argument.flags = 1 if capture else 0
        argument.description = names[argument.index].encode()

    def frame_sizes(self, argument: Any) -> None:
        """ENUM_FRAMESIZES."""
        own = self.behaviour
        if own.sizes == "none":
            raise OSError(errno.ENOTTY, "ENUM_FRAMESIZES")
        name = v4l2.fourcc_name(argument.pixel_format)
        known = {_fourcc(one): one for one in self.raw_formats()} | {one: one for one in own.coded}
        if name not in known or argument.index >= (len(own.discrete) if own.sizes == "discrete" else 1):
            raise OSError(errno.EINVAL, "ENUM_FRAMESIZES: no more")
        if own.sizes == "discrete":
            argument.type = v4l2.FRMSIZE_DISCRETE
            argument.m1.discrete.width, argument.m1.discrete.height = own.discrete[argument.index]
            return
        argument.type = 2 if own.sizes == "continuous" else 3
        least, most, step = self.limits(known[name])
        sizes = argument.m1.stepwise
        (sizes.min_width, sizes.min_height), (sizes.max_width, sizes.max_height) = least, most
        sizes.step_width, sizes.step_height = (1, 1) if own.sizes == "continuous" else step

    def set(self, argument: Any, capture: bool, trial: bool) -> None:
        """S_FMT or TRY_FMT: take what can be taken, and say what was taken."""
        fmt = argument.fmt.pix_mp if self.behaviour.multi_planar else argument.fmt.pix
        name = v4l2.fourcc_name(fmt.pixelformat)
        if capture:
            coded = name if name in self.behaviour.coded else self.behaviour.coded[0]
            asked = fmt.plane_fmt[0].sizeimage if self.behaviour.multi_planar else fmt.sizeimage
            size = max(_CAPTURE_LEAST, min(asked, 1 << 20)) + self.behaviour.spare
            if not trial:
                self.coded, self.coded_size, self.capture_set, self.output_set = coded, size, True, False
                self._take(self._layout(self.raw_formats()[0], 640, 480))
            self._say_capture(fmt, coded, size)
            return
        law(trial or self.capture_set, "S_FMT OUTPUT before S_FMT CAPTURE")
        law(fmt.width > 0 and fmt.height > 0, "S_FMT OUTPUT without a size")
        raw = self.raw_formats()
        layout = self._layout(next((one for one in raw if _fourcc(one) == name), raw[0]), fmt.width, fmt.height)
        if not trial:
            self.output_set = True
            self._take(layout)
        self._say_output(fmt, layout)

    def get(self, argument: Any, capture: bool) -> None:
        """G_FMT."""
        fmt = argument.fmt.pix_mp if self.behaviour.multi_planar else argument.fmt.pix
        if capture:
            self._say_capture(fmt, self.coded, self.coded_size)
        else:
            self._say_output(fmt, self.output)

    def _take(self, layout: Layout) -> None:
        self.output, self.crop, self.crop_set = layout, (0, 0, layout.width, layout.height), False

    def _say_capture(self, fmt: Any, coded: str, size: int) -> None:
        fmt.pixelformat, fmt.field = v4l2.fourcc(coded), v4l2.FIELD_NONE
        fmt.width, fmt.height = self.crop[2:]
        if self.behaviour.multi_planar:
            fmt.num_planes = 1
            fmt.plane_fmt[0].sizeimage, fmt.plane_fmt[0].bytesperline = size, 0
        else:
            fmt.sizeimage, fmt.bytesperline = size, 0

    def _say_output(self, fmt: Any, layout: Layout) -> None:
        fmt.pixelformat, fmt.field = v4l2.fourcc(_fourcc(layout.name)), v4l2.FIELD_NONE
        fmt.width, fmt.height = layout.width, layout.height
        if self.behaviour.multi_planar:
            fmt.num_planes = len(layout.sizes)
            for plane, line, size in zip(fmt.plane_fmt, layout.lines, layout.sizes, strict=False):
                plane.bytesperline, plane.sizeimage = line, size
        else:
            fmt.bytesperline, fmt.sizeimage = layout.lines[0], layout.sizes[0]

    def selection(self, argument: Any, change: bool) -> None:
        """G_SELECTION or S_SELECTION."""
        if not self.behaviour.crop:
            raise OSError(errno.ENOTTY, "selection")
        target = SELECTION_TARGETS.get(argument.target)
        if target is None or (change and target != "crop"):
            raise OSError(errno.EINVAL, "selection target")
        if change:
            law(self.output_set, "S_SELECTION before S_FMT OUTPUT")
            asked = argument.r
            self.crop = self.cropped(asked.left, asked.top, asked.width, asked.height, argument.flags)
            self.crop_set = True
        whole = (0, 0, self.output.width, self.output.height)
        rectangle = argument.r
        rectangle.left, rectangle.top, rectangle.width, rectangle.height = self.crop if target == "crop" else whole

    def cropped(self, left: int, top: int, width: int, height: int, flags: int = 0) -> tuple[int, int, int, int]:
        """The rectangle that the driver makes of one that was asked for."""
        bounds = (self.output.width, self.output.height)
        by = math.lcm(self.behaviour.crop_step, 1 if self.output.name == "GREY" else 2)
        sides = tuple(
            min(up(max(side, self.behaviour.crop_min), by), bound)
            for side, bound in zip((width, height), bounds, strict=True)
        )
        for got, asked in zip(sides, (width, height), strict=True):
            if (flags & SELECTION_GE and got < asked) or (flags & SELECTION_LE and got > asked):
                raise OSError(errno.ERANGE, "selection")
        left, top = (min(max(at, 0) // 2 * 2, bound - side) for at, bound, side in zip((left, top), bounds, sides))  # noqa: B905
        return left, top, sides[0], sides[1]


def _fourcc(name: str) -> str:
    return v4l2.RAW_FORMATS.get(name, name)
