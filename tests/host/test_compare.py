"""Maps find their pictures, rivals are coded as they say, and agreement is counted against the whole network."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, InputSettings, NoTask
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import Picture, open_source
from featlink_host.demo import SPLIT_TENSOR, demo_model, demo_options, demo_source_clip
from featlink_host.detector import Agreement, Detection, SsdDetector, agreement, match
from featlink_host.inference import open_session
from featlink_host.prepare.pipeline import prepare_split
from featlink_host.report.compare import SHOWN, compare
from featlink_host.report.comparison import FEATURES, Comparison, f1_score, p95
from featlink_host.report.pairing import pair_up
from featlink_host.report.rivals import Converter, JpegRival, PlainRival, X265Rival
from featlink_host.run import MapRecord

EPOCH_S = 1.75e9
FPS = 25
#: Places in the demo's clip where its network finds something and the first picture, where it does not.
PLACES = (0, 39, 42, 96, 190)


def record(k: int, time_s: float | None, detections: list[Detection] | None = None) -> MapRecord:
    return MapRecord(k, time_s, 1000 + k, k == 0, True, detections or [], {"decode": 1.0}, 4000, 900)


def pictures(count: int, fps: float = FPS) -> list[Picture]:
    return [Picture(number, number / fps, cast(VideoFrame, None)) for number in range(count)]


def paired(shots: list[Picture], records: list[MapRecord], start_s: float | None = None) -> list[tuple[int, int]]:
    return [(pair.picture.number, pair.record.k) for pair in pair_up(shots, records, start_s, 0.1)]


# --- which map belongs to which picture


@given(st.data())
def test_maps_find_their_pictures_whatever_was_dropped(data: st.DataObject) -> None:
    fps = data.draw(st.sampled_from([5, 10, 25, 29.97, 30, 50]))
    came = sorted(data.draw(st.sets(st.integers(1, 40))))
    shots = pictures(41, fps)
    # on the wire times are multiples of 10 ms, from a first one that is exact
    records = [record(k, EPOCH_S + round(n / fps, 2)) for k, n in enumerate([0, *came])]
    assert paired(shots, records) == [(n, k) for k, n in enumerate([0, *came])]


def test_a_lost_first_map_needs_the_start_to_be_told() -> None:
    records = [record(k, EPOCH_S + (k + 1) / FPS) for k in range(3)]
    assert paired(pictures(10), records, EPOCH_S) == [(1, 0), (2, 1), (3, 2)]
    assert paired(pictures(10), records) == [(0, 0), (1, 1), (2, 2)]


def test_maps_between_pictures_or_beyond_them_belong_to_none() -> None:
    shots = pictures(3)
    late = [record(0, EPOCH_S), record(1, EPOCH_S + 2.6 / FPS), record(2, EPOCH_S + 9.0)]
    assert paired(shots, late) == [(0, 0)]
    early = [record(0, EPOCH_S - 1), record(1, EPOCH_S + 0.4 / FPS)]
    assert paired(shots, early, EPOCH_S) == [(0, 1)]
    twice = [record(0, EPOCH_S), record(1, EPOCH_S + 0.3 / FPS), record(2, EPOCH_S + 1.1 / FPS)]
    assert paired(shots, twice) == [(0, 0), (1, 2)]


def test_pictures_may_come_unevenly() -> None:
    times = [0.0, 0.04, 0.5, 0.54, 2.0]
    shots = [Picture(number, time_s, cast(VideoFrame, None)) for number, time_s in enumerate(times)]
    records = [record(k, EPOCH_S + time_s) for k, time_s in enumerate((0.0, 0.3, 0.53, 1.9))]
    assert paired(shots, records) == [(0, 0), (2, 1), (3, 2), (4, 3)]


def test_maps_without_times_are_counted() -> None:
    records = [record(k, None) for k in (0, 1, 3)]
    assert paired(pictures(9), records) == [(0, 0), (1, 1), (3, 3)]
    # where some have times, those without belong to none
    mixed = [record(0, EPOCH_S), record(1, None), record(2, EPOCH_S + 2 / FPS)]
    assert paired(pictures(9), mixed) == [(0, 0), (2, 2)]
    assert paired(pictures(9), []) == []


def test_no_more_pictures_are_read_than_there_are_maps_for() -> None:
    read: list[int] = []

    def shots() -> Any:
        for picture in pictures(100):
            read.append(picture.number)
            yield picture

    for times in ([EPOCH_S, EPOCH_S + 1 / FPS], [None, None]):
        read.clear()
        list(pair_up(shots(), [record(k, time_s) for k, time_s in enumerate(times)], None, 0.1))
        assert read == [0, 1, 2]


# --- rivals


def texture(width: int, height: int) -> VideoFrame:
    """A picture of soft blobs, gray with a little colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 1), np.uint8).repeat(3, 2)
    coarse[..., 0] = coarse[..., 0] // 2 + 64
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return VideoFrame.from_ndarray(np.asarray(image), "rgb24")


