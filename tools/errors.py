"""What the tasks raise."""

from __future__ import annotations


class ToolError(Exception):
    """Something that a task needs is not there, or what it made is not what it should be."""
