"""`docs/model-stream.md` names a test for each of the twelve aspects, and each is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_aspect_has_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (\d+) \|[^|]*\|[^|]*\|([^|]*)\|$", (ROOT / "docs" / "model-stream.md").read_text(), re.MULTILINE
    )
    named = {int(number): re.findall(r"`(test_\w+)`", tests) for number, tests in rows if "test_" in tests}
    assert sorted(named) == list(range(1, 13))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for names in named.values() for name in names if f"def {name}(" not in code]


def test_every_command_of_the_document_is_there() -> None:
    from typer.testing import CliRunner

    from featlink_device.cli import app as device
    from featlink_host.cli import app as host

    text = (ROOT / "docs" / "model-stream.md").read_text()
    commands = set(re.findall(r"^featlink-(host|device) model (\w+)", text, re.MULTILINE))
    assert len(commands) == 7
    for side, command in commands:
        done = CliRunner().invoke(host if side == "host" else device, ["model", command, "--help"])
        assert done.exit_code == 0
