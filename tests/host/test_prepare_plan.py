"""`prepare plan` on an extractor: what it refuses before the long work, what --apply changes, the command itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, PackingSettings, VideoSettings
from featlink_codec.extractor.adaptive import partition_of
from featlink_codec.features.adaptive import ChannelClasses
from featlink_codec.video.clip import open_source
from featlink_codec.video.limits import EncoderLimits
from featlink_host.prepare import planner
from featlink_host.prepare.apply import apply_packing
from featlink_host.prepare.pipeline import PrepareOptions, prepare_split
from featlink_host.prepare.planner import plan_extractor
from featlink_host.prepare.quantizer_fits import AdaptiveChoice

BIN = Path(sys.executable).parent


def limits(**more: Any) -> EncoderLimits:
    return EncoderLimits(**{"name": "target", "formats": ("GREY",), **more})


def test_plan_and_apply_change_the_packing_and_nothing_else(
    tiny_extractor: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "e"
    shutil.copytree(tiny_extractor, folder)
    before = ExtractorSettings.load(folder)
    told: list[str] = []
    found = plan_extractor(folder, open_source(tiny_clip), frames=12, progress=lambda stage, *_: told.append(stage))
    assert list(dict.fromkeys(told)) == ["maps", "grids", "orders"]
    assert found.coding == "lossless"
    assert ExtractorSettings.load(folder) == before
    other = next(row.packing for row in found.rows if row.order == "similarity")
    assert apply_packing(folder, other)
    after = ExtractorSettings.load(folder)
    assert after.maps[0].packing == other
    assert replace(after, maps=(replace(after.maps[0], packing=before.maps[0].packing),)) == before
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in tiny_extractor.iterdir())
    changed = (folder / "extractor.toml").read_bytes()
    assert not apply_packing(folder, other)
    assert (folder / "extractor.toml").read_bytes() == changed
    # The order that stands there now is the one that is given.
    again = plan_extractor(folder, open_source(tiny_clip), frames=12, orders=["given"])
    assert again.present is not None
    assert (again.present.packing, again.present.order) == (other, "given")


def test_channels_of_a_class_stand_together_in_one_of_the_orders(
    tiny_model: Path, tiny_extractor: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    choice = AdaptiveChoice(depth=8, partition="channel", classes=2)
    video = VideoSettings(session="continuous", lossless=True)
    options = PrepareOptions(mode="adaptive", quantizer=choice, video=video, frames=4)
    prepared = prepare_split(tiny_model, "signed", tiny_clip, tmp_path / "e", options)
    found = plan_extractor(tmp_path / "e", open_source(tiny_clip), frames=8)
    (order,) = {row.packing.order for row in found.rows if row.order == "classes"}
    classes = partition_of(prepared.settings.maps[0], tmp_path / "e")
    assert isinstance(classes, ChannelClasses)
    ids = classes.ids[list(order or ())].tolist()
    assert ids == sorted(ids)
    assert sorted(order or ()) == list(range(8))
    with pytest.raises(SettingsError, match=r"order classes: the extractor's quantizer has no channel classes"):
        plan_extractor(tiny_extractor, open_source(tiny_clip), frames=8, orders=["classes"])


def test_a_packing_that_does_not_fit_is_not_written(tiny_extractor: Path, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    shutil.copytree(tiny_extractor, folder)
    before = (folder / "extractor.toml").read_bytes()
    with pytest.raises(SettingsError, match="order: found 3 channels"):
        apply_packing(folder, PackingSettings("ordered-tile", 2, 4, 0, 0, (2, 1, 0)))
    assert (folder / "extractor.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"limits": limits(formats=("NV12",))},
            "'target': formats: found NV12, expected one that carries .* chroma '400'",
        ),
        ({"limits": limits(max_width=23)}, "max_width 23: one channel has width 24"),
        ({"orders": ["given"]}, "order given: found none in extractor.toml"),
        (
            {"orders": ["random"]},
            "order: found 'random', expected one of identity, .*, similarity, classes, given",
        ),
        ({"given": (0, 1)}, r"order given: found 2 numbers, expected each of 0\.\.7 once"),
        ({"qp": 52}, "qp: found 52"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_the_long_work(
    tiny_extractor: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], says: str
) -> None:
    def never(*what: object) -> None:
        raise AssertionError

    monkeypatch.setattr(planner, "calibration_maps", never)
    with pytest.raises(SettingsError, match=says):
        plan_extractor(tiny_extractor, open_source(tiny_clip), **more)


def rewritten(tiny_extractor: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(tiny_extractor, folder)
    settings = replace(ExtractorSettings.load(folder), **changes)
    (folder / "extractor.toml").write_text(tomli_w.dumps(settings.to_dict()))
    return folder


def test_a_rate_factor_is_no_equal_quality(tiny_extractor: Path, tiny_clip: Path, tmp_path: Path) -> None:
    folder = rewritten(tiny_extractor, tmp_path / "e", video=VideoSettings(lossless=False, crf=20.0))
    with pytest.raises(SettingsError, match="crf: found 20, but bytes compare at equal QP only: give a QP"):
        plan_extractor(folder, open_source(tiny_clip))
    assert plan_extractor(folder, open_source(tiny_clip), frames=2, qp=30, orders=[]).coding == "QP 30"


def test_one_map_is_planned_for(tiny_extractor: Path, tiny_clip: Path, tmp_path: Path) -> None:
    (one,) = ExtractorSettings.load(tiny_extractor).maps
    folder = rewritten(tiny_extractor, tmp_path / "e", maps=(one, replace(one, feat_type_id=1)))
    for refused in (
        lambda: plan_extractor(folder, open_source(tiny_clip)),
        lambda: apply_packing(folder, PackingSettings("stack")),
    ):
        with pytest.raises(SettingsError, match="2 maps, one is planned for"):
            refused()


# --- the command


def host(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "featlink-host"), *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command_shows_a_table_explains_and_applies(tiny_extractor: Path, tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    shutil.copytree(tiny_extractor, folder)
    (tmp_path / "order.json").write_text("[7, 6, 5, 4, 3, 2, 1, 0]")
    (tmp_path / "small.toml").write_text("name = 'small'\nformats = ['GREY']\nmax_width = 200\n")
    words = ["prepare", "plan", "--extractor", folder, "--source", tiny_clip, "--frames", 6]
    words += ["--limits", tmp_path / "small.toml", "--order-file", tmp_path / "order.json", "--order", "given"]
    shown = host(*words, "--apply")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].split() == [
        "mode",
        "tiles",
        "pictures",
        "pads",
        "order",
        "bytes",
        "a",
        "map",
        "to",
        "first",
        "encode",
        "ms",
    ]
    assert len([line for line in lines if line.startswith("best")]) == 1
    assert "Best at lossless within the limits of small" in shown.stdout
    assert "extractor.toml" in lines[-1]
    machine = json.loads(host(*words, "--json", "--apply").stdout)
    assert machine["applied"] is False
    best = next(row for row in machine["rows"] if row["best"])
    packing = ExtractorSettings.load(folder).maps[0].packing
    assert (packing.mode, packing.tile_h, packing.tile_w) == (best["mode"], best["tile_h"], best["tile_w"])
    assert {row["order_name"] for row in machine["rows"]} == {"identity", "given"}


@pytest.mark.parametrize(
    ("file", "text", "option", "says"),
    [
        ("no.toml", None, "--limits", "no.toml: No such file"),
        ("t.toml", "name = 'small'\nformats = ['GREY']\nmax_height = 18", "--limits", "max_height 18"),
        ("o.json", None, "--order-file", "o.json: No such file"),
        ("o.json", "0 1 2", "--order-file", "o.json: not JSON"),
        ("o.json", "[0, 1.5]", "--order-file", "o.json: found no list of integers"),
        ("o.json", "[0, 0, 1, 2, 3, 4, 5, 6]", "--order-file", "order given: found 8 numbers"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(
    tiny_extractor: Path, tiny_clip: Path, tmp_path: Path, file: str, text: str | None, option: str, says: str
) -> None:
    if text is not None:
        (tmp_path / file).write_text(text)
    before = (tiny_extractor / "extractor.toml").read_bytes()
    done = host(
        "prepare", "plan", "--extractor", tiny_extractor, "--source", tiny_clip, option, tmp_path / file, "--apply"
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tiny_extractor / "extractor.toml").read_bytes() == before


def test_the_command_takes_what_a_camera_says_of_its_encoders(
    tiny_extractor: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    def encoder(backend: str, width: int) -> dict[str, Any]:
        fields = {"name": backend, "formats": ["GREY"], "max_width": width}
        return {"backend": backend, "node": None, "works": True, "limits": fields}

    facts = {"encoders": [encoder("rkmpp", 120), encoder("x265", 200)]}
    file = tmp_path / "doctor.json"
    file.write_text(json.dumps({"healthy": True, "findings": [{"name": "encoder", "facts": facts}]}))
    words = ["prepare", "plan", "--extractor", tiny_extractor, "--source", tiny_clip, "--frames", 2, "--limits"]
    for more, name, widest in ([], "rkmpp", 120), (["--encoder", "x265"], "x265", 200):
        done = host(*words, file, *more, "--json", "--order", "identity")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["limits"] == name
        widths = {row["picture_width"] for row in found["rows"]}
        assert max(widths) <= widest
        assert (max(widths) > 120) == (widest > 120)
    done = host(*words, "x265", "--encoder", "rkmpp")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--encoder rkmpp: expected --limits with the JSON" in done.stderr
