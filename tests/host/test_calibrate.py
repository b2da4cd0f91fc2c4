"""What comes out of a backbone on real pictures: its range, its zeros, and what is refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.video.clip import Clip, open_source
from featlink_host.demo import demo_model, demo_source_clip
from featlink_host.inference import open_session
from featlink_host.prepare.calibrate import calibrate, spread
from featlink_host.prepare.split import open_graph, split_model

DEMO_INPUT = InputSettings("image", 300, 300, scale=1 / 127.5, offset=-1.0)
INPUT = InputSettings("image", 16, 16, scale=1.0)


def backbone(folder: Path, *nodes: onnx.NodeProto, dtype: int = TensorProto.FLOAT, **weights: np.ndarray) -> Path:
    """image [1, 3, 16, 16] -> nodes -> map."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("map", dtype, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "backbone.onnx"))
    return folder / "backbone.onnx"


@pytest.fixture
def steps(tmp_path: Path) -> Clip:
    """Nine images of 16 x 16, picture k of level 10 * k."""
    folder = tmp_path / "steps"
    folder.mkdir()
    for number in range(9):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 10 * number, np.uint8), "rgb24")
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 16, 16, "rgb24", 1
        (folder / f"{number}.png").write_bytes(b"".join(bytes(one) for one in encoder.encode(frame)))
    return open_source(folder)


@given(st.integers(0, 300), st.integers(1, 300))
def test_pictures_are_spread_from_first_to_last(count: int, frames: int) -> None:
    chosen = spread(count, frames)
    assert len(chosen) == min(count, frames)
    assert chosen == sorted(set(chosen))
    if chosen:
        assert chosen[0] == 0
    if len(chosen) > 1:
        assert chosen[-1] == count - 1
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


def test_range_zeros_and_shape_over_the_chosen_pictures(tmp_path: Path, steps: Clip) -> None:
    # levels - 25, cut off below 0: picture 0 and (of the three chosen, 0, 4 and 8) no other is all zeros
    path = backbone(
        tmp_path,
        helper.make_node("Sub", ["image", "less"], ["d"]),
        helper.make_node("Relu", ["d"], ["map"]),
        less=np.float32(25),
    )
    told: list[tuple[str, int, int]] = []
    found = calibrate(path, steps, INPUT, 3, progress=lambda *what: told.append(what))
    assert (found.tensor, found.shape, found.frames) == ("map", (1, 3, 16, 16), 3)
    assert (found.minimum, found.maximum) == (0.0, 55.0)
    assert found.zeros == pytest.approx(1 / 3, abs=1e-12)
    assert told == [("calibrate", 1, 3), ("calibrate", 2, 3), ("calibrate", 3, 3)]
    assert calibrate(path, steps, INPUT, 1000).frames == 9
    # the brightest picture is the last: two frames hold it, one frame is the first
    assert calibrate(path, steps, INPUT, 2).maximum == 55.0
    with pytest.raises(SettingsError, match="found nothing but zeros in 1 pictures"):
        calibrate(path, steps, INPUT, 1)


def test_a_relu6_of_the_demo_network_gives_exactly_six(tmp_path: Path) -> None:
    split_model(demo_model(), "expanded_conv_6/depthwise/Relu6", tmp_path / "b.onnx", tmp_path / "h.onnx")
    found = calibrate(tmp_path / "b.onnx", open_source(demo_source_clip()), DEMO_INPUT, 8)
    assert found.shape == (1, 192, 19, 19)
    assert (found.minimum, found.maximum) == (0.0, 6.0)
    assert 0.1 < found.zeros < 0.3


def test_a_signed_map_is_refused_with_the_nearest_cuts_after_a_relu(tmp_path: Path) -> None:
    tensor = "expanded_conv_6/project/add_1"
    split_model(demo_model(), tensor, tmp_path / "b.onnx", tmp_path / "h.onnx")
    near = open_graph(demo_model()).near(tensor, non_negative=True)
    with pytest.raises(SettingsError) as error:
        calibrate(tmp_path / "b.onnx", open_source(demo_source_clip()), DEMO_INPUT, 2, near)
    first, *lines = str(error.value).splitlines()
    assert first.startswith(f"tensor '{tensor}': found values down to -")
    assert first.endswith("maps only: take mode adaptive, or choose a cut after a ReLU; the nearest:")
    assert "    expanded_conv_6/depthwise/Relu6  1x192x19x19 float32, Clip" in lines
    assert "    expanded_conv_10/expand/Relu6  1x384x19x19 float32, Clip" in lines
    assert len(lines) == 4
    assert all(line.endswith("Clip") for line in lines)


def test_minus_zero_is_not_negative(tmp_path: Path, steps: Clip) -> None:
    path = backbone(
        tmp_path, helper.make_node("Mul", ["image", "signs"], ["map"]), signs=np.float32([1, 1, -0.0]).reshape(3, 1, 1)
    )
    assert calibrate(path, steps, INPUT).minimum == 0.0


def test_a_map_with_nan_is_refused(tmp_path: Path, steps: Clip) -> None:
    # picture 3 is of level 30, and 0 / 0 is NaN
    path = backbone(
        tmp_path,
        helper.make_node("Sub", ["image", "thirty"], ["d"]),
        helper.make_node("Div", ["d", "d"], ["map"]),
        thirty=np.float32(30),
    )
    with pytest.raises(SettingsError, match=r"tensor 'map': found NaN or infinity in picture 3 of "):
        calibrate(path, steps, INPUT)


def test_a_map_of_another_type_is_refused(tmp_path: Path, steps: Clip) -> None:
    path = backbone(
        tmp_path, helper.make_node("Cast", ["image"], ["map"], to=TensorProto.FLOAT16), dtype=TensorProto.FLOAT16
    )
    with pytest.raises(SettingsError, match="tensor 'map': found float16, expected float32"):
        calibrate(path, steps, INPUT)


def test_an_input_that_does_not_fit_and_a_model_that_cannot_be_opened(tmp_path: Path, steps: Clip) -> None:
    path = backbone(tmp_path, helper.make_node("Relu", ["image"], ["map"]))
    with pytest.raises(SettingsError, match=r"backbone\.onnx: cannot be run: ") as error:
        calibrate(path, steps, InputSettings("image", 17, 16))
    assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match=r"backbone\.onnx: cannot be run: "):
        calibrate(path, steps, InputSettings("picture", 16, 16))
    with pytest.raises(SettingsError, match="frames: found 0, expected at least 1"):
        calibrate(path, steps, INPUT, 0)
    path.write_bytes(b"no model")
    with pytest.raises(SettingsError, match=r"backbone\.onnx: onnxruntime cannot open it: ") as error:
        open_session(path)
    assert "\n" not in str(error.value)
