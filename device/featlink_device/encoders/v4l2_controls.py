"""An encoder's controls: queried, set, read back; what was refused is remembered by name, never an error by itself."""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass
from typing import Any

from linuxpy.video import raw

from featlink_codec.errors import EncoderError

from .session import EncoderSpec
from .v4l2 import CTRL_FLAG_DISABLED, CTRL_FLAG_READ_ONLY, IOC, Port

#: V4L2_CTRL_CLASS_CODEC: NVIDIA's plugin wants the class named, and the kernel takes it.
_CODEC_CLASS = 0x00990000
_CODEC_BASE = 0x00990900

#: The kernel's controls (include/uapi/linux/v4l2-controls.h).
KERNEL = {
    "b_frames": _CODEC_BASE + 202,
    "gop_size": _CODEC_BASE + 203,
    "frame_rc_enable": _CODEC_BASE + 215,
    "header_mode": _CODEC_BASE + 216,
    "repeat_seq_header": _CODEC_BASE + 226,
    "force_key_frame": _CODEC_BASE + 229,
    "min_qp": _CODEC_BASE + 600,
    "max_qp": _CODEC_BASE + 601,
    "i_qp": _CODEC_BASE + 602,
    "p_qp": _CODEC_BASE + 603,
    "profile": _CODEC_BASE + 615,
    "refresh_type": _CODEC_BASE + 623,
    "lossless_cu": _CODEC_BASE + 625,
    "prepend_spspps_to_idr": _CODEC_BASE + 644,
}
#: NVIDIA's, which mean something else to the kernel (v4l2_nv_extensions.h); the common ones have the kernel's numbers.
NVIDIA = {
    **{name: KERNEL[name] for name in ("gop_size", "frame_rc_enable", "force_key_frame")},
    "h265_profile": _CODEC_BASE + 513,
    "idr_interval": _CODEC_BASE + 514,
    "num_bframes": _CODEC_BASE + 534,
    "insert_sps_pps_at_idr": _CODEC_BASE + 535,
    "alliframe": _CODEC_BASE + 555,
    "force_idr": _CODEC_BASE + 567,
    "init_frame_qp": _CODEC_BASE + 574,
}
_MIN_BUFFERS_FOR_OUTPUT = 0x00980900 + 40

_HEADER_MODE_JOINED = 1
_REFRESH_IDR = 2
#: Where only the pictures that are asked for shall be intra; a driver's own limit may be lower.
_LONG_GOP = 1 << 14


@dataclass(frozen=True)
class _Range:
    least: int
    most: int


