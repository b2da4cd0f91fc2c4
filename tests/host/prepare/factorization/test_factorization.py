from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx_models import FMNIST
from pruning_models import Builder, by_numpy, judge_of, mixed_model, outputs, pictures

from featlink_codec.errors import SettingsError
from featlink_host.prepare.factorization.ranks import by_budget, by_energy, by_rank
from featlink_host.prepare.factorization.step import FactorOptions, factorize
from featlink_host.prepare.factorization.svd import factor
from featlink_host.prepare.pruning.weights import Weights


@given(v=st.integers(1, 12), u=st.integers(1, 12), seed=st.integers(0, 9), aware=st.booleans())
def test_factors_of_full_rank_are_the_matrix_and_energies_what_is_lost(v: int, u: int, seed: int, aware: bool) -> None:
    rng = np.random.default_rng(seed)
    matrix, seen = rng.normal(0, 1, (v, u)), rng.normal(0, 1, (200, u)) * rng.uniform(0.1, 3, u)
    found = factor(matrix, np.cov(seen.T, bias=True).reshape(u, u) if aware else None)
    assert found.shape == (v, u)
    np.testing.assert_allclose(found.left @ found.right, matrix, atol=1e-8)
    rank = max(1, min(v, u) // 2)
    rest = matrix - found.left[:, :rank] @ found.right[:rank]
    if aware:
        centred = seen - seen.mean(axis=0)
        lost, whole = np.square(centred @ rest.T).sum(), np.square(centred @ matrix.T).sum()
    else:
        lost, whole = np.square(rest).sum(), np.square(matrix).sum()
    assert found.lost(rank) == pytest.approx(lost / whole, abs=1e-8)
    assert found.lost(found.rank_for(0.9)) <= 0.1 + 1e-9
    if found.rank_for(0.9) > 1:
        assert found.lost(found.rank_for(0.9) - 1) > 0.1
    t = found.largest_saving
    assert t * (u + v) < u * v <= (t + 1) * (u + v)


def test_weighted_by_data_less_of_the_output_is_lost() -> None:
    rng = np.random.default_rng(0)
    matrix, seen = rng.normal(0, 1, (10, 20)), rng.normal(0, 1, (400, 20)) * np.geomspace(0.01, 3, 20)
    plain, aware = factor(matrix), factor(matrix, np.cov(seen.T))
    wanted = seen @ matrix.T
    errors = [np.square(seen @ (one.left[:, :4] @ one.right[:4]).T - wanted).sum() for one in (plain, aware)]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
def test_two_layers_are_what_numpy_makes_of_the_factors(half: bool, spatial: bool) -> None:
    b = Builder(3, half)
    kernel, pads = ((3, 2), [1, 0, 1, 1]) if spatial else ((1, 1), [1, 0, 2, 1])
    b.node("Conv", ["image", b.weight("a/W", 24, 3, 1, 1), b.weight("a/b", 24)], "a")
    weight = b.weight("c/W", 16, 24, *kernel)
    b.node("Conv", ["a", weight, b.weight("c/b", 16)], "c", strides=[2, 1], pads=pads)
    b.node("GlobalAveragePool", ["c"], "pool")
    b.node("Flatten", ["pool"], "flat")
    b.node("Gemm", ["flat", b.weight("fc/W", 16, 12), b.weight("fc/b", 12)], "fc")
    b.node("MatMul", ["fc", b.weight("last/W", 12, 9)], "scores")
    model = b.model({"scores": ["n", 9]})
    ranks = {"c": 5, "fc": 3, "scores": 2}
    found = factorize(model, None, FactorOptions(rank=ranks, spatial=spatial))
    onnx.checker.check_model(found.model, full_check=True)
    assert {name: (v, u, t) for name, (v, u, t, _) in found.ranks.items()} == {
        "c": (16, 24 * kernel[0] * kernel[1], 5),
        "fc": (12, 16, 3),
        "scores": (9, 12, 2),
    }
    # The same network with each matrix replaced by its best one of that rank.
    low = onnx.ModelProto()
    low.CopyFrom(model)
    weights, nodes = Weights(low), {node.name: node for node in low.graph.node}
    for name, rank in ranks.items():
        values = weights.values(nodes[name].input[1])
        assert values is not None
        matrix = values.reshape(16, -1) if name == "c" else values
        left, scale, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        best = (left[:, :rank] * scale[:rank]) @ right[:rank]
        weights.put(nodes[name], 1, best.reshape(values.shape))
    image = pictures(3)
    ours, wanted = outputs(found.model, image=image)["scores"], by_numpy(low, image=image)["scores"]
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=np.abs(wanted).max() * (3e-3 if half else 1e-5))
    kinds = {tensor.data_type for tensor in found.model.graph.initializer if "/right" in tensor.name}
    assert kinds == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
    for one in found.layers:
        assert one.macs_after > 0
    assert found.after.macs < found.before.macs


