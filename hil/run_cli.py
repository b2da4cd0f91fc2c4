"""`python -m hil test`: the suite on a board, and its report."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .run import run_suite


def hil_test(
    board: Annotated[str, typer.Option(help="Name of a target, or an alias.")] = "virtual",
    keywords: Annotated[str, typer.Option("-k", metavar="EXPR", help="Only checks whose names match.")] = "",
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="labgrid's coordinator, for a board that it lends.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build a virtual board's image anew.")] = False,
) -> None:
    """Deploy featlink on a board over SSH, run hil/suite there, and write JUnit XML and a report into out/hil/BOARD.

    Exit code: pytest's; 0: all passed, 1: some failed.
    """
    ran = run_suite(
        board,
        keywords=keywords,
        coordinator=coordinator,
        rebuild=rebuild,
        say=lambda line: sys.stderr.write(f"{line}\n"),
    )
    sys.stderr.write(f"{ran.report}\n")
    raise typer.Exit(ran.code)
