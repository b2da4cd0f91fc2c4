"""The report of a run on a board: one HTML page with everything in it, made of what the run left in its folder."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from featlink_codec.errors import FeatlinkError
from featlink_codec.files import write_whole

from .board import plain_text
from .environment import images_of
from .run import CONSOLE_LOG, FACTS, FIGURES, JUNIT, REPORT, TILE
from .target_fields import Target
from .targets import ROOT

TEMPLATE = "report.html.j2"
#: Of a console that says more, the last ones are shown.
CONSOLE_LINES = 2000
#: In the order in which a page should shout.
RESULTS = ("failed", "error", "skipped", "passed")


@dataclass(frozen=True)
class Check:
    """One check that ran, or was skipped."""

    #: as pytest has it: test_1_boot.py::test_ssh
    name: str
    #: one of RESULTS
    result: str
    #: what it did first (booting, sending) is in it
    seconds: float
    #: first line of its docstring
    about: str = ""
    #: why it failed or was skipped
    message: str = ""
    #: name, value, unit
    figures: list[tuple[str, Any, str]] = field(default_factory=list)

    @property
    def suite(self) -> str:
        """Which of the suite's files: "boot" of test_1_boot.py."""
        return self.name.partition("::")[0].removesuffix(".py").split("_", 2)[-1].replace("_", " ")

    @property
    def title(self) -> str:
        """The name as words: "ssh runs commands [x]"."""
        words, bracket, case = self.name.partition("::")[2].partition("[")
        return words.removeprefix("test_").replace("_", " ") + (f" [{case}" if bracket else "")


def read_checks(junit: str, figures: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The checks of a JUnit file, with their figures, in the order in which they ran.

    A check whose tidying up failed as well stands twice in pytest's file; here it is one, and the worse result counts.

    :param figures: with keys check, name, value, unit
    :raises FeatlinkError: it is not XML
    """
    try:
        cases = list(ElementTree.fromstring(junit).iter("testcase"))
    except ElementTree.ParseError as error:
        raise FeatlinkError(f"JUnit file: {error}") from None
    found: dict[str, Check] = {}
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        result, message = "passed", ""
        for tag, means in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
            node = case.find(tag)
            if node is not None:
                short = node.get("message", "")
                said = short if tag == "skipped" else node.text or short
                result, message = means, plain_text(said)
        about = next((one.get("value", "") for one in case.iter("property") if one.get("name") == "about"), "")
        seconds = float(case.get("time", "0"))
        if name in found:
            first = found[name]
            if RESULTS.index(first.result) <= RESULTS.index(result):
                result, message = first.result, first.message
            seconds += first.seconds
        own = [(one["name"], one["value"], one["unit"]) for one in figures if one["check"] == name]
        found[name] = Check(name, result, seconds, about, message, own)
    return list(found.values())


def render(
    target: Target,
    checks: Sequence[Check],
    facts: Mapping[str, Any],
    *,
    console: str = "",
    image: Mapping[str, Any] | None = None,
    tile_png: bytes | None = None,
    notes: Sequence[str] = (),
    now: datetime | None = None,
) -> str:
    """The report as HTML text, without anything that would have to be loaded.

    :param facts: the Board's; empty where it did not get that far
    :param image: board.json of a virtual board
    :param tile_png: the picture of a map that the board sent
    :param notes: sentences that stand before the results: why they are not the whole
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    lines = plain_text(console).splitlines()
    counts = {result: sum(check.result == result for check in checks) for result in RESULTS}
    doctor = facts.get("doctor", {})
    page = environment.get_template(TEMPLATE).render(
        target=target,
        virtual=target.virtual,
        checks=checks,
        suites=list(dict.fromkeys(check.suite for check in checks)),
        counts=counts,
        verdict=_verdict(counts),
        notes=notes,
        seconds=sum(check.seconds for check in checks),
        facts=board_facts(facts, image),
        findings=doctor.get("findings", []),
        console="\n".join(lines[-CONSOLE_LINES:]),
        console_left_out=max(0, len(lines) - CONSOLE_LINES),
        tile=None if tile_png is None else f"data:image/png;base64,{base64.b64encode(tile_png).decode()}",
        host=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        made=(now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M %Z").strip(),
    )
    return page + "\n"


def board_facts(facts: Mapping[str, Any], image: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What is known of the board that ran, as (name, value); what the doctor did not say is left out."""
    findings = {one["name"]: one for one in facts.get("doctor", {}).get("findings", [])}

    def said(name: str, key: str) -> Any:
        return findings.get(name, {}).get("facts", {}).get(key)

    versions = findings.get("versions", {}).get("facts", {})
    deployed = facts.get("deployed") or {}
    rows: list[tuple[str, Any]] = [
        ("Model", said("board", "model")),
        ("Kernel", said("board", "kernel")),
        ("Machine", said("board", "machine")),
        ("Integer path", said("integer path", "path")),
        ("Encoders", ", ".join(one["backend"] for one in said("encoder", "encoders") or [] if one["works"])),
        ("Cameras", ", ".join(said("cameras", "nodes") or [])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("Deployed", " of ".join(str(deployed[key]) for key in ("version", "commit") if key in deployed)),
        ("Login after", _seconds(facts.get("login_s"))),
        ("SSH after", _seconds(facts.get("ssh_s"))),
        ("Serial number", (image or {}).get("serial")),
    ]
    return [(name, str(value)) for name, value in rows if value]


def write_report(folder: Path, target: Target, root: Path = ROOT, notes: Sequence[str] = ()) -> Path:
    """Write report.html of what a run left in out/hil/BOARD; what is not there is left out.

    :param notes: see `render`
    :raises FeatlinkError: pytest left no JUnit file: it did not get as far as the first check
    """
    junit = _text(folder / JUNIT)
    if not junit:
        raise FeatlinkError(f"{folder}: found no {JUNIT}: pytest ended before the first check")
    figures = [json.loads(line) for line in _text(folder / FIGURES).splitlines()]
    facts = json.loads(_text(folder / FACTS) or "{}")
    image = json.loads(_text(images_of(target, root) / "board.json") or "{}") if target.virtual is not None else None
    tile = folder / TILE
    page = render(
        target,
        read_checks(junit, figures),
        facts,
        console=_text(folder / CONSOLE_LOG),
        image=image,
        tile_png=tile.read_bytes() if tile.exists() else None,
        notes=notes,
    )
    write_whole(folder / REPORT, page)
    return folder / REPORT


def _verdict(counts: Mapping[str, int]) -> str:
    bad = counts["failed"] + counts["error"]
    if not sum(counts.values()):
        return "No check ran."
    if bad:
        return f"{bad} of {sum(counts.values())} checks did not pass."
    if not counts["passed"]:
        return "Every check was skipped: nothing is known of the board."
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"Every check that ran passed: {counts['passed']}{skipped}."


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
