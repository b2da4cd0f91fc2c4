"""Open shapes are fixed as told, and told how to fix where they are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from split_nets import chain

from featlink_codec.errors import SettingsError
from featlink_host.prepare.graph import DataGraph
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.shapes import fix_shapes, parse_shape


def test_an_open_number_of_samples_becomes_one_without_being_asked() -> None:
    fixed = fix_shapes(chain("n"), {})
    assert DataGraph(fixed).type_of("relu").shape == (1, 8, 16, 16)
    onnx.checker.check_model(fixed)


def test_open_sides_are_fixed_as_told() -> None:
    fixed = fix_shapes(chain("n", "s"), {"image": (1, 3, 24, 24)})
    assert DataGraph(fixed).type_of("relu2").shape == (1, 8, 12, 12)
    assert ModelRunner(fixed)({"image": np.zeros((1, 3, 24, 24), np.float32)})["scores"].shape == (1, 4)


def test_what_stays_open_or_contradicts_is_told() -> None:
    with pytest.raises(SettingsError, match=r"\?x3x\?x\? leaves axes open: .* --fix-shape image=1,3,224,224"):
        fix_shapes(chain("n", "s"), {})
    with pytest.raises(SettingsError, match="Can't replace existing fixed size of 3 with 4"):
        fix_shapes(chain("n", "s"), {"image": (1, 4, 24, 24)})
    with pytest.raises(SettingsError, match="found no such input, the model has image"):
        fix_shapes(chain(), {"picture": (1, 3, 24, 24)})


def test_shapes_are_read_from_text() -> None:
    assert parse_shape("a=b=1,3,8,8") == ("a=b", (1, 3, 8, 8))
    assert parse_shape("x=1x3x8x8") == ("x", (1, 3, 8, 8))
    for text in ("x", "=1,2", "x=", "x=1,a", "x=0,1"):
        with pytest.raises(SettingsError, match="expected NAME="):
            parse_shape(text)
