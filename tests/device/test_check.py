"""`featlink-device check`: what a stream holds, as the camera itself reads it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featlink_codec.features import FeatureMap, StreamReader
from featlink_device.check import MAX_ERRORS, check_stream

DEVICE = str(Path(sys.executable).parent / "featlink-device")
HOST = str(Path(sys.executable).parent / "featlink-host")


def check(*words):
    return subprocess.run([DEVICE, "check", *map(str, words)], capture_output=True, text=True, timeout=120)


@pytest.fixture
def made(make, codings):
    return make([codings["tiled"](), codings["stacked"]()], maps=3)


def sha256(levels: np.ndarray) -> str:
    return hashlib.sha256(levels.astype("<i4").tobytes()).hexdigest()


def test_every_map_is_listed_with_the_hash_of_its_levels(made, tmp_path):
    stream = tmp_path / "a.fms"
    stream.write_bytes(made.data)
    done = check(stream, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["exit_code"], found["errors"], found["errors_left_out"]) == (0, [], 0)
    assert [one["levels_sha256"] for one in found["maps"]] == [sha256(levels) for levels in made.levels]
    assert [one["offset"] for one in found["maps"]] == made.offsets("map")
    assert [one["shape_hwc"] for one in found["maps"][:2]] == [[6, 7, 6], [17, 18, 3]]
    assert [one["feat_type_id"] for one in found["maps"]] == [1, 2] * 3
    assert [one["starts_session"] for one in found["maps"]] == [True, True] + [False] * 4
    assert all(one["hashed"] for one in found["maps"])
    maps = [event for event in StreamReader().feed(bytes(made.data)) if isinstance(event, FeatureMap)]
    videos = [hashlib.sha256(event.video).hexdigest() for event in maps]
    assert [one["video_sha256"] for one in found["maps"]] == videos


def test_the_hashes_are_those_of_what_the_host_decodes(made, tmp_path):
    stream = tmp_path / "a.fms"
    stream.write_bytes(made.data)
    subprocess.run([HOST, "decode", stream, "--out", tmp_path / "maps"], check=True, capture_output=True, timeout=120)
    files = sorted((tmp_path / "maps").glob("*_levels.npy"))
    expected = [hashlib.sha256(np.load(path).tobytes()).hexdigest() for path in files]
    assert [one["levels_sha256"] for one in json.loads(check(stream, "--json").stdout)["maps"]] == expected


def test_damage_is_named_and_the_rest_is_there(make, codings, tmp_path):
    made = make([codings["tiled"]()], maps=3, explicit=True)
    at = made.videos[1] + 150
    made.data[at] ^= 0x40
    stream = tmp_path / "a.fms"
    stream.write_bytes(made.data)
    done = check(stream, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 3
    assert len(found["errors"]) == 1
    assert [one["levels_sha256"] for one in found["maps"]] == [sha256(made.levels[k]) for k in (0, 2)]
    text = check(stream)
    assert text.returncode == 3
    assert f"byte {found['errors'][0]['offset']}: {found['errors'][0]['name']}" in text.stdout
    assert text.stdout.splitlines()[-1] == "2 maps, 1 errors"


def test_what_is_no_stream_is_refused(tmp_path):
    stream = tmp_path / "a.fms"
    stream.write_bytes(b"\x89PNG and so on")
    done = check(stream, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 2
    assert (found["maps"], found["errors"][0]["name"]) == ([], "not-a-stream")


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    done = check(tmp_path / "none.fms")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"featlink-device: {tmp_path}/none.fms: No such file or directory\n"


def test_an_unknown_profile_is_said(made, tmp_path):
    done = check(tmp_path / "a.fms", "--profile", "fancy")
    assert done.returncode == 2
    assert "fancy" in done.stderr


def test_errors_beyond_the_limit_are_counted(make, codings):
    """A stream of nothing but lost maps must not fill the memory of a camera."""
    made = make([codings["tiled"]()], maps=MAX_ERRORS + 5, explicit=True)
    for offset in made.videos:
        made.data[offset + 150] ^= 0x40
    found = check_stream(StreamReader(), [bytes(made.data)])
    assert len(found["errors"]) == MAX_ERRORS
    assert len(found["errors"]) + found["errors_left_out"] == MAX_ERRORS + 5
    assert found["maps"] == []