def test_ranks_by_energy_list_and_number_only_where_they_save() -> None:
    rng = np.random.default_rng(0)
    low = rng.normal(0, 1, (30, 3)) @ rng.normal(0, 1, (3, 40))
    factors = {"low": factor(low), "full": factor(rng.normal(0, 1, (30, 40)))}
    assert by_energy(factors, 0.9999) == {"low": 3}
    assert by_rank(factors, 17) == {"low": 17, "full": 17}
    assert by_rank(factors, 18) == {}
    assert by_rank(factors, {"full": 4}) == {"full": 4}
    macs = {"low": 1200, "full": 1200}
    # Three of seventy each are the cheap layer without loss; the other one stays whole as long as it can.
    assert by_budget(factors, macs, 100, 100 + 210 + 1200) == {"low": 3}
    assert by_budget(factors, macs, 100, 2500) == {}
    tight = by_budget(factors, macs, 100, 1000)
    assert tight["low"] == 3
    assert 100 + 70 * (tight["low"] + tight["full"]) <= 1000 < 100 + 70 * (tight["low"] + tight["full"] + 1)
    with pytest.raises(SettingsError, match="with rank 1 everywhere 240 are left"):
        by_budget(factors, macs, 100, 200)


def test_weighted_by_data_and_fitted_anew_the_outputs_are_nearer() -> None:
    model = mixed_model(1)
    fitting, judge = judge_of(model, 256), judge_of(model, 256, seed=7)
    results = {}
    for aware, refit in ((False, False), (True, False), (True, True)):
        found = factorize(model, fitting, FactorOptions(rank=4, spatial=True, data_aware=aware, refit=refit))
        results[aware, refit] = judge.score(found.model).distortion
    assert results[True, False] < results[False, False]
    assert results[True, True] < results[True, False]


@pytest.mark.parametrize("judged", [False, True])
def test_a_budget_of_macs_is_met_and_not_by_far(judged: bool) -> None:
    model = mixed_model(1)
    options = FactorOptions(budget_macs=0.7, spatial=True, refit=False)
    found = factorize(model, judge_of(model) if judged else None, options)
    assert 0.55 < found.after.macs / found.before.macs <= 0.7


def test_layers_that_stay_whole_say_why() -> None:
    found = factorize(mixed_model(), None, FactorOptions(rank=2, keep=("scores",)))
    assert found.whole["deep"] == "has 8 groups"
    assert found.whole["stem"] == "has a kernel of 3x3"
    assert found.whole["scores"] == "to be kept"
    assert set(found.ranks) == {"point", "fc1"}
    assert found.figures()["layers"]["fc1"]["rank"] == 2


def test_the_fashion_mnist_network_with_a_thin_layer() -> None:
    model = onnx.load(FMNIST)
    found = factorize(model, None, FactorOptions(rank=16))
    assert found.ranks["/fc1/Gemm"][:3] == (512, 1152, 16)
    assert found.before.macs - found.after.macs == 589824 - 16 * (512 + 1152)
    shapes = [numpy_helper.to_array(one).shape for one in found.model.graph.initializer if "factors" not in one.name]
    assert (16, 1152) in shapes
    assert (512, 16) in shapes


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "one of an energy, a rank and a budget"),
        ({"energy": 0.5, "rank": 3}, "one of an energy, a rank and a budget"),
        ({"energy": 0.0}, "expected a share above 0"),
        ({"rank": 0}, "expected at least 1"),
        ({"rank": {"nobody": 3}}, "found no layer 'nobody' to factorize"),
        ({"budget_macs": 0.0001}, "rank 1 everywhere"),
        ({"rank": 2, "keep": ("nobody",)}, "found no layer 'nobody'"),
        ({"rank": 2, "calibration": 0}, "at least 1 sample"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        factorize(mixed_model(), None, FactorOptions(**options))


def test_a_network_with_nothing_to_factorize_is_refused() -> None:
    b = Builder(0)
    b.node("Relu", ["image"], "relu")
    with pytest.raises(SettingsError, match="found no fully connected layer"):
        factorize(b.model({"relu": ["n", 3, 8, 8]}), None, FactorOptions(rank=1))
