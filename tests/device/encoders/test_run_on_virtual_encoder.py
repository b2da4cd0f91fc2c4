"""`featlink-device run` over the virtual encoder: what its video decodes to, level by level, whatever its habits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hil.suite.networks import TENSOR, exact_network, moving_square
from virtual_encoder import library, node, profile_node

from featlink_codec.extractor import ExtractorSettings, PackingSettings, VideoSettings
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.features import Damage, FeatureMap, StreamReader
from featlink_codec.video.clip import Clip
from featlink_host.prepare.pipeline import PrepareOptions, prepare_split

DEVICE = Path(sys.executable).parent / "featlink-device"
PICTURES = 7
#: 4 x 6 places for 16 channels of 40 x 48: one picture of 288 x 160, which every profile takes
PACKING = PackingSettings("tile", tile_h=4, tile_w=6)
#: 4 x 2 places: two pictures of 96 x 160 for a map
TWO_PICTURES = PackingSettings("tile", tile_h=4, tile_w=2)
#: Mean difference of levels that QP 20 may make, by the quantization step of 2^((20 - 4) / 6) = 6.3: half of it
QP, QP_ERROR = 20, 3.2


class Desk:
    """A network, its pictures, and extractors made once each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = moving_square(folder / "pictures", PICTURES)
        self.model = exact_network(folder / "exact.onnx")
        self._made: dict[object, Path] = {}

    def extractor(self, packing: PackingSettings = PACKING, **video: object) -> Path:
        key = (packing, *sorted(video.items()))
        if key not in self._made:
            out = self.folder / f"extractor-{len(self._made)}"
            options = PrepareOptions(video=VideoSettings(**video), packing=packing)  # type: ignore[arg-type]
            prepare_split(self.model, TENSOR, self.pictures, out, options)
            self._made[key] = out
        return self._made[key]

    def levels(self, extractor: Path) -> list[np.ndarray]:
        """The same way, written plainly; exact on every machine."""
        settings = ExtractorSettings.load(extractor)
        session = onnxruntime.InferenceSession(str(extractor / "backbone.onnx"), providers=["CPUExecutionProvider"])
        preprocess, quantizer = Preprocessor(settings.input), quantizer_of(settings.maps[0])
        found = []
        for picture in Clip(self.pictures):
            (features,) = session.run(None, {settings.input.tensor: preprocess(picture.frame)})
            found.append(quantizer.quantize(features[0].transpose(1, 2, 0)))
        return found

    def run(self, extractor: Path, encoder: Path, tmp_path: Path, *words: str) -> tuple[dict, list, str]:
        """The run's figures, the stream's events, and what was said."""
        out, stats = tmp_path / "out.fms", tmp_path / "stats.json"
        out.unlink(missing_ok=True)
        command = [DEVICE, "run", "--extractor", extractor, "--source", self.pictures, "--out", out, "--stats", stats]
        command += ["--encoder", f"libv4l2:{encoder}", *words]
        environment = {**os.environ, "FEATLINK_LIBV4L2": str(library())}
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        reader = StreamReader()
        events = reader.feed(out.read_bytes()) + reader.close()
        return json.loads(stats.read_text()), events, done.stderr


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("desk"))


def maps_of(events):
    assert not [event for event in events if isinstance(event, Damage)]
    return [event for event in events if isinstance(event, FeatureMap)]


@pytest.mark.parametrize("session", ["self-contained", "continuous"])
@pytest.mark.parametrize("profile", ["plain", "venus", "wave5"])
def test_lossless_maps_come_out_as_they_went_in(desk, profile, session, tmp_path):
    extractor = desk.extractor(session=session, lossless=True)
    figures, events, _ = desk.run(extractor, profile_node(tmp_path, profile), tmp_path)
    maps = maps_of(events)
    for found, expected in zip(maps, desk.levels(extractor), strict=True):
        assert np.array_equal(found.levels, expected)
    assert all(found.hashed for found in maps)
    assert (figures["maps_lost"], figures["encoder_restarts"]) == (0, 0)
    assert figures["encoder"]["backend"] == "libv4l2"


