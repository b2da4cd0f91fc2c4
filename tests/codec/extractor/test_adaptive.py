"""[maps.quantizer] in mode "adaptive": classes, class maps and thresholds in files, decisions on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec.extractor.test_settings import good
from codec.features.test_class_kernels import tree

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import (
    ExtractorSettings,
    QuantizerSettings,
    thresholds_of,
    write_class_map,
    write_thresholds,
)
from featlink_codec.extractor.adaptive import ClassTable
from featlink_codec.extractor.coding import map_coding, quantizer_of
from featlink_codec.features import Profile
from featlink_codec.features.adaptive import BlockClasses, ChannelClasses, Partition, RegionClasses, Whole

CLASSES = [
    {"distribution": "gaussian", "bit_depth": 8, "center": 0.1, "spread": 2.0},
    {"distribution": "logarithmic", "bit_depth": 3, "center": 0.0, "spread": 3.0, "step": 1.0, "offset": 0.25},
]


def made(folder: Path, of: Partition, **changes: Any) -> ExtractorSettings:
    """The ordinary extractor with classes of that partition, through its TOML tables and back."""
    data = good()
    quantizer = {"mode": "adaptive", "bit_depth": 8, "max_feat_digit": 1.0, "partition": of.kind.name.lower()}
    quantizer["classes"] = CLASSES[:1] if isinstance(of, Whole) else CLASSES
    if not isinstance(of, Whole):
        quantizer["class_map"] = "classes.npy"
        quantizer["class_map_sha256"] = write_class_map(folder / "classes.npy", of)
    data["maps"][0]["quantizer"] = {**quantizer, **changes}
    data["video"]["profile"] = "adaptive"
    settings = ExtractorSettings.from_dict(data)
    assert ExtractorSettings.from_dict(settings.to_dict()) == settings
    return settings


def shape() -> tuple[int, int, int]:
    first = good()["maps"][0]
    return first["height"], first["width"], first["channels"]


def partitions() -> dict[str, Partition]:
    height, width, channels = shape()
    rng = np.random.default_rng(1)
    splits = tree((height, width, channels), 3, 9)
    return {
        "whole": Whole(),
        "channel": ChannelClasses(rng.integers(0, 2, channels).astype(np.uint8)),
        "region": RegionClasses(rng.integers(0, 2, (height, width)).astype(np.uint8)),
        "block": BlockClasses(splits, rng.integers(0, 2, int((splits == 0).sum())).astype(np.uint8)),
    }


@pytest.mark.parametrize("kind", list(partitions()))
def test_classes_come_from_the_table_and_the_class_map_from_its_file(kind, tmp_path):
    partition = partitions()[kind]
    settings = made(tmp_path, partition)
    coding = map_coding(settings.maps[0], settings.video, None, tmp_path)
    assert coding.profile is Profile.ADAPTIVE
    assert coding.decide is None
    assert coding.quantizer.classes == tuple(ClassTable(**one).parameters for one in settings_classes(kind))
    assert np.array_equal(coding.quantizer.partition.ids_of(*shape()), partition.ids_of(*shape()))


def settings_classes(kind: str) -> list[dict[str, Any]]:
    return CLASSES[:1] if kind == "whole" else CLASSES


def test_thresholds_of_classes_are_a_row_each(tmp_path):
    settings = made(tmp_path, partitions()["channel"])
    thresholds = quantizer_of(settings.maps[0], tmp_path).thresholds
    assert thresholds.shape == (2, 255)
    assert np.isinf(thresholds[1, 7:]).all()
    digest = write_thresholds(tmp_path / "t.npy", thresholds, classes=True)
    settings = made(tmp_path, partitions()["channel"], thresholds="t.npy", thresholds_sha256=digest)
    stored = thresholds_of(tmp_path, settings.maps[0])
    assert stored.tobytes() == thresholds.tobytes()
    coding = map_coding(settings.maps[0], settings.video, stored, tmp_path)
    values = np.random.default_rng(2).normal(0, 2, shape()).astype(np.float32)
    packer = coding.packer(values, coding.quantizer, refuse=0)
    assert packer.kernel == "linear"


@pytest.mark.parametrize("kind", ["whole", "channel", "region"])
def test_classes_are_decided_on_where_that_is_asked_for(kind, tmp_path):
    settings = made(tmp_path, partitions()[kind], on_device="intra")
    coding = map_coding(settings.maps[0], settings.video, None, tmp_path)
    values = np.random.default_rng(3).normal(1, 2, shape()).astype(np.float32)
    values[:, :, ::2] *= 4
    found = coding.decided(values)
    assert found.partition.kind == coding.quantizer.partition.kind
    assert len(found.classes) == len(settings_classes(kind))
    assert {one.bit_depth for one in found.classes} == {8}
    error = found.dequantize(found.quantize(values)) - values
    assert float(np.abs(error).mean()) < 0.1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"partition": None}, r"\[maps\[0\].quantizer\] partition: found None, expected one in mode 'adaptive'"),
        ({"classes": None}, r"\[maps\[0\].quantizer\] classes: found none, expected at least one"),
        ({"classes": [{**CLASSES[0], "spread": 0.0}]}, r"classes\[0\]\] spread: found 0.0, expected a finite number"),
        ({"classes": [{**CLASSES[0], "bit_depth": 1}]}, r"classes\[0\]\] spread: found 2.0, expected class depth 1"),
        ({"bit_depth": 4}, r"classes\[0\]\] bit_depth: found 8, expected at most the map's 4"),
        ({"bit_depth": 16}, r"bit_depth: found 16, expected 2, 4 or 8 in mode 'adaptive'"),
        ({"class_map_sha256": None}, r"class_map_sha256: found None, expected one beside class_map"),
        ({"class_map": None, "class_map_sha256": None}, r"class_map: found None, expected a file"),
        ({"on_device": "always"}, r"on_device: found 'always', expected 'none' or 'intra'"),
        ({"mode": "uniform"}, r"expected nothing but in mode 'adaptive'"),
    ],
)
def test_tables_that_do_not_fit_are_named(changes, text, tmp_path):
    with pytest.raises(SettingsError, match=text):
        made(tmp_path, partitions()["channel"], **changes)


def test_mode_adaptive_takes_its_profile(tmp_path):
    data = made(tmp_path, Whole()).to_dict()
    data["video"]["profile"] = "standard"
    with pytest.raises(SettingsError, match="another than in profile 'adaptive', the profile is 'standard'"):
        ExtractorSettings.from_dict(data)


def test_a_class_map_that_does_not_cover_the_map_is_refused_with_its_file(tmp_path):
    _, _, channels = shape()
    settings = made(tmp_path, ChannelClasses(np.zeros(channels + 1, np.uint8)))
    with pytest.raises(SettingsError, match=rf"classes.npy: the class map covers {channels + 1} channels"):
        quantizer_of(settings.maps[0], tmp_path)
    settings = made(tmp_path, ChannelClasses(np.full(channels, 2, np.uint8)))
    with pytest.raises(SettingsError, match=r"classes.npy: class id 2 where there are 2 classes"):
        quantizer_of(settings.maps[0], tmp_path)
    with pytest.raises(SettingsError, match="the extractor's folder is needed"):
        quantizer_of(settings.maps[0])
    (tmp_path / "classes.npy").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"classes.npy: found SHA-256 e3b0"):
        quantizer_of(settings.maps[0], tmp_path)


def test_what_is_no_adaptive_quantizer_has_nothing_of_one():
    with pytest.raises(SettingsError, match="nothing but in mode 'adaptive'"):
        QuantizerSettings("uniform", 8, 6.0, on_device="none")
