"""Our way into an encoder beside FFmpeg's: the bench says what is copied, and whose pictures come out right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.encoder_report import section
from bench.encoders import main, with_section

DOCS = Path(__file__).parents[1] / "docs"
PAGE = "# Title\n\n## Figures\n\nold\n\n## Next\n\ntext\n"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "encoders.json"
    page = out.with_suffix(".md")
    page.write_text(PAGE)
    main(["--quick", "--out", str(out), "--page", str(page)])
    return out


def test_nothing_is_copied_on_our_way_and_a_whole_picture_on_ffmpegs(quick):
    for row in json.loads(quick.read_text())["cases"]:
        assert row["watched_buffers"] == 2 * (3 + 16)  # ours and FFmpeg's, each seen by the encoder, too
        assert row["ours_copied"] == 0
        assert row["ffmpeg_copied"] == row["picture_bytes"]


def test_ours_comes_out_as_it_went_in_and_ffmpegs_is_torn_where_rows_are_padded(quick):
    plain, padded = json.loads(quick.read_text())["cases"]
    assert plain["stride"] == plain["line_size"] < padded["stride"]
    for row in (plain, padded):
        assert row["ours"]["lossless"]
        for way in ("ours", "v4l2"):
            assert row[way]["in_place"]
            assert row[way]["coded"] == row["picture"]
            assert row[way]["looked_at"] == 4
    assert plain["ffmpeg"]["in_place"]
    assert not plain["ffmpeg"]["refused"]
    assert not padded["ffmpeg"]["in_place"]
    assert padded["ffmpeg"]["refused"]
    assert padded["ffmpeg"]["coded"] == "384x160" != padded["picture"]


def test_times_have_spread_and_the_threads_that_wait_are_counted(quick):
    for row in json.loads(quick.read_text())["cases"]:
        spans = [row[way][f"{part}_ns"] for way in ("ours", "v4l2", "hashed", "ffmpeg") for part in ("pack", "session")]
        for span in [*spans, row["memcpy_ns"]]:
            assert span == sorted(span)
            assert span[0] > 0
        assert row["ours"]["waiting_ns"][1] > 0
        assert row["v4l2"]["waiting_ns"] == row["ffmpeg"]["waiting_ns"] == [0, 0, 0]


def test_the_section_takes_the_place_of_the_old_one_and_comes_from_the_figures_alone(quick):
    page = quick.with_suffix(".md")
    text = page.read_text()
    assert text.startswith("# Title\n\n## Figures\n\nWritten by")
    assert text.endswith("|\n\n## Next\n\ntext\n")
    assert "old" not in text
    assert "mean nothing" in text
    assert text.count("torn**") == 1
    main(["--report-only", "--out", str(quick), "--page", str(page)])
    assert page.read_text() == text
    found = json.loads(quick.read_text())
    found["cases"][0]["ours"]["lossless"] = False
    assert "**not lossless**" in section(found)


def test_the_document_in_the_tree_has_the_figures_in_the_tree():
    found = json.loads((DOCS / "encoders.json").read_text())
    page = (DOCS / "encoders.md").read_text()
    assert with_section(page, section(found)) == page
    assert not found["quick"]
