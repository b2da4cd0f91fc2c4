"""The documents say what is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_readings_name_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "readings.md").read_text()))
    assert len(named) > 20
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = {name for name in named if f"def {name}(" not in code}
    assert not missing


def test_links_between_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("tests/**/README.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
