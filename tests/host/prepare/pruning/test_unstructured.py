from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import FMNIST
from pruning_models import by_numpy, judge_of, mixed_model, outputs, pictures

from featlink_codec.errors import SettingsError
from featlink_host.prepare.pruning.unstructured import WeightOptions, masks, prune_weights
from featlink_host.prepare.pruning.weights import Weights


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    sparsity=st.floats(0, 0.99),
    scope=st.sampled_from(["global", "tensor"]),
    levels=st.integers(1, 5),
)
def test_exactly_as_many_weights_go_as_asked_the_smallest(
    sizes: list[int], sparsity: float, scope: str, levels: int
) -> None:
    rng = np.random.default_rng(len(sizes))
    # Few levels: many weights are equal.
    tensors = {str(at): rng.integers(-levels, levels + 1, size).astype(np.float32) for at, size in enumerate(sizes)}
    found = masks(tensors, sparsity, scope)
    parts = [tensors] if scope == "global" else [{name: one} for name, one in tensors.items()]
    for part in parts:
        values = np.concatenate([np.abs(part[name]) for name in part])
        gone = np.concatenate([found[name] for name in part])
        assert gone.sum() == round(sparsity * len(values))
        assert max(values[gone], default=0) <= min(values[~gone], default=99)


@pytest.mark.parametrize("half", [False, True])
def test_the_smallest_weights_are_zero_and_nothing_else_changes(half: bool) -> None:
    model = mixed_model(half=half)
    found = prune_weights(model, None, WeightOptions(0.5, "tensor"))
    before, after = Weights(model), Weights(found.model)
    for name in ("stem/W", "deep/W", "fc1/W", "fc2/W"):
        was, now = before.values(name), after.values(name)
        assert was is not None
        assert now is not None
        assert (now == 0).sum() == round(was.size / 2)
        assert np.abs(was[now == 0]).max() <= np.abs(was[now != 0]).min()
        np.testing.assert_array_equal(now[now != 0], was[now != 0])
    for name in ("deep/b", "scale", "offset", "fc1/b"):
        np.testing.assert_array_equal(before.values(name), after.values(name))
    image = pictures(1)
    numpy = by_numpy(found.model, image=image)["scores"]
    np.testing.assert_allclose(outputs(found.model, image=image)["scores"], numpy, rtol=1e-4, atol=1e-4)
    assert found.sparsity == pytest.approx(0.5, abs=0.01)
    assert found.after.macs == found.before.macs


def test_a_refit_leaves_zeros_zero_and_brings_the_outputs_nearer() -> None:
    model = mixed_model(2)
    fitting, judge = judge_of(model, 256), judge_of(model, 256, seed=7)
    plain, fitted = (prune_weights(model, fitting, WeightOptions(0.6, refit=refit)) for refit in (False, True))
    one, other = Weights(plain.model), Weights(fitted.model)
    for name in ("stem/W", "deep/W", "point/W", "side/W", "fc1/W", "fc2/W"):
        was, now = one.values(name), other.values(name)
        assert was is not None
        assert now is not None
        assert not now[was == 0].any()
    assert judge.score(fitted.model).distortion < judge.score(plain.model).distortion / 2


def test_zeros_make_the_model_stream_smaller() -> None:
    model = onnx.load(FMNIST)
    half, most = (prune_weights(model, None, WeightOptions(share)) for share in (0.5, 0.9))
    sizes = [half.before.stream_bytes, half.after.stream_bytes, most.after.stream_bytes]
    assert None not in sizes
    assert sizes[0] * 0.85 > sizes[1] > sizes[2] * 2  # type: ignore[operator]
    assert most.after.file_bytes == most.before.file_bytes


def test_layers_can_be_kept() -> None:
    model = mixed_model()
    found = prune_weights(model, None, WeightOptions(0.5, keep=("stem",)))
    assert "stem" not in found.layers
    np.testing.assert_array_equal(Weights(model).values("stem/W"), Weights(found.model).values("stem/W"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparsity": 1.0}, "expected 0 to less than 1"),
        ({"sparsity": 0.5, "scope": "moon"}, "expected one of global, tensor"),
        ({"sparsity": 0.5, "keep": ("nobody",)}, "found no layer 'nobody'"),
        ({"sparsity": 0.5, "calibration": 0}, "at least 1 sample"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        prune_weights(mixed_model(), None, WeightOptions(**options))  # type: ignore[arg-type]
