"""extractor.toml: what is written reads back the same, and every bad field is named."""

from __future__ import annotations

import copy
import hashlib
import struct
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import (
    ExtractorSettings,
    Identity,
    InputSettings,
    MapSettings,
    ModelFiles,
    NoTask,
    PackingSettings,
    QuantizerSettings,
    SourceModel,
    SsdDetectorTask,
    VideoSettings,
    write_thresholds,
)
from featlink_codec.features.quantizers import UniformQuantizer

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
file_names = st.text("abcXYZ019._- ", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(-1e30, 1e30)


@st.composite
def quantizers(draw: st.DrawFn) -> QuantizerSettings:
    mode = draw(st.sampled_from(["uniform", "logarithmic", "custom"]))
    depth = draw(st.sampled_from([2, 4, 8]))
    largest = draw(st.floats(1e-6, 127.9))
    bounds = None
    if mode == "custom":
        start, steps = draw(singles.filter(lambda x: abs(x) < 1e4)), 2**depth - 2
        widths = draw(st.lists(st.floats(0.01, 100), min_size=steps, max_size=steps))
        bounds = tuple(accumulate(widths, initial=start))
    stored = (draw(file_names), draw(hashes)) if draw(st.booleans()) else ()
    return QuantizerSettings(mode, depth, largest, bounds, *stored)


@st.composite
def maps(draw: st.DrawFn, feat_type_id: int) -> MapSettings:
    mode = draw(st.sampled_from(["stack", "tile", "ordered-tile"]))
    channels = draw(st.integers(1, 40))
    order = None
    if mode == "ordered-tile" or (mode == "stack" and draw(st.booleans())):
        order = tuple(draw(st.permutations(range(channels))))
    sides = st.integers(1, 8)
    tiles = (None, None) if mode == "stack" else (draw(sides), draw(sides))
    pads = st.integers(0, 7)
    quantizer = draw(quantizers())
    return MapSettings(
        feat_type_id,
        draw(texts),
        draw(st.integers(1, 300)),
        draw(st.integers(1, 300)),
        channels,
        quantizer,
        PackingSettings(mode, *tiles, draw(pads), draw(pads), order),
        draw(st.sampled_from(["NCHW", "NHWC"])),
        integer=quantizer.mode == "uniform" and quantizer.thresholds is None and draw(st.booleans()),
    )


@st.composite
def videos(draw: st.DrawFn) -> VideoSettings:
    lossless = draw(st.booleans())
    by_qp = draw(st.booleans())
    return VideoSettings(
        draw(st.sampled_from(["standard", "standard-16"])),
        draw(st.sampled_from(["self-contained", "continuous"])),
        lossless,
        draw(st.integers(0, 51)) if not lossless and by_qp else None,
        draw(st.floats(0, 51)) if not lossless and not by_qp else None,
        draw(st.sampled_from(["ultrafast", "medium"])),
        draw(st.booleans()),
        draw(st.floats(0.01, 100)),
        draw(st.sampled_from(["400", "420"])),
    )


tasks = st.one_of(
    st.just(NoTask()),
    st.builds(
        SsdDetectorTask,
        anchors=file_names,
        labels=file_names,
        score_threshold=st.floats(0.001, 1),
        iou_threshold=st.floats(0, 1),
        box_scales=st.tuples(*[st.floats(0.001, 100)] * 4),
        boxes_output=texts,
        logits_output=texts,
    ),
)


@st.composite
def extractors(draw: st.DrawFn) -> ExtractorSettings:
    ids = draw(st.lists(st.integers(0, 255), min_size=1, max_size=3, unique=True))
    return ExtractorSettings(
        Identity(draw(texts), draw(st.integers(0, 7))),
        SourceModel(draw(file_names), draw(hashes), draw(texts)),
        InputSettings(
            draw(texts),
            draw(st.integers(1, 8192)),
            draw(st.integers(1, 8192)),
            draw(st.sampled_from(["NCHW", "NHWC"])),
            draw(st.sampled_from(["rgb", "bgr", "gray"])),
            draw(doubles),
            draw(doubles),
        ),
        tuple(draw(maps(one)) for one in ids),
        draw(videos()),
        ModelFiles(draw(file_names), draw(hashes), draw(file_names), draw(hashes), draw(st.none() | file_names)),
        draw(tasks),
    )


@given(extractors())
def test_what_is_written_reads_back_the_same(settings: ExtractorSettings) -> None:
    tables = settings.to_dict()
    assert ExtractorSettings.from_dict(tables) == settings
    assert ExtractorSettings.from_dict(tables).to_dict() == tables


@given(extractors())
def test_the_way_through_toml_text_changes_nothing(settings: ExtractorSettings) -> None:
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    text = tomli_w.dumps(settings.to_dict())
    assert ExtractorSettings.from_dict(tomllib.loads(text)) == settings


@given(st.floats(2.0**-140, 1e38))
def test_max_feat_digit_is_the_float32_that_goes_on_the_wire(value: float) -> None:
    kept = QuantizerSettings("uniform", 8, value).max_feat_digit
    assert struct.pack("<f", kept) == struct.pack("<f", value)
    assert struct.unpack("<f", struct.pack("<f", kept))[0] == kept


def good() -> dict[str, Any]:
    """The tables of an ordinary extractor."""
    return {
        "extractor": {"name": "demo", "feat_extractor_id": 3, "format_version": 1},
        "source_model": {"file": "net.onnx", "sha256": "a" * 64, "split_tensor": "relu"},
        "input": {"tensor": "image", "width": 300, "height": 300, "scale": 1 / 127.5, "offset": -1.0},
        "maps": [
            {
                "feat_type_id": 0,
                "tensor": "relu",
                "height": 19,
                "width": 19,
                "channels": 192,
                "quantizer": {"mode": "uniform", "bit_depth": 8, "max_feat_digit": 6.0},
                "packing": {"mode": "tile", "tile_h": 12, "tile_w": 16},
            }
        ],
        "video": {"lossless": True},
        "models": {"backbone": "b.onnx", "backbone_sha256": "b" * 64, "head": "h.onnx", "head_sha256": "c" * 64},
        "task": {"kind": "ssd-detector", "anchors": "anchors.npy", "labels": "labels.txt"},
    }


def test_the_ordinary_extractor_and_what_follows_from_it() -> None:
    settings = ExtractorSettings.from_dict(good())
    assert settings.input.shape == (1, 3, 300, 300)
    assert settings.maps[0].picture_size == (228, 304)
    assert settings.maps[0].picture_count == 1
    assert settings.maps[0].quantizer.peak == 255
    assert settings.video == VideoSettings()
    assert settings.task == SsdDetectorTask(anchors="anchors.npy", labels="labels.txt")


DELETED = object()

#: where, what to put there, and what the message has to say
BAD_FIELDS = [
    ("extractor.feat_extractor_id", 8, "[extractor] feat_extractor_id: found 8, expected an integer 0..7"),
    ("extractor.feat_extractor_id", True, "[extractor] feat_extractor_id: found True, expected an integer 0..7"),
    ("extractor.name", "", "[extractor] name: found '', expected a non-empty string"),
    ("extractor.name", DELETED, "[extractor] name: found nothing, expected a non-empty string"),
    ("extractor.format_version", 2, "[extractor] format_version: found 2, expected 1"),
    ("extractor.naem", "x", "[extractor] naem: found an unknown key, expected 'name'"),
    ("extractor", 5, "extractor: found 5, expected a table"),
    ("extractor", DELETED, "extractor: found nothing, expected a table"),
    ("viedo", {}, "viedo: found an unknown key, expected 'video'"),
    ("source_model.sha256", "A" * 64, "expected 64 lower-case hexadecimal digits"),
    ("source_model.file", "../net.onnx", "[source_model] file: found '../net.onnx', expected the plain name"),
    ("models.backbone", "/etc/passwd", "[models] backbone: found '/etc/passwd', expected the plain name"),
    ("models.head", "..", "[models] head: found '..', expected the plain name"),
    ("input.width", 0, "[input] width: found 0, expected an integer 1..8192"),
    ("input.width", 300.0, "[input] width: found 300.0, expected an integer 1..8192"),
    ("input.layout", "CHW", "[input] layout: found 'CHW', expected 'NCHW' or 'NHWC'"),
    ("input.colour", "yuv", "[input] colour: found 'yuv', expected 'rgb', 'bgr' or 'gray'"),
    ("input.scale", float("nan"), "[input] scale: found nan, expected a finite number"),
    ("input.offset", 1e39, "[input] offset: found 1e+39, expected a finite number that binary32 can hold"),
    ("input.dtype", "float16", "[input] dtype: found 'float16', expected 'float32'"),
    ("maps", [], "maps: found no map, expected at least one [[maps]] table"),
    ("maps", DELETED, "maps: found nothing, expected a table"),
    ("maps", {"feat_type_id": 0}, "maps: found one table, expected an array of tables"),
    ("maps.0", 7, "maps[0]: found 7, expected a table"),
    ("maps.0.feat_type_id", 256, "[maps[0]] feat_type_id: found 256, expected an integer 0..255"),
    ("maps.0.packing", DELETED, "[maps[0]] packing: found nothing, expected a table"),
    ("maps.0.channels", 8192 * 9, "[maps[0]] channels: found 73728, expected an integer 1..65535"),
    ("maps.0.height", 4000, "[maps[0]] packing: found pictures of 304 x 48000, expected sides of at most 8192"),
    ("maps.0.quantizer.bit_depth", 5, "[maps[0].quantizer] bit_depth: found 5, expected 2, 4, 8 or 16"),
    ("maps.0.quantizer.bit_depth", 16, "[maps[0].quantizer] bit_depth: found 16, expected 2, 4 or 8, unless"),
    ("maps.0.quantizer.mode", "linear", "[maps[0].quantizer] mode: found 'linear', expected 'uniform', 'logarithmic'"),
    ("maps.0.quantizer.mode", "custom", "[maps[0].quantizer] partitions: found None, expected a list in mode 'custom'"),
    ("maps.0.quantizer.partitions", [1.0, 2.0, 3.0], "and nothing in the other modes"),
    ("maps.0.quantizer.max_feat_digit", 0.0, "[maps[0].quantizer] max_feat_digit: found 0.0, expected a finite number"),
    ("maps.0.quantizer.max_feat_digit", 1e-60, "max_feat_digit: found 1e-60"),
    ("maps.0.quantizer.max_feat_digit", float("inf"), "max_feat_digit: found inf"),
    ("maps.0.quantizer.max_feat_digit", "6", "max_feat_digit: found '6'"),
    ("maps.0.quantizer.thresholds", "t.npy", "thresholds_sha256: found None, expected one beside thresholds"),
    ("maps.0.quantizer.thresholds_sha256", "a" * 64, "thresholds: found None, expected one beside thresholds_sha256"),
    ("maps.0.quantizer.thresholds", "../t.npy", "[maps[0].quantizer] thresholds: found '../t.npy', expected the plain"),
    ("maps.0.quantizer.thresholds_sha256", "a" * 63, "thresholds_sha256: found 'aaa"),
    ("maps.0.packing.tile_h", 4096, "[maps[0].packing] tile_h: found 4096, expected an integer 1..4095"),
    (
        "maps.0.packing.tile_h",
        DELETED,
        "[maps[0].packing] tile_h: found None, expected an integer 1..4095 in mode 'tile'",
    ),
    ("maps.0.packing.pad_w", 8, "[maps[0].packing] pad_w: found 8, expected an integer 0..7"),
    ("maps.0.packing.mode", "stack", "[maps[0].packing] tile_h: found 12, expected nothing in mode 'stack'"),
    ("maps.0.packing.order", [0, 1], "[maps[0].packing] order: found (0, 1), expected nothing in mode 'tile'"),
    ("maps.0.packing.mode", "ordered-tile", "[maps[0].packing] order: found None, expected a list"),
    (
        "maps.0.packing",
        {"mode": "stack", "order": [0, 2]},
        "order: found (0, 2), expected each channel 0..1 exactly once",
    ),
    ("maps.0.packing", {"mode": "stack", "order": [1, 0]}, "found 2 channels, expected all 192 channels of the map"),
    ("video.qp", 20, "[video] qp: found 20, expected nothing where lossless is true"),
    ("video.lossless", False, "[video] qp: found None, expected qp or crf where lossless is false"),
    ("video.lossless", 0, "[video] lossless: found 0, expected true or false"),
    ("video", {"lossless": False, "qp": 1, "crf": 2}, "[video] crf: found 2.0, expected nothing where qp is given"),
    ("video", {"lossless": False, "qp": 52}, "[video] qp: found 52, expected an integer 0..51"),
    ("video.preset", "fastest", "[video] preset: found 'fastest', expected 'ultrafast'"),
    ("video.chroma", "422", "[video] chroma: found '422', expected '400' or '420'"),
    ("video.refresh_s", 0, "[video] refresh_s: found 0, expected a finite number above 0"),
    ("task.kind", "classifier", "[task] kind: found 'classifier', expected 'none' or 'ssd-detector'"),
    ("task", {}, "[task] kind: found nothing, expected 'none' or 'ssd-detector'"),
    ("task.box_scales", [10, 10, 5], "[task] box_scales: found [10, 10, 5], expected a list of 4 items"),
    ("task.anchors", DELETED, "[task] anchors: found nothing, expected the plain name of a file"),
    ("task.iou", 0.5, "[task] iou: found an unknown key"),
]


@pytest.mark.parametrize(
    ("where", "what", "message"), BAD_FIELDS, ids=[f"{w}-{k}" for k, (w, _, _) in enumerate(BAD_FIELDS)]
)
def test_a_bad_field_is_named_with_its_file_and_table(where: str, what: object, message: str) -> None:
    data = copy.deepcopy(good())
    ExtractorSettings.from_dict(data)
    place: Any = data
    *way, last = where.split(".")
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if what is DELETED:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = what
    else:
        place[last] = what
    with pytest.raises(SettingsError) as error:
        ExtractorSettings.from_dict(data, "some/extractor.toml")
    assert str(error.value).startswith("some/extractor.toml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_two_maps_of_one_type_and_what_the_interface_profile_refuses() -> None:
    data = good()
    data["maps"].append(copy.deepcopy(data["maps"][0]))
    with pytest.raises(SettingsError, match=r"\[maps\[1\]\] feat_type_id: found 0 again"):
        ExtractorSettings.from_dict(data)
    data = good()
    data["video"]["profile"] = "interface"
    ExtractorSettings.from_dict(data)
    data["maps"][0]["quantizer"] |= {"mode": "custom", "bit_depth": 2, "partitions": [0, 1, 2]}
    with pytest.raises(SettingsError, match=r"maps\[0\]\.quantizer\] mode: found 'custom'.*'interface'"):
        ExtractorSettings.from_dict(data)


def test_a_map_of_more_than_2_to_the_28_samples_is_refused() -> None:
    levels, packing = QuantizerSettings("uniform", 8, 1.0), PackingSettings("stack")
    assert MapSettings(0, "x", 8192, 8192, 4, levels, packing).picture_count == 4
    with pytest.raises(SettingsError, match=r"channels: found 8192 x 8192 x 5, expected at most 268435456 samples"):
        MapSettings(0, "x", 8192, 8192, 5, levels, packing)


def test_partitions_are_counted_and_ascend_as_float32() -> None:
    with pytest.raises(SettingsError, match=r"partitions: found 4 bounds, expected 3 at bit_depth 2"):
        QuantizerSettings("custom", 2, 1.0, (0.0, 1.0, 2.0, 3.0))
    with pytest.raises(SettingsError, match="each bound above the one before it, as binary32"):
        QuantizerSettings("custom", 2, 1.0, (0.0, 1.0, 1.0 + 1e-12))


def test_a_logarithmic_range_that_overflows_is_refused() -> None:
    assert QuantizerSettings("logarithmic", 8, 127.9).mode == "logarithmic"
    with pytest.raises(SettingsError, match=r"max_feat_digit: found 128.0, expected less than 128"):
        QuantizerSettings("logarithmic", 8, 128.0)


def test_integer_maps_have_no_thresholds() -> None:
    data = good()
    data["maps"][0]["integer"] = True
    ExtractorSettings.from_dict(data)
    data["maps"][0]["quantizer"] |= {"thresholds": "t.npy", "thresholds_sha256": "a" * 64}
    with pytest.raises(SettingsError, match=r"\[maps\[0\]\.quantizer\] thresholds: found 't\.npy', expected nothing"):
        ExtractorSettings.from_dict(data)


def test_depth_16_takes_its_own_profile_and_two_pictures() -> None:
    data = good()
    data["maps"][0]["quantizer"]["bit_depth"] = 16
    data["video"] = {"profile": "standard-16"}
    assert ExtractorSettings.from_dict(data).maps[0].picture_count == 2
    data["video"] = {"profile": "standard-16", "lossless": False, "qp": 3}
    with pytest.raises(SettingsError, match="lossless"):
        ExtractorSettings.from_dict(data)


def write(folder: Path) -> dict[str, Any]:
    """An extractor's folder, its models being a few bytes each."""
    data = good()
    for key, content in (("backbone", b"near"), ("head", b"far")):
        (folder / data["models"][key]).write_bytes(content)
        data["models"][f"{key}_sha256"] = hashlib.sha256(content).hexdigest()
    for name in ("anchors.npy", "labels.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "extractor.toml").write_text(tomli_w.dumps(data))
    return data


def test_a_folder_is_loaded_and_its_files_verified(tmp_path: Path) -> None:
    data = write(tmp_path)
    assert ExtractorSettings.load(tmp_path) == ExtractorSettings.from_dict(data)
    (tmp_path / "h.onnx").write_bytes(b"faR")
    with pytest.raises(SettingsError, match=r"extractor.toml: \[models\] head: found h.onnx of SHA-256 .*, expected "):
        ExtractorSettings.load(tmp_path)
    assert ExtractorSettings.load(tmp_path, parts=["backbone"]).extractor.name == "demo"
    (tmp_path / "h.onnx").unlink()
    with pytest.raises(SettingsError, match=r"\[models\] head: .*h\.onnx: No such file"):
        ExtractorSettings.load(tmp_path)
    with pytest.raises(SettingsError, match=r"\[models\] whole: found nothing, expected a file name"):
        ExtractorSettings.load(tmp_path, parts=["whole"])
    (tmp_path / "anchors.npy").unlink()
    with pytest.raises(SettingsError, match=r"\[task\] anchors: found no file 'anchors.npy'"):
        ExtractorSettings.load(tmp_path, parts=["task"])


def test_the_thresholds_are_verified_with_the_backbone(tmp_path: Path) -> None:
    data = write(tmp_path)
    file = tmp_path / "thresholds-0.npy"
    digest = write_thresholds(file, UniformQuantizer(6.0, 8).thresholds)
    data["maps"][0]["quantizer"] |= {"thresholds": file.name, "thresholds_sha256": digest}
    (tmp_path / "extractor.toml").write_text(tomli_w.dumps(data))
    settings = ExtractorSettings.load(tmp_path)
    assert settings == ExtractorSettings.from_dict(data)
    file.write_bytes(file.read_bytes()[:-1] + b"\x41")
    with pytest.raises(SettingsError, match=rf"thresholds-0\.npy: found SHA-256 .*, expected {digest}"):
        ExtractorSettings.load(tmp_path, parts=["backbone"])
    file.unlink()
    with pytest.raises(SettingsError, match=r"thresholds-0\.npy: found No such file or directory, expected a file"):
        ExtractorSettings.load(tmp_path, parts=["backbone"])
    assert ExtractorSettings.load(tmp_path, parts=["head", "task"]) == settings


def test_what_is_no_extractor_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"extractor\.toml: No such file or directory; an extractor is a folder"):
        ExtractorSettings.load(tmp_path / "nowhere")
    (tmp_path / "extractor.toml").write_text("[extractor\n")
    with pytest.raises(SettingsError, match=r"extractor\.toml: not TOML: .*line 1") as error:
        ExtractorSettings.load(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "extractor.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"extractor\.toml: not UTF-8"):
        ExtractorSettings.load(tmp_path)
