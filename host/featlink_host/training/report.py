"""A student's page."""

from __future__ import annotations

from typing import Any

from ..prepare.curves import Curve, curves_plot
from ..prepare.page import Plot, Section, Table, Text, render_page
from .architecture import Architecture, convolutions


def explain_student(figures: dict[str, Any]) -> str:
    """A sentence or two."""
    options, test = figures["options"], figures["test"]
    how = "on the labels alone"
    if figures["with_teacher"]:
        how = (
            f"after a teacher: L = {options['alpha']:g} L_soft + {options['beta']:g} L_hard, "
            f"temperature {options['temperature']:g}, L_soft times the temperature's square"
        )
    said = f"A student of {figures['parameters']} numbers, trained {how}."
    if figures["held_out"] is not None:
        said += f" Accuracy {figures['held_out']:.4f} on {options['hold_out']} training pictures held out"
        said += f", {test:.4f} on {figures['test_samples']} test pictures." if test is not None else "."
    elif test is not None:
        said += f" Accuracy {test:.4f} on {figures['test_samples']} test pictures."
    return said


def student_page(name: str, architecture: Architecture, figures: dict[str, Any]) -> str:
    """The page as HTML."""
    options = figures["options"]
    facts = [
        ("Student", f"{name}, {figures['parameters']} numbers, {figures['macs'] / 1e6:.3f} million MACs a picture"),
        ("Teacher", "yes" if figures["with_teacher"] else "none"),
        ("Training", f"{options['epochs']} epochs, batches of {options['batch']}, seed {options['seed']}"),
        ("onnxruntime", f"logits within {figures['onnxruntime_difference']:.2g} of the largest one of PyTorch's"),
    ]
    sections: list[Section] = [Text("Result", [explain_student(figures)])]
    held = [(k + 1, epoch["held_out"]) for k, epoch in enumerate(figures["epochs"]) if epoch["held_out"] is not None]
    if held:
        curve = Curve("pictures held out", [k for k, _ in held], [value for _, value in held])
        svg = curves_plot([curve], "epoch", "accuracy", "Accuracy on pictures held out, by epoch")
        sections.append(Plot("Training", svg))
    rows = [(k + 1, f"{e['loss']:.4f}", e["held_out"]) for k, e in enumerate(figures["epochs"])]
    sections.append(Table("Epochs", ("epoch", "loss", "accuracy, held out"), rows))
    layers = []
    for block_name, block in zip(architecture.names(), architecture.blocks, strict=True):
        for inner, one in convolutions(block, block_name):
            kernel = f"{one.kernel} x {one.kernel}"
            layers.append((inner, type(block).__name__, one.inputs, one.outputs, kernel, one.groups, one.parameters))
    columns = ("convolution", "of block", "channels in", "out", "kernel", "groups", "weights")
    sections.append(Table("Convolutions", columns, layers, "The tensor `features` ends the backbone; a ReLU makes it."))
    return render_page(f"Student {name}", facts, sections)
