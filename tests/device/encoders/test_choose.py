"""Choosing an encoder: by what it does in a trial, in whichever way it wants to be asked."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from device.encoders.stub_session import Habits, StubCandidate

from featlink_codec.errors import EncoderError, SettingsError
from featlink_codec.video.decoder import HevcDecoder
from featlink_codec.video.nal import split_access_units
from featlink_codec.video.picture_hash import has_md5
from featlink_codec.video.x265 import X265Encoder, X265Settings
from featlink_device.encoders.candidates import BACKENDS, candidates
from featlink_device.encoders.choose import choose, is_in_place, trial_picture, try_candidate
from featlink_device.encoders.session import EncoderSpec

SPEC = EncoderSpec(96, 64, qp=30)


@pytest.mark.parametrize("all_intra", [False, True])
@pytest.mark.parametrize("minds", [("gop", "force", "restart"), ("force",), ("restart",)])
@pytest.mark.parametrize("delay", [0, 1, 2])
def test_the_way_that_works_is_found(delay, minds, all_intra):
    habits = Habits(delay=delay, minds=minds)
    trial = try_candidate(StubCandidate(habits), dataclasses.replace(SPEC, all_intra=all_intra))
    assert trial.works
    assert (trial.delay, trial.decoded) == (delay, True)
    assert trial.spec.intra_by == next(
        way for way in ("gop", "force", "restart") if way in minds and (all_intra or way != "gop")
    )
    assert trial.spec.stalled_s == SPEC.stalled_s
    assert habits.closed == habits.sessions
    json.dumps(trial.as_json())


def test_an_encoder_that_makes_no_intra_pictures_is_refused():
    trial = try_candidate(StubCandidate(Habits(minds=())), SPEC)
    assert not trial.works
    assert "an intra picture was asked for" in trial.why[-1]
    assert trial.as_json()["works"] is False


@pytest.mark.parametrize("shift", [1, -1, 17])
def test_pictures_that_come_back_moved_are_refused(shift):
    trial = try_candidate(StubCandidate(Habits(shift=shift)), SPEC)
    assert not trial.works
    assert "moved" in trial.why[-1]


def test_a_stalled_encoder_is_refused_and_the_next_one_taken():
    stalled, good = Habits(stalls=tuple(range(100))), Habits()
    trial, refused = choose([StubCandidate(stalled), StubCandidate(good, node="/dev/other")], SPEC)
    assert trial.candidate.node == "/dev/other"
    assert [str(one.candidate) for one in refused] == ["v4l2:/dev/stub"]
    assert "nothing came for 5 s" in refused[0].why[-1]


def test_every_reason_is_said_where_nothing_works():
    stubs = [StubCandidate(Habits(shut=tuple(range(99)))), StubCandidate(Habits(minds=()), node="/dev/b")]
    with pytest.raises(EncoderError, match=r"96 x 64: v4l2:/dev/stub: the encoder is busy; v4l2:/dev/b: .*intra"):
        choose(stubs, SPEC)


def test_pictures_of_the_chosen_encoder_are_hashed_by_decoding_them():
    trial, _ = choose([StubCandidate(Habits())], SPEC)
    coder = trial.open()
    decoder = HevcDecoder(SPEC.width, SPEC.height, require_hash=True)
    for k in range(3):
        coder.frame_buffer()[...] = trial_picture(SPEC.width, SPEC.height, k)
        (unit,) = coder.submit(intra=k == 0)
        assert np.array_equal(decoder.decode(unit), coder.hasher.luma)
    assert trial.as_json()["hashed"] == "this board's decoder"


def test_without_hashes_pictures_go_as_they_come():
    trial, _ = choose([StubCandidate(Habits())], dataclasses.replace(SPEC, picture_hash=False))
    coder = trial.open()
    (unit,) = coder.submit(intra=True)
    assert not has_md5(split_access_units(unit, 0)[0])
    assert trial.as_json()["hashed"] == "nobody"


def test_x265_is_tried_like_the_others():
    trial, refused = choose(candidates("x265"), dataclasses.replace(SPEC, qp=None, lossless=True))
    assert (trial.candidate.backend, trial.delay, refused) == ("x265", 0, [])
    assert trial.as_json()["hashed"] == "encoder"


@pytest.mark.parametrize("size", [(17, 17), (64, 48), (96, 200)])
@pytest.mark.parametrize("qp", [0, 30, 51])
def test_no_quantizer_is_so_coarse_that_the_trial_is_not_passed(size, qp):
    picture = trial_picture(*size, 1)
    decoder = HevcDecoder(*size)
    found = decoder.decode(X265Encoder(X265Settings(*size, qp=qp)).encode(picture, intra=True))
    assert is_in_place(found, picture)
    assert not is_in_place(trial_picture(*size, 2), picture)
    # Rows at a wrong stride.
    assert not is_in_place(np.resize(np.pad(found, ((0, 0), (0, 8))), picture.shape), picture)


def test_candidates_are_named():
    assert [str(one) for one in candidates("libv4l2:/dev/x")] == ["libv4l2:/dev/x"]
    assert candidates()[-1].backend == BACKENDS[-1] == "x265"
    with pytest.raises(SettingsError, match="expected auto or one of libv4l2, v4l2, rkmpp, x265"):
        candidates("nvenc")
    with pytest.raises(SettingsError, match="x265 has no device node"):
        candidates("x265:/dev/video0")
