"""Controls of the legal driver: the kernel's and NVIDIA's, each there, missing, read-only or with a will of its own."""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass
from typing import Any

from device.encoders.legal_behaviour import Behaviour
from device.encoders.legal_formats import law

from featlink_device.encoders import v4l2

NEXT_CTRL, NEXT_COMPOUND = 0x80000000, 0x40000000
TYPES = {"int": 1, "bool": 2, "menu": 3, "button": 4, "struct": 0x0100}
FLAG_WRITE_ONLY, FLAG_VOLATILE = 0x0040, 0x0080


@dataclass(frozen=True)
class Control:
    """One control: its number, its kind, and its values."""

    id: int
    kind: str
    least: int = 0
    most: int = 1
    default: int = 0
    #: it may change while buffers are allocated
    run_time: bool = False
    #: 32-bit numbers of a "struct"
    words: int = 0


_CODEC = 0x990900
_COMMON = {
    "bitrate_mode": Control(0x9909CE, "menu", 0, 2),
    "bitrate": Control(0x9909CF, "int", 1, 1 << 28, 4_000_000, run_time=True),
    "gop_size": Control(0x9909CB, "int", 0, 65535, 12),
    "frame_rc_enable": Control(0x9909D7, "bool", default=1),
}
KERNEL = {
    **_COMMON,
    "b_frames": Control(0x9909CA, "int", 0, 2),
    "header_mode": Control(0x9909D8, "menu"),
    "force_key_frame": Control(0x9909E5, "button", 0, 0, run_time=True),
    "repeat_seq_header": Control(0x9909E2, "bool"),
    "prepend_spspps": Control(0x990B84, "bool"),
    "i_qp": Control(0x990B5A, "int", 0, 51, 30, run_time=True),
    "p_qp": Control(0x990B5B, "int", 0, 51, 30, run_time=True),
    "b_qp": Control(0x990B5C, "int", 0, 51, 30, run_time=True),
    "min_qp": Control(0x990B58, "int", 0, 51, 1, run_time=True),
    "max_qp": Control(0x990B59, "int", 0, 51, 51, run_time=True),
    "profile": Control(_CODEC + 615, "menu", 0, 2),
    "level": Control(_CODEC + 616, "menu", 0, 12, 3),
    "tier": Control(_CODEC + 618, "menu"),
    "loop_filter": Control(_CODEC + 620, "menu", 0, 2),
    "refresh_type": Control(_CODEC + 623, "menu", 0, 2),
    "refresh_period": Control(_CODEC + 624, "int", 0, 65535),
    "lossless_cu": Control(_CODEC + 625, "bool"),
    "min_buffers_for_output": Control(0x980928, "int", 1, 32, 1),
}
NVIDIA = {
    **_COMMON,
    "h265_profile": Control(_CODEC + 513, "menu"),
    "idr_interval": Control(_CODEC + 514, "int", 0, 65535, 256),
    "num_bframes": Control(_CODEC + 534, "int", 0, 2),
    "insert_sps_pps": Control(_CODEC + 535, "bool"),
    "qp_range": Control(_CODEC + 539, "struct", words=6),
    "max_performance": Control(_CODEC + 554, "bool"),
    "allintra": Control(_CODEC + 555, "bool"),
    "h265_level": Control(_CODEC + 561, "menu", 0, 30),
    "force_idr": Control(_CODEC + 567, "bool", run_time=True),
    "init_frame_qp": Control(_CODEC + 574, "struct", words=3),
    "lossless": Control(_CODEC + 575, "bool"),
}


