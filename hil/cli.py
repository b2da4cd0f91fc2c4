"""The command line of the boards: `python -m hil`. One module a command."""

from __future__ import annotations

import sys

import typer

from featlink_codec.errors import FeatlinkError

from .board_cli import board_image
from .environment_cli import environment
from .run_cli import hil_test
from .targets_cli import targets

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hardware in the loop: firmware targets and boards, virtual or on the desk.",
)
app.command()(targets)
app.command()(environment)
app.command()(board_image)
app.command("test")(hil_test)


def main() -> None:
    """Run the command line; what a user can mend is one line on standard error and exit code 2."""
    try:
        app(prog_name="python -m hil")
    except FeatlinkError as error:
        sys.stderr.write(f"hil: {error}\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"hil: {error.filename or 'system'}: {error.strerror}\n")
        sys.exit(2)
