"""`featlink-device run` as a user types it: what it writes, what it says, what it leaves behind."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featlink_codec.extractor import ExtractorSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.features import Damage, FeatureMap, SequenceEnd, StreamReader, Tag
from featlink_codec.video.clip import Clip

DEVICE = [str(Path(sys.executable).parent / "featlink-device"), "run"]


def run(*words, **options):
    return subprocess.run([*DEVICE, *map(str, words)], capture_output=True, timeout=120, **options)


def events_of(data: bytes):
    reader = StreamReader()
    return reader.feed(data) + reader.close()


def expected_levels(folder: Path, clip: Path):
    """The same way, written plainly: picture -> tensor -> backbone -> levels."""
    import onnxruntime

    settings = ExtractorSettings.load(folder)
    session = onnxruntime.InferenceSession(str(folder / "backbone.onnx"), providers=["CPUExecutionProvider"])
    preprocess, quantizer = Preprocessor(settings.input), quantizer_of(settings.maps[0])
    for picture in Clip(clip):
        (features,) = session.run(None, {"image": preprocess(picture.frame)})
        yield quantizer.quantize(features[0].transpose(1, 2, 0))


def test_a_clip_becomes_a_whole_stream(tiny_extractor, tiny_clip, tmp_path):
    out, stats = tmp_path / "clip.fms", tmp_path / "stats.json"
    done = run("--extractor", tiny_extractor, "--source", tiny_clip, "--out", out, "--stats", stats)
    assert done.returncode == 0, done.stderr
    assert b"12 maps" in done.stderr
    assert done.stdout == b""
    events = events_of(out.read_bytes())
    assert not [e for e in events if isinstance(e, Damage)]
    maps = [e for e in events if isinstance(e, FeatureMap)]
    for found, expected in zip(maps, expected_levels(tiny_extractor, tiny_clip), strict=True):
        assert (found.levels == expected).all()
    assert all(m.hashed for m in maps)
    # 10 pictures a second
    assert np.allclose(np.diff([m.time_s for m in maps]), 0.1, atol=1e-6)
    assert isinstance(events[-1], SequenceEnd)
    figures = json.loads(stats.read_text())
    assert (figures["maps"], figures["bytes"]) == (12, out.stat().st_size)
    assert (figures["frames_lost_by_driver"], figures["source"]) == (0, {"kind": "clip"})
    assert 30e6 < figures["peak_memory_bytes"] < 2e9
    assert figures["latency"]["count"] == 12
    assert figures["latency"]["median_ms"] >= figures["stages"]["encode"]["median_ms"]
    assert set(figures["stages"]) == {"capture", "preprocess", "backbone", "pack", "encode", "write"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.fms", "stats.json"]


def test_standard_output_gets_the_same_maps(tiny_extractor, tiny_clip, tmp_path):
    done = run("--extractor", tiny_extractor, "--source", tiny_clip, "--out", "-", "--limit", 3, "--json")
    assert done.returncode == 0
    assert len([e for e in events_of(done.stdout) if isinstance(e, FeatureMap)]) == 3
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["event"] == "done"
    assert lines[-1]["maps"] == 3
    assert lines[0]["event"] == "encoder"
    rates = next(line for line in lines if line["event"] == "rate")
    assert {"fps", "kbps", "waiting", "dropped", "lost"} <= set(rates)


def test_a_live_stream_completes_each_map_before_the_next_is_there(tiny_extractor, tiny_clip):
    """Paced at 10 pictures a second, a map is readable well before the next one is made."""
    words = [*DEVICE, "--extractor", str(tiny_extractor), "--source", str(tiny_clip), "--out", "-", "--paced"]
    reader, seen_s = StreamReader(), []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while chunk := os.read(process.stdout.fileno(), 1 << 16):
            now = time.perf_counter()
            seen_s += [now for event in reader.feed(chunk) if isinstance(event, FeatureMap)]
    assert process.returncode == 0
    # a reader that had to wait for the next map would see one fewer by the time of the last tag
    assert len(seen_s) >= 6  # a busy machine may drop pictures, and says so
    assert seen_s[-1] - seen_s[0] > 0.4


def test_ctrl_c_ends_the_stream_properly(tiny_extractor, tiny_clip, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for k, picture in enumerate(Clip(tiny_clip)):
        picture.frame.to_image().save(images / f"{k:03}.png")
    out = tmp_path / "cut.fms"
    words = [
        *DEVICE,
        "--extractor",
        str(tiny_extractor),
        "--source",
        str(images),
        "--out",
        str(out),
        "--paced",
        "--fps",
        "2",
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        part = tmp_path / "cut.fms.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 200):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not out.exists()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert process.returncode == 0
    events = events_of(out.read_bytes())
    assert isinstance(events[-1], SequenceEnd)
    assert 1 <= len([e for e in events if isinstance(e, FeatureMap)]) < 12
    assert len([e for e in events if isinstance(e, Tag)]) >= 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere.mp4", "no such file or folder"),
        ("empty.mp4", "not a video"),
        ("text.mp4", "not a video"),
        ("folder", "no image in this folder"),
        ("/dev/video97", "no such camera"),
        ("silent.avi", "no picture"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line_and_leave_nothing(tiny_extractor, tmp_path, source, says):
    import av

    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "empty.mp4").touch()
    (inputs / "text.mp4").write_text("not a video at all\n" * 50)
    (inputs / "folder").mkdir()
    with av.open(str(inputs / "silent.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    target = tmp_path / "out"
    target.mkdir()
    name = source if source.startswith("/dev") else inputs / source
    done = run("--extractor", tiny_extractor, "--source", name, "--out", target / "x.fms")
    assert done.returncode == 2
    (line,) = done.stderr.decode().strip().splitlines()[-1:]
    assert line.startswith("featlink-device: ")
    assert says in line
    assert "Traceback" not in done.stderr.decode()
    assert list(target.iterdir()) == []


def test_an_extractor_that_is_not_one_is_named(tiny_clip, tmp_path):
    done = run("--extractor", tmp_path, "--source", tiny_clip, "--out", tmp_path / "x.fms")
    assert done.returncode == 2
    assert b"extractor.toml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_that_was_changed_is_refused(tiny_extractor, tiny_clip, tmp_path):
    import shutil

    folder = tmp_path / "changed"
    shutil.copytree(tiny_extractor, folder)
    with (folder / "backbone.onnx").open("ab") as file:
        file.write(b"\0")
    done = run("--extractor", folder, "--source", tiny_clip, "--out", tmp_path / "x.fms")
    assert done.returncode == 2
    assert b"SHA-256" in done.stderr
    assert not (tmp_path / "x.fms").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny_extractor, tiny_clip, tmp_path):
    """A file size limit stands for the disk: the write fails the same way, in the middle of the stream."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    done = run("--extractor", tiny_extractor, "--source", tiny_clip, "--out", tmp_path / "x.fms", preexec_fn=limit)
    assert done.returncode == 2
    assert b"File too large" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_device(tiny_extractor, tiny_clip):
    words = [*DEVICE, "--extractor", str(tiny_extractor), "--source", str(tiny_clip), "--out", "-", "--paced"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert os.read(process.stdout.fileno(), 5)
        process.stdout.close()
        error = process.stderr.read()
        process.wait(timeout=30)
    assert process.returncode == 2
    assert b"whoever read the stream has gone" in error


def test_a_picture_that_the_encoder_cannot_take_is_refused_before_anything_is_sent(tiny_extractor, tiny_clip, tmp_path):
    """An extractor made by hand: `prepare` would have chosen an even picture."""
    import shutil

    import tomli_w

    folder = tmp_path / "odd"
    shutil.copytree(tiny_extractor, folder)
    settings = ExtractorSettings.load(tiny_extractor).to_dict()
    settings["maps"][0]["packing"] = {"mode": "stack", "pad_h": 1}
    settings["video"]["chroma"] = "420"
    (folder / "extractor.toml").write_text(tomli_w.dumps(settings))
    done = run("--extractor", folder, "--source", tiny_clip, "--out", "-")
    assert done.returncode == 2
    assert b"24x21 has an odd side, which 4:2:0 cannot code" in done.stderr
    assert done.stdout == b""


def test_the_memory_of_whoever_started_us_is_not_ours():
    from featlink_device.stats import peak_memory_bytes

    code = "import featlink_device.stats as s; print(s.peak_memory_bytes())"
    held = np.ones(60 << 20, np.uint8)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, close_fds=True)
    assert peak_memory_bytes() > held.nbytes > int(done.stdout) > 1 << 20


def test_a_signed_map_is_refused_with_advice(tiny_extractor, tiny_model, tiny_clip, tmp_path):
    """Calibration would have refused it; a folder made by hand meets the same check on the camera."""
    import shutil

    import tomli_w

    from featlink_codec.extractor import sha256_of
    from featlink_host.prepare.split import split_model

    folder = tmp_path / "signed"
    shutil.copytree(tiny_extractor, folder)
    split_model(tiny_model, "signed", folder / "backbone.onnx", folder / "head.onnx")
    settings = ExtractorSettings.load(tiny_extractor).to_dict()
    settings["maps"][0]["tensor"] = "signed"
    for half in ("backbone", "head"):
        settings["models"][f"{half}_sha256"] = sha256_of(folder / f"{half}.onnx")
    (folder / "extractor.toml").write_text(tomli_w.dumps(settings))
    done = run("--extractor", folder, "--source", tiny_clip, "--out", tmp_path / "x.fms")
    assert done.returncode == 2
    assert b"split behind a ReLU" in done.stderr
    assert not (tmp_path / "x.fms").exists()
