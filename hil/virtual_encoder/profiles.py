"""Devices that the virtual encoder plays, each as the text of a node's file."""

from __future__ import annotations

from collections.abc import Mapping

#: First line of a node's file.
MAGIC = "featlink virtual HEVC encoder"

#: Profile -> switch -> value. A switch that is not named has its default.
PROFILES: Mapping[str, Mapping[str, str]] = {
    # takes what it is given
    "plain": {},
    # Qualcomm venus: whole blocks of 128x32, which are returned as the picture's size; STREAMOFF is the only end
    "venus": {
        "planes": "multi",
        "formats": "NV12",
        "align": "128x32",
        "height_returned": "padded",
        "encoder_cmd": "no",
    },
    # Chips&Media wave5: sizes in steps, and one QP for I pictures alone
    "wave5": {
        "planes": "multi",
        "formats": "NV12,NV12M,YUV420",
        "min": "256x128",
        "step": "32x16",
        "refuse": "p_qp b_qp",
    },
    # NVIDIA Jetson: its own controls, fourcc and end of stream, and buffers that map by VIDIOC_EXPBUF alone
    "jetson": {
        "planes": "multi",
        "fourcc": "H265",
        "formats": "NV12M,YUV420M",
        "align": "256x1",
        "min": "144x144",
        "controls": "nvidia",
        "headers": "first",
        "crop": "no",
        "encoder_cmd": "no",
        "eos": "empty_buffer",
        "mapping": "export",
    },
}


def node_text(switches: Mapping[str, str]) -> str:
    """The text of a node's file; a switch that there is not is found when the device is opened."""
    return "\n".join([MAGIC, *(f"{key} = {value}" for key, value in switches.items())]) + "\n"
