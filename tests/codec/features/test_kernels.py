"""The C core gives what the NumPy definition gives, bit for bit, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from codec.features.maps import FLOATS, INTEGERS, fill, memory, packings, pictures, quantizers
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec import _core
from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.features.packer import MapPacker, MapValueError, Saw
from featlink_codec.features.packing import Packing
from featlink_codec.features.quantizers import CustomQuantizer, LogQuantizer, UniformQuantizer
from featlink_codec.features.samples import samples_of
from featlink_codec.features.syntax import RepackMode
from featlink_codec.features.unpacker import MapUnpacker


@pytest.fixture(scope="module", params=_core.paths())
def path(request):
    before = _core.chosen_path()
    _core.choose_path(request.param)
    yield request.param
    _core.choose_path(before)


def defined(packing: Packing, samples, picture: int):
    """The picture by the NumPy definition."""
    out = np.full(packing.picture_size(*samples.shape[:2]), 7, np.uint8)
    packing.pack(samples, picture, out)
    return out


@given(data=st.data())
def test_float_maps_are_packed_as_defined(path, data):
    packing, height, width = data.draw(packings())
    quantizer = data.draw(quantizers())
    dtype = data.draw(st.sampled_from(FLOATS))
    scaling = data.draw(st.booleans())
    values = data.draw(memory((height, width, packing.channels), dtype))
    fill(values, data.draw(st.integers(0, 2**32)), quantizer.thresholds)
    step = 255 // quantizer.peak if scaling else 1
    packer = MapPacker(packing, height, width, dtype, thresholds=quantizer.thresholds, step=step)
    (samples,) = samples_of(quantizer.quantize(values), quantizer.bit_depth, scaling)
    for picture in range(packing.pictures):
        out, around = data.draw(pictures(packing.picture_size(height, width)))
        saw = packer.pack(values, picture, out)
        assert np.array_equal(out, defined(packing, samples, picture))
        here = values[..., list(packing._channels_of(picture))]
        assert bool(saw & Saw.NEGATIVE) >= bool((here < 0).any())
        out[...] = 99
        assert (around == 99).all(), "wrote beside the picture"


@given(data=st.data())
def test_wide_float_maps_are_packed_as_defined(path, data):
    packing, height, width = data.draw(packings())
    quantizer = data.draw(st.sampled_from(WIDE))
    dtype = data.draw(st.sampled_from(FLOATS))
    values = data.draw(memory((height, width, packing.channels), dtype))
    fill(values, data.draw(st.integers(0, 2**32)), quantizer.thresholds)
    packer = MapPacker(packing, height, width, dtype, thresholds=quantizer.thresholds, wide=True)
    high, low = samples_of(quantizer.quantize(values), 16, False)
    check_wide(data, packer, packing, values, low, high)


@given(data=st.data())
def test_integer_maps_are_packed_as_defined(path, data):
    packing, height, width = data.draw(packings())
    dtype = data.draw(st.sampled_from(INTEGERS))
    wide = data.draw(st.booleans())
    values = data.draw(memory((height, width, packing.channels), dtype))
    fill(values, data.draw(st.integers(0, 2**32)))
    size = 256**values.itemsize
    table = draw_table(data, size, wide)
    packer = MapPacker(packing, height, width, dtype, table=table, wide=wide)
    bits = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    samples = table[bits]
    if wide:
        check_wide(data, packer, packing, values, (samples & 255).astype(np.uint8), (samples >> 8).astype(np.uint8))
        return
    for picture in range(packing.pictures):
        out, around = data.draw(pictures(packing.picture_size(height, width)))
        assert packer.pack(values, picture, out) == 0
        assert np.array_equal(out, defined(packing, samples.astype(np.uint8), picture))
        out[...] = 99
        assert (around == 99).all(), "wrote beside the picture"


def check_wide(data, packer, packing, values, low, high):
    height, width, _ = values.shape
    for picture in range(packing.pictures):
        outs = [data.draw(pictures(packing.picture_size(height, width))) for _ in range(2)]
        which = data.draw(st.sampled_from([(0,), (1,), (0, 1)]))
        given_ = [outs[k][0] if k in which else None for k in range(2)]
        packer.pack(values, picture, *given_)
        for k, plane in ((0, low), (1, high)):
            out, around = outs[k]
            if k in which:
                assert np.array_equal(out, defined(packing, plane, picture))
            out[...] = 99
            assert (around == 99).all(), "wrote beside the picture"


def draw_table(data, size, wide):
    """Identity, an affine one, one with steps, one without any rule."""
    most = 65535 if wide else 255
    kind = data.draw(st.sampled_from(["identity", "affine", "signed", "random"]))
    x = np.arange(size)
    if kind == "identity" and size - 1 <= most:
        return x.astype(np.uint16)
    scale, offset = data.draw(st.floats(0, 3)) * most / size, data.draw(st.floats(-300, 300))
    values = np.where(x < size // 2, x, x - size) if kind == "signed" else x
    if kind == "random":
        return np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(0, most + 1, size).astype(np.uint16)
    return np.clip(np.floor(values * scale + offset + 0.5), 0, most).astype(np.uint16)


@given(data=st.data())
def test_pictures_are_unpacked_as_defined(path, data):
    packing, height, width = data.draw(packings())
    dtype = data.draw(st.sampled_from([*FLOATS, *INTEGERS]))
    wide = data.draw(st.booleans()) and dtype not in ("uint8", "int8")
    table = draw_values(data, dtype, 65536 if wide else 256)
    unpacker = MapUnpacker(packing, height, width, table)
    out = data.draw(memory((height, width, packing.channels), dtype))
    base = out.base
    while base.base is not None:
        base = base.base
    expected = np.zeros_like(out)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for picture in range(packing.pictures):
        planes = []
        for _ in range(2 if wide else 1):
            plane, _ = data.draw(pictures(packing.picture_size(height, width)))
            plane[...] = rng.integers(0, 256, plane.shape)
            planes.append(plane)
        levels = np.zeros((2, packing.channels, height, width), np.uint8)
        for k, plane in enumerate(planes):
            packing.unpack(plane, picture, levels[k])
        index = levels[0].astype(np.int64) | levels[1].astype(np.int64) << 8
        for channel in packing._channels_of(picture):
            expected[:, :, channel] = table[index[channel]]
        unpacker.unpack(planes[0], picture, out, planes[1] if wide else None)
    assert out.tobytes() == expected.tobytes()
    out[...] = 0
    assert not base.any(), "wrote beside the map"


def draw_values(data, dtype, size):
    if dtype == "float32" and data.draw(st.booleans()):
        return UniformQuantizer(
            data.draw(st.floats(np.float32(1e-3), 1e6, width=32)), size.bit_length() - 1
        ).level_values
    if dtype in ("uint8", "uint16") and data.draw(st.booleans()):
        return np.arange(size).astype(dtype)
    bits = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(0, 256, size * np.dtype(dtype).itemsize)
    return bits.astype(np.uint8).view(dtype)


#: Some are expensive to derive.
WIDE = [
    UniformQuantizer(6.0, 16),
    UniformQuantizer(np.float32(3.2416).item(), 16),
    LogQuantizer(3.0, 16),
    CustomQuantizer(np.linspace(-5, 7, 65535).astype(np.float32), 16),
]


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("largest", [6.0, 255.0, 1.0, np.float32(0.3).item(), np.float32(44.0106).item(), 1e-3, 3e38])
def test_uniform_quantizers_are_proved_linear_and_right_at_every_threshold(path, depth, largest):
    quantizer = UniformQuantizer(np.float32(largest).item(), depth)
    thresholds = quantizer.thresholds
    near = np.concatenate(
        [thresholds, np.nextafter(thresholds, np.float32(0)), np.nextafter(thresholds, np.float32(np.inf))]
    )
    packing = Packing(RepackMode.TILE, 1, 1, 1)
    packer = MapPacker(packing, 1, len(near), "float32", thresholds=thresholds)
    assert packer.kernel == ("linear" if largest < 1e38 else "buckets")
    out = np.zeros((1, len(near)), np.uint8)
    packer.pack(near.reshape(1, -1, 1), 0, out)
    assert out[0].tolist() == quantizer.quantize(near).tolist()


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_every_half_gets_its_level(path, bit_depth):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    for quantizer in (UniformQuantizer(6.0, bit_depth), LogQuantizer(5.0, bit_depth)):
        packer = MapPacker(
            Packing(RepackMode.STACK, 1),
            8,
            len(halves) // 8,
            "float16",
            thresholds=quantizer.thresholds,
            wide=bit_depth == 16,
        )
        low, high = np.zeros((2, 8, len(halves) // 8), np.uint8)
        packer.pack(halves.reshape(8, -1, 1), 0, low, high if bit_depth == 16 else None)
        levels = quantizer.quantize(halves).reshape(8, -1)
        assert np.array_equal(low, levels & 255)
        assert np.array_equal(high, levels.astype(np.uint16) >> 8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("bad", "name"), [(np.nan, "NaN"), (-np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("where", [(0, 0, 0), (4, 18, 2), (2, 7, 1)])
def test_what_is_not_finite_is_refused_with_its_place_or_clipped(path, dtype, bad, name, where):
    packing = Packing(RepackMode.TILE, 3, 1, 3)
    values = np.ones((5, 19, 3), dtype)
    values[where] = bad
    out = np.zeros((5, 57), np.uint8)
    for quantizer in (UniformQuantizer(6.0, 8), LogQuantizer(3.0, 8), LogQuantizer(120.0, 8)):
        refusing = MapPacker(packing, 5, 19, dtype, thresholds=quantizer.thresholds)
        with pytest.raises(MapValueError, match=name) as error:
            refusing.pack(values, 0, out)
        assert str(where) in str(error.value)
        clipping = MapPacker(packing, 5, 19, dtype, thresholds=quantizer.thresholds, refuse=Saw(0))
        assert clipping.pack(values, 0, out) & (Saw.NAN | Saw.INFINITY)
        expected = values.astype(np.float32)
        expected[where] = 3e38 if bad == np.inf else -1
        assert np.array_equal(out, defined(packing, quantizer.quantize(expected), 0))


def test_negative_numbers_are_told_and_minus_zero_is_none(path):
    packing = Packing(RepackMode.STACK, 1)
    packer = MapPacker(packing, 1, 40, "float32", thresholds=UniformQuantizer(6.0, 8).thresholds)
    values, out = np.full((1, 40, 1), -0.0, np.float32), np.zeros((1, 40), np.uint8)
    assert packer.pack(values, 0, out) == 0
    values[0, 33] = -1e-45
    assert packer.pack(values, 0, out) == Saw.NEGATIVE


@pytest.mark.parametrize(("dtype", "excess"), [("int8", -1), ("int16", -3)])
def test_negative_integers_are_refused_at_any_depth(path, dtype, excess):
    size = 256 ** np.dtype(dtype).itemsize
    table = np.minimum(np.arange(size), 255).astype(np.uint16)
    packer = MapPacker(Packing(RepackMode.STACK, 1), 1, 40, dtype, table=table, limit=255)
    values, out = np.full((1, 40, 1), 100, dtype), np.zeros((1, 40), np.uint8)
    assert packer.pack(values, 0, out) == 0
    values[0, 3] = excess
    with pytest.raises(MapValueError, match=str(excess)):
        packer.pack(values, 0, out)
    assert MapPacker(Packing(RepackMode.STACK, 1), 1, 40, dtype, table=table).pack(values, 0, out) == 0


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000])
def test_signalling_nan_is_level_0_like_any_other(path, bits):
    values = np.full((1, 70, 1), bits, np.uint32).view(np.float32)
    out = np.full((1, 70), 9, np.uint8)
    for quantizer in (UniformQuantizer(6.0, 8), LogQuantizer(3.0, 8)):
        packer = MapPacker(
            Packing(RepackMode.STACK, 1), 1, 70, "float32", thresholds=quantizer.thresholds, refuse=Saw(0)
        )
        assert packer.pack(values, 0, out) & Saw.NAN
        assert not out.any()


@pytest.mark.parametrize(("dtype", "excess"), [("uint8", 16), ("int8", -1), ("uint16", 300), ("int16", -3)])
def test_integers_beyond_the_depth_are_refused(path, dtype, excess):
    packing = Packing(RepackMode.STACK, 1)
    size = 256 ** np.dtype(dtype).itemsize
    table = np.minimum(np.arange(size), 15).astype(np.uint16)
    packer = MapPacker(packing, 1, 40, dtype, table=table, limit=15)
    values, out = np.full((1, 40, 1), 15, dtype), np.zeros((1, 40), np.uint8)
    assert packer.pack(values, 0, out) == 0
    assert (out == 15).all()
    values[0, 39] = excess
    with pytest.raises(MapValueError, match=str(excess)):
        packer.pack(values, 0, out)


class TestBadArguments:
    """Errors come before the first byte is written."""

    packing = Packing(RepackMode.TILE, 4, 2, 2, pad_h=1)
    uniform = UniformQuantizer(6.0, 8)

    def packer(self, **more):
        return MapPacker(self.packing, 5, 6, "float32", **{"thresholds": self.uniform.thresholds, **more})

    @pytest.mark.parametrize(
        ("values", "out", "says"),
        [
            (np.zeros((5, 6, 3), np.float32), None, "expected float32 \\[5, 6, 4\\]"),
            (np.zeros((5, 6, 4), np.float64), None, "the map is float64"),
            (np.zeros((5, 6, 4), np.float16), None, "the map is float16"),
            (None, np.zeros((10, 12), np.uint8), "expected uint8 \\[11, 12\\], pads included"),
            (None, np.zeros((11, 12), np.int8), "picture: int8"),
            (None, np.zeros((11, 24), np.uint8)[:, ::2], "strides"),
            (None, np.broadcast_to(np.zeros((1, 12), np.uint8), (11, 12)), "strides"),
            (None, np.lib.stride_tricks.as_strided(np.zeros(200, np.uint8), (11, 12), (11, 1)), "strides"),
            (None, np.frombuffer(bytes(132), np.uint8).reshape(11, 12), "read-only"),
        ],
    )
    def test_arrays_that_do_not_fit(self, values, out, says):
        values = np.zeros((5, 6, 4), np.float32) if values is None else values
        given_ = np.full((11, 12), 5, np.uint8) if out is None else out
        before = given_.copy()
        with pytest.raises(SettingsError, match=says):
            self.packer().pack(values, 0, given_)
        assert np.array_equal(given_, before)

    def test_overlap(self):
        buffer = np.zeros(480, np.uint8)
        with pytest.raises(SettingsError, match="overlaps the map"):
            self.packer().pack(buffer.view(np.float32).reshape(5, 6, 4), 0, buffer[100:232].reshape(11, 12))
        unpacker = MapUnpacker(self.packing, 5, 6, self.uniform.level_values)
        with pytest.raises(SettingsError, match="overlaps the map"):
            unpacker.unpack(buffer[100:232].reshape(11, 12), 0, buffer.view(np.float32).reshape(5, 6, 4))
        with pytest.raises(SettingsError, match="elements overlap"):
            unpacker.unpack(
                np.zeros((11, 12), np.uint8), 0,
                np.lib.stride_tricks.as_strided(np.zeros(300, np.float32), (5, 6, 4), (16, 16, 4)),
            )  # fmt: skip

    def test_planes(self):
        plane, values = np.zeros((11, 12), np.uint8), np.zeros((5, 6, 4), np.float32)
        with pytest.raises(SettingsError, match="no picture of high bytes"):
            self.packer().pack(values, 0, plane, plane)
        with pytest.raises(SettingsError, match="no picture is given"):
            self.packer().pack(values, 0, None)
        wide = self.packer(thresholds=UniformQuantizer(6.0, 16).thresholds, wide=True)
        with pytest.raises(SettingsError, match="low and of high bytes overlap"):
            wide.pack(values, 0, plane, plane)
        with pytest.raises(SettingsError, match="picture 1 of 1"):
            self.packer().pack(values, 1, plane)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"thresholds": np.zeros(256, np.float32)}, "thresholds \\[256\\]"),
            ({"thresholds": np.zeros((3, 3), np.float32)}, "thresholds"),
            ({"thresholds": np.zeros(0, np.float32)}, "thresholds"),
            ({"thresholds": np.array([1, np.nan, 2], np.float32)}, "NaN"),
            ({"thresholds": np.array([1, 3, 2], np.float32)}, "decrease"),
            ({"thresholds": None}, "take thresholds"),
            ({"table": np.zeros(256, np.uint16)}, "take thresholds"),
            ({"step": 2}, "does not hold"),
        ],
    )
    def test_quantizers(self, more, says):
        with pytest.raises(SettingsError, match=says):
            self.packer(**more)

    def test_tables(self):
        for table, says in (
            (np.zeros(255, np.uint16), "expected 256 samples"),
            (np.full(256, 256, np.uint16), "does not hold"),
            (np.full(256, -1, np.int32), "a table"),
            (None, "take a table"),
        ):
            with pytest.raises(SettingsError, match=says):
                MapPacker(self.packing, 5, 6, "uint8", table=table)
        with pytest.raises(SettingsError, match="maps of float64"):
            MapPacker(self.packing, 5, 6, "float64", thresholds=self.uniform.thresholds)
        for values in (np.zeros(255, np.float32), np.zeros(256, np.float64), np.zeros(65536, np.uint8)):
            with pytest.raises(SettingsError, match="a table"):
                MapUnpacker(self.packing, 5, 6, values)

    def test_an_unknown_instruction_set(self):
        with pytest.raises(FeatlinkError, match="no instruction set 'mmx'"):
            _core.choose_path("mmx")