def samples(frame: VideoFrame) -> np.ndarray:
    return frame.to_ndarray().astype(int)


def test_jpeg_counts_the_whole_file_and_gives_the_decoded_picture() -> None:
    frame = texture(120, 80)
    nbytes, seen = JpegRival().code(frame, 0.0)
    file = io.BytesIO()
    Image.fromarray(frame.to_ndarray()).save(file, "JPEG", quality=85)
    assert nbytes == len(file.getvalue())
    assert (seen.width, seen.height, seen.format.name) == (120, 80, "yuvj420p")
    with Image.open(file) as image:
        assert np.abs(samples(Converter("rgb24")(seen)) - np.asarray(image, int)).mean() < 1
    assert 0 < np.abs(samples(Converter("rgb24")(seen)) - samples(frame)).mean() < 5


@given(st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from(["yuv420p", "yuvj420p"]))
def test_conversions_do_not_shift_colours(colour: tuple[int, int, int], middle: str) -> None:
    frame = VideoFrame.from_ndarray(np.full((6, 18, 3), colour, np.uint8), "rgb24")
    back = Converter("rgb24")(Converter(middle)(frame))
    # 220 levels of luma stand for 256, and chroma is rounded too
    assert np.abs(samples(back) - samples(frame)).max() <= 3


def test_frames_of_any_size_are_converted_in_turn() -> None:
    convert = Converter("yuv420p")
    for width, height in ((40, 20), (20, 40), (40, 20)):
        frame = convert(texture(width, height))
        assert (frame.width, frame.height, frame.format.name) == (width, height, "yuv420p")


@pytest.mark.parametrize("colour", ["rgb", "bgr", "gray"])
def test_the_network_gets_its_own_picture_back_from_x265(colour: str) -> None:
    size = InputSettings("image", 98, 66, colour=colour, scale=1.0)
    preprocess = Preprocessor(size)
    frame = texture(300, 200)
    wanted = preprocess(frame)
    plain_bytes, plain = PlainRival(size).code(frame, 0.0)
    nbytes, seen = X265Rival(4, size, 2.0, 1 / FPS).code(frame, 0.0)
    assert plain_bytes == 98 * 66 * (2 if colour == "gray" else 3) // 2
    assert 500 < nbytes < plain_bytes
    limit = 0.01 if colour == "gray" else 2.0  # gray is passed on as it is
    assert np.abs(preprocess(plain) - wanted).mean() < limit
    assert abs((preprocess(plain) - wanted).mean()) < 0.3  # no shift
    assert np.abs(preprocess(seen) - wanted).mean() < limit + 1.5


def test_an_odd_size_is_made_even_for_x265() -> None:
    size = InputSettings("image", 97, 65)
    seen = X265Rival(10, size, 2.0, 1 / FPS).code(texture(300, 200), 0.0)[1]
    assert (seen.width, seen.height, seen.format.name) == (98, 66, "rgb24")
    assert Preprocessor(size)(seen).shape == (1, 3, 65, 97)


