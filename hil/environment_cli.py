"""`python -m hil environment`: a labgrid environment for labgrid's own tools."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from .environment import prepare
from .local import LocalSettings
from .targets import find_target


def environment(
    board: Annotated[str, typer.Argument(help="Name of a target, or an alias.")],
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="labgrid's coordinator, for a board that it lends.")
    ] = None,
) -> None:
    """Write out/hil/BOARD/labgrid.yaml and print the shell lines that labgrid-client and pytest need to find it.

    Use: eval "$(python -m hil environment BOARD)". A password is named by its variable, and never printed.
    """
    local = LocalSettings.load()
    target = find_target(board, local.aliases)
    prepared = prepare(target, local, coordinator=coordinator)
    variable = local.board(target.name).password_env
    for name, value in prepared.variables.items():
        secret = name == "LG_FEATLINK_PASSWORD" and variable is not None
        text = f'"${variable}"' if secret else shlex.quote(value)
        sys.stdout.write(f"export {name}={text}\n")
