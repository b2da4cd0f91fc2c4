"""The page of what preparing does to two networks, written from the figures: `python -m bench.prepare_tables`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from featlink_codec.files import write_whole

from .prepare_plots import agreement_svg

DOCS = Path(__file__).resolve().parent.parent / "docs"
OUT, PLOT = "prepare-figures.md", "prepare-curves.svg"
Row = dict[str, Any]

TOP = """# What preparing does to a network

Written by `python -m bench.prepare_tables` from the figures of `bench.prepare_*` ([JSON](prepare-weights.json) beside
this page); do not edit.

Two networks. **Fashion-MNIST**: a small CNN (688,810 parameters, 8.0 million MACs), fitted on training images, without
their labels, scored on all 10,000 test images; a standard error is 0.0028. **The detector**: the demo's COCO-SSD on
its street clip, scored by the recall of the uncompressed network's detections. With 41 to 50 objects one of them is
0.02: look at the **distortion** too, the squared error of the outputs over their variance. Fitted and scored on
different pictures of one clip: how near a network stays to itself on this street, not how good it is elsewhere.
"""
PLOT_TEXT = f"""## Recall of the detector by cost

![Recall of the detector by MACs after structured pruning and SVD, and by bytes of logarithmic and uniform
weights]({PLOT})
"""
WEIGHTS = """## Weights of 1 to 8 bits: {name}

{what}, and the bytes of its weights in a model stream. Direct: nearest values, one scale a channel. Refined:
scales and values in turn until they settle. Fine-tuned: layer by layer to what they put out, on samples without labels.
Uncompressed: {whole}; {file:,} bytes as a file.
"""
GROUPS = """Other scales: {rows}.
"""
ACTIVATIONS = """## Inputs of layers as 8-bit levels

{what}
"""
EFFICIENTNET = """## EfficientNet-Lite0, a smoke test

foolbox's twenty photos, of which the network has 17 right: one of them is five points of accuracy. 385.2 million MACs,
18.52 MB of weights. Refitted and fine-tuned **on the very photos that it is judged on**, which flatters, but for the
rows "on clip": those saw the demo's street clip instead, and are what a stranger should expect. Model streams of
quantized weights hold them without loss, those of pruned and factorized networks have a loss at one QP (3.10 MB
before).
"""
SCORED = {
    "fashion-mnist": "Fashion-MNIST: accuracy (distortion); weights of 8 bits in -64..63, the first input as it is.",
    "detector": "The detector's backbone: recall (distortion) of 64 pictures, 50 objects; weights and head in float, "
    "channels not equalized.",
}
INTEGER = """## The integer backbone

