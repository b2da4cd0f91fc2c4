from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx_models import FMNIST
from pruning_models import judge_of, mixed_model, outputs, pictures

from featlink_codec.errors import SettingsError
from featlink_host.prepare.pruning.choice import by_share
from featlink_host.prepare.pruning.follow import channels_of
from featlink_host.prepare.pruning.importance import KINDS, importance
from featlink_host.prepare.pruning.sizes import budget_of, layer_macs, size_of, stream_bytes
from featlink_host.prepare.pruning.structured import ChannelOptions, batches_of, prune_channels
from featlink_host.prepare.pruning.weights import Weights


def test_a_share_of_every_group_goes_the_least_first() -> None:
    model = mixed_model()
    channels = channels_of(model)
    scores = {int(unit): float(unit % 7) for group in channels.groups for unit in group.units}
    removed = by_share(channels, scores, 0.5)
    for group in channels.groups:
        gone = [scores[unit] for unit in group.units.tolist() if unit in removed]
        left = [scores[unit] for unit in group.units.tolist() if unit not in removed]
        assert len(gone) == (len(group.units) + 0) // 2
        assert max(gone, default=-1) <= min(left, default=9)


def test_what_is_left_is_a_multiple_and_a_layer_is_kept() -> None:
    found = prune_channels(mixed_model(), None, ChannelOptions(channels=0.3, multiple=4, keep=("side",)))
    assert found.removed == {"stem": (0, 8), "side": (0, 6), "fc1": (4, 20), "scores": (0, 5)}
    assert found.importance == "l2"
    assert found.refit is None
    assert found.deviation is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_of_macs_is_met_and_not_by_far(kind: str) -> None:
    model = mixed_model()
    found = prune_channels(model, judge_of(model), ChannelOptions(budget_macs=0.6, importance=kind, refit=False))
    assert 0.4 < found.after.macs / found.before.macs <= 0.6
    assert found.after.macs == sum(one.macs_after for one in found.layers)
    assert found.deviation is not None
    assert found.deviation < 1e-4


def test_importances_are_what_they_say() -> None:
    model = mixed_model()
    channels = channels_of(model)
    weights, nodes = Weights(model), {node.name: node for node in model.graph.node}
    stem, point = (weights.values(nodes[name].input[1]) for name in ("stem", "point"))
    assert stem is not None
    assert point is not None
    group = next(one for one in channels.groups if one.name == "stem")
    l1 = np.abs(stem).sum(axis=(1, 2, 3)) + np.abs(point).sum(axis=(1, 2, 3))
    found = importance(model, channels, "l1")
    np.testing.assert_allclose([found[int(unit)] for unit in group.units], l1 / l1.mean(), rtol=1e-5)
    # Of fc1 the one reader sees the map behind ReLU.
    judge = judge_of(model)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.append(onnx.helper.make_empty_tensor_value_info("fc1_relu"))
    values = np.concatenate([outputs(seen, **one)["fc1_relu"] for one in judge.batches()])
    power = np.sqrt(np.square(values.astype(np.float64)).mean(axis=0))
    units = next(one for one in channels.groups if one.name == "fc1").units
    found = importance(model, channels, "activation", batches_of(judge, 10**6))
    np.testing.assert_allclose([found[int(unit)] for unit in units], power / power.mean(), rtol=1e-4)
    matrix = weights.values("fc2/W")
    assert matrix is not None
    part = np.square(matrix.astype(np.float64)).sum(axis=1) * values.astype(np.float64).var(axis=0)
    found = importance(model, channels, "contribution", batches_of(judge, 10**6), centred=True)
    np.testing.assert_allclose([found[int(unit)] for unit in units], part / part.sum(), rtol=1e-3)


def test_a_refit_keeps_more_of_what_the_network_says() -> None:
    model = mixed_model(3)
    fitting, judge = judge_of(model, 256), judge_of(model, 256, seed=7)
    plain, fitted = (
        prune_channels(model, fitting, ChannelOptions(channels=0.4, refit=refit)) for refit in (False, True)
    )
    assert judge.score(fitted.model).distortion < judge.score(plain.model).distortion / 2
    assert fitted.after.macs == plain.after.macs
    assert fitted.refit is not None
    assert "scores" in fitted.refit.fitted


def test_the_fashion_mnist_network_gets_smaller_by_the_square() -> None:
    model = onnx.load(FMNIST)
    found = prune_channels(model, None, ChannelOptions(channels=0.5))
    assert found.before.macs == 288 * 784 + 18432 * 196 + 73728 * 49 + 589824 + 5120
    assert found.after.macs == 144 * 784 + 4608 * 196 + 18432 * 49 + 147456 + 2560
    assert found.after.stream_bytes is not None
    assert found.before.stream_bytes is not None
    assert found.after.stream_bytes < found.before.stream_bytes * 0.4
    assert outputs(found.model, image=np.zeros((2, 1, 28, 28), np.float32))["logits"].shape == (2, 10)
    assert found.figures()["groups"]["/conv1/Conv"] == {"removed": 16, "of": 32}


def test_sizes_count_what_is_there() -> None:
    model = mixed_model()
    size = size_of(model)
    assert size.file_bytes == len(model.SerializeToString())
    assert size.stream_bytes == stream_bytes(model)
    assert layer_macs(model)["deep"] == 8 * 9 * 64
    assert (budget_of(0.5, 300), budget_of(2, 300)) == (150, 2)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "one of them"),
        ({"channels": 0.5, "budget_macs": 0.5}, "one of them"),
        ({"channels": 1.0}, "expected 0 to less than 1"),
        ({"channels": 0.5, "importance": "luck"}, "expected one of l1, l2"),
        ({"channels": 0.5, "importance": "sensitivity"}, "needs images"),
        ({"channels": 0.5, "keep": ("nobody",)}, "found no layer 'nobody'"),
        ({"channels": 0.5, "multiple": 0}, "expected at least 1"),
        ({"budget_macs": 0.01}, "are left of"),
        ({"budget_macs": -1.0}, "expected a share up to 1"),
        ({"budget_macs": 0.5, "most": 1.0}, "a share between 0 and 1"),
        ({"channels": 0.5, "calibration": 0}, "at least 1 sample"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        prune_channels(mixed_model(), None, ChannelOptions(**options))  # type: ignore[arg-type]


def test_options_are_checked_once() -> None:
    options = ChannelOptions(channels=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.channels = 0.6  # type: ignore[misc]
    assert pictures(1).shape == (1, 3, 8, 8)
