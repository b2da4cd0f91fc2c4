"""Who may know whom: codec nobody, device and host only codec, never each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "featlink_codec": ROOT / "codec" / "featlink_codec",
    "featlink_device": ROOT / "device" / "featlink_device",
    "featlink_host": ROOT / "host" / "featlink_host",
}
FORBIDDEN = {
    "featlink_codec": {"featlink_device", "featlink_host", "onnx", "onnxruntime", "typer", "rich"},
    "featlink_device": {"featlink_host", "onnx", "matplotlib", "jinja2"},
    "featlink_host": {"featlink_device", "linuxpy"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_what_they_may(package):
    files = list(PACKAGES[package].rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN[package], path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("featlink_codec.features", ["av", "onnxruntime"]),
        ("featlink_codec.extractor", ["av"]),
        ("featlink_device.cli", ["av", "onnxruntime", "linuxpy"]),
        ("featlink_host.cli", ["av", "onnxruntime", "onnx", "matplotlib", "jinja2", "scipy"]),
    ],
)
def test_imports_stay_light(module, absent):
    """A wire format needs no codec library, and --help loads no network runtime."""
    script = f"import sys, {module}; print([n for n in {absent} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
