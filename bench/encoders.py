"""`python -m bench.encoders`: our way into a V4L2 encoder beside FFmpeg's, on the virtual encoder, in one run.

FFmpeg opens /dev/video* by itself: each case is a process of its own in which a preloaded library hands it the virtual
encoder, and in which both ways take turns. The table goes into docs/encoders.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import av
from hil.virtual_encoder.build import private_library
from hil.virtual_encoder.profiles import node_text

from featlink_codec.errors import FeatlinkError
from featlink_host.progress_bar import ProgressBar

from .__main__ import about, as_json
from .cases import Size
from .encoder_report import section
from .encoder_turns import Job
from .preloads import build, environment
from .suites import Progress

ROOT = Path(__file__).parents[1]
QP = 20
#: Maps whose tiles are pictures of 288 x 160, 456 x 304 and 1216 x 640.
SIZES = (Size(64, 20, 36), Size(64, 38, 57), Size(64, 80, 152))
ROUNDS, QUICK_ROUNDS, COUNTED = 60, 3, 8


@dataclass(frozen=True)
class Device:
    """What the virtual encoder does with rows.

    :param switches: of its node
    """

    name: str
    switches: dict[str, str]


#: All take NV12, as nearly all hardware does. The last behaves like venus: it returns the padded size, too.
DEVICES = (
    Device("1 x 1", {}),
    Device("64 x 16", {"align": "64x16"}),
    Device("128 x 32, size too", {"align": "128x32", "height_returned": "padded"}),
)


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.encoders", description=__doc__)
    parser.add_argument("--out", type=Path, help="the figures; docs/encoders.json, if not --quick")
    parser.add_argument("--page", type=Path, help="whose section Figures is written; docs/encoders.md, if not --quick")
    parser.add_argument("--quick", action="store_true", help="one size and few rounds: whether it works, not how fast")
    parser.add_argument("--report-only", action="store_true", help="measure nothing: the section from the figures")
    options = parser.parse_args(arguments)
    out = options.out or ROOT / ("out/encoders.json" if options.quick else "docs/encoders.json")
    page = options.page or (None if options.quick else ROOT / "docs" / "encoders.md")
    if not options.report_only:
        with ProgressBar() as progress:
            found = run(options.quick, progress)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_json(found), encoding="utf-8")
    found = json.loads(out.read_text(encoding="utf-8"))
    if page is not None:
        page.write_text(with_section(page.read_text(encoding="utf-8"), section(found)), encoding="utf-8")


def with_section(page: str, text: str) -> str:
    """The page with this section in the place of the one of the same heading.

    :raises FeatlinkError: there is none
    """
    heading = text.split("\n", 1)[0]
    found = re.search(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    if found is None:
        raise FeatlinkError(f"found no section {heading!r} to write into")
    after = "\n" if found.end() < len(page) else ""
    return page[: found.start()] + text + after + page[found.end() :]


def run(quick: bool, progress: Progress) -> dict[str, Any]:
    """Every size on every device; `quick` measurements mean nothing."""
    sizes = SIZES[:1] if quick else SIZES
    cases = [(size, device) for size in sizes for device in (DEVICES[::2] if quick else DEVICES)]
    libv4l2 = private_library()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        preloads = build(Path(name))
        for done, (size, device) in enumerate(cases):
            progress("encoders", done, len(cases))
            rows.append(_case(Path(name), libv4l2, preloads, size, device, QUICK_ROUNDS if quick else ROUNDS))
        progress("encoders", len(cases), len(cases))
    found = about()
    found["versions"] |= {name: metadata.version(name) for name in ("av", "linuxpy")}
    return {**found, "ffmpeg": av.ffmpeg_version_info, "quick": quick, "qp": QP, "cases": rows}


def _case(
    folder: Path, libv4l2: Path, preloads: Sequence[Path], size: Size, device: Device, rounds: int
) -> dict[str, Any]:
    """The figures of one size on one device: from one process that has turns timed, and one that counts copies."""
    onto, counter = preloads
    dev = folder / "dev"
    dev.mkdir(exist_ok=True)
    node, report = dev / "video0", folder / "report.jsonl"
    report.unlink(missing_ok=True)
    node.write_text(node_text({"formats": "NV12", "report": str(report), **device.switches}))
    row: dict[str, Any] = {"device": device.name, "map": str(size)}
    shape = (size.channels, size.height, size.width)
    for job, preloaded in (
        (Job(shape, str(node), QP, rounds, count=False), [onto]),
        (Job(shape, str(node), QP, COUNTED, count=True), [onto, counter]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "bench.encoder_turns"],
            input=json.dumps(asdict(job)),
            env=environment(libv4l2, dev, preloaded),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or "nothing was said").splitlines()[-1]
            raise FeatlinkError(f"{size} on {device.name}: exit code {done.returncode}: {last}")
        row |= json.loads(done.stdout)
    return {**row, "staged_a_picture": _staged(report)}


def _staged(report: Path) -> float:
    """Bytes a picture that the virtual encoder copies within itself, over all sessions: it takes chroma apart."""
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    return float(sum(line["staged_bytes"] for line in lines) / sum(line["pictures"] for line in lines))


if __name__ == "__main__":
    main(sys.argv[1:])
