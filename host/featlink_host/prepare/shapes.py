"""Open axes of a network's input: said, and fixed where they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from featlink_codec.errors import SettingsError

from ..inference import one_line
from .samples import model_inputs


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A copy of a model whose inputs have these shapes; an open first axis, the samples', becomes 1 in any case.

    :raises SettingsError: no such input, a shape that contradicts it, or an axis that stays open: says how to fix it
    """
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

    inputs = model_inputs(model)
    for name in shapes:
        if name not in inputs:
            raise SettingsError(f"--fix-shape {name}: found no such input, the model has {', '.join(inputs)}")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for name, (_, shape) in inputs.items():
        wanted = shapes.get(name, tuple(1 if at == 0 and side is None else side for at, side in enumerate(shape)))
        if any(side is None for side in wanted):
            text = "x".join("?" if side is None else str(side) for side in shape)
            raise SettingsError(
                f"input {name!r}: its shape {text} leaves axes open: fix them, e.g. --fix-shape {_example(name, shape)}"
            )
        if wanted == shape:
            continue
        try:
            make_input_shape_fixed(fixed.graph, name, list(wanted))
        except ValueError as error:
            raise SettingsError(f"--fix-shape {name}={','.join(map(str, wanted))}: {one_line(error)}") from None
    try:
        fix_output_shapes(fixed)
    except Exception as error:  # onnx raises its own kinds, which no common base tells apart
        raise SettingsError(f"the model does not take these shapes: {one_line(error)}") from None
    # What was noted of the open shapes is inferred anew.
    del fixed.graph.value_info[:]
    return fixed


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by the inputs' names, of any number of --fix-shape."""
    return dict(parse_shape(text) for text in texts)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1,3,224,224 (SettingsError: anything else)."""
    name, equal, sides = text.rpartition("=")
    numbers = sides.replace("x", ",").split(",")
    if not equal or not name or not all(one.strip().isdecimal() and int(one) > 0 for one in numbers):
        raise SettingsError(f"--fix-shape {text}: expected NAME=1,3,224,224")
    return name, tuple(int(one) for one in numbers)


def _example(name: str, shape: tuple[int | None, ...]) -> str:
    sides = [1 if at == 0 else 224 if side is None else side for at, side in enumerate(shape)]
    return f"{name}={','.join(map(str, sides))}"
