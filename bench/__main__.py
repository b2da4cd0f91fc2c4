"""`python -m bench`: measure, keep the figures as JSON, and write the tables and the plot from them."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from featlink_codec import _core
from featlink_host.progress_bar import ProgressBar

from . import measure, suites
from .cases import SIZES, Size
from .plot import growth_svg
from .report import markdown

QUICK_SIZES = (Size(8, 5, 6), Size(12, 9, 9))


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--out", type=Path, help="the figures, .md and .svg beside them; docs/bench.json, if not --quick"
    )
    parser.add_argument("--quick", action="store_true", help="tiny maps and few rounds: whether it works, not how fast")
    parser.add_argument("--report-only", action="store_true", help="measure nothing: tables and plot from the figures")
    options = parser.parse_args(arguments)
    out = options.out or Path("out/bench.json" if options.quick else "docs/bench.json")
    if not options.report_only:
        with ProgressBar() as progress:
            found = run(options.quick, progress)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_json(found), encoding="utf-8")
    found = json.loads(out.read_text(encoding="utf-8"))
    svg = out.with_suffix(".svg")
    svg.write_text(growth_svg(found["growth"]), encoding="utf-8")
    out.with_suffix(".md").write_text(markdown(found, svg.name), encoding="utf-8")


def run(quick: bool, progress: suites.Progress) -> dict[str, Any]:
    """All measurements; `quick` ones mean nothing."""
    budget, patient = (measure.QUICK, measure.QUICK) if quick else (measure.FULL, measure.PATIENT)
    sizes = QUICK_SIZES if quick else SIZES
    middle = sizes[1] if quick else SIZES[3]
    return {
        **about(),
        "quick": quick,
        # The process is at its smallest, and its memory least cut up, at the start.
        "memory_held": suites.memory_held(500 if quick else 100_000, progress),
        "fixed_costs": suites.fixed_costs(measure.QUICK if quick else measure.FULL),
        "by_kind": suites.by_kind(sizes, budget, progress),
        "by_packing": suites.by_packing(sizes[:1] if quick else (SIZES[1], SIZES[3]), budget, progress),
        "by_path": suites.by_path(middle, budget, progress),
        "peers": suites.against_peers(sizes if quick else SIZES[:5], patient, progress),
        "growth": suites.growth(suites.GROWTH[:3] if quick else suites.GROWTH, budget, progress),
    }


def about() -> dict[str, Any]:
    """The machine and what runs on it: no names of hosts or folders."""
    versions = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver())}
    for name in ("featlink-codec", "numpy", "torch"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "machine": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "path": _core.chosen_path(),
        "paths": _core.paths(),
        "versions": versions,
    }


def _processor() -> str:
    """/proc/cpuinfo's model name; ARM's has none."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def as_json(found: dict[str, Any], indent: str = "") -> str:
    """JSON with one line a row, so that two runs can be compared line by line."""
    parts = []
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = f",\n{indent}  ".join(json.dumps(row) for row in value)
            text = f"[\n{indent}  {rows}\n{indent} ]"
        elif isinstance(value, dict):
            text = as_json(value, indent + " ").rstrip()
        else:
            text = json.dumps(value)
        parts.append(f"{indent} {json.dumps(name)}: {text}")
    body = ",\n".join(parts)
    return f"{{\n{body}\n{indent}}}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
