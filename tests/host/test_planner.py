"""The packing planner: which pictures it looks at, what it measures, what it chooses, and how it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, MapSettings, PackingSettings, QuantizerSettings, VideoSettings
from featlink_codec.extractor.coding import map_coding, x265_settings
from featlink_codec.features import StreamReader
from featlink_codec.features.events import FeatureMap
from featlink_codec.features.map_encoder import MapEncoder
from featlink_codec.features.syntax import TimeTag
from featlink_codec.features.writer import StreamWriter
from featlink_codec.video.clip import open_source
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits
from featlink_codec.video.x265 import X265Encoder
from featlink_host.prepare import planner
from featlink_host.prepare.calibration_maps import RUN, CalibrationMaps, calibration_maps, runs_of
from featlink_host.prepare.packing import choose_packing
from featlink_host.prepare.plan_report import explain, plan_dict
from featlink_host.prepare.planner import Plan, plan

GRAY = X265_LIMITS["400"]


def limits(**more: Any) -> EncoderLimits:
    return EncoderLimits(**{"name": "target", "formats": ("GREY",), **more})


# --- which pictures


@given(st.integers(1, 400), st.integers(1, 100))
def test_runs_are_of_consecutive_pictures_and_apart(count: int, frames: int) -> None:
    runs = runs_of(count, frames)
    numbers = [number for run in runs for number in run]
    assert numbers == sorted(set(numbers))
    assert 0 <= numbers[0] <= numbers[-1] < count
    assert len(numbers) > min(frames, count) - len(runs)
    assert len({len(run) for run in runs}) == 1
    assert len(runs[0]) >= min(RUN, frames, count)


def test_maps_are_the_levels_that_a_camera_would_send(tiny_extractor: Path, tiny_clip: Path) -> None:
    settings = ExtractorSettings.load(tiny_extractor)
    told: list[tuple[str, int, int]] = []
    maps = calibration_maps(tiny_extractor, settings, open_source(tiny_clip), 8, lambda *what: told.append(what))
    assert maps.levels.dtype == np.uint8
    assert maps.levels.shape == (8, 20, 24, 8)
    assert maps.runs == (8,)
    assert maps.times_s == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert maps.interval_s == pytest.approx(0.1)
    assert told == [("maps", done, 8) for done in range(1, 9)]
    assert int(maps.levels.max()) > 200
    with pytest.raises(SettingsError, match="frames: found 0"):
        calibration_maps(tiny_extractor, settings, open_source(tiny_clip), 0)


# --- measuring


def moving(count: int = 6, channels: int = 6, size: int = 20) -> CalibrationMaps:
    """Two kinds of channels in turn, each with its own moving edge."""
    place = np.arange(size)
    levels = np.zeros((count, size, size, channels), np.uint8)
    for k in range(count):
        for c in range(channels):
            levels[k, :, :, c] = (
                40 + 10 * (c // 2) + (120 * (place > k + 3) if c % 2 else 90 * (place < 15 - k)[:, None])
            )
    return CalibrationMaps(levels, tuple(0.5 * k for k in range(count)), (count // 2, count - count // 2))


def feature(maps: CalibrationMaps, packing: PackingSettings | None = None) -> MapSettings:
    _, height, width, channels = maps.levels.shape
    packing = packing or choose_packing(channels, height, width)
    return MapSettings(0, "t", height, width, channels, QuantizerSettings("uniform", 8, 1.0), packing)


LOSSY = VideoSettings(session="continuous", lossless=False, qp=20, refresh_s=5.0)


def planned(maps: CalibrationMaps, video: VideoSettings = LOSSY, **more: Any) -> Plan:
    one = feature(maps, more.pop("packing", None))
    target = more.pop("limits", GRAY)
    return plan(one, video, maps, planner.planned_grids(one, video, target), target, **more)


def test_bytes_are_those_of_a_stream() -> None:
    maps = replace(moving(), runs=(6,))
    found = planned(maps, orders=["similarity", "descending-difference"])
    assert found.refresh_every == 10
    for row in found.rows:
        coding = map_coding(feature(maps, row.packing), LOSSY)
        encoder = MapEncoder(coding, lambda width, height: X265Encoder(x265_settings(LOSSY, width, height)))
        writer = StreamWriter()
        stream = bytearray(writer.start())
        sizes = []
        for k, levels in enumerate(maps.levels):
            stream += writer.time_tag(TimeTag(interval_time=50))
            (coded,) = encoder.encode(levels, maps.times_s[k])
            data = writer.feat_map(coded.header, coded.access_units)
            sizes.append(len(data))
            stream += data
        stream += writer.end()
        encoder.close()
        assert row.refresh_bytes == sizes[0]
        assert row.following_bytes == pytest.approx(sum(sizes[1:]) / 5)
        assert row.bytes_per_map == pytest.approx((sizes[0] + 9 * sum(sizes[1:]) / 5) / 10)
        events = StreamReader().feed(bytes(stream))
        assert len([event for event in events if isinstance(event, FeatureMap)]) == 6


def test_each_run_begins_with_a_refresh_and_nothing_else_does() -> None:
    maps = moving(6)
    whole = planned(replace(maps, runs=(6,))).rows[0]
    halves = planned(maps).rows[0]
    first = planned(CalibrationMaps(maps.levels[:3], maps.times_s[:3], (3,))).rows[0]
    second = planned(CalibrationMaps(maps.levels[3:], maps.times_s[3:], (3,))).rows[0]
    assert halves.refresh_bytes == pytest.approx((first.refresh_bytes + second.refresh_bytes) / 2)
    assert halves.refresh_bytes != whole.refresh_bytes


def test_a_picture_alone_is_a_refresh() -> None:
    maps = moving(1)
    (row, *_) = planned(replace(maps, runs=(1,))).rows
    assert row.following_bytes is None
    assert row.bytes_per_map == row.refresh_bytes


def test_the_same_maps_give_the_same_bytes() -> None:
    maps = moving()
    first, second = (planned(maps, orders=["similarity"]) for _ in range(2))
    same = [replace(row, encode_ms=0.0) for row in first.rows]
    assert same == [replace(row, encode_ms=0.0) for row in second.rows]
    assert first.best.packing == second.best.packing


@pytest.mark.parametrize(
    "video", [LOSSY, replace(LOSSY, lossless=True, qp=None), replace(LOSSY, session="self-contained")]
)
def test_the_best_is_the_one_of_fewest_bytes(video: VideoSettings) -> None:
    found = planned(moving(), video, orders=["similarity", "descending-difference"])
    assert found.best.bytes_per_map == min(row.bytes_per_map for row in found.rows)
    assert {row.packing.mode for row in found.rows} == {"stack", "tile", "ordered-tile"}
    assert found.coding == ("lossless" if video.lossless else "QP 20")


def test_of_equals_the_simplest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = planner._measure
    monkeypatch.setattr(planner, "_measure", lambda *what: replace(measure(*what), bytes_per_map=100.0))
    found = planned(moving(), orders=["similarity"])
    assert found.best.packing == PackingSettings("tile", 2, 3)
    assert len(found.rows) > 6


def test_orders_are_tried_on_the_best_three_grids_only_and_each_once() -> None:
    maps = moving()
    found = planned(maps, orders=["descending-difference", "similarity", "given"], known={"given": (5, 4, 3, 2, 1, 0)})
    plain = sorted((row for row in found.rows if row.order == "identity"), key=lambda row: row.bytes_per_map)
    ordered = [row for row in found.rows if row.order != "identity"]
    assert {row.grid for row in ordered} == {row.grid for row in plain[:3]}
    assert len({row.packing for row in found.rows}) == len(found.rows)
    assert len(plain) > 3
    # An order that is the channels' own is none.
    assert all(row.packing.order != tuple(range(6)) for row in ordered)
    again = planned(maps, orders=["given"], known={"given": tuple(range(6))})
    assert [row.order for row in again.rows] == ["identity"] * len(again.rows)


def test_the_order_list_costs_what_is_said() -> None:
    found = planned(moving(), orders=["similarity"])
    grid = next(row.grid for row in found.rows if row.packing.mode == "ordered-tile")
    plain, listed = (row for row in found.rows if row.grid == grid)
    assert (
        listed.header_bytes - plain.header_bytes == 2 * 6
    )  # u(16) each; the list's length stands where repack_tile_c stood


def test_the_present_packing_is_measured_too() -> None:
    maps = moving()
    odd = PackingSettings("ordered-tile", 3, 3, 1, 2, (5, 4, 3, 2, 1, 0))
    found = planned(maps, packing=odd)
    assert found.present is not None
    assert (found.present.packing, found.present.order) == (odd, "present")
    assert any("than the present packing (3 x 3)" in sentence for sentence in explain(found))
    narrow = planned(maps, packing=odd, limits=limits(max_height=60))
    assert narrow.present is None
    assert any("target and x265: height 61 is above max_height 60" in sentence for sentence in explain(narrow))


def test_channels_that_are_the_same_come_to_stand_side_by_side() -> None:
    half = np.random.default_rng(4).integers(60, 190, (1, 16, 16, 12), np.uint8)
    found = planned(CalibrationMaps(np.concatenate([half, half], axis=3), (0.0,), (1,)), orders=["similarity"])
    order = next(row.packing.order for row in found.rows if row.order == "similarity")
    assert order is not None
    assert all(abs(order.index(c) - order.index(c + 12)) == 1 for c in range(12))


def test_the_explanation_holds_the_measured_figures() -> None:
    found = planned(moving(), orders=["similarity"])
    said = " ".join(explain(found))
    assert f"{found.best.bytes_per_map:.0f} bytes a map" in said
    assert "Best at QP 20 within the limits of x265" in said
    assert "Mode stack, 6 pictures a map" in said or found.best.grid.stack
    assert "6 maps in 2 runs" in said
    assert "one map in 10" in said
    machine = json.loads(json.dumps(plan_dict(found)))
    assert [row["best"] for row in machine["rows"]].count(True) == 1
    assert machine["rows"][0]["present"]
    assert machine["explanation"] == explain(found)
