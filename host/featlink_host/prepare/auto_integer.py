"""The integer backbone inside `auto`: what is built then is split at its levels' own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from featlink_codec.errors import SettingsError

from .auto_course import Course, StepRow, told
from .graph import DataGraph, load_model
from .quantization.integer import WIDE_BITS, IntegerBackbone, IntegerOptions, integer_backbone
from .quantization.integer_extractor import GOLDEN_FILE, write_golden
from .record import digest_of
from .survey_measure import time_halves


@dataclass(frozen=True)
class IntegerStep:
    """A network with an integer backbone.

    :param model: its file: the first half in levels, its map and all behind it floats
    :param tensor: the map: the numbers that the levels stand for, exactly, since steps are powers of two
    :param golden: file of the hashes of the levels
    :param figures: agreement, hashes, quantizers
    """

    model: Path
    tensor: str
    golden: Path
    figures: dict[str, Any]

    @property
    def sentences(self) -> list[str]:
        """For the page."""
        figures = self.figures
        golden, wide = figures["golden"], figures["wide"]
        held = f"The same levels with {len(golden['equal'])} settings of onnxruntime"
        differing = golden["differing"]
        if differing:
            held += f", others with {'; '.join(differing)}"
        doubts = figures["doubts"]
        exact = (
            "Every sum is exact, so that any machine computes the same map."
            if not doubts
            else f"The levels rest on: {'; '.join(doubts[:3])}{' ...' if len(doubts) > 3 else ''}."
        )
        listed = f"Of more than 8 bits, at most {WIDE_BITS}, and computed as exact floats: {', '.join(wide)}."
        widened = listed if wide else "All tensors are of 8 bits."
        return [
            f"The camera's half computes in integers. Before coding: {told(figures['score'])} against "
            "the network as it was given.",
            f"{held}; {GOLDEN_FILE} holds their hashes. {exact} {widened}",
        ]


def make_integer(course: Course, model: Path, tensor: str, runs: int) -> IntegerStep:
    """Make the network's first half one of integers.

    :param runs: of the backbone, for its milliseconds
    :raises SettingsError: see `integer_backbone`
    """
    out, golden = course.work / "integer.onnx", course.work / GOLDEN_FILE
    before = digest_of(model)
    options = IntegerOptions()

    def make() -> dict[str, Any]:
        found = integer_backbone(load_model(model), tensor, course.judge, options, course.progress)
        onnx.save(found.whole, str(out))
        write_golden(golden, found)
        name = dequantized(found)
        ((near_ms, _, _),) = time_halves(DataGraph(found.whole), [(name,)], course.judge, runs)
        wide = [key for key, one in found.network.quantizers.items() if one.bits > 8]
        return {"figures": {**found.figures(), "wide": wide, "near_ms": near_ms}, "tensor": name}

    known = course.noted(f"integer {tensor} {before}", make, out, golden)
    figures = known["figures"]
    what = f"at {tensor}; {told(figures['score'])}"
    course.rows.append(StepRow("integer", what, known["seconds"], out.stat().st_size))
    outputs = {"model": known["files"][out.name], GOLDEN_FILE: known["files"][GOLDEN_FILE]}
    course.record("integer", {"model": before}, {"tensor": tensor, **vars(options)}, figures, outputs)
    return IntegerStep(out, known["tensor"], golden, figures)


def dequantized(found: IntegerBackbone) -> str:
    """The tensor of what the levels stand for, at which the whole network can be split.

    :raises SettingsError: there is none
    """
    cuts = {cut.name for cut in DataGraph(found.whole).cuts}
    for node in found.whole.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == found.tensor and node.output[0] in cuts:
            return str(node.output[0])
    raise SettingsError(f"{found.tensor!r}: several operators read the levels in their own ways: found no one tensor")
