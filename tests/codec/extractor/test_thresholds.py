"""The thresholds file: what is written reads back bit for bit, and everything else is refused by name."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import (
    MapSettings,
    PackingSettings,
    QuantizerSettings,
    VideoSettings,
    read_thresholds,
    thresholds_of,
    write_thresholds,
)
from featlink_codec.extractor.coding import map_coding
from featlink_codec.features.quantizers import CustomQuantizer, LogQuantizer, Quantizer, UniformQuantizer

LARGEST = float(np.finfo(np.float32).max)
GOOD = np.float32([0.5, 1.5, 2.5])


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def put(folder: Path, data: bytes) -> tuple[Path, str]:
    """A file and its SHA-256."""
    path = folder / "t.npy"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def feature(quantizer: QuantizerSettings) -> MapSettings:
    return MapSettings(0, "relu", 20, 20, 4, quantizer, PackingSettings("tile", 2, 2))


@pytest.mark.parametrize("bit_depth", [2, 4, 8, 16])
@pytest.mark.parametrize("make", [UniformQuantizer, LogQuantizer])
def test_what_is_written_reads_back_bit_for_bit(tmp_path: Path, make: Any, bit_depth: int) -> None:
    quantizer: Quantizer = make(6.0, bit_depth)
    path = tmp_path / "t.npy"
    digest = write_thresholds(path, quantizer.thresholds)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.read_bytes().startswith(b"\x93NUMPY\x01\x00")
    assert np.load(path, allow_pickle=False).dtype.str == "<f4"
    found = read_thresholds(path, digest, quantizer.peak)
    assert (found.dtype, found.shape) == (np.float32, (quantizer.peak,))
    assert found.tobytes() == quantizer.thresholds.tobytes()
    assert found.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


@pytest.mark.parametrize("values", [[0.0, 0.0, 1e-45], [-LARGEST, 0.0, LARGEST], [-0.0, 0.0, 0.0]])
def test_equal_thresholds_and_the_ends_of_float32_are_taken(tmp_path: Path, values: list[float]) -> None:
    digest = write_thresholds(tmp_path / "t.npy", np.float32(values))
    assert read_thresholds(tmp_path / "t.npy", digest, 3).tobytes() == np.float32(values).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found a file that begins with b'', expected a .npy file, version 1.0, of <f4 [3]"),
        (npy(GOOD)[:9], "expected a .npy file, version 1.0, of <f4 [3]"),
        (npy(GOOD)[:60], "expected a .npy file, version 1.0, of <f4 [3]"),
        (npy(GOOD)[:-1], "found 11 bytes behind the header, expected 12"),
        (npy(GOOD) + b"\0", "found 13 bytes behind the header, expected 12"),
        (npy(GOOD, (2, 0)), r"found a file that begins with b'\x93NUMPY\x02\x00', expected a .npy file, version 1.0"),
        (pickle.dumps([0.5, 1.5, 2.5]), "found a file that begins with"),
        (npy(np.array([0.5, 1.5, 2.5], object)), "found |O [3], expected a .npy file, version 1.0, of <f4 [3]"),
        (npy(GOOD.astype(np.float64)), "found <f8 [3], expected"),
        (npy(GOOD.astype(">f4")), "found >f4 [3], expected"),
        (npy(GOOD.astype(np.int32)), "found <i4 [3], expected"),
        (npy(GOOD[:2]), "found <f4 [2], expected"),
        (npy(GOOD[None]), "found <f4 [1, 3], expected"),
        (npy(GOOD).replace(b"(3,)", b"(((("), "expected a .npy file, version 1.0"),
        (npy(GOOD).replace(b"(3,)", b"9999"), "expected a .npy file, version 1.0"),
        (npy(np.float32([0.5, np.nan, 2.5])), "found nan as threshold of level 2, expected a finite number"),
        (npy(np.float32([-np.inf, 1, 2])), "found -inf as threshold of level 1, expected a finite number"),
        (npy(np.float32([0, 1, np.inf])), "found inf as threshold of level 3, expected a finite number"),
        (npy(np.float32([0, 2, 1])), "found 1.0 as threshold of level 3, expected at least the one before, 2.0"),
        (npy(np.zeros(1000, np.float32)), "found 4128 bytes, expected at most 1036 for float32 [3]"),
    ],
)
def test_a_file_of_the_right_hash_that_holds_no_thresholds_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path, digest = put(tmp_path, data)
    with pytest.raises(SettingsError) as error:
        read_thresholds(path, digest, 3)
    assert str(error.value).startswith(f"{path}: found ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class Trap:
    """Unpickling it is heard of."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, digest = put(tmp_path, npy(np.array([Trap()] * 3)))
    with pytest.raises(SettingsError, match=r"found \|O \[3\]"):
        read_thresholds(path, digest, 3)


