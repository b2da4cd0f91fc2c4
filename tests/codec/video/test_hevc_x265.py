"""Encoding with libx265: lossless where promised, one access unit a picture, the same bytes every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import AccessUnit, split_access_units
from featlink_codec.video.picture_hash import has_md5
from featlink_codec.video.x265 import X265Encoder, X265Settings
from featlink_codec.video.x265_settings import PRESETS

Plane = NDArray[np.uint8]
VPS, SPS, PPS, SUFFIX_SEI, IDR, TRAIL = 32, 33, 34, 40, 20, 1


def moving(width: int, height: int, count: int, seed: int = 0) -> list[Plane]:
    """Pictures that move over and into themselves, so that prediction reaches past every edge, with a little noise."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 200, (height, width))
    rolled = [np.roll(base, (3 * k, 5 * k), axis=(0, 1)) for k in range(count)]
    return [(picture + rng.integers(0, 3, base.shape)).astype(np.uint8) for picture in rolled]


def types(data: bytes) -> list[int]:
    return [nal.type for nal in unit_of(data).nal_units]


def unit_of(data: bytes) -> AccessUnit:
    (unit,) = split_access_units(data, 0)
    return unit


def assert_lossless(encoder: X265Encoder, luma: list[Plane], intra_at: tuple[int, ...] = (0,)) -> list[bytes]:
    decoder = HevcDecoder(encoder.settings.width, encoder.settings.height)
    units = []
    for k, picture in enumerate(luma):
        units.append(encoder.encode(picture, intra=k in intra_at))
        np.testing.assert_array_equal(decoder.decode(units[-1]), picture)
    return units


# What comes out


def test_every_call_gives_one_access_unit_and_intra_ones_begin_a_session() -> None:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True))
    units = assert_lossless(encoder, moving(40, 24, 7), intra_at=(0, 3, 4))
    intra, predicted = [VPS, SPS, PPS, IDR, SUFFIX_SEI], [TRAIL, SUFFIX_SEI]
    assert [types(data) for data in units] == [intra, predicted, predicted, intra, intra, predicted, predicted]
    for k in (3, 4):
        np.testing.assert_array_equal(HevcDecoder(40, 24).decode(units[k]), moving(40, 24, 7)[k])


def test_the_first_picture_is_intra_even_when_not_asked_for() -> None:
    encoder = X265Encoder(X265Settings(40, 24, qp=20))
    assert types(encoder.encode_frame(intra=False))[:4] == [VPS, SPS, PPS, IDR]


def test_no_intra_picture_comes_unasked() -> None:
    # A new scene and, at 250 pictures, what would be x265's default interval.
    encoder = X265Encoder(X265Settings(24, 24, lossless=True))
    rng = np.random.default_rng(0)
    units = [encoder.encode(rng.integers(0, 256, (24, 24), np.uint8), intra=False) for _ in range(300)]
    assert [types(data)[0] for data in units] == [VPS] + [TRAIL] * 299


@pytest.mark.parametrize("picture_hash", [True, False])
def test_the_hash_is_there_when_asked_for(picture_hash: bool) -> None:
    encoder = X265Encoder(X265Settings(40, 24, crf=20, picture_hash=picture_hash))
    for k in range(2):
        assert has_md5(unit_of(encoder.encode_frame(intra=k == 0))) is picture_hash


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True))
    encoder.encode_frame(intra=True)
    encoder.close()
    del encoder
    assert capfd.readouterr() == ("", "")


# Lossless


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (17, 17),
        (17, 70),
        (18, 33),
        (23, 31),
        (31, 17),
        (32, 32),
        (33, 17),
        (40, 41),
        (47, 48),
        (64, 64),
        (65, 63),
        (70, 69),
    ],
)
def test_pictures_of_any_size_come_back_as_they_were(width: int, height: int) -> None:
    encoder = X265Encoder(X265Settings(width, height, lossless=True))
    assert not encoder.all_intra
    units = assert_lossless(encoder, moving(width, height, 5))
    assert [unit_of(data).is_irap for data in units] == [True, False, False, False, False]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_lossless(preset: str) -> None:
    assert_lossless(X265Encoder(X265Settings(37, 29, lossless=True, preset=preset)), moving(37, 29, 3))


