"""What a board says of its encoders is what the planner reads."""

from __future__ import annotations

import json
from pathlib import Path

from featlink_codec.video.limits import X265_LIMITS, EncoderLimits
from featlink_device.encoders.candidates import Candidate
from featlink_device.encoders.choose import try_candidate
from featlink_device.encoders.session import EncoderSpec


def test_the_planner_reads_the_limits_of_the_first_encoder_that_works(tmp_path: Path) -> None:
    spec = EncoderSpec(128, 96, qp=20)
    found = [try_candidate(Candidate(backend), spec).as_json() for backend in ("rkmpp", "x265")]
    assert [one["works"] for one in found] == [False, True]  # this PyAV has no hevc_rkmpp
    file = tmp_path / "board.json"
    file.write_text(json.dumps({"encoders": found}))
    assert EncoderLimits.load(file) == X265_LIMITS["400"]
