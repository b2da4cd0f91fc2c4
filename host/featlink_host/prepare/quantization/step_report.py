"""The page of the step `quantize`: what it came to, width against score and size, layer by layer."""

from __future__ import annotations

import math

from ..curves import Curve, curves_plot
from ..page import Headline, Plot, Section, Table, Text, render_page
from .step import FLOAT_BITS, Quantized


def quantize_page(name: str, found: Quantized) -> str:
    """One HTML page.

    :param name: of the network
    """
    weights, options = found.weights, found.options.weights
    inputs = found.options.inputs
    shared = f"{options.groups} inputs of an output" if isinstance(options.groups, int) else f"a {options.groups}"
    tuned = ", fine-tuned without labels" if options.fine_tune else ""
    facts = [
        ("Network", name),
        (
            "Weights",
            f"{weights.weights:,}, {len(weights.tensors)} layers, {options.bits} bits, {options.values}{tuned}",
        ),
        ("Scales", f"one for {shared}; {'refined' if options.refines(options.bits) else 'taken directly'}"),
        ("Inputs of layers", "floating point" if inputs == FLOAT_BITS else f"{inputs} bits, but for the first layer's"),
    ]
    if found.before is not None and found.after is not None:
        facts += [("Before", str(found.before)), ("After", str(found.after))]
    sections: list[Section] = [_headline(found), _sizes(found)]
    if found.trials:
        sections += _sweep(found)
    sections.append(_layers(found))
    if weights.left:
        rows = sorted(weights.left.items())
        sections.append(Table("Left as they were", ("weights or layer", "why"), rows))
    if found.untuned:
        sections.append(Table("Not fine-tuned", ("weights", "why"), sorted(found.untuned.items())))
    if options.fine_tune:
        sections.append(
            Text(
                "Fine-tuning",
                [
                    "No labels and no training: layer by layer, weights are moved to give what they gave before with "
                    "the inputs that they have now, rounded column by column with their errors handed on (optimal "
                    "brain quantization), scales solved for the outputs, and the bias takes up what the mean has lost."
                ],
            )
        )
    return render_page(f"Quantization of {name}", facts, sections)


def _headline(found: Quantized) -> Headline:
    weights = found.weights
    figures = [
        (f"{weights.float_bytes / weights.plain_bytes:.1f}", "x", "smaller, indices packed to their bits"),
        (f"{weights.float_bytes / len(found.stream.data):.1f}", "x", "smaller as a model stream, the graph included"),
    ]
    if found.after is not None:
        figures.append((f"{found.after.value:.4f}", "", found.after.kind))
    return Headline(figures)


def _sizes(found: Quantized) -> Table:
    weights = found.weights
    count = 4 * weights.weights / sum(one.plain_bytes for one in weights.tensors)
    return Table(
        "Sizes",
        ("", "bytes"),
        [
            ["weights as 32 bits, and all other constants", weights.float_bytes],
            ["indices packed to their bits, scales, tables, other constants", weights.plain_bytes],
            ["model stream: entropy-coded, with graph and control data", len(found.stream.data)],
            ["the ONNX file", len(found.model.SerializeToString())],
        ],
        note=f"Of the weights alone, with their scales: {count:.2f} times fewer; 32 / bits would be "
        f"{32 / found.options.weights.bits:.2f}.",
    )


def _sweep(found: Quantized) -> list[Section]:
    rows = [
        [one.bits, one.score.value, one.score.precision, one.score.distortion, one.plain_bytes, one.stream_bytes]
        for one in found.trials
    ]
    bits = [one.bits for one in found.trials]
    chosen = bits.index(found.options.weights.bits) if found.options.weights.bits in bits else None
    kind = found.trials[0].score.kind
    table = Table(
        "Width of the weights",
        ("bits", kind, "precision", "distortion", "bytes packed", "bytes as a stream"),
        rows,
        chosen=chosen,
    )
    scores = [one.score.value for one in found.trials]
    packed = [one.plain_bytes / 1000 for one in found.trials]
    coded = [one.stream_bytes / 1000 for one in found.trials]
    curves = [
        Curve("packed", packed, scores, text=[f"{one} bit" for one in bits]),
        Curve("model stream", coded, scores),
    ]
    plot = curves_plot(curves, "kB", kind, "Score against size, by the width of the weights")
    return [Plot("Score against size", plot, "Up and left is better."), table]


def _layers(found: Quantized) -> Table:
    rows: list[list[object]] = []
    for one in found.weights.tensors:
        shape = "x".join(map(str, one.shape))
        row: list[object] = [one.name, one.layer.operator, shape, one.bits, one.set.size, int(one.scales.size)]
        row.append(_decibels(one.error))
        if found.outputs_error:
            row += map(_decibels, found.outputs_error.get(one.name, (None, None)))
        rows.append(row)
    columns = ["weights", "layer", "shape", "bits", "values", "scales", "weights' SNR, dB"]
    note = "SNR: squares over squared errors."
    if found.outputs_error:
        columns += ["outputs' SNR, dB", "fine-tuned, dB"]
        note += " Fine-tuning makes outputs nearer, not weights."
    return Table("Layers", columns, rows, note=note)


def _decibels(error: float | None) -> float | None:
    return None if error is None or error <= 0 else -10 * math.log10(error)