class Controls:
    """The controls of one open device.

    :param numbers: `KERNEL` or `NVIDIA`
    :param blind: controls are set though the driver says nothing of them when queried: NVIDIA's plugin may not know
        how to be asked
    """

    def __init__(self, port: Port, numbers: dict[str, int], blind: bool) -> None:
        self._port = port
        self._numbers = numbers
        self._blind = blind
        #: By name: the value that was read back (or set, where it cannot be read), or why it was not set.
        self.facts: dict[str, Any] = {}
        self._force: tuple[str, Any] | None = None

    def set_up(self, spec: EncoderSpec) -> None:
        """Tell the encoder what the spec asks for; to be called behind both S_FMT and before REQBUFS.

        :raises EncoderError: it cannot hold what is asked for
        """
        if spec.crf is not None:
            raise EncoderError(f"{self._port.name}: a constant rate factor is libx265's alone: say qp instead")
        if spec.lossless and not self.set("lossless_cu", 1):
            raise EncoderError(f"{self._port.name}: it has no lossless mode: say qp instead")
        nvidia = self._numbers is NVIDIA
        self.set("num_bframes" if nvidia else "b_frames", 0)
        self.set("h265_profile" if nvidia else "profile", 0)
        self._set_up_intra(spec, nvidia)
        self._set_up_headers(nvidia)
        if spec.qp is not None:
            self._hold_qp(spec.qp, nvidia)

    def force_intra(self) -> bool:
        """The next picture shall be an IDR picture. False: the driver refuses, now or always."""
        if self._force is None:
            name = "force_idr" if "force_idr" in self._numbers else "force_key_frame"
            self._force = (name, self._prepared(self._numbers[name], 1))
        name, controls = self._force
        try:
            self._port.call(IOC.S_EXT_CTRLS, controls)
        except OSError as error:
            self.facts[name] = _why(error)
            return False
        return True

    def set(self, name: str, value: int) -> bool:
        """Set one control and read it back. False: it does not exist, is refused, or has another value then."""
        if name not in self._numbers:
            return False
        number = self._numbers[name]
        bounds = self._query(name, number)
        if bounds is None:
            return False
        value = min(max(value, bounds.least), bounds.most) if name == "gop_size" else value
        controls = self._prepared(number, value)
        try:
            self._port.call(IOC.S_EXT_CTRLS, controls)
        except OSError as error:
            self.facts[name] = _why(error)
            return False
        try:
            self._port.call(IOC.G_EXT_CTRLS, controls)
        except OSError:
            self.facts[name] = f"{value}, cannot be read back"
            return True
        found = int(controls.controls[0].value)
        self.facts[name] = found if found == value else f"{found}, asked for {value}"
        return found == value

    def min_output_buffers(self) -> int:
        """How many OUTPUT buffers the encoder needs to work; 1 where it does not say."""
        control = raw.v4l2_control()
        control.id = _MIN_BUFFERS_FOR_OUTPUT
        try:
            self._port.call(IOC.G_CTRL, control)
        except OSError:
            return 1
        return max(1, int(control.value))

    def _set_up_intra(self, spec: EncoderSpec, nvidia: bool) -> None:
        length = 1 if spec.all_intra and spec.intra_by == "gop" else _LONG_GOP
        self.set("gop_size", length)
        if nvidia:
            self.set("idr_interval", length)
            if length == 1:
                self.set("alliframe", 1)
        else:
            self.set("refresh_type", _REFRESH_IDR)

    def _set_up_headers(self, nvidia: bool) -> None:
        """Parameter sets with every IDR picture; where none of it works they are kept and put in front of it."""
        if nvidia:
            self.set("insert_sps_pps_at_idr", 1)
        elif not self.set("prepend_spspps_to_idr", 1) and not self.set("repeat_seq_header", 1):
            self.set("header_mode", _HEADER_MODE_JOINED)

    def _hold_qp(self, qp: int, nvidia: bool) -> None:
        """A constant QP: rate control off and the QP of each kind of picture; or no room between least and most."""
        off = self.set("frame_rc_enable", 0)
        if nvidia:
            held = off and self._set_init_frame_qp(qp)
        else:
            # Both bounds first: a driver refuses an I QP outside of the ones that stand.
            pinned = self.set("min_qp", qp) and self.set("max_qp", qp)
            intra = self.set("i_qp", qp)
            self.set("p_qp", qp)  # wave5 has none; the trial shows what P pictures become
            held = off and intra
            if not held:  # then rate control without room
                self.set("frame_rc_enable", 1)
                held = pinned
        if not held:
            found = ", ".join(f"{name}: {value}" for name, value in self.facts.items())
            raise EncoderError(f"{self._port.name}: it cannot hold a QP of {qp} ({found})")

    def _set_init_frame_qp(self, qp: int) -> bool:
        """V4L2_CID_MPEG_VIDEOENC_INIT_FRAME_QP: three u32 for I, P and B, by a pointer, with size 0."""
        values = (ctypes.c_uint32 * 3)(qp, qp, qp)
        controls = self._prepared(self._numbers["init_frame_qp"], 0)
        controls.controls[0].string = ctypes.cast(values, type(controls.controls[0].string))
        try:
            self._port.call(IOC.S_EXT_CTRLS, controls)
        except OSError as error:
            self.facts["init_frame_qp"] = _why(error)
            return False
        self.facts["init_frame_qp"] = f"{qp}, cannot be read back"
        return True

    def _query(self, name: str, number: int) -> _Range | None:
        """What a control takes; None: it cannot be set."""
        query = raw.v4l2_query_ext_ctrl()
        query.id = number
        try:
            self._port.call(IOC.QUERY_EXT_CTRL, query)
        except OSError as error:
            if self._blind or error.errno == errno.ENOTTY:
                return _Range(-(1 << 31), (1 << 31) - 1)
            self.facts[name] = _why(error)
            return None
        if query.flags & (CTRL_FLAG_DISABLED | CTRL_FLAG_READ_ONLY):
            self.facts[name] = "cannot be changed"
            return None
        return _Range(int(query.minimum), int(query.maximum))

    def _prepared(self, number: int, value: int) -> Any:
        """v4l2_ext_controls with one control. It keeps what it points to."""
        control = raw.v4l2_ext_control()
        control.id = number
        control.value = value
        controls = raw.v4l2_ext_controls()
        controls.which = _CODEC_CLASS
        controls.count = 1
        controls.controls = ctypes.pointer(control)
        return controls


def _why(error: OSError) -> str:
    return f"refused: {errno.errorcode.get(error.errno or 0, error)}"