@pytest.mark.parametrize("values", [0, 255, "noise"])
def test_pictures_of_one_value_and_of_noise_come_back_as_they_were(values: int | str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (3, 30, 50), np.uint8)
    pictures = list(noise if values == "noise" else np.full_like(noise, int(values)))
    assert_lossless(X265Encoder(X265Settings(50, 30, lossless=True)), pictures)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (16, 17), (17, 16), (16, 64), (64, 16), (19, 16)])
def test_with_a_side_of_16_every_picture_is_intra(width: int, height: int) -> None:
    # libx265 predicts wrongly in pictures one coding tree unit wide.
    encoder = X265Encoder(X265Settings(width, height, lossless=True))
    assert encoder.all_intra
    units = assert_lossless(encoder, moving(width, height, 5), intra_at=(0, 3))
    assert [unit_of(data).is_irap for data in units] == [True] * 5
    assert [unit_of(data).has_parameter_sets for data in units] == [True, False, False, True, False]


def test_all_intra_pictures_need_nothing_but_their_parameter_sets() -> None:
    luma = moving(40, 24, 4)
    encoder = X265Encoder(X265Settings(40, 24, lossless=True, all_intra=True))
    units = assert_lossless(encoder, luma)
    assert [types(data) for data in units] == [[VPS, SPS, PPS, IDR, SUFFIX_SEI]] + [[IDR, SUFFIX_SEI]] * 3
    decoder = HevcDecoder(40, 24)
    decoder.decode(units[0])
    np.testing.assert_array_equal(decoder.decode(units[3]), luma[3])


def test_verifying_finds_nothing_to_complain_about() -> None:
    for settings in (X265Settings(33, 18, lossless=True), X265Settings(33, 18, crf=25), X265Settings(16, 16, qp=30)):
        encoder = X265Encoder(settings, verify=True)
        for k, picture in enumerate(moving(33, 18, 4)):
            encoder.encode(picture[: settings.height, : settings.width], intra=k in (0, 2))


def test_verifying_finds_a_picture_that_is_not_lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True), verify=True)
    encoder.encode_frame(intra=True)
    decode = HevcDecoder.decode

    def wrong(self: HevcDecoder, *arguments: Any) -> Plane:
        picture = decode(self, *arguments).copy()
        picture[3, 5] ^= 1
        return picture

    monkeypatch.setattr(HevcDecoder, "decode", wrong)
    with pytest.raises(EncoderError, match="picture 1 is not lossless: 1 samples of 960 differ"):
        encoder.encode_frame(intra=False)
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode_frame(intra=True)


def test_verifying_finds_a_picture_that_does_not_decode() -> None:
    encoder = X265Encoder(X265Settings(40, 24, crf=20), verify=True)
    encoder.encode_frame(intra=True)
    assert encoder._decoder is not None
    encoder._decoder.close()
    with pytest.raises(EncoderError, match=r"picture 1 does not decode: .*no-reference"):
        encoder.encode_frame(intra=False)


# Lossy


@pytest.mark.parametrize("intra", [True, False])
@pytest.mark.parametrize("kind", ["qp", "crf"])
def test_a_lower_quantizer_costs_bytes_and_saves_error(kind: str, intra: bool) -> None:
    luma = moving(64, 48, 4)
    results = []
    for value in (8, 22, 40):
        settings = X265Settings(64, 48, qp=value) if kind == "qp" else X265Settings(64, 48, crf=value)
        encoder, decoder = X265Encoder(settings), HevcDecoder(64, 48)
        units = [encoder.encode(picture, intra=intra) for picture in luma]
        error = [(decoder.decode(data).astype(int) - picture) ** 2 for data, picture in zip(units, luma, strict=True)]
        results.append((float(np.mean(error)), sum(map(len, units))))
    assert [error for error, _ in results] == sorted(error for error, _ in results)
    assert [size for _, size in results] == sorted((size for _, size in results), reverse=True)
    assert 0 < results[0][0] < 2


