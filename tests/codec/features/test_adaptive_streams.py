"""Streams of profile adaptive: there and back, inheriting, damaged, and refused where another profile was agreed on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from codec.features.adaptive_vectors import CLASSES, FOLDER, SHAPE, adaptive, coding, maps, partitions, stream
from streams import make_stream, tiled

from featlink_codec.errors import SettingsError
from featlink_codec.features import Damage, FeatureMap, MapEncoder, Packing, Profile, RepackMode, StreamReader, Wanted
from featlink_codec.features.adaptive import ChannelClasses, ClassParameters, Distribution, PartitionKind, RegionClasses
from featlink_codec.features.adaptive.adaptive import AdaptiveMap
from featlink_codec.features.adaptive.side_info import MAX_POSITIONS, read_side_info, write_side_info

INDEX = json.loads((FOLDER / "index.json").read_text())
KINDS = list(partitions())


def read(data, profile=Profile.ADAPTIVE, step=1 << 30, **options):
    reader = StreamReader(profile, **options)
    events = []
    for start in range(0, len(data), step):
        events += reader.feed(data[start : start + step])
    return events + reader.close()


def found_in(events):
    return [event for event in events if isinstance(event, FeatureMap)]


def errors_in(events):
    return [event.error for event in events if isinstance(event, Damage)]


def sha256(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("entry", INDEX["good"], ids=lambda e: e["name"])
@pytest.mark.parametrize("step", [1 << 30, 7])
def test_good_adaptive_streams_give_every_map_bit_for_bit(entry, step):
    data = (FOLDER / f"{entry['name']}.bin").read_bytes()
    events = read(data, step=step, wanted=Wanted(True, "float32", channels_first=False))
    assert not errors_in(events)
    found = found_in(events)
    assert [sha256(one.levels) for one in found] == entry["levels_sha256"]
    assert [sha256(one.values()) for one in found] == entry["values_sha256"]
    assert [sha256(one.tensor[0]) for one in found] == entry["values_sha256"]
    assert [one.header.quant_heritage_flag for one in found] == [0, 1, 0]
    assert b"".join(bytes(event) for event in events) == data


@pytest.mark.parametrize("entry", INDEX["malformed"], ids=lambda e: e["name"])
@pytest.mark.parametrize("step", [1 << 30, 1])
def test_damaged_adaptive_streams_lose_what_is_damaged_and_no_more(entry, step):
    events = read((FOLDER / f"{entry['name']}.bin").read_bytes(), step=step)
    error = errors_in(events)[0]
    assert error.name == entry["error"]
    assert not entry["offset"] or error.offset == entry["offset"], error
    sent = {one: place for good in INDEX["good"] for place, one in enumerate(good["levels_sha256"])}
    assert [sent[sha256(one.levels)] for one in found_in(events)] == entry["must_deliver"]


@pytest.mark.parametrize("profile", [one for one in Profile if one is not Profile.ADAPTIVE])
def test_other_profiles_refuse_mode_3_by_name(profile):
    data = (FOLDER / "channel.bin").read_bytes()
    errors = errors_in(read(data, profile))
    assert {error.name for error in errors} == {"reserved-quant-mode"}
    assert f"profile adaptive, the profile is {profile.value}" in errors[0].text
    assert data[errors[0].offset - 5 : errors[0].offset - 1] == b"\0\0\0\xe3"


def test_the_standard_modes_are_in_profile_adaptive_too():
    made = make_stream([tiled(profile=Profile.ADAPTIVE)], 2, profile=Profile.ADAPTIVE)
    found = found_in(read(bytes(made.data)))
    assert all(np.array_equal(one.levels, levels) for one, levels in zip(found, made.levels, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("depth", [4, 8])
def test_level_scaling_and_depths_come_back(kind, scaling, depth):
    classes = tuple(replace(one, bit_depth=min(one.bit_depth, depth)) for one in adaptive(kind).classes)
    quantizer = AdaptiveMap(partitions()[kind], classes)
    values = maps(2)
    made = stream(coding(kind, quantizer=quantizer, bit_depth=depth, level_scaling=scaling), values)
    found = found_in(read(bytes(made.data), level_scaling=scaling, wanted=Wanted(True, "float16")))
    for one, sent in zip(found, values, strict=True):
        levels = quantizer.quantize(sent)
        assert np.array_equal(one.levels, levels)
        halves = quantizer.dequantize(levels).astype(np.float16)
        assert np.array_equal(one.tensor[0].transpose(1, 2, 0), halves)


def test_classes_are_inherited_by_type_and_forgotten_after_a_loss():
    values = maps(6)
    made = stream(coding("channel", refresh_s=0.15), values)  # explicit: maps 0 and 4
    whole = [sha256(one.levels) for one in found_in(read(bytes(made.data)))]
    assert len(whole) == 6
    lost = bytearray(made.data)
    lost[made.maps[2] + 5] ^= 0x20  # depth 16: a header that is not understood
    found = [sha256(one.levels) for one in found_in(read(bytes(lost)))]
    assert found == [whole[0], whole[1], whole[4], whole[5]]
    assert {error.name for error in errors_in(read(bytes(lost)))} == {"depth-16", "no-inherit"}


def test_a_class_map_is_inherited_only_by_maps_that_it_covers():
    quantizer = adaptive("region")
    encoder = MapEncoder(coding("region"), lambda width, height: pytest.fail("no picture is to be made"))
    with pytest.raises(SettingsError, match="the class map covers 6x7 positions, the map has 7x7"):
        encoder.encode(np.zeros((7, 7, 6), np.float32), 0.0)
    made = stream(coding("region"), maps(2))
    found = found_in(read(bytes(made.data)))
    assert all(np.array_equal(one.quantizer.partition.ids, quantizer.partition.ids) for one in found)
    assert found[0].quantizer is found[1].quantizer


def test_integers_are_levels_or_values_as_agreed():
    quantizer = AdaptiveMap(
        ChannelClasses(np.array([0, 1, 0, 1, 0, 1], np.uint8)),
        (ClassParameters(Distribution.GAUSSIAN, 8, 3.0, 40.0), ClassParameters(Distribution.UNIFORM, 4, -100.0, 200.0)),
    )
    values = [np.random.default_rng(k).integers(-128, 128, SHAPE).astype(np.int8) for k in range(2)]
    made = stream(coding("channel", quantizer=quantizer, integer_values=True), values)
    for one, sent in zip(found_in(read(bytes(made.data))), values, strict=True):
        assert np.array_equal(one.levels, quantizer.quantize(sent.astype(np.float32)))
    levels = [quantizer.quantize(sent.astype(np.float32)) for sent in values]
    made = stream(coding("channel", quantizer=quantizer), levels)
    assert all(np.array_equal(a.levels, b) for a, b in zip(found_in(read(bytes(made.data))), levels, strict=True))


def test_classes_decided_on_at_each_intra_period():
    asked = []

    def decide(values):
        asked.append(values)
        spread = float(np.float32(np.abs(values).max()))
        one = ClassParameters(Distribution.LAPLACE, 8, 0.0, spread)
        return AdaptiveMap(ChannelClasses(np.zeros(6, np.uint8)), (one,))

    values = [one * (1 + k) for k, one in enumerate(maps(4))]
    made = stream(coding("channel", decide=decide), values)
    found = found_in(read(bytes(made.data)))
    assert [one.header.quant_heritage_flag for one in found] == [0, 1, 0, 1]
    assert len(asked) == 2
    for one, sent, first in zip(found, values, (0, 0, 2, 2), strict=True):
        assert one.quantizer.classes[0].spread == float(np.float32(np.abs(values[first]).max()))
        assert np.array_equal(one.levels, one.quantizer.quantize(sent))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"profile": Profile.STANDARD}, "classes need profile adaptive, the profile is standard"),
        ({"bit_depth": 4}, "a class of depth 8 in a map of depth 4"),
        ({"quantizer": None, "decide": lambda values: adaptive("whole")}, "classes are decided on"),
        ({"bit_depth": 16}, "depth 16 is not in profile adaptive"),
    ],
)
def test_codings_that_no_reader_takes_are_refused(changes, text):
    with pytest.raises(SettingsError, match=text):
        coding("channel", **changes)


def test_more_classes_than_channels_are_not_written():
    quantizer = AdaptiveMap(ChannelClasses(np.zeros(2, np.uint8)), CLASSES)
    settings = coding("channel", quantizer=quantizer, packing=Packing(RepackMode.TILE, 2, 1, 2))
    with pytest.raises(SettingsError, match="4 channel classes, but the map has 2 channels"):
        settings.header(quantizer, (6, 7, 2), explicit=True)


def test_class_maps_beyond_the_budget_are_refused_both_ways():
    side = int(MAX_POSITIONS**0.5) + 1
    with pytest.raises(SettingsError, match="regions of a map of 513 x 513"):
        write_side_info(RegionClasses(np.zeros((side, side), np.uint8)), (side, side, 1), 2)
    with pytest.raises(Exception, match="byte 70: bad-class-map: regions of a map of 513 x 513"):
        read_side_info(PartitionKind.REGION, b"\x80\0\0", (side, side, 1), 2, 70)


def test_256_classes_take_their_ids():
    ids = np.random.default_rng(3).permutation(256).astype(np.uint8)
    data = write_side_info(ChannelClasses(ids), (1, 1, 256), 256)
    assert np.array_equal(read_side_info(PartitionKind.CHANNEL, data, (1, 1, 256), 256, 0).ids, ids)
    assert 256 <= len(data) <= 300