class Controls:
    """The control handler."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        table = NVIDIA if behaviour.dialect == "nvidia" else KERNEL
        self._known = {name: one for name, one in table.items() if behaviour.mode(name) != "missing"}
        self._names = {one.id: name for name, one in self._known.items()}
        self._values: dict[str, int | tuple[int, ...]] = {name: self._default(name) for name in self._known}
        #: the next picture queued is an IDR picture
        self.force = False

    def _default(self, name: str) -> int | tuple[int, ...]:
        own, control = self._behaviour, self._known[name]
        given = {
            "gop_size": own.gop_size,
            "b_frames": own.b_frames,
            "num_bframes": own.b_frames,
            "refresh_type": own.refresh,
            "header_mode": int(own.headers != "separate"),
            "repeat_seq_header": int(own.headers == "each"),
            "prepend_spspps": int(own.headers == "each"),
            "insert_sps_pps": int(own.headers == "each"),
            "min_buffers_for_output": own.min_output,
        }
        if control.kind == "struct":
            return (0,) * control.words
        least, most = self._range(name)
        value = given.get(name, control.default)
        return value if name == "min_buffers_for_output" else min(max(value, least), most)

    def _range(self, name: str) -> tuple[int, int]:
        control = self._known[name]
        if self._behaviour.mode(name) != "clamped" or control.kind != "int":
            return control.least, control.most
        cut = (control.most - control.least) // 8
        return control.least + cut, control.most - cut

    def value(self, name: str) -> int | None:
        """What a control is set to; None: there is no such control."""
        value = self._values.get(name)
        return value if isinstance(value, int) else None

    def _is_read_only(self, name: str) -> bool:
        return name == "min_buffers_for_output" or self._behaviour.mode(name) == "read_only"

    def query(self, argument: Any) -> None:
        """QUERY_EXT_CTRL and QUERYCTRL."""
        if not self._behaviour.queries:
            raise OSError(errno.ENOTTY, "QUERY_EXT_CTRL")
        wanted = argument.id
        if wanted & (NEXT_CTRL | NEXT_COMPOUND):
            after = wanted & ~(NEXT_CTRL | NEXT_COMPOUND)
            wanted = next((number for number in sorted(self._names) if number > after), 0)
        name = self._names.get(wanted)
        if name is None:
            raise OSError(errno.EINVAL, "QUERY_EXT_CTRL")
        control = self._known[name]
        default = self._default(name)
        argument.id, argument.type, argument.name = wanted, TYPES[control.kind], name.encode()
        argument.minimum, argument.maximum = self._range(name)
        argument.step, argument.default_value = 1, default if isinstance(default, int) else 0
        argument.flags = v4l2.CTRL_FLAG_READ_ONLY if self._is_read_only(name) else 0
        if control.kind == "button":
            argument.flags |= FLAG_WRITE_ONLY
        if hasattr(argument, "elems"):
            argument.elems, argument.elem_size = 1, 4 * max(control.words, 1)

    def access(self, argument: Any, change: bool, trial: bool, allocated: bool, both_set: bool) -> None:
        """S_EXT_CTRLS, TRY_EXT_CTRLS and G_EXT_CTRLS: all of them or none.

        :param allocated: buffers are
        :param both_set: the formats of both queues are
        """
        law(argument.which in (0, 0x980000, 0x990000), f"ext controls: which is {argument.which:#x}")
        law(argument.count == 0 or bool(argument.controls), "ext controls without an array")
        items = [argument.controls[k] for k in range(argument.count)]
        for item in items:
            name = self._names.get(item.id)
            if name is None or (argument.which and item.id & 0xFFFF0000 != argument.which):
                argument.error_idx = argument.count
                raise OSError(errno.EINVAL, f"control {item.id:#x}")
            control = self._known[name]
            if (change and self._is_read_only(name)) or (not change and control.kind == "button"):
                argument.error_idx = argument.count
                raise OSError(errno.EACCES, f"control {name}")
            if change and control.kind == "menu" and not control.least <= item.value <= control.most:
                argument.error_idx = argument.count
                raise OSError(errno.ERANGE, f"control {name}")
            if control.kind == "struct":
                law(item.size == 0 and bool(item.string), f"{name}: a pointer, and size 0")
            else:
                law(item.size == 0, f"{name}: size {item.size} of a number")
            if change and not trial:
                law(control.run_time or not allocated, f"{name} set while buffers are allocated")
                law(self._behaviour.dialect == "kernel" or both_set, f"{name} set before the formats")
        for item in items:
            if change:
                self._set(item, trial)
            else:
                self._get(item)

    def _set(self, item: Any, trial: bool) -> None:
        name = self._names[item.id]
        control = self._known[name]
        if control.kind == "struct":
            words = ctypes.cast(item.string, ctypes.POINTER(ctypes.c_uint32 * control.words))
            if not trial:
                self._values[name] = tuple(words.contents)
            return
        if name in ("force_key_frame", "force_idr"):
            self.force = self.force or (not trial and (control.kind == "button" or item.value != 0))
            return
        if self._behaviour.mode(name) == "clamped" and control.kind != "int":
            default = self._default(name)
            item.value = default if isinstance(default, int) else 0
        else:
            least, most = self._range(name)
            item.value = min(max(item.value, least), most)
        if not trial:
            self._values[name] = item.value

    def _get(self, item: Any) -> None:
        value = self._values[self._names[item.id]]
        if isinstance(value, int):
            item.value = value
            return
        words = ctypes.cast(item.string, ctypes.POINTER(ctypes.c_uint32 * len(value)))
        words.contents[:] = value