def test_qp_is_that_of_intra_and_of_predicted_pictures_alike() -> None:
    luma = moving(64, 48, 2)
    sizes = []
    for qp in (20, 23):
        encoder = X265Encoder(X265Settings(64, 48, qp=qp, picture_hash=False))
        sizes.append([len(encoder.encode(picture, intra=k == 0)) for k, picture in enumerate(luma)])
    codec = av.CodecContext.create("libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "gray", Fraction(1, 25)
    # What libx265 does by itself: a QP 3 lower for intra pictures.
    params = X265Settings(64, 48, qp=23, picture_hash=False).x265_params().replace(":ipratio=1", "")
    codec.options = {"preset": "superfast", "forced-idr": "1", "x265-params": params}
    frame = av.VideoFrame(64, 48, "gray")
    frame.planes[0].update(luma[0].tobytes())
    (packet,) = codec.encode(frame)
    assert packet.size == sizes[0][0]
    assert packet.size > sizes[1][0]


# 4:2:0


def test_neutral_chroma_stands_beside_the_luma() -> None:
    luma = moving(38, 26, 3)
    encoder = X265Encoder(X265Settings(38, 26, lossless=True, chroma="420"))
    codec = av.CodecContext.create("hevc", "r")
    for picture, data in zip(luma, assert_lossless(encoder, luma), strict=True):
        (frame,) = codec.decode(av.Packet(data))
        assert frame.format.name == "yuv420p"
        planes = frame.to_ndarray()
        np.testing.assert_array_equal(planes[:26], picture)
        assert (planes[26:] == 128).all()


# The frame buffer


def test_pictures_can_be_written_straight_into_the_frame_buffer() -> None:
    settings = X265Settings(45, 34, lossless=True)
    luma = moving(45, 34, 6)
    direct, copied = X265Encoder(settings), X265Encoder(settings)
    buffer = direct.frame_buffer()
    assert (buffer.shape, buffer.dtype, buffer.flags.writeable) == ((34, 45), np.uint8, True)
    for k, picture in enumerate(luma):
        np.copyto(buffer, picture)
        data = direct.encode_frame(intra=k == 0)
        assert data == copied.encode(picture, intra=k == 0)
        assert np.shares_memory(direct.frame_buffer(), buffer)


def test_writing_into_the_frame_buffer_again_does_not_reach_pictures_already_encoded() -> None:
    # If x265 or FFmpeg kept a reference to the samples, the predicted picture would be predicted from garbage.
    luma = moving(45, 34, 5)
    encoder = X265Encoder(X265Settings(45, 34, lossless=True))
    decoder = HevcDecoder(45, 34)
    for k, picture in enumerate(luma):
        data = encoder.encode(picture, intra=k == 0)
        encoder.frame_buffer()[:] = 255 - picture
        np.testing.assert_array_equal(decoder.decode(data), picture)


def test_the_frame_buffer_keeps_its_samples_and_begins_with_zeros() -> None:
    encoder, decoder = X265Encoder(X265Settings(45, 34, lossless=True)), HevcDecoder(45, 34)
    assert not encoder.frame_buffer().any()
    encoder.frame_buffer()[:30] = 9
    decoder.decode(encoder.encode_frame(intra=True))
    encoder.frame_buffer()[:10] = 8
    decoded = decoder.decode(encoder.encode_frame(intra=False))
    assert (decoded[:10] == 8).all()
    assert (decoded[10:30] == 9).all()
    assert not decoded[30:].any()


def test_luma_of_any_strides_is_taken() -> None:
    picture = moving(40, 24, 1)[0]
    expected = X265Encoder(X265Settings(40, 24, lossless=True)).encode(picture, intra=True)
    wide = np.zeros((24, 40, 5), np.uint8)
    wide[:, :, 2] = picture
    for view in (wide[:, :, 2], np.asfortranarray(picture), picture[::-1].copy()[::-1]):
        assert X265Encoder(X265Settings(40, 24, lossless=True)).encode(view, intra=True) == expected


@pytest.mark.parametrize(
    "luma", [np.zeros((40, 24), np.uint8), np.zeros((24, 40), np.int32), np.zeros((24, 40, 1), np.uint8)]
)
def test_luma_that_does_not_fit_is_refused(luma: Plane) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        X265Encoder(X265Settings(40, 24, lossless=True)).encode(luma, intra=True)


# The same bytes every time

DIGEST = """
import hashlib, numpy as np
from featlink_codec.video.x265 import X265Encoder, X265Settings
digest = hashlib.sha256()
rng = np.random.default_rng(1)
for kind in ({"lossless": True}, {"qp": 24}, {"crf": 24.5}, {"lossless": True, "all_intra": True}):
    for width, height in ((17, 17), (65, 43), (304, 240), (16, 33)):
        encoder = X265Encoder(X265Settings(width, height, **kind))
        base = rng.integers(0, 200, (height, width))
        for k in range(4):
            luma = (np.roll(base, k, axis=1) + rng.integers(0, 5, base.shape)).astype(np.uint8)
            digest.update(encoder.encode(luma, intra=k == 0))
"""


def test_two_processes_and_two_runs_in_one_give_the_same_bytes() -> None:
    script = DIGEST + "print(digest.hexdigest())"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=120)[0].strip() for process in processes}
    for _ in range(2):
        names: dict[str, Any] = {}
        exec(DIGEST, names)
        digests.add(names["digest"].hexdigest())
    assert len(digests) == 1
    assert len(digests.pop()) == hashlib.sha256().digest_size * 2


