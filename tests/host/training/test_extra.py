"""PyTorch is an extra: without it everything else works, and training says how to get it."""

from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from featlink_codec.errors import SettingsError
from featlink_host.training import extra

MODULES = ("architecture", "data", "export", "extra", "losses", "options", "report")


def test_only_training_itself_imports_it() -> None:
    names = ", ".join(f"featlink_host.training.{name}" for name in MODULES)
    script = f"import sys, featlink_host.cli, {names}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_without_it_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "torch" else there(name, *more))
    with pytest.raises(SettingsError, match=r"pip install 'featlink-host\[train\]'"):
        extra.require_torch()
    from featlink_host.prepare_distill_cli import distill

    with pytest.raises(SettingsError, match="PyTorch"):
        distill(
            tmp_path / "i", tmp_path / "l", tmp_path / "s.onnx", without_teacher=True, width=8, epochs=1, batch=8,
            learning_rate=0.01, temperature=1.0, alpha=1.0, beta=0.0, seed=0, hold_out=0,
        )  # fmt: skip