@pytest.mark.parametrize(("packing", "session"), [(PACKING, "self-contained"), (TWO_PICTURES, "continuous")])
@pytest.mark.parametrize("profile", ["plain", "venus", "wave5", "jetson"])
def test_lossy_maps_are_near_and_hashed(desk, profile, packing, session, tmp_path):
    extractor = desk.extractor(packing, session=session, lossless=False, qp=QP)
    switches = {"min": "96x96"} if packing is TWO_PICTURES else {}
    _, events, said = desk.run(extractor, profile_node(tmp_path, profile, **switches), tmp_path)
    maps = maps_of(events)
    for found, expected in zip(maps, desk.levels(extractor), strict=True):
        assert np.abs(found.levels.astype(int) - expected).mean() < QP_ERROR
    assert all(found.hashed for found in maps)
    assert "hashed by decoding here" in said


HABITS = {
    "pictures held back": {"delay": 2},
    "headers first": {"headers": "first", "refuse": "prepend_spspps repeat_seq_header header_mode"},
    "headers apart": {"headers": "separate", "refuse": "prepend_spspps repeat_seq_header header_mode"},
    "last with data": {"last": "data", "delay": 1},
    "no command": {"encoder_cmd": "no"},
    "no force": {"refuse": "force_key_frame gop_size"},
    "few buffers": {"fewer_buffers": 2},
    "many buffers": {"extra_buffers": 4, "min_buffers": 5},
    "offset": {"planes": "multi", "data_offset": 4096},
    "padded": {"planes": "multi", "formats": "NV12", "align": "128x32", "height_returned": "padded"},
    "two planes": {"planes": "multi", "formats": "NV12M", "align": "64x16"},
    "three planes": {"planes": "multi", "formats": "YUV420M", "align": "64x16"},
    "sizes unsaid": {"enum_sizes": "no"},
}


@pytest.mark.parametrize("habit", HABITS)
def test_no_habit_changes_a_level(desk, habit, tmp_path):
    extractor = desk.extractor(session="continuous", lossless=True, refresh_s=0.25)
    figures, events, _ = desk.run(extractor, node(tmp_path, **HABITS[habit]), tmp_path)
    maps = maps_of(events)
    for found, expected in zip(maps, desk.levels(extractor), strict=True):
        assert np.array_equal(found.levels, expected)
    assert figures["latency"]["count"] == PICTURES


@pytest.mark.parametrize("fault", [{"error_at": 4}, {"eio_at": 4}, {"stall_at": 4}])
@pytest.mark.parametrize("delay", [0, 1])
def test_a_failing_encoder_costs_maps_and_nothing_else(desk, fault, delay, tmp_path):
    """The trial codes 3 pictures (4 with one held back) in sessions of its own; the fault comes in the run's own."""
    extractor = desk.extractor(session="continuous", lossless=True, refresh_s=60.0)
    device = node(tmp_path, **fault, delay=delay, faults="first_session")
    figures, events, said = desk.run(extractor, device, tmp_path, "--encoder-timeout", "1")
    maps = maps_of(events)
    lost = figures["maps_lost"]
    assert 1 <= lost <= 1 + delay
    assert len(maps) == PICTURES - lost
    assert f"{lost} maps lost by the encoder" in said
    assert figures["encoder_restarts"] == (0 if "error_at" in fault and not delay else 1)
    expected = desk.levels(extractor)
    # An error is told of the picture itself; a device that dies takes with it what it held back before.
    first = 4 if "error_at" in fault else 4 - delay
    kept = [k for k in range(PICTURES) if not first <= k < first + lost]
    for found, k in zip(maps, kept, strict=True):
        assert np.array_equal(found.levels, expected[k])
    # Behind the loss nothing is inherited from before it.
    assert maps[first].starts_session
    assert maps[first].header.repack_heritage_flag == 0


def test_an_encoder_that_fails_now_and_again_is_opened_now_and_again(desk, tmp_path):
    extractor = desk.extractor(session="continuous", lossless=True)
    figures, events, _ = desk.run(extractor, node(tmp_path, eio_at=3), tmp_path)
    assert (figures["maps_lost"], figures["encoder_restarts"], len(maps_of(events))) == (1, 1, PICTURES - 1)


def test_without_hashes_the_host_says_so(desk, tmp_path):
    extractor = desk.extractor(session="continuous", lossless=False, qp=QP, picture_hash=False)
    _, events, said = desk.run(extractor, profile_node(tmp_path, "jetson"), tmp_path)
    assert not any(found.hashed for found in maps_of(events))
    assert "without hashes: the host cannot see all damage" in said
    host = DEVICE.with_name("featlink-host")
    shown = subprocess.run([host, "inspect", tmp_path / "out.fms"], capture_output=True, text=True, timeout=60)
    assert "unhashed" in shown.stdout
