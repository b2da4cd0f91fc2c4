"""`python -m hil targets`: the firmware targets as a table."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from featlink_codec.extractor.fields import write_table

from .confirmed import facts_of, unconfirmed_facts
from .local import LocalSettings
from .target_fields import Encoder, Target
from .targets import load_targets


def targets(as_json: Annotated[bool, typer.Option("--json", help="Print the targets as JSON.")] = False) -> None:
    """List the firmware targets: CPU, encoders in the order of trial, memory, providers, what was seen on a board."""
    found, local = load_targets(), LocalSettings.load()
    if as_json:
        facts = {"aliases": dict(local.aliases), "targets": [as_dict(target) for target in found]}
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
        return
    Console().print(render(found, local))


def as_dict(target: Target) -> dict[str, Any]:
    """The tables of target.toml; encoders with the limits that hold, and the count of facts that were confirmed."""
    table = write_table(target)
    for encoder, row in zip(target.encoders, table["encoders"], strict=True):
        row["limits"] = write_table(encoder.takes)
    facts = facts_of(target)
    return {**table, "facts": len(facts), "confirmed_facts": len(facts) - len(unconfirmed_facts(target))}


def render(found: list[Target], local: LocalSettings) -> Table:
    """A row a target."""
    table = Table(show_lines=True)
    for title in ("target", "CPU", "encoders, in order", "memory", "providers", "confirmed"):
        table.add_column(title, no_wrap=title in ("target", "memory"))
    for target in found:
        names = [target.name, *(f"= {alias}" for alias, name in sorted(local.aliases.items()) if name == target.name)]
        if target.virtual is not None:
            names.append(f"for {target.virtual.stands_for}")
        facts, open_facts = len(facts_of(target)), len(unconfirmed_facts(target))
        table.add_row(
            "\n".join(names),
            f"{target.system.cpu} x {target.system.cores}\n{target.system.architecture}",
            "\n".join(f"{encoder.backend}: {_limits(encoder)}" for encoder in target.encoders),
            f"{target.system.memory_mib} MiB",
            "\n".join(name.removesuffix("ExecutionProvider") for name in target.system.providers) or "none",
            f"{facts - open_facts} of {facts}",
        )
    return table


def _limits(encoder: Encoder) -> str:
    limits = encoder.takes
    words = f"{limits.min_width} x {limits.min_height} to {limits.max_width} x {limits.max_height}"
    if (limits.width_step, limits.height_step) != (1, 1):
        words += f" by {limits.width_step} x {limits.height_step}"
    return f"{words}, {' '.join(limits.formats)}"
