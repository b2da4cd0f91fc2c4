"""The virtual encoder's controls: what there is, when it may be set, what it does."""

from __future__ import annotations

import errno

from hevc_pictures import pictures
from linuxpy.video import raw
from v4l2_client import (
    ALL_INTRA,
    B_FRAMES,
    BITRATE,
    FORCE_IDR,
    FORCE_KEY_FRAME,
    FRAME_RC,
    GOP_SIZE,
    HEADER_MODE,
    I_QP,
    INIT_FRAME_QP,
    P_QP,
    QP_RANGE,
    Device,
    Encoder,
    fourcc,
)
from virtual_encoder import node, profile_node, refused


def test_quantization_follows_its_controls(tmp_path, connect):
    def bytes_of(*controls):
        packets = connect(Encoder, node(tmp_path), (96, 80), controls=controls).encode(pictures((96, 80), 3))
        return [len(packet.data) for packet in packets[:3]]

    fine, coarse = bytes_of((FRAME_RC, 0), (I_QP, 10), (P_QP, 10)), bytes_of((FRAME_RC, 0), (I_QP, 40), (P_QP, 40))
    mixed = bytes_of((FRAME_RC, 0), (I_QP, 40), (P_QP, 10))
    assert mixed[0] == coarse[0] < fine[0] / 2
    assert coarse[1] < mixed[1]
    assert sum(bytes_of((BITRATE, 50000))) < sum(bytes_of((BITRATE, 50000000))) / 2


def test_controls_are_refused_ignored_and_told(tmp_path, connect):
    device = connect(Device, node(tmp_path, refuse="p_qp b_qp", ignore="i_qp gop_size"))
    told = {control.id: control for control in device.controls()}
    assert P_QP not in told
    assert (told[I_QP].minimum, told[I_QP].maximum) == (1, 51)
    assert list(told) == sorted(told)
    refused(errno.EINVAL, device.control, P_QP, 20)
    assert device.control(I_QP, 20) != 20
    assert device.control(I_QP) != 20
    assert device.control(GOP_SIZE, 30) != 30  # even the value that it has
    assert device.control(FRAME_RC, 0) == 0
    assert device.control(I_QP, 30, "TRY_EXT_CTRLS") == 30
    refused(errno.EINVAL, device.control, INIT_FRAME_QP, [1, 2, 3])
    refused(errno.ERANGE, device.control, HEADER_MODE, 2)
    assert device.control(B_FRAMES, 2) == 0


def test_an_ignored_control_has_no_effect(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path, ignore="gop_size"), controls=[(GOP_SIZE, 1)])
    assert [packet.key for packet in encoder.encode(pictures())[:-1]] == [True, False, False, False, False]


def test_nvidias_controls_want_their_moment(tmp_path, connect):
    device = connect(Device, profile_node(tmp_path, "jetson"))
    refused(errno.EINVAL, device.control, INIT_FRAME_QP, [20, 20, 20])
    assert device.control(BITRATE, 500000) == 500000
    refused(errno.EINVAL, device.control, I_QP, 20)
    device.set_format(device.capture, pixelformat=fourcc("H265"))
    device.set_format(device.output, width=160, height=144, pixelformat=fourcc("NV12M"))
    assert device.control(INIT_FRAME_QP, [20, 21, 22]) == [20, 21, 22]
    assert device.control(INIT_FRAME_QP, [0] * 3, "G_EXT_CTRLS") == [20, 21, 22]
    assert device.control(QP_RANGE, [0] * 6, "G_EXT_CTRLS") == [0, 51] * 3
    request = raw.v4l2_requestbuffers(count=2, type=device.output, memory=1)
    device.ask("REQBUFS", request)
    refused(errno.EBUSY, device.control, ALL_INTRA, 1)
    assert device.control(FORCE_IDR, 1) == 1


def test_what_streams_cannot_be_changed(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path))
    refused(errno.EBUSY, encoder.set_format, encoder.output, width=80, height=80)
    refused(errno.EBUSY, encoder.control, GOP_SIZE, 5)
    refused(errno.EBUSY, encoder.crop, "S_SELECTION", width=20, height=20)
    request = raw.v4l2_requestbuffers(count=0, type=encoder.output, memory=1)
    refused(errno.EBUSY, encoder.ask, "REQBUFS", request)
    encoder.stream(False)
    refused(errno.EBUSY, encoder.set_format, encoder.output, width=80, height=80)
    for kind in (encoder.output, encoder.capture):
        encoder.ask("REQBUFS", raw.v4l2_requestbuffers(count=0, type=kind, memory=1))
    assert encoder.set_format(encoder.output, width=80, height=80).width == 80


def test_a_key_frame_is_forced_with_the_next_picture_queued(tmp_path, connect):
    encoder = connect(Encoder, node(tmp_path), buffers=(5, 5), start=False)
    for k in range(2):
        encoder.put(k, pictures()[k])
    encoder.control(FORCE_KEY_FRAME, 0)
    for k in range(2, 4):
        encoder.put(k, pictures()[k])
    for k in range(5):
        encoder.queue(encoder.capture, k)
    encoder.stream(True)
    assert [encoder.wait().key for _ in range(4)] == [True, False, True, False]
