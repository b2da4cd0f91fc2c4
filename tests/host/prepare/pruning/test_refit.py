from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from pruning_models import Builder, mixed_model, outputs, pictures

from featlink_host.prepare.pruning.follow import channels_of
from featlink_host.prepare.pruning.moments import Moments, fit
from featlink_host.prepare.pruning.patches import layer_of
from featlink_host.prepare.pruning.refit import refit, upto
from featlink_host.prepare.pruning.removal import remove
from featlink_host.prepare.pruning.structured import _rows


@settings(max_examples=30)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    pads=st.one_of(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]), st.tuples(*[st.integers(0, 2)] * 4)),
)
def test_patches_times_weights_are_the_convolution(
    kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], groups: int, pads: Any
) -> None:
    if isinstance(pads, str):
        dilations = (1, 1)  # onnxruntime's SAME is defined without them
    b = Builder(1)
    how: dict[str, Any] = {"auto_pad": pads} if isinstance(pads, str) else {"pads": list(pads)}
    weight = b.weight("W", 8, 4 // groups, *kernel)
    b.node("Conv", ["image", weight], "y", strides=strides, dilations=dilations, group=groups, **how)
    model = b.model({"y": ["n", 8, "h", "w"]}, channels=4)
    values = numpy_helper.to_array(model.graph.initializer[0])
    layer = layer_of(model.graph.node[0], values)
    assert layer is not None
    image = pictures(2, channels=4)
    seen, out = layer.samples(image, outputs(model, image=image)["y"], 10**6, np.random.default_rng(0))
    matrix = layer.matrix(values).reshape(groups, 8 // groups, -1)
    found = np.einsum("pgi,goi->pgo", seen, matrix).reshape(len(out), 8)
    np.testing.assert_allclose(found, out, rtol=1e-4, atol=1e-5)


def test_least_squares_by_moments_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    seen, weights, bias = rng.normal(1, 1, (500, 1, 6)), rng.normal(0, 1, (6, 3)), rng.normal(0, 1, 3)
    out = seen[:, 0] @ weights + bias + rng.normal(0, 0.1, (500, 3))
    parts = Moments(1, 6, 3)
    parts.add(seen[:200], out[:200])
    parts.add(seen[200:], out[200:])
    wide = np.concatenate([seen[:, 0], np.ones((500, 1))], axis=1)
    wanted = np.linalg.lstsq(wide, out, rcond=None)[0]
    np.testing.assert_allclose(parts.solve(np.zeros((1, 7, 3)), 1e-9, None, True)[0], wanted, atol=1e-4)
    np.testing.assert_allclose(parts.covariance[0], np.cov(seen[:, 0].T, bias=True), atol=1e-9)
    # Some weights are zero and stay so: each output is a least squares problem of its own.
    free = rng.random((1, 7, 3)) < 0.6
    free[:, -1] = True
    found = parts.solve(np.zeros((1, 7, 3)), 1e-9, free, True)[0]
    for output in range(3):
        some = free[0, :, output]
        wanted = np.linalg.lstsq(wide[:, some], out[:, output], rcond=None)[0]
        np.testing.assert_allclose(found[some, output], wanted, atol=1e-4)
        assert not found[~some, output].any()


def test_a_fit_to_noise_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, (1, 41, 1))
    fitted, held = Moments(1, 40, 1), Moments(1, 40, 1)
    for moments, count in ((fitted, 30), (held, 3000)):
        seen = rng.normal(0, 1, (count, 1, 40))
        wide = np.concatenate([seen[:, 0], np.ones((count, 1))], axis=1)
        moments.add(seen, wide @ start[0] + rng.normal(0, 3, (count, 1)))
    assert fit(fitted, held, start) is None
    better = fit(held, fitted, np.zeros_like(start))
    assert better is not None
    assert np.abs(better - start).max() < 0.5


@pytest.mark.parametrize("half", [False, True])
def test_channels_that_others_repeat_are_made_good_entirely(half: bool) -> None:
    """Where a channel is another one twice over, what read it can be fitted without loss."""
    b = Builder(2, half)
    b.node("Conv", ["image", b.weight("a/W", 6, 3, 3, 3)], "a", pads=[1, 1, 1, 1])
    b.node("Relu", ["a"], "relu")
    b.node("Conv", ["relu", b.weight("c/W", 4, 6, 3, 3)], "c", strides=[2, 2], pads=[1, 1, 1, 1])
    b.node("Relu", ["c"], "scores")
    model = b.model({"scores": ["n", 4, 4, 4]})
    first = model.graph.initializer[0]
    values = numpy_helper.to_array(first).copy()
    values[5] = 2 * values[1]
    first.CopyFrom(numpy_helper.from_array(values, first.name))
    channels = channels_of(model)
    unit = int(channels.groups[0].units[5])
    pruned = remove(model, channels, [unit])
    image = pictures(64)
    wanted = outputs(model, image=image)["scores"]
    lost = np.abs(outputs(pruned, image=image)["scores"] - wanted).max()
    fitted = refit(model, pruned, lambda: iter([{"image": image}]), rows=_rows(channels, {unit}))
    assert fitted.fitted == ("c",)
    onnx.checker.check_model(pruned, full_check=True)
    left = np.abs(outputs(pruned, image=image)["scores"] - wanted).max()
    assert left < (0.03 if half else 0.02) * lost


def test_a_refit_brings_the_outputs_nearer_to_what_they_were() -> None:
    model = mixed_model(5)
    channels = channels_of(model)
    removed = {int(one) for group in channels.groups for one in group.units[: len(group.units) // 4]}
    pruned, image, fresh = remove(model, channels, removed), pictures(256), pictures(64, seed=9)
    wanted = outputs(model, image=fresh)["scores"]
    before = np.square(outputs(pruned, image=fresh)["scores"] - wanted).mean()
    batches = [{"image": image[:100]}, {"image": image[100:]}]
    told: list[tuple[int, int]] = []
    refit(model, pruned, lambda: iter(batches), rows=_rows(channels, removed), progress=lambda _, *at: told.append(at))
    assert np.square(outputs(pruned, image=fresh)["scores"] - wanted).mean() < before / 2
    assert told[-1] == (len(told) - 1, len(told) - 1)


def test_the_part_up_to_a_tensor_makes_that_tensor() -> None:
    model = mixed_model()
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.output.append(helper.make_empty_tensor_value_info("side"))
    part, image = upto(model, ["side"]), pictures(2)
    assert len(part.graph.node) < len(model.graph.node)
    np.testing.assert_array_equal(outputs(part, image=image)["side"], outputs(whole, image=image)["side"])