# Settings


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"width": 15, "height": 64, "lossless": True}, "width is 15.*choose another packing"),
        ({"width": 64, "height": 15, "lossless": True}, "height is 15.*choose another packing"),
        ({"width": 0, "height": 64, "lossless": True}, "width is 0"),
        ({"width": 8193, "height": 64, "lossless": True}, "width is 8193"),
        ({"width": 64, "height": 8193, "lossless": True}, "height is 8193"),
        ({"width": 64, "height": 48}, "exactly one"),
        ({"width": 64, "height": 48, "lossless": True, "qp": 3}, "exactly one"),
        ({"width": 64, "height": 48, "qp": 3, "crf": 3.0}, "exactly one"),
        ({"width": 64, "height": 48, "qp": -1}, "qp is -1"),
        ({"width": 64, "height": 48, "qp": 52}, "qp is 52"),
        ({"width": 64, "height": 48, "crf": 51.5}, "crf is 51.5"),
        ({"width": 64, "height": 48, "crf": float("nan")}, "crf is nan"),
        ({"width": 64, "height": 48, "qp": 3, "preset": "quick"}, "preset is 'quick'"),
        ({"width": 64, "height": 48, "qp": 3, "chroma": "422"}, "chroma is '422'"),
        ({"width": 65, "height": 48, "qp": 3, "chroma": "420"}, "odd side"),
        ({"width": 64, "height": 49, "qp": 3, "chroma": "420"}, "odd side"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        X265Settings(**fields)


def test_the_limits_themselves_are_taken() -> None:
    for fields in ({"qp": 0}, {"qp": 51}, {"crf": 0.0}, {"crf": 51.0}):
        encoder = X265Encoder(X265Settings(16, 16, **fields), verify=True)  # type: ignore[arg-type]
        encoder.encode_frame(intra=True)
    X265Settings(8192, 8192, lossless=True)


def test_libx265_missing_is_an_encoder_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutX265:
        FFmpegError = av.FFmpegError

        class CodecContext:
            @staticmethod
            def create(name: str, mode: str) -> None:
                raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr("featlink_codec.video.x265.av", WithoutX265)
    with pytest.raises(EncoderError, match="libx265"):
        X265Encoder(X265Settings(40, 24, lossless=True))


class FakeCodec:
    def __init__(self, packets: list[bytes]) -> None:
        self.packets = packets

    def encode(self, frame: object) -> list[bytes]:
        return self.packets


@pytest.mark.parametrize("count", [0, 2])
def test_any_other_number_of_packets_than_one_ends_the_session(count: int) -> None:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True))
    data = encoder.encode_frame(intra=True)
    encoder._codec = FakeCodec([data] * count)  # type: ignore[assignment]
    with pytest.raises(EncoderError, match=f"{count} packets for picture 1"):
        encoder.encode_frame(intra=False)
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode_frame(intra=True)


def test_a_packet_that_is_not_the_picture_asked_for_ends_the_session() -> None:
    first = X265Encoder(X265Settings(40, 24, lossless=True)).encode_frame(intra=True)
    bare = bytes(unit_of(first).data)[unit_of(first).nal_units[3].offset - 3 :]
    for packet, intra in ((first + first, True), (b"", True), (first, False), (bare, True)):
        encoder = X265Encoder(X265Settings(40, 24, lossless=True))
        encoder.encode_frame(intra=True)
        encoder._codec = FakeCodec([packet])  # type: ignore[assignment]
        with pytest.raises(EncoderError, match="picture 1"):
            encoder.encode_frame(intra=intra)


def test_a_closed_encoder_encodes_nothing() -> None:
    encoder = X265Encoder(X265Settings(40, 24, lossless=True), verify=True)
    encoder.close()
    encoder.close()
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode_frame(intra=True)
