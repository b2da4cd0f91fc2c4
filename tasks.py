"""What people type: `uv run invoke --list`. Thin: the work is done by the packages' own command lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from invoke import Context, Exit, task

ROOT = Path(__file__).parent
OUT = ROOT / "out"
CODE = "bench codec device hil host tests tools tasks.py"


@task
def demo(c: Context, source: str = "", out: str = "out/demo", lossless: bool = False, qp: int = -1) -> None:
    """A street video goes in, detections and a report come out: camera and host as two processes with a pipe between.

    --source takes a video file, an image, a folder of images or a V4L2 camera; the default is a street clip.
    """
    from featlink_host.demo import demo_source_clip

    folder = ROOT / out
    extractor, stats = folder / "extractor", folder / "device-stats.json"
    clip = source or str(demo_source_clip())
    camera = clip.startswith("/dev/")
    folder.mkdir(parents=True, exist_ok=True)
    stats.unlink(missing_ok=True)
    # A camera is not there to be looked at twice: its range is taken from the street clip.
    coding = (["--lossless"] if lossless else []) + (["--qp", str(qp)] if qp >= 0 else [])
    calibrate = [] if camera else ["--source", clip]
    _run(["featlink-host", "prepare", "demo", "--out", str(extractor), "--force", *calibrate, *coding])
    device = ["featlink-device", "run", "--extractor", str(extractor), "--source", clip, "--out", "-"]
    device += ["--stats", str(stats)] + (["--limit", "250"] if camera else [])
    host = ["featlink-host", "run", "-", "--extractor", str(extractor), "--out", str(folder)]
    host += ["--device-stats", str(stats)] + ([] if camera else ["--compare", clip])
    with subprocess.Popen(_command(device), stdout=subprocess.PIPE) as sending:
        receiving = subprocess.run(_command(host), stdin=sending.stdout, check=False)
        assert sending.stdout is not None
        sending.stdout.close()  # a host that stopped early ends the device
        sent = sending.wait()
    if sent or receiving.returncode:
        codes = f"device: exit code {sent}, host: exit code {receiving.returncode}"
        raise Exit(codes, code=sent or receiving.returncode)


@task(help={"k": "only tests whose names match"})
def test(c: Context, k: str = "") -> None:  # noqa: PT028 (not a test)
    """Run the tests."""
    selected = f" -k '{k}'" if k else ""
    c.run(f"{sys.executable} -m pytest{selected}", pty=sys.stdout.isatty())


@task
def lint(c: Context) -> None:
    """Linter and formatter, without changing anything."""
    c.run(f"ruff check {CODE}")
    c.run(f"ruff format --check {CODE}")


@task
def types(c: Context) -> None:
    """The type check: strict for codec."""
    c.run("mypy")


@task(pre=[lint, types, test])
def check(c: Context) -> None:
    """Everything that CI runs."""


@task(help={"target": "reader, of the feature stream, or model", "sanitize": "model: seeded, by a sanitized C core"})
def fuzz(c: Context, target: str = "reader", minutes: float = 10.0, sanitize: bool = False) -> None:
    """Coverage-guided fuzzing of what reads streams. Findings are copied to out/fuzz."""
    if target not in ("reader", "model") or (sanitize and target != "model"):
        raise Exit("--target is reader or model; --sanitize goes with --target model", code=2)
    findings = OUT / "fuzz"
    findings.mkdir(parents=True, exist_ok=True)
    if sanitize:
        from tools import sanitize as sanitizing

        command = [sys.executable, "tests/fuzz/fuzz_model.py", "--minutes", str(minutes), "--out", str(findings)]
        _tool(lambda: subprocess.run(command, cwd=ROOT, env=sanitizing.environment(OUT / "sanitize")).returncode)
        return
    coverage, corpus = ("", " tests/fuzz/corpus") if target == "reader" else (" --coverage", "")
    c.run(
        f"uv run --with atheris python tests/fuzz/fuzz_{target}.py{coverage} -max_total_time={round(minutes * 60)} "
        f"-artifact_prefix={findings}/{corpus}"
    )


@task(help={"quick": "tiny maps, into out/: whether it works", "torch": "install PyTorch for this run, and compare"})
def bench(c: Context, quick: bool = False, torch: bool = False) -> None:
    """Measure the C core against memory and against what people use: docs/bench.md, .json and .svg."""
    python = "uv run --with torch==2.13.0 python" if torch else sys.executable
    with c.cd(ROOT):
        c.run(f"{python} -m bench{' --quick' if quick else ''}", pty=sys.stdout.isatty())


@task(name="bench-encoders")
def bench_encoders(c: Context, quick: bool = False) -> None:
    """Measure our way into a V4L2 encoder against FFmpeg's, on the virtual one: docs/encoders.json and .md."""
    with c.cd(ROOT):
        c.run(f"{sys.executable} -m bench.encoders{' --quick' if quick else ''}", pty=sys.stdout.isatty())


