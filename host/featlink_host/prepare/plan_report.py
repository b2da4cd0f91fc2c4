"""What the planner found: a table, and sentences that say why."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from .planner import Measured, Plan


def describe(row: Measured) -> str:
    """A packing in words: "tile, 12 x 16 tiles on 1 picture of 304 x 228, order identity"."""
    grid = row.grid
    tiles = "" if grid.stack else f"{grid.tile_h} x {grid.tile_w} tiles on "
    pictures = f"{grid.pictures} picture{'s' if grid.pictures > 1 else ''} of {grid.width} x {grid.height}"
    pads = f", pads {grid.pad_h} below and {grid.pad_w} right" if grid.pad_h or grid.pad_w else ""
    return f"{row.packing.mode}, {tiles}{pictures}{pads}, order {row.order}"


def explain(plan: Plan) -> list[str]:
    """Why the best is the best, a sentence each."""
    best, first = plan.best, plan.rows[0]
    said = [
        f"Best at {plan.coding} within the limits of {plan.limits.name}: {describe(best)}, "
        f"{best.bytes_per_map:.0f} bytes a map."
    ]
    if best is first:
        said.append("It is also the quick choice by geometry alone: nothing else that was measured costs less.")
    else:
        said.append(f"{_than(best, first)} than the quick choice by geometry alone ({_size(first)}).")
    if plan.present is None:
        said.append(f"The present packing is not possible there: {plan.obstacle}.")
    elif plan.present is best:
        said.append("It is the extractor's present packing.")
    elif plan.present is first:
        said.append("The quick choice is the extractor's present packing.")
    else:
        said.append(f"{_than(best, plan.present)} than the present packing ({_size(plan.present)}).")
    said += _of_orders(plan)
    stack = next((row for row in plan.rows if row.grid.stack and row.order == "identity"), None)
    if stack is not None and not best.grid.stack:
        times = stack.bytes_per_map / best.bytes_per_map
        said.append(f"Mode stack, {stack.grid.pictures} pictures a map, takes {times:.2f} times the best one's bytes.")
    every = "every map" if plan.refresh_every == 1 else f"one map in {plan.refresh_every}"
    said.append(
        f"Measured on {plan.maps} maps in {plan.runs} run{'s' if plan.runs > 1 else ''} of consecutive pictures; "
        f"refreshes are weighted as {every}, what [video] refresh_s makes of the source's times."
    )
    return said


def _of_orders(plan: Plan) -> list[str]:
    """What the best order gains on its grid, and what its list costs."""
    ordered = [row for row in plan.rows if row.packing.order is not None]
    if not ordered:
        return []
    best = min(ordered, key=lambda row: row.rank)
    plain = next(row for row in plan.rows if row.grid == best.grid and row.packing.order is None)
    cost = best.header_bytes - plain.header_bytes
    cost_text = f"{cost} bytes more at each refresh, {cost / plan.refresh_every:.1f} a map"
    if plan.best.packing.order is not None:
        return [f"{_than(best, plain)} than the same grid in the channels' own order; its list costs {cost_text}."]
    change = best.bytes_per_map / plain.bytes_per_map - 1
    return [
        f"No order pays: the best of them, {best.order}, changes the bytes of its grid ({_size(best)}) "
        f"by {change:+.1%}, its list included ({cost_text})."
    ]


def _size(row: Measured) -> str:
    return "stack" if row.grid.stack else f"{row.grid.tile_h} x {row.grid.tile_w}"


def _than(row: Measured, other: Measured) -> str:
    saved = other.bytes_per_map - row.bytes_per_map
    return f"It takes {saved:.0f} bytes a map less ({saved / other.bytes_per_map:.1%})"


def render_plan(plan: Plan) -> Table:
    """All that was measured, the best in bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("mode", no_wrap=True)
    for name in ("tiles", "pictures", "pads"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("order", no_wrap=True)
    for name in ("bytes a map", "to first", "encode ms"):
        table.add_column(name, justify="right", no_wrap=True)
    first = plan.rows[0]
    for row in plan.rows:
        grid = row.grid
        mark = ("best" if row is plan.best else "") + (" now" if row is plan.present else "")
        table.add_row(
            mark.strip(),
            row.packing.mode,
            "" if grid.stack else f"{grid.tile_h} x {grid.tile_w}",
            f"{grid.pictures} of {grid.width} x {grid.height}",
            f"{grid.pad_h}, {grid.pad_w}",
            row.order,
            f"{row.bytes_per_map:.0f}",
            f"{row.bytes_per_map / first.bytes_per_map:.1%}",
            f"{row.encode_ms:.1f}",
            style="bold" if row is plan.best else None,
        )
    return table


def plan_dict(plan: Plan) -> dict[str, Any]:
    """The plan for machines."""
    rows = [
        {
            "mode": row.packing.mode,
            "tile_h": row.packing.tile_h,
            "tile_w": row.packing.tile_w,
            "pad_h": row.packing.pad_h,
            "pad_w": row.packing.pad_w,
            "order_name": row.order,
            "order": row.packing.order,
            "pictures": row.grid.pictures,
            "picture_width": row.grid.width,
            "picture_height": row.grid.height,
            "bytes_per_map": row.bytes_per_map,
            "refresh_bytes": row.refresh_bytes,
            "following_bytes": row.following_bytes,
            "header_bytes": row.header_bytes,
            "encode_ms": row.encode_ms,
            "best": row is plan.best,
            "present": row is plan.present,
        }
        for row in plan.rows
    ]
    return {
        "coding": plan.coding,
        "limits": plan.limits.name,
        "maps": plan.maps,
        "runs": plan.runs,
        "refresh_every": plan.refresh_every,
        "rows": rows,
        "explanation": explain(plan),
    }