def test_x265_repeats_intra_pictures_by_time_and_nothing_else_is_intra() -> None:
    rival = X265Rival(28, InputSettings("image", 96, 64), 2.0, 1 / 5)
    frame = texture(96, 64)
    sizes = [rival.code(frame, k / 5)[0] for k in range(25)]
    inter = [size for k, size in enumerate(sizes) if k % 10]
    assert min(sizes[0], sizes[10], sizes[20]) > 1.5 * max(inter)


def test_a_lower_crf_takes_more_bytes() -> None:
    sizes = [
        X265Rival(crf, InputSettings("image", 96, 64), 2.0, 0.04).code(texture(96, 64), 0)[0] for crf in (10, 25, 40)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_what_x265_does_not_take_is_refused() -> None:
    size = InputSettings("image", 96, 64)
    for crf in (-1, 52, float("nan")):
        with pytest.raises(SettingsError, match=r"CRF: found .*, expected 0\.\.51"):
            X265Rival(crf, size, 2.0, 0.04)
    with pytest.raises(SettingsError, match="x265 codes no pictures of 12 x 64"):
        X265Rival(28, replace(size, width=12), 2.0, 0.04)


# --- agreement

boxes = st.builds(
    lambda label, score, x, y, w, h: Detection(label, f"id {label}", score, x, y, min(1, x + w), min(1, y + h)),
    st.integers(1, 2),
    st.sampled_from([0.39, 0.4, 0.9]),
    *[st.sampled_from([0.0, 0.1, 0.2])] * 2,
    *[st.sampled_from([0.0, 0.3, 0.4, 0.5])] * 2,
)


@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_the_pairs_that_are_drawn_are_those_that_are_counted(ours: list[Detection], theirs: list[Detection]) -> None:
    pairs, missed, extra = match(ours, theirs, 0.4, 0.5)
    counted = agreement(ours, theirs, 0.4, 0.5)
    assert (len(pairs), len(missed), len(extra)) == (counted.matched, counted.missed, counted.extra)
    assert len(pairs) + len(missed) == sum(one.score >= 0.4 for one in ours)
    assert all(a.label_id == b.label_id and min(a.score, b.score) >= 0.4 for a, b in pairs)


def test_f1_and_percentile() -> None:
    assert f1_score(Agreement()) == 1.0
    assert f1_score(Agreement(missed=1)) == 0.0
    both = Agreement(matched=6, missed=2, extra=4)
    assert f1_score(both) == pytest.approx(2 * both.recall * both.precision / (both.recall + both.precision))
    assert p95([1.0]) == 1.0
    assert p95([float(k) for k in range(101)]) == 95.0


# --- the whole of it, with the demo's network


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extractors") / "demo"
    options = replace(demo_options(), frames=2, keep_whole=True)
    prepare_split(demo_model(), SPLIT_TENSOR, demo_source_clip(), folder, options)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures of the demo's clip, as images, which play at 10 a second."""
    folder = tmp_path_factory.mktemp("street")
    for picture in open_source(demo_source_clip()):
        if picture.number in PLACES:
            encoder = cast(av.VideoCodecContext, av.CodecContext.create("png", "w"))
            frame = picture.frame.reformat(format="rgb24")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = frame.width, frame.height, "rgb24", 1
            (folder / f"{picture.number:03d}.png").write_bytes(b"".join(bytes(one) for one in encoder.encode(frame)))
    return folder


@pytest.fixture(scope="module")
def seen(extractor: Path, source: Path) -> list[list[Detection]]:
    """What the whole network finds in them."""
    settings = ExtractorSettings.load(extractor)
    preprocess, session = Preprocessor(settings.input), open_session(demo_model())
    detector = SsdDetector.from_extractor(extractor, settings)
    found = []
    for picture in open_source(source):
        found.append(detector(*session.run(["boxes", "logits"], {"image": preprocess(picture.frame)})))
    assert not found[0]
    assert len(found[1]) >= 2
    assert all(found[1:])
    return found


@pytest.fixture(scope="module")
def compared(extractor: Path, source: Path, seen: list[list[Detection]]) -> tuple[Comparison, list[tuple[int, int]]]:
    """A run whose second map lost its best object, whose third found one too many, and whose fourth never came."""
    extra = Detection(90, "toothbrush", 0.5, 0.1, 0.1, 0.2, 0.2)
    faint = replace(extra, score=0.39)
    found = [seen[0], seen[1][1:], [*seen[2], extra, faint], seen[4]]
    times = [0.0, 0.1, 0.2, 0.4]
    records = [record(k, EPOCH_S + time_s, boxes) for k, (time_s, boxes) in enumerate(zip(times, found, strict=True))]
    records.append(record(4, EPOCH_S + 7.0))
    told: list[tuple[int, int]] = []
    settings = ExtractorSettings.load(extractor)
    result = compare(settings, extractor, source, records, crfs=(20, 45, 20), progress=lambda *what: told.append(what))
    return result, told


def test_the_split_network_is_counted_against_the_whole_one(
    compared: tuple[Comparison, Any], seen: list[list[Detection]]
) -> None:
    result, told = compared
    _, one, two, _, four = map(len, seen)
    assert [(one.number, one.k) for one in result.pictures] == [(0, 0), (1, 1), (2, 2), (4, 3)]
    assert result.unmatched == 1
    assert result.fps == pytest.approx(10)
    assert result.source_size == (640, 272)
    assert result.features.key == FEATURES
    expected = (Agreement(), Agreement(one - 1, 1, 0), Agreement(two, 0, 1), Agreement(four, 0, 0))
    assert result.features.agreements == expected
    assert result.features.agreement == Agreement(one + two + four - 1, 1, 1)
    assert result.features.nbytes == (1000, 1001, 1002, 1003)
    assert result.features.mean_bytes == 1001.5
    assert result.kbps(result.features) == pytest.approx(1001.5 * 8 * 10 / 1e3)
    assert len(result.whole_ms) == 4
    assert min(result.whole_ms) > 0
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_rivals_go_through_the_whole_network(compared: tuple[Comparison, Any], seen: list[list[Detection]]) -> None:
    methods = {method.key: method for method in compared[0].methods}
    assert list(methods) == [FEATURES, "jpeg-85", "plain", "x265-20", "x265-45"]
    came = [seen[k] for k in (0, 1, 2, 4)]
    for key in list(methods)[1:]:
        total = methods[key].agreement
        assert total is not None
        assert total.matched + total.missed == sum(map(len, came))
    good, bad = methods["x265-20"].agreement, methods["x265-45"].agreement
    assert good is not None
    assert bad is not None
    assert good.matched > bad.matched
    assert methods["plain"].nbytes == (135000,) * 4
    assert all(a > b for a, b in zip(methods["x265-20"].nbytes, methods["x265-45"].nbytes, strict=True))
    # the original in its own size takes more than the small one
    assert min(methods["jpeg-85"].nbytes) > 8000
    assert "300 x 300 4:2:0" in methods["x265-20"].how
    assert "every 2 s" in methods["x265-20"].how


def test_the_pictures_to_be_shown_are_few_and_hold_the_worst(
    compared: tuple[Comparison, Any], seen: list[list[Detection]]
) -> None:
    shown = compared[0].shown
    assert len(shown) <= SHOWN + 1
    assert [one.number for one in shown] == [0, 1, 2, 4]
    assert [one.why for one in shown] == ["rich", "worst", "rich", "rich"]
    assert [list(one.reference) for one in shown] == [seen[k] for k in (0, 1, 2, 4)]
    assert list(shown[1].found) == seen[1][1:]
    with Image.open(io.BytesIO(shown[1].jpeg)) as image:
        assert image.size == (480, 204)


def test_of_many_pictures_the_richest_of_each_share_is_kept(extractor: Path, tmp_path: Path, source: Path) -> None:
    """Thirty pictures in turn rich and empty: of each sixth, one with objects is shown."""
    first, rich = sorted(source.iterdir())[:2]
    for number in range(30):
        (tmp_path / f"{number:02d}.png").symlink_to(rich if number % 5 == 3 else first)
    records = [record(k, EPOCH_S + k / 10) for k in range(30)]
    result = compare(ExtractorSettings.load(extractor), extractor, tmp_path, records, crfs=())
    assert [one.number for one in result.shown] == [3, 8, 13, 18, 23, 28]
    assert [method.key for method in result.methods] == [FEATURES, "jpeg-85", "plain"]


def test_the_figures_are_ready_for_json(compared: tuple[Comparison, Any], seen: list[list[Detection]]) -> None:
    told = json.loads(json.dumps(compared[0].as_dict()))
    ours, jpeg, _, *x265 = told["methods"]
    objects = sum(len(seen[k]) for k in (0, 1, 2, 4))
    assert (ours["matched"], ours["missed"], ours["extra"]) == (objects - 1, 1, 1)
    assert ours["recall"] == ours["precision"] == ours["f1"] == pytest.approx((objects - 1) / objects)
    assert ours["bytes"] == [1000, 1001, 1002, 1003]
    assert len(jpeg["bytes"]) == len(jpeg["agreements"]) == 4
    assert [one["label"] for one in x265] == ["x265 CRF 20", "x265 CRF 45"]
    assert told["unmatched_maps"] == 1
    assert told["whole_network_ms"]["median"] > 0
    assert [one["number"] for one in told["shown"]] == [0, 1, 2, 4]
    assert "jpeg" not in told["shown"][0]
    assert told["shown"][1]["reference"][0]["label"]


def test_without_a_task_only_bytes_are_compared(extractor: Path, source: Path) -> None:
    settings = replace(ExtractorSettings.load(extractor), task=NoTask())
    result = compare(settings, extractor, source, [record(0, None), record(1, None)], crfs=(30,))
    assert [len(method.nbytes) for method in result.methods] == [2, 2, 2, 2]
    assert [method.agreement for method in result.methods] == [None] * 4
    assert (result.whole_ms, result.shown) == ((), ())
    assert json.loads(json.dumps(result.as_dict()))["methods"][0]["recall"] is None


def test_one_image_is_a_source_too(extractor: Path, source: Path, seen: list[list[Detection]]) -> None:
    result = compare(
        ExtractorSettings.load(extractor), extractor, sorted(source.iterdir())[1], [record(0, EPOCH_S, seen[1])]
    )
    assert result.features.agreement == Agreement(len(seen[1]), 0, 0)
    assert result.fps == 10
    assert [method.key for method in result.methods[3:]] == ["x265-23", "x265-28", "x265-33", "x265-38"]


def test_the_whole_network_must_be_there_and_be_the_one_that_was_split(
    extractor: Path, source: Path, tmp_path: Path, seen: list[list[Detection]]
) -> None:
    settings = ExtractorSettings.load(extractor)
    alone = replace(settings, models=replace(settings.models, whole=None))
    records = [record(0, None, seen[0])]
    with pytest.raises(SettingsError, match="holds no whole network to compare with"):
        compare(alone, extractor, source, records, crfs=())
    assert compare(alone, extractor, source, records, crfs=(), whole_model=demo_model()).unmatched == 0
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another network")
    with pytest.raises(SettingsError, match=r"other\.onnx: found SHA-256 .*, expected .*, the network that was split"):
        compare(settings, extractor, source, records, crfs=(), whole_model=other)


def test_another_source_and_a_wrong_crf_are_refused(extractor: Path, source: Path) -> None:
    settings = ExtractorSettings.load(extractor)
    with pytest.raises(SettingsError, match="none of 1 maps belongs to a picture of it"):
        compare(settings, extractor, source, [record(0, EPOCH_S)], start_s=EPOCH_S - 100)
    with pytest.raises(SettingsError, match="CRF: found 99"):
        compare(settings, extractor, source, [record(0, EPOCH_S)], crfs=(99,))
