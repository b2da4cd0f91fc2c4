"""Streams of an independent implementation, good and damaged: what must come out does, what must not does not."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from featlink_codec.errors import RefusedError
from featlink_codec.features import Damage, FeatureMap, Profile, StreamReader, Tag

VECTORS = Path(__file__).parents[2] / "vectors"
GOOD = json.loads((VECTORS / "feature_stream" / "index.json").read_text())
BAD = json.loads((VECTORS / "feature_stream_malformed" / "index.json").read_text())


def read(data: bytes, profile: str, step: int = 1 << 30, **options):
    """Events, and the refusal if there was one."""
    reader = StreamReader(Profile(profile), **options)
    events = []
    try:
        for start in range(0, len(data), step):
            events += reader.feed(data[start : start + step])
        events += reader.close()
    except RefusedError as refusal:
        return events, refusal
    return events, None


def arrays_of(path: Path) -> dict:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def maps_in(events):
    return [event for event in events if isinstance(event, FeatureMap)]


@pytest.mark.parametrize("entry", GOOD, ids=lambda e: e["name"])
@pytest.mark.parametrize("step", [1 << 30, 997, 1])
def test_good_streams_give_every_map_bit_for_bit(entry, step):
    data = (VECTORS / "feature_stream" / f"{entry['name']}.fms").read_bytes()
    arrays = arrays_of(VECTORS / "feature_stream" / f"{entry['name']}.npz")
    meta = json.loads(str(arrays["meta"]))
    events, refusal = read(data, entry["profile"], step, level_scaling=entry["level_scaling"])
    assert refusal is None
    assert not [event.error for event in events if isinstance(event, Damage)]
    maps = maps_in(events)
    assert len(maps) == entry["maps"] == len(meta["maps"])
    for k, (found, expected) in enumerate(zip(maps, meta["maps"], strict=True)):
        assert (found.levels == arrays[f"m{k}_levels"]).all()
        assert found.values().tobytes() == arrays[f"m{k}_values"].tobytes()
        assert found.offset == expected["byte_offset"]
        assert found.tag_index == expected["tag"]
        assert list(found.shape) == expected["shape_hwc"]
        assert found.pictures == expected["pictures"]
        assert found.picture_size == (expected["picture_h"], expected["picture_w"])
        assert found.header.repack_heritage_flag == expected["repack_heritage"]
        assert (found.packing.pad_h, found.packing.pad_w) == (expected["pad_h"], expected["pad_w"])
        if expected["order"] is not None:
            assert list(found.packing.order) == expected["order"]
    tags = [event for event in events if isinstance(event, Tag)]
    assert len(tags) == entry["time_tags"]
    for tag, expected in zip(tags, meta["time_tags"], strict=True):
        assert tag.offset == expected["byte_offset"]
        if "universal_time" in expected:
            assert tag.time_s == expected["universal_time"]
        else:
            assert tag.tag.interval_time == expected["interval_time"]


@pytest.mark.parametrize("entry", GOOD, ids=lambda e: e["name"])
def test_what_was_read_serialises_to_the_same_bytes(entry):
    data = (VECTORS / "feature_stream" / f"{entry['name']}.fms").read_bytes()
    events, _ = read(data, entry["profile"])
    assert b"".join(bytes(event) for event in events) == data


@pytest.mark.parametrize("entry", GOOD, ids=lambda e: e["name"])
def test_reading_without_decoding_finds_the_same_structure(entry):
    data = (VECTORS / "feature_stream" / f"{entry['name']}.fms").read_bytes()
    with_pixels, _ = read(data, entry["profile"])
    without, _ = read(data, entry["profile"], decode=False)
    assert [(m.offset, m.shape, m.pictures) for m in maps_in(without)] == [
        (m.offset, m.shape, m.pictures) for m in maps_in(with_pixels)
    ]
    assert all(m.levels is None for m in maps_in(without))


@pytest.mark.parametrize("entry", BAD, ids=lambda e: e["name"])
@pytest.mark.parametrize("step", [1 << 30, 1])
def test_damaged_streams_lose_what_is_damaged_and_no_more(entry, step):
    data = (VECTORS / "feature_stream_malformed" / entry["file"]).read_bytes()
    originals = []
    if entry["original_maps"]:
        arrays = arrays_of(VECTORS / "feature_stream_malformed" / f"{entry['name']}.npz")
        originals = [arrays[f"m{k}_levels"] for k in range(entry["original_maps"])]
    tracemalloc.start()
    events, refusal = read(data, entry["profile"], step)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < entry["max_alloc_mb"] * 2**20
    assert (refusal is not None) == (entry["stream"] == "refuse")
    delivered = []
    for found in maps_in(events):
        same = [k for k, levels in enumerate(originals) if np.array_equal(found.levels, levels) and k not in delivered]
        assert same, "a map that was never sent"
        delivered.append(same[0])
    assert set(entry["must_deliver"]) <= set(delivered)
    assert not set(entry["must_not_deliver"]) & set(delivered)
    assert set(delivered) <= set(entry["must_deliver"]) | set(entry["may_deliver"])
    names = [refusal.name] if refusal else [event.error.name for event in events if isinstance(event, Damage)]
    assert set(entry["error_names"]) & set(names)
