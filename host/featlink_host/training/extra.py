"""PyTorch, where it is installed: nothing but training needs it."""

from __future__ import annotations

from importlib import util

from featlink_codec.errors import SettingsError

HOW = "pip install 'featlink-host[train]'"


def require_torch() -> None:
    """SettingsError, with what to do, where PyTorch is not installed."""
    if util.find_spec("torch") is None:
        raise SettingsError(f"training needs PyTorch, which is not installed: {HOW}")