@task(name="core-aarch64", help={"k": "only tests whose names match"})
def core_aarch64(c: Context, k: str = "") -> None:
    """The tests of the C core for aarch64, under emulation: 200 MB in out/aarch64, and minutes."""
    from tools import aarch64

    _tool(lambda: aarch64.run_tests(OUT / "aarch64", ["-k", k] if k else []))


@task(help={"profile": "of hypothesis, in tests/conftest.py", "k": "only tests whose names match"})
def sanitize(c: Context, profile: str = "long", k: str = "") -> None:
    """The C core and its tests under GCC's address and undefined-behaviour sanitizers: about 20 minutes."""
    from tools import sanitize as sanitizing

    _tool(lambda: sanitizing.run(OUT / "sanitize", profile, ["-k", k] if k else []))


@task
def wheels(c: Context) -> None:
    """Wheels of codec, for x86_64 and aarch64, and of device and host; checked and tried. Into dist/."""
    from tools import wheels as building

    def build() -> int:
        print(building.table(building.build_all(ROOT / "dist")))
        return 0

    _tool(build)


@task(help={"json": "for machines"})
def targets(c: Context, json: bool = False) -> None:
    """The firmware targets: CPU, encoders in the order of trial, memory, providers, what was seen on a board."""
    with c.cd(ROOT):
        c.run(f"{sys.executable} -m hil targets{' --json' if json else ''}", pty=sys.stdout.isatty() and not json)


@task(
    name="board-image",
    help={"board": "a virtual target", "force": "make everything anew", "offline": "fetch nothing"},
)
def board_image(c: Context, board: str = "virtual", force: bool = False, offline: bool = False) -> None:
    """Build a virtual board for QEMU from Debian's and PyPI's packages: out/boards/BOARD, 1.5 GB with its cache."""
    options = f"{' --force' if force else ''}{' --offline' if offline else ''}"
    with c.cd(ROOT):
        c.run(f"{sys.executable} -m hil board-image --board {board}{options}")


@task(
    name="hil-test",
    help={
        "board": "a target, or an alias: virtual, jetson, rockchip",
        "k": "only checks whose names match",
        "coordinator": "HOST:PORT of labgrid's coordinator, for a board that it lends",
        "rebuild": "build a virtual board's image anew",
    },
)
def hil_test(c: Context, board: str = "virtual", k: str = "", coordinator: str = "", rebuild: bool = False) -> None:
    """Deploy featlink on a board, check it there, and report: out/hil/BOARD/report.html."""
    from hil.run import run_suite

    from featlink_codec.errors import FeatlinkError

    try:
        ran = run_suite(board, keywords=k, coordinator=coordinator or None, rebuild=rebuild, say=print)
    except FeatlinkError as error:
        raise Exit(str(error), code=2) from None
    print(ran.report)
    if ran.code:
        raise Exit(f"exit code {ran.code}", code=ran.code)


@task
def lock(c: Context) -> None:
    """Resolve anew and write the pins to pyproject.toml (uv.lock itself names hosts and is not kept)."""
    pyproject = ROOT / "pyproject.toml"
    text = pyproject.read_text()
    pins = re.compile(r"(?s)constraint-dependencies = \[.*?\]\n")
    if not pins.search(text):
        raise Exit("pyproject.toml has no constraint-dependencies")
    with tempfile.TemporaryDirectory() as name:
        # Resolved in a copy without pins, so that a failure leaves everything as it is.
        folder = Path(name)
        (folder / "pyproject.toml").write_text(pins.sub("constraint-dependencies = []\n", text))
        for member in ("codec", "device", "host"):
            (folder / member).mkdir()
            shutil.copy(ROOT / member / "pyproject.toml", folder / member)
        c.run(f"uv --directory {folder} lock --quiet")
        how = "--frozen --no-hashes --no-annotate --no-header --no-emit-workspace"
        # The extra for Rockchip excludes the others.
        everything = "--all-packages --all-groups --all-extras --no-extra rkmpp"
        rockchip = "--package featlink-device --extra rkmpp --no-default-groups"
        lines: set[str] = set()
        for what in (everything, rockchip):
            exported = c.run(f"uv --directory {folder} export {what} {how}", hide=True)
            assert exported is not None
            lines |= {line.strip() for line in exported.stdout.splitlines() if "==" in line}
    listed = "".join(f'    "{line.replace(chr(34), chr(39))}",\n' for line in sorted(lines))
    pyproject.write_text(pins.sub(lambda _: f"constraint-dependencies = [\n{listed}]\n", text))
    print(f"{len(lines)} pins")


def _command(words: list[str]) -> list[str]:
    """The command from the environment that runs this, whatever PATH says."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def _run(words: list[str]) -> None:
    code = subprocess.run(_command(words), check=False).returncode
    if code:
        raise Exit(f"{words[0]}: exit code {code}", code=code)


def _tool(work: Callable[[], int]) -> None:
    """Run what is in tools/: its errors are one line, and its exit code is ours."""
    from tools.errors import ToolError

    try:
        code = work()
    except ToolError as error:
        raise Exit(str(error), code=2) from None
    if code:
        raise Exit(f"exit code {code}", code=code)
