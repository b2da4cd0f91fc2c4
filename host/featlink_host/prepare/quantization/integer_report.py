"""The integer backbone's page: what it agrees to, where its levels are, and what its hashes hold for."""

from __future__ import annotations

from ..page import Section, Table, Text, render_page
from .integer import IntegerBackbone


def integer_page(name: str, found: IntegerBackbone) -> str:
    """One HTML page.

    :param name: of the network
    """
    facts = [
        ("network", name),
        ("split at", found.cut.name),
        ("levels", f"{found.tensor}, uint8, steps of {found.affine.scale:g} from level {found.affine.zero_point}"),
        ("weights", _weights(found)),
    ]
    if found.score is not None:
        facts.append(("agreement", str(found.score)))
    golden = found.golden
    rows: list[list[object]] = [[setting, "the same", 0, 0.0] for setting in golden.equal]
    rows += [[setting, "other levels", most, share] for setting, (most, share) in golden.differing.items()]
    sections: list[Section] = [
        Table(
            "Golden hashes: onnxruntime's settings",
            ("setting", "levels", "largest difference", "share that differs"),
            rows,
            note=f"{len(golden.hashes)} fixed inputs. SHA-256: {', '.join(golden.hashes)}",
        ),
        Table(
            "Activations",
            ("tensor", "bits", "step", "zero point", "from", "to", "step is a power of two"),
            [
                [tensor, one.bits, one.scale, one.zero_point, one.low + 0.0, one.high, one.exact]  # no -0
                for tensor, one in found.network.quantizers.items()
            ],
        ),
    ]
    if found.tuned:
        sections.append(
            Table(
                "Fine-tuned layers",
                ("weights", "error before", "error after"),
                [[layer, before, after] for layer, (before, after) in found.tuned.items()],
                note="Squared error of a layer's outputs over their squares, with the inputs that it has now.",
            )
        )
    doubts = found.network.doubts
    said = doubts or ["Every sum is a whole number below 2^24 times a power of two: exact in integers and in float32."]
    sections.append(Text("Why the levels are the same everywhere" if not doubts else "What the levels rest on", said))
    return render_page("Integer backbone", facts, sections)


def _weights(found: IntegerBackbone) -> str:
    spans = [one.span for one in found.network.weights.values()]
    if not spans:
        return "none"
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    wide = sum(span[0] < -128 or span[1] > 127 for span in spans)
    held = f"int8, {wide} of them int16" if wide else "int8"
    return f"{len(spans)} layers, {held}, {low}..{high}"
