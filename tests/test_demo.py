"""The README's first command, on a few pictures of the street clip, and its report in a real browser."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from featlink_codec.video.clip import Clip
from featlink_host.demo import demo_source_clip

ROOT = Path(__file__).parents[1]
PICTURES = 6


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    images, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("demo")
    for picture in Clip(demo_source_clip()):
        if picture.number % 40 == 0:
            picture.frame.to_image().save(images / f"{picture.number:03}.png")
        if picture.number == 40 * (PICTURES - 1):
            break
    words = [str(Path(sys.executable).parent / "invoke"), "demo", "--source", str(images), "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return out


def test_the_demo_finds_what_the_whole_network_finds(demo):
    lines = [json.loads(line) for line in (demo / "detections.jsonl").read_text().splitlines()]
    assert len(lines) == PICTURES
    assert any(line["detections"] for line in lines)
    comparison = json.loads((demo / "comparison.json").read_text())
    methods = {method["key"]: method for method in comparison["methods"]}
    features = methods["features"]
    assert sum(features["bytes"]) == sum(line["stream_bytes"] for line in lines)
    assert features["recall"] >= 0.5
    assert any(key.startswith("x265") for key in methods)
    assert any(key.startswith("jpeg") for key in methods)
    stages = json.loads((demo / "device-stats.json").read_text())["stages"]
    assert all(stage["count"] for stage in stages.values())


def test_its_report_shows_in_a_browser(demo, browser, opened):
    assert opened((demo / "report.html").read_text()) == []
    sizes = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) >= 3
    assert all(sizes)


def test_a_wrong_source_is_one_line_and_no_report(tmp_path):
    words = [
        str(Path(sys.executable).parent / "invoke"),
        "demo",
        "--source",
        "nowhere.mp4",
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "nowhere.mp4: no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o" / "report.html").exists()