The detector's first half, up to `expanded_conv_6/project/add_1`, in integers; head in float. 16 pictures to fit.
Settings of onnxruntime under which the golden hashes differ: of seven, on x86 with AVX-512; the default's levels were
the same on an emulated Cortex-A76. Recall and precision hang on objects near the threshold, one standard error of each
is 0.012: [how far it scatters](prepare.md#integer-a-backbone-that-is-the-same-everywhere).
"""
PRUNING = """## Pruning and low rank: {name}

Uncompressed: {macs:.1f} million MACs, {stream:,} bytes as a model stream. Streams here are of the float weights, coded
with loss at one QP.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def weights(name: str, what: str, found: Row) -> str:
    """By values and way, a column for each number of bits."""
    cases = found["cases"].values()
    plain = [one for one in cases if one["groups"] == "channel" and not one["portable"]]
    bits = sorted({one["bits"] for one in plain}, reverse=True)
    kinds = dict.fromkeys((one["values"], one["way"]) for one in sorted(plain, key=lambda one: _WAYS.index(one["way"])))
    rows = []
    for values, way in sorted(kinds, key=lambda kind: (_VALUES.index(kind[0]), _WAYS.index(kind[1]))):
        known = {one["bits"]: one for one in plain if (one["values"], one["way"]) == (values, way)}
        cells = [_weight_cell(known.get(one), name == "detector") for one in bits]
        rows.append((f"{values}, {way}", *cells))
    whole = found["uncompressed"]["value"]
    text = WEIGHTS.format(
        name={"fashion-mnist": "Fashion-MNIST"}.get(name, "the detector"),
        what=what,
        whole=f"{whole:.4g}",
        file=found["file_bytes"],
    )
    others = [one for one in cases if (one["groups"] != "channel" and one["way"] == "direct") or one["portable"]]
    said = "; ".join(f"{one['bits']} bits, {_scales(one)} {one['value']:.4f}" for one in others)
    return f"{text}\n{table(('', *(f'{one} bit' for one in bits)), rows)}\n" + (
        GROUPS.format(rows=said) if said else ""
    )


_VALUES = ("uniform", "fixed-point", "codebook", "power-of-two", "logarithmic")
_WAYS = ("direct", "refined", "fine-tuned")


def _scales(one: Row) -> str:
    if one["portable"]:
        return "within -64..63"
    return "one a tensor" if one["groups"] == "tensor" else f"one a block of {one['groups']}"


def _weight_cell(one: Row | None, distorted: bool) -> str:
    if one is None:
        return ""
    more = f", {one['distortion']:.2g}" if distorted else ""
    return f"{one['value']:.4f}{more}; {one['stream_bytes'] / 1000:.0f} kB"


def activations(found: Row) -> str:
    """Schemes and methods, a table a network."""
    parts = []
    for name, what in SCORED.items():
        rows = [one for one in found[name]["methods"] if not one.get("exact_weights")]
        methods = list(dict.fromkeys(one["method"] for one in rows))
        lines = []
        for scheme in dict.fromkeys(one["scheme"] for one in rows):
            known = {one["method"]: one for one in rows if one["scheme"] == scheme}
            lines.append((scheme, *(f"{known[m]['value']:.4f} ({known[m]['distortion']:.2g})" for m in methods)))
        parts.append(f"{what}\n\n{table(('', *methods), lines)}")
    return ACTIVATIONS.format(what="\n".join(parts))


def integer(found: Row) -> str:
    """Backbones of integers."""
    rows = []
    for name, one in found.items():
        apart = ", ".join(one["golden"]["differing"]) or "none"
        apart = "none" if apart == "none" else f"{len(one['golden']['differing'])} of 7"
        rows.append(
            (
                f"**{name}** (the default)" if name == "power-of-two" else name,
                str(len(one["wide"])),
                f"{one['all']['value']:.3f}",
                f"{one['all']['precision']:.3f}",
                f"{_f1(one['all']):.3f}",
                f"{one['unseen']['recall']:.3f}",
                f"{one['all']['distortion']:.2g}",
                apart,
            )
        )
    head = ("steps", "11-bit tensors", "recall, 250 pictures", "precision", "F1", "recall, 234 not fitted on",
            "distortion", "settings that differ")  # fmt: skip
    return f"{INTEGER}\n{table(head, rows)}"


def _f1(score: Row) -> float:
    recall, precision = float(score["value"]), float(score["precision"])
    return 2 * recall * precision / (recall + precision)


def pruning(found: Row) -> str:
    """Curves, a line a point."""
    name, whole = found["name"], found["whole"]
    rows = []
    for curve, points in found["curves"].items():
        for one in points:
            share = one["size"]["macs"] / whole["size"]["macs"]
            asked = one["options"].get("sparsity")
            rows.append(
                (
                    curve,
                    f"{share:.0%}",
                    f"{asked:.0%}" if asked is not None else "",
                    f"{one['score']['value']:.3f}",
                    f"{one['score']['distortion']:.2g}",
                    f"{one['size']['stream_bytes'] / 1000:.0f}",
                    f"{one['seconds']:.0f}",
                )
            )
    head = ("", "MACs", "zeros asked for", "agreement", "distortion", "stream kB", "s")
    text = PRUNING.format(name=name, macs=whole["size"]["macs"] / 1e6, stream=whole["size"]["stream_bytes"])
    return f"{text}\n{table(head, rows)}"


def efficientnet(found: Row) -> str:
    """A smoke test's rows."""
    rows = [
        (
            title,
            f"{one['right']} of {one['of']}" if "right" in one else "",
            f"{one['distortion']:.2g}" if one.get("distortion") is not None else "",
            _size(one),
            f"{one['seconds']:.0f}",
        )
        for title, one in found["cases"].items()
        if title != "survey"
    ]
    return f"{EFFICIENTNET}\n{table(('', 'right', 'distortion', 'size', 's'), rows)}"


def _size(one: Row) -> str:
    if one["step"] == "quantize":
        return f"{one['stream_bytes'] / 1e6:.2f} MB"
    if one["step"] == "integer":
        return f"{one['doubts']} doubts, {len(one['golden']['differing'])} settings differ"
    if one["step"] == "sparsify":
        return f"{one['map_bytes'][0] / 1000:.1f} to {one['map_bytes'][1] / 1000:.1f} kB a map"
    return f"{one['macs'][1] / one['macs'][0]:.0%} of the MACs, {one['stream_bytes'][1] / 1e6:.2f} MB"


def distillation(found: Row) -> str:
    """Students with and without a teacher."""
    rows = []
    for one in found["settings"]:
        summary = one["summary"]
        pictures = one["pictures"]
        rows.append(
            (
                "55,000" if pictures == "all" else f"{int(pictures):,}",
                *(
                    f"{summary[key]['mean']:.4f} ({', '.join(f'{v:.4f}' for v in summary[key]['values'])})"
                    for key in ("with_teacher_test", "without_teacher_test")
                ),
            )
        )
    text = (
        "## Distillation\n\nA student of depthwise separable and Ghost blocks (15,474 parameters, 0.17 million MACs), "
        "test accuracy, mean of three seeds (each). Teacher: 0.9145.\n\n"
    )
    return text + table(("training pictures", "with the teacher", "without"), rows)


def page(read: Callable[[str], Row | None]) -> str:
    """All of it."""
    parts = [TOP, PLOT_TEXT]
    if (one := read("prepare-weights")) is not None:
        for name, what in (
            ("fashion-mnist", "Accuracy"),
            ("detector", "Recall, distortion"),
        ):
            if name in one:
                parts.append(weights(name, what, one[name]))
    if (one := read("prepare-activations")) is not None:
        parts += [activations(one), integer(one["integer"])]
    if (one := read("prepare-pruning")) is not None:
        parts += [pruning(network) for network in one["networks"]]
    if (one := read("prepare-distill")) is not None:
        parts.append(distillation(one))
    if (one := read("prepare-efficientnet")) is not None:
        parts.append(efficientnet(one))
    return "\n".join(parts)


def main() -> None:
    """Write the page and its picture; an argument is another folder of figures and page."""
    docs = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS

    def read(name: str) -> Row | None:
        path = docs / f"{name}.json"
        found: Row | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return found

    write_whole(docs / PLOT, agreement_svg(read("prepare-pruning") or {}, read("prepare-weights") or {}))
    write_whole(docs / OUT, page(read))


if __name__ == "__main__":
    main()
