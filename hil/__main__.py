"""`python -m hil`, from the repository root."""

from hil.cli import main

main()
