"""The report of a run on a board, from what such a run leaves behind."""

from __future__ import annotations

import base64
import io
import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hil.report import read_checks, render, write_report
from hil.targets import find_target
from PIL import Image

from featlink_codec.errors import FeatlinkError

JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="test_1_boot" name="test_ssh_runs_commands" time="40.5"><properties>
<property name="about" value="Streams come through." /><property name="ssh" value="0.6 s" /></properties></testcase>
<testcase classname="test_3_wire" name="test_levels[exact, QP 30]" time="3.0">
<failure message="AssertionError">long\n&lt;script&gt;alert(1)&lt;/script&gt;\nE  assert 1 == 2</failure></testcase>
<testcase classname="test_3_wire" name="test_video" time="0.1">
<skipped message="no x265">x.py:1: no x265</skipped></testcase>
<testcase classname="test_6_faults" name="test_power" time="2.0" />
<testcase classname="test_6_faults" name="test_power" time="1.0"><error message="m">at teardown: gone</error></testcase>
</testsuite></testsuites>"""
FIGURES = [
    {"check": "test_1_boot.py::test_ssh_runs_commands", "name": "a command", "value": 0.59, "unit": "s"},
    {"check": "test_3_wire.py::test_levels[exact, QP 30]", "name": "wrong", "value": 39.5, "unit": "%"},
    {"check": "test_9.py::test_of_another_run", "name": "none", "value": 1, "unit": ""},
]
FACTS = {
    "board": "virtual-a76",
    "virtual": True,
    "login_s": 12.3,
    "ssh_s": 14.0,
    "deployed": {"version": "d06182f6eb42", "commit": "v1-dirty", "before": None},
    "doctor": {
        "healthy": True,
        "findings": [
            {
                "name": "board",
                "state": "ok",
                "text": "a board",
                "facts": {"model": "Rock <5> (virtual)", "kernel": "6.1"},
            },
            {"name": "integer path", "state": "ok", "text": "neon", "facts": {"path": "neon", "paths": ["neon"]}},
            {
                "name": "versions",
                "state": "ok",
                "text": "",
                "facts": {"python": "3.11.2", "av": None, "numpy": "2.4.6"},
            },
            {
                "name": "encoder",
                "state": "ok",
                "text": "x265",
                "facts": {"encoders": [{"backend": "x265", "works": True}]},
            },
            {"name": "cameras", "state": "warning", "text": "no /dev/video*", "facts": {"nodes": []}},
        ],
    },
}
VIRTUAL, REAL = find_target("virtual-a76"), find_target("rk3588")
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "PNG")
    return file.getvalue()


def test_checks_have_results_times_messages_and_their_own_figures():
    ssh, levels, video, power = read_checks(JUNIT, FIGURES)
    assert (ssh.result, ssh.seconds, ssh.about, ssh.message) == ("passed", 40.5, "Streams come through.", "")
    assert ssh.figures == [("a command", 0.59, "s")]
    assert (ssh.suite, ssh.title) == ("boot", "ssh runs commands")
    assert (levels.result, levels.title) == ("failed", "levels [exact, QP 30]")
    assert levels.message.startswith("long\n<script>")
    assert levels.figures == [("wrong", 39.5, "%")]
    assert (video.result, video.message) == ("skipped", "no x265")
    # Passed, and then its tidying up failed: one check, and not a good one.
    assert (power.result, power.seconds, power.message) == ("error", 3.0, "at teardown: gone")


def test_a_file_that_is_not_xml_is_said():
    with pytest.raises(FeatlinkError, match="JUnit file: no element found"):
        read_checks("<testsuites>", [])


def page(target=VIRTUAL, **changes) -> str:
    values = {"checks": read_checks(JUNIT, FIGURES), "facts": FACTS, "console": "boot\x1b[1m <done>", "tile_png": png()}
    values |= changes
    checks, facts = values.pop("checks"), values.pop("facts")
    return render(target, checks, facts, now=NOW, **values)


def test_the_page_says_what_came_out():
    text = page(image={"serial": "EBC3"})
    for said in (
        "2 of 4 checks did not pass.",
        "2026-01-02 03:04 UTC",
        "a command: 0.59 s",
        "wrong: 39.5 %",
        "Rock &lt;5&gt; (virtual)",
        "python 3.11.2, numpy 2.4.6",
        "d06182f6eb42 of v1-dirty",
        "EBC3",
        "boot &lt;done&gt;",
        "no /dev/video*",
        "data:image/png;base64," + base64.b64encode(png()).decode(),
    ):
        assert said in text, said
    assert "<script>" not in text
    assert "none: 1" not in text


def test_a_virtual_board_is_called_one_and_a_real_one_is_not():
    assert "Virtual board: QEMU." in page()
    assert "It stands in for rk3588" in page()
    real = page(REAL)
    assert "QEMU" not in real
    assert 'class="virtual"' not in real


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (["passed", "passed"], "Every check that ran passed: 2."),
        (["passed", "skipped"], "Every check that ran passed: 1, 1 skipped."),
        (["skipped"], "Every check was skipped: nothing is known of the board."),
        (["passed", "error"], "1 of 2 checks did not pass."),
        ([], "No check ran."),
    ],
)
def test_the_verdict_never_says_more_than_was_seen(results, verdict):
    tags = {"passed": "", "skipped": '<skipped message="s"/>', "error": '<error message="e"/>'}
    cases = "".join(
        f'<testcase classname="a" name="t{k}" time="0">{tags[one]}</testcase>' for k, one in enumerate(results)
    )
    assert verdict in page(checks=read_checks(f"<testsuites>{cases}</testsuites>", []))


def test_what_is_not_the_whole_says_so():
    assert "Only checks that match &#39;wire&#39; were wanted." in page(
        notes=["Only checks that match 'wire' were wanted."]
    )


def test_a_board_that_never_answered_has_a_report_too():
    text = page(facts={"board": "virtual-a76", "virtual": True}, console="", tile_png=None)
    assert "Nothing was learned of the board." in text
    assert "Nothing came over the serial console." in text
    assert "<img" not in text


def test_a_long_console_shows_its_end():
    text = page(console="".join(f"line {k}\n" for k in range(2500)))
    assert "The first 500 lines are left out." in text
    assert "line 2499" in text
    assert "line 499\n" not in text


def test_the_report_is_made_of_a_folder(tmp_path):
    folder = tmp_path / "out" / "hil" / "virtual-a76"
    folder.mkdir(parents=True)
    with pytest.raises(FeatlinkError, match=r"found no junit\.xml: pytest ended before the first check"):
        write_report(folder, VIRTUAL, tmp_path)
    (folder / "junit.xml").write_text(JUNIT)
    (folder / "figures.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FIGURES))
    (folder / "facts.json").write_text(json.dumps(FACTS))
    (folder / "console_main").write_bytes(b"vboard login: \xff")
    images = tmp_path / "out" / "boards" / "virtual-a76"
    images.mkdir(parents=True)
    (images / "board.json").write_text(json.dumps({"serial": "S1"}))
    text = write_report(folder, VIRTUAL, tmp_path).read_text(encoding="utf-8")
    assert "vboard login: " in text
    assert "S1" in text
    assert "<img" not in text
    (folder / "tile.png").write_bytes(png())
    assert "<img" in write_report(folder, VIRTUAL, tmp_path).read_text(encoding="utf-8")


def test_a_browser_loads_nothing_and_finds_nothing_to_complain_of(opened, browser):
    assert opened(page()) == []
    assert browser.evaluate("document.images.length") == 1
    assert browser.evaluate("document.images[0].naturalWidth") == 8
    assert browser.evaluate("document.querySelectorAll('td.result.failed').length") == 1


def test_a_narrow_window_scrolls_tables_not_the_page(opened, browser):
    browser.call("Emulation.setDeviceMetricsOverride", width=380, height=800, deviceScaleFactor=1, mobile=True)
    opened(page())
    assert browser.evaluate("document.documentElement.scrollWidth") <= 380


def test_paths_of_this_machine_stay_out_of_the_page(tmp_path):
    assert str(Path.home()) not in page()
