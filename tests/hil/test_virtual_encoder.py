"""The virtual encoder through libv4l2: pictures as they lie in memory, sizes, buffers, and the node's file."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from hevc_pictures import data_of, decode, pictures
from linuxpy.video import raw
from v4l2_client import (
    BITRATE,
    FRAME_RC,
    I_QP,
    INIT_FRAME_QP,
    LOSSLESS,
    MIN_BUFFERS_FOR_OUTPUT,
    STOP,
    Device,
    Encoder,
    fourcc,
)
from virtual_encoder import library, node, profile_node, refused

from featlink_codec.video.nal import split_access_units
from featlink_codec.video.sps import parse_sps

LAYOUTS = [
    *(("single", pixels) for pixels in ("GREY", "NV12", "YUV420")),
    *(("multi", pixels) for pixels in ("GREY", "NV12", "YUV420", "NV12M", "YUV420M")),
]
PROFILES = {
    "plain": {"pixels": "GREY"},
    "venus": {"crop": True},
    "wave5": {"crop": True},
    "jetson": {"pixels": "YUV420M", "coded": "H265"},
}
EXACT = [(FRAME_RC, 0), (INIT_FRAME_QP, [8, 10, 10])]
WHOLE = [(LOSSLESS, 1)]


@pytest.mark.parametrize("size", [(18, 18), (64, 48), (130, 34)], ids=str)
@pytest.mark.parametrize("align", ["1x1", "128x32"])
@pytest.mark.parametrize(("planes", "pixels"), LAYOUTS)
def test_every_format_is_coded_as_it_lies_in_memory(tmp_path, connect, planes, pixels, align, size):
    width, height = size
    chroma = np.random.default_rng(4).integers(0, 256, (2, height // 2, width // 2), dtype=np.uint8)
    device = node(tmp_path, planes=planes, formats=pixels, align=align)
    encoder = connect(Encoder, device, size, pixels, controls=WHOLE)
    assert (encoder.format.width, encoder.format.height) == size
    for number, luma in enumerate(pictures(size)):
        encoder.put(number, luma, chroma=chroma)
    decoded = decode(data_of(encoder.encode([])))
    assert len(decoded) == 5
    for found, luma in zip(decoded, pictures(size), strict=True):
        assert (found[:height] == luma).all()
        if pixels != "GREY":
            assert (found[height:].reshape(2, height // 2, width // 2) == chroma).all()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_codes_what_it_was_given(tmp_path, connect, profile):
    size = (300, 160)
    controls = EXACT if profile == "jetson" else [(FRAME_RC, 0), (I_QP, 8)]
    encoder = connect(Encoder, profile_node(tmp_path, profile), size, **{"controls": controls, **PROFILES[profile]})
    for number, luma in enumerate(pictures(size, 3)):
        encoder.put(number, luma)
    packets = encoder.get_all(3)
    decoded = decode(data_of(packets))
    assert len(decoded) == 3
    assert np.abs(decoded[0][:160].astype(int) - pictures(size, 3)[0]).max() < 12
    [sps] = split_access_units(memoryview(packets[0].data), 0)[0].sps
    assert (parse_sps(sps).width, parse_sps(sps).height) == size


def test_the_same_pictures_give_the_same_bytes(tmp_path, connect):
    for controls in (WHOLE, [(BITRATE, 100000)], [(FRAME_RC, 0)]):
        encoders = [connect(Encoder, node(tmp_path), (96, 80), controls=controls) for _ in range(2)]
        first, second = (data_of(encoder.encode(pictures((96, 80)))) for encoder in encoders)
        assert first == second


def test_venus_needs_a_crop_rectangle_for_the_size_that_was_asked(tmp_path, connect):
    encoder = connect(Encoder, profile_node(tmp_path, "venus"), (100, 50), start=False)
    assert (encoder.format.width, encoder.format.height) == (128, 64)
    assert encoder.format.plane_fmt[0].bytesperline == 128
    assert encoder.crop() == (0, 0, 128, 64)
    assert encoder.crop("S_SELECTION", left=2, top=4, width=100, height=50) == (2, 4, 100, 50)
    assert encoder.get_format(encoder.capture).width == 100
    # The picture of the whole frame, of which the rectangle is coded: planes have more than it.
    frame = pictures((128, 64), 1)[0]
    encoder.queue(encoder.capture, 0)
    encoder.stream(True)
    encoder.queue(encoder.output, 0, encoder.fill(0, frame))
    [decoded] = decode(encoder.wait().data)
    assert decoded.shape == (75, 100)
    assert np.abs(decoded[:50].astype(int) - frame[4:54, 2:102]).mean() < 30
    assert np.abs(decoded[:50].astype(int) - frame[:50, :100]).mean() > 60
    encoder.stream(False)
    refused(errno.ENOTTY, encoder.command, STOP)


def test_a_device_may_have_no_crop(tmp_path, connect):
    device = connect(Device, node(tmp_path, crop="no"))
    refused(errno.ENOTTY, device.crop)
    refused(errno.ENOTTY, device.crop, "S_SELECTION", width=20, height=20)


def test_sizes_are_clamped_rounded_and_enumerated(tmp_path, connect):
    device = connect(Device, profile_node(tmp_path, "wave5"))
    found = device.ask("ENUM_FRAMESIZES", raw.v4l2_frmsizeenum(pixel_format=fourcc("NV12"))).stepwise
    assert (found.min_width, found.step_width, found.min_height, found.step_height) == (256, 32, 128, 16)
    asked = [(10, 10), (300, 200), (20000, 20000)]
    formats = [device.set_format(device.output, width=w, height=h, pixelformat=fourcc("NV12")) for w, h in asked]
    assert [(f.width, f.height) for f in formats] == [(256, 128), (320, 208), (8192, 8192)]
    tried = device.get_format(device.output, "TRY_FMT", width=300, height=200, pixelformat=fourcc("GREY"))
    assert (tried.width, tried.pixelformat) == (320, fourcc("NV12"))
    assert device.get_format(device.output).width == 8192
    silent = connect(Device, node(tmp_path, enum_sizes="no"))
    refused(errno.ENOTTY, silent.ask, "ENUM_FRAMESIZES", raw.v4l2_frmsizeenum(pixel_format=fourcc("NV12")))


def test_formats_are_offered_in_the_order_of_the_file(tmp_path, connect):
    device = connect(Device, node(tmp_path, formats="YUV420 GREY", fourcc="H265"))
    name = raw.v4l2_fmtdesc
    offered = [device.ask("ENUM_FMT", name(type=device.output, index=k)).pixelformat for k in range(2)]
    assert offered == [fourcc("YUV420"), fourcc("GREY")]
    refused(errno.EINVAL, device.ask, "ENUM_FMT", name(type=device.output, index=2))
    assert device.ask("ENUM_FMT", name(type=device.capture)).pixelformat == fourcc("H265")


def test_exported_memory_is_the_only_one_that_maps(tmp_path, connect):
    encoder = connect(Encoder, profile_node(tmp_path, "jetson"), (160, 144), "NV12M", coded="H265", start=False)
    buffer, planes = encoder._buffer(encoder.output)
    encoder.ask("QUERYBUF", buffer)
    refused(errno.EINVAL, encoder.mmap, planes[0].length, planes[0].m.mem_offset)
    plain = connect(Encoder, node(tmp_path), start=False)
    refused(errno.ENOTTY, plain.ask, "EXPBUF", raw.v4l2_exportbuffer(type=plain.output))


def test_buffers_may_be_more_or_fewer_than_asked(tmp_path, connect):
    for switches, counts in (
        ({"extra_buffers": 2}, (5, 5)),
        ({"fewer_buffers": 2}, (1, 1)),
        ({"fewer_buffers": 9}, (1, 1)),
        ({"min_buffers": 6}, (6, 3)),
    ):
        encoder = connect(Encoder, node(tmp_path, **switches))
        assert (len(encoder.memory[encoder.output]), len(encoder.memory[encoder.capture])) == counts
        assert encoder.control(MIN_BUFFERS_FOR_OUTPUT) == switches.get("min_buffers", 1)
        assert len(decode(data_of(encoder.encode(pictures())))) == 5


def test_two_sessions_of_one_node_do_not_meet(tmp_path, connect):
    device = node(tmp_path)
    one, other = (connect(Encoder, device, controls=WHOLE) for _ in range(2))
    for k in range(3):
        one.put(k, pictures()[k])
        other.put(k, pictures()[4 - k])
    for encoder, order in ((one, (0, 1, 2)), (other, (4, 3, 2))):
        decoded = decode(data_of(encoder.encode([])))
        assert all((found[:48] == pictures()[k]).all() for found, k in zip(decoded, order, strict=True))


@pytest.mark.parametrize(("pixels", "staged"), [("GREY", 0), ("YUV420", 0), ("NV12", 5 * 64 * 24)])
def test_the_report_counts_pictures_ioctls_and_copies(tmp_path, connect, pixels, staged):
    report = tmp_path / "report.jsonl"
    for _ in range(2):
        encoder = Encoder(library(), node(tmp_path, formats=pixels, report=report), pixels=pixels)
        encoder.encode(pictures())
        encoder.close()
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(lines) == 2
    assert (lines[0]["pictures"], lines[0]["packets"], lines[0]["staged_bytes"]) == (5, 5, staged)
    assert lines[0]["ioctls"]["ENCODER_CMD"] == 1
    assert lines[0]["ioctls"]["STREAMON"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = red", "key 'colour': found 'red', expected a key of the virtual encoder"),
        ("planes = some", "key 'planes': found 'some', expected single or multi"),
        ("formats = NV21", "key 'formats': found 'NV21', expected GREY, NV12"),
        ("formats = NV12M", "NV12M and YUV420M need planes = multi"),
        ("min = 16x16", "key 'min': found '16x16', expected WIDTHxHEIGHT, 17"),
        ("refuse = p_qp qp", "key 'refuse': found 'p_qp qp', expected names of controls"),
        ("delay = -1", "key 'delay': found '-1'"),
        ("delay", "found 'delay', expected key = value"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_by_its_key(tmp_path, capfd, text, message):
    path = node(tmp_path)
    path.write_text(path.read_text() + text + "\n")
    refused(errno.ENOTTY, Device, library(), path)
    said = capfd.readouterr().err
    assert message in said
    assert str(path) in said


def test_other_files_are_none_of_its_business(tmp_path, capfd):
    (tmp_path / "other").write_text("featlink virtual HEVC encoder?\n")
    refused(errno.ENOTTY, Device, library(), tmp_path / "other")
    assert capfd.readouterr().err.count("\n") == 1  # libv4l2's own line