def test_a_file_beyond_any_memory_is_refused_by_its_size(tmp_path: Path) -> None:
    path, digest = put(tmp_path, npy(GOOD))
    os.truncate(path, 1 << 40)
    with pytest.raises(SettingsError, match=f"found {1 << 40} bytes, expected at most 1036"):
        read_thresholds(path, digest, 3)


def test_another_file_or_none(tmp_path: Path) -> None:
    path, digest = put(tmp_path, npy(GOOD))
    with pytest.raises(SettingsError, match=rf"t\.npy: found SHA-256 {digest}, expected {'a' * 64}"):
        read_thresholds(path, "a" * 64, 3)
    path.unlink()
    with pytest.raises(
        SettingsError, match=r"t\.npy: found No such file or directory, expected a file with thresholds"
    ):
        read_thresholds(path, digest, 3)
    path.mkdir()
    with pytest.raises(SettingsError, match=r"t\.npy: found Is a directory, expected a file with thresholds"):
        read_thresholds(path, digest, 3)
    with pytest.raises(SettingsError, match=r"t\.npy: Is a directory"):
        write_thresholds(path, GOOD)


@given(st.integers(0, 137), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_gives_thresholds_or_a_settings_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    data = bytearray(npy(GOOD))
    data[at : at + len(junk)] = junk
    path, digest = put(tmp_path_factory.getbasetemp(), bytes(data))
    try:
        found = read_thresholds(path, digest, 3)
    except SettingsError:
        return
    assert np.isfinite(found).all()
    assert (found[1:] >= found[:-1]).all()


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (GOOD.astype(np.float64), r"found thresholds of float64 \[3\], expected float32 \[peak\]"),
        (GOOD[None], r"found thresholds of float32 \[1, 3\], expected float32 \[peak\]"),
        (np.float32([0, np.nan, 1]), "found nan as threshold of level 2"),
        (np.float32([0, np.inf, np.inf]), "found inf as threshold of level 2"),
        (np.float32([1, 0, 2]), "found 0.0 as threshold of level 2"),
    ],
)
def test_no_bad_file_is_written(tmp_path: Path, thresholds: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_thresholds(tmp_path / "t.npy", thresholds)
    assert not (tmp_path / "t.npy").exists()


def test_only_a_custom_quantizer_can_end_in_infinity(tmp_path: Path) -> None:
    for make in (UniformQuantizer(LARGEST, 16), LogQuantizer(float(np.nextafter(np.float32(128), np.float32(0))), 16)):
        assert np.isfinite(make.thresholds).all()
    bounds = np.float32([0, 1, LARGEST])
    with np.errstate(over="ignore"):
        ends = CustomQuantizer(bounds, 2).thresholds
    assert ends[-1] == np.inf
    stored = "t.npy", write_thresholds(tmp_path / "t.npy", ends)
    custom = feature(QuantizerSettings("custom", 2, 1.0, tuple(bounds.tolist()), *stored))
    assert thresholds_of(tmp_path, custom).tobytes() == ends.tobytes()
    for mode in ("uniform", "logarithmic"):
        with pytest.raises(SettingsError, match=r"t\.npy: found inf as threshold of level 3"):
            thresholds_of(tmp_path, feature(QuantizerSettings(mode, 2, 1.0, None, *stored)))


def test_what_is_stored_counts_whatever_this_machine_would_derive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds = LogQuantizer(6.0, 8).thresholds
    stored = "t.npy", write_thresholds(tmp_path / "t.npy", thresholds)
    power = math.pow
    monkeypatch.setattr(math, "pow", lambda base, exponent: power(base, exponent) * (1 + 1e-6))
    assert LogQuantizer(6.0, 8).thresholds.tobytes() != thresholds.tobytes()
    settings = feature(QuantizerSettings("logarithmic", 8, 6.0, None, *stored))
    coding = map_coding(settings, VideoSettings(), thresholds_of(str(tmp_path), settings))
    assert coding.thresholds.tobytes() == thresholds.tobytes()


def test_without_a_file_the_quantizer_derives_its_own(tmp_path: Path) -> None:
    settings = feature(QuantizerSettings("uniform", 8, 6.0))
    assert thresholds_of(tmp_path, settings) is None
    assert map_coding(settings, VideoSettings()).thresholds is None
