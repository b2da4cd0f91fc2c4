"""`python -m hil board-image`: builds a virtual board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .targets import ROOT


def board_image(
    board: Annotated[str, typer.Option(help="Name of a virtual target, or an alias.")] = "virtual",
    out: Annotated[Path, typer.Option(help="Folder of the boards.")] = ROOT / "out" / "boards",
    force: Annotated[bool, typer.Option("--force", help="Make everything anew.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: only what is cached.")] = False,
) -> None:
    """Build out/boards/BOARD for QEMU from Debian's and PyPI's packages: about a minute, seconds when cached."""
    from .virtual_board.build import build_board  # needs what only this command needs

    build_board(board, out, force=force, offline=offline, say=lambda line: sys.stderr.write(f"{line}\n"))
