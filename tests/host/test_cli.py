"""`featlink-host` as a user types it: decode, inspect, prepare, run; good input and bad."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

VECTORS = Path(__file__).parents[1] / "vectors"
BIN = Path(sys.executable).parent
GOOD = json.loads((VECTORS / "feature_stream" / "index.json").read_text())
BAD = json.loads((VECTORS / "feature_stream_malformed" / "index.json").read_text())


def host(*words, **options):
    options = {"capture_output": True, "timeout": 120, **options}
    return subprocess.run([str(BIN / "featlink-host"), *map(str, words)], **options)


@pytest.fixture(scope="module")
def stream(tiny_extractor, tiny_clip, tmp_path_factory):
    """What the device makes of the tiny clip."""
    out = tmp_path_factory.mktemp("stream") / "tiny.fms"
    words = ["run", "--extractor", str(tiny_extractor), "--source", str(tiny_clip), "--out", str(out)]
    subprocess.run([str(BIN / "featlink-device"), *words], check=True, capture_output=True)
    return out


# --- decode


@pytest.mark.parametrize("entry", GOOD, ids=lambda e: e["name"])
def test_decode_writes_every_map_of_a_good_stream(entry, tmp_path):
    source = VECTORS / "feature_stream" / f"{entry['name']}.fms"
    done = host("decode", source, "--out", tmp_path / "maps", "--profile", entry["profile"])
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "maps" / "index.json").read_text())
    with np.load(source.with_suffix(".npz")) as arrays:
        meta = json.loads(str(arrays["meta"]))
        for k in range(entry["maps"]):
            levels = np.load(tmp_path / "maps" / f"{k:05d}_levels.npy")
            values = np.load(tmp_path / "maps" / f"{k:05d}_values.npy")
            assert levels.dtype == np.int32
            assert (levels == arrays[f"m{k}_levels"]).all()
            assert values.dtype == np.float32
            assert values.tobytes() == arrays[f"m{k}_values"].tobytes()
    assert len(list((tmp_path / "maps").iterdir())) == 2 * entry["maps"] + 1
    assert index["errors"] == []
    for found, expected in zip(index["maps"], meta["maps"], strict=True):
        same = ("shape_hwc", "feat_type_id", "feat_integer", "repack_mode", "pad_h", "pad_w", "pictures", "tag")
        assert {key: found[key] for key in same} == {key: expected[key] for key in same}
        assert found["offset"] == expected["byte_offset"]
    assert len(index["time_tags"]) == entry["time_tags"]


@pytest.mark.parametrize("entry", BAD, ids=lambda e: e["name"])
def test_decode_of_damaged_streams_ends_with_the_right_code(entry, tmp_path):
    source = VECTORS / "feature_stream_malformed" / entry["file"]
    done = host("decode", source, "--out", tmp_path, "--profile", entry["profile"])
    assert done.returncode == (2 if entry["stream"] == "refuse" else 3)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["exit_code"] == done.returncode
    assert {e["name"] for e in index["errors"]} & set(entry["error_names"])
    assert all(isinstance(e["offset"], int) and e["text"] for e in index["errors"])
    assert len(list(tmp_path.glob("*_levels.npy"))) == len(index["maps"])
    assert b"Traceback" not in done.stderr
    shown = host("inspect", source, "--profile", entry["profile"], "--json")
    assert shown.returncode in (done.returncode, 0)
    assert len(json.loads(shown.stdout)["maps"]) >= len(index["maps"])


def test_decode_reads_standard_input_and_prints_json(stream, tmp_path):
    done = host("decode", "-", "--out", tmp_path, "--json", input=stream.read_bytes())
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["maps"]) == 12


def test_decoding_again_leaves_nothing_of_the_earlier_decode(stream, tmp_path):
    host("decode", stream, "--out", tmp_path)
    shorter = tmp_path / "short.fms"
    shorter.write_bytes(stream.read_bytes()[:1500])
    assert host("decode", shorter, "--out", tmp_path).returncode == 3
    index = json.loads((tmp_path / "index.json").read_text())
    assert len(list(tmp_path.glob("*_levels.npy"))) == len(index["maps"]) < 12


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["decode", "nowhere.fms", "--out", "o"], "nowhere.fms: No such file"),
        (["decode", ".", "--out", "o"], "Is a directory"),
        (["inspect", "nowhere.fms"], "nowhere.fms: No such file"),
        (["run", "nowhere.fms", "--extractor", "e", "--out", "o"], "e/extractor.toml"),
        (["decode", "text", "--out", "o"], "not-a-stream"),
        (["prepare", "cuts", "text"], "text"),
        (["prepare", "cuts", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_what_cannot_be_read_is_one_line(words, says, tmp_path):
    (tmp_path / "text").write_text("no stream, no model")
    done = host(*words, cwd=tmp_path)
    assert done.returncode == 2
    error = done.stderr.decode()
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists() or [p.name for p in (tmp_path / "o").iterdir()] == ["index.json"]


def test_an_unknown_profile_is_a_usage_error(stream, tmp_path):
    done = host("decode", stream, "--out", tmp_path / "o", "--profile", "baseline")
    assert done.returncode == 2
    assert b"'baseline' is none of" in done.stderr
    assert not (tmp_path / "o").exists()


def test_decode_on_a_full_disk_is_one_line_without_half_a_file(stream, tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))

    done = host("decode", stream, "--out", tmp_path, preexec_fn=limit)
    assert done.returncode == 2
    assert b"File too large" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- inspect


def test_inspect_shows_the_stream_in_order(stream):
    done = host("inspect", stream, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "12 maps" in text
    assert "20x24x8, uniform 8 bit" in text
    assert "MD5" in text
    order = [text.index(word) for word in ("sequence", "tag 0", "map 0", "tag 1", "map 11", "end")]
    assert order == sorted(order)


def test_inspect_shows_damage_where_it_is(stream, tmp_path):
    data = bytearray(stream.read_bytes())
    data[400] ^= 0xFF
    (tmp_path / "bent.fms").write_bytes(data[:-200])
    done = host("inspect", tmp_path / "bent.fms", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 3
    assert b"DAMAGE" in done.stdout


# --- prepare


def test_prepare_lists_cuts(tiny_model):
    done = host("prepare", "cuts", tiny_model)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["signed", "feature", "mixed"]
    assert "may be negative" in lines[0]
    assert "may be negative" not in lines[1]
    found = json.loads(host("prepare", "cuts", tiny_model, "--json").stdout)
    assert found[1]["shape"] == [1, 8, 20, 24]


def test_prepare_split_writes_an_extractor(tiny_model, tiny_clip, tmp_path):
    words = ["--tensor", "feature", "--source", tiny_clip, "--out", tmp_path / "e", "--qp", 20, "--frames", 3]
    done = host("prepare", "split", tiny_model, *words, "--json")
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert settings["video"]["qp"] == 20
    assert settings["video"]["session"] == "continuous"
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == [
        "backbone.onnx", "extractor.toml", "head.onnx", "thresholds-0.npy",
    ]  # fmt: skip
    again = host("prepare", "split", tiny_model, *words)
    assert again.returncode == 2
    assert b"--force" in again.stderr or b"force" in again.stderr
    assert host("prepare", "split", tiny_model, *words, "--force").returncode == 0


@pytest.mark.parametrize(
    ("tensor", "more", "says"),
    [
        ("featur", [], "perhaps 'feature'"),
        ("featur", [], "mixed"),
        ("signed", [], "ReLU"),
        ("scores", [], "output"),
        ("image", [], "input"),
        ("feature", ["--lossless", "--qp", "3"], "lossless"),
        ("feature", ["--bit-depth", "5"], "bit_depth"),
        ("feature", ["--bit-depth", "16"], "standard-16"),
        ("feature", ["--mode", "cubic"], "cubic"),
        ("feature", ["--anchors", "a.npy"], "--labels"),
    ],
)
def test_prepare_split_says_what_is_wrong_and_leaves_nothing(tiny_model, tiny_clip, tmp_path, tensor, more, says):
    out = tmp_path / "e"
    done = host("prepare", "split", tiny_model, "--tensor", tensor, "--source", tiny_clip, "--out", out, *more)
    assert done.returncode == 2
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- run


def test_run_writes_the_head_s_outputs_and_a_report(stream, tiny_extractor, tiny_clip, tmp_path):
    import onnxruntime

    from featlink_codec.extractor import ExtractorSettings
    from featlink_codec.extractor.preprocess import Preprocessor
    from featlink_codec.video.clip import Clip

    done = host("run", stream, "--extractor", tiny_extractor, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["maps"] == 12
    assert summary["bytes"] == stream.stat().st_size
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == 12
    assert "<html" in (tmp_path / "report.html").read_text()
    # The split network is the whole one, but for the quantizer's step.
    whole = onnxruntime.InferenceSession(str(tiny_extractor / "whole.onnx"), providers=["CPUExecutionProvider"])
    preprocess = Preprocessor(ExtractorSettings.load(tiny_extractor).input)
    for k, picture in enumerate(Clip(tiny_clip)):
        (expected,) = whole.run(None, {"image": preprocess(picture.frame)})
        with np.load(tmp_path / "outputs" / f"{k:05d}.npz") as found:
            assert np.abs(found["scores"] - expected).max() < 0.02 * np.abs(expected).max()


def test_run_follows_a_file_that_is_being_written(stream, tiny_extractor, tmp_path):
    """The writer calls it NAME.part until it is whole; maps come out before that."""
    data, part, whole = stream.read_bytes(), tmp_path / "live.fms.part", tmp_path / "live.fms"
    seen = []

    def write():
        with part.open("wb", buffering=0) as file:
            for start in range(0, len(data), 700):
                file.write(data[start : start + 700])
                time.sleep(0.05)
                lines = tmp_path / "o" / "detections.jsonl.part"
                seen.append(len(lines.read_text().splitlines()) if lines.exists() else 0)
        time.sleep(1.0)
        part.rename(whole)

    writer = threading.Thread(target=write)
    writer.start()
    done = host("run", whole, "--extractor", tiny_extractor, "--out", tmp_path / "o", "--follow", "--json")
    writer.join()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["maps"] == 12
    assert len((tmp_path / "o" / "detections.jsonl").read_text().splitlines()) == 12


def test_run_refuses_a_stream_of_another_extractor(stream, tiny_extractor, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(tiny_extractor, folder)
    text = (folder / "extractor.toml").read_text()
    (folder / "extractor.toml").write_text(text.replace("feat_extractor_id = 0", "feat_extractor_id = 5"))
    done = host("run", stream, "--extractor", folder, "--out", tmp_path / "o")
    assert done.returncode == 2
    assert b"comes from extractor 0" in done.stderr
    assert list((tmp_path / "o").iterdir()) == []


def test_run_reports_what_was_lost_and_delivers_the_rest(stream, tiny_extractor, tmp_path):
    (tmp_path / "cut.fms").write_bytes(stream.read_bytes()[:-100])
    done = host("run", tmp_path / "cut.fms", "--extractor", tiny_extractor, "--out", tmp_path / "o", "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert 9 <= summary["maps"] < 12
    assert summary["errors"][0]["name"] == "truncated"


@pytest.mark.parametrize(
    "words", [[], ["decode"], ["inspect"], ["run"], ["prepare"], ["prepare", "split"], ["prepare", "cuts"]]
)
def test_every_command_has_help(words):
    done = host(*words, "--help")
    assert done.returncode == 0
    assert b"Usage" in done.stdout
