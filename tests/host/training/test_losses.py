"""Distillation's formulas, in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featlink_codec.errors import SettingsError
from featlink_host.training.losses import distillation_loss, hard_loss, soft_loss, soft_prediction
from featlink_host.training.options import DistillOptions

logits = arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=st.floats(-50, 50, width=32))


@given(logits, st.floats(0.5, 20))
def test_a_soft_prediction_is_the_softmax_at_a_temperature(z: np.ndarray, t: float) -> None:
    q = soft_prediction(z, t)
    powers = np.exp(z.astype(np.float64) / t)
    assert np.allclose(q, powers / powers.sum(axis=1, keepdims=True), rtol=1e-9)
    assert np.allclose(q.sum(axis=1), 1)
    # Hotter is flatter, and the order stays.
    assert (soft_prediction(z, 2 * t).max(axis=1) <= q.max(axis=1) + 1e-12).all()


def test_large_logits_do_not_overflow() -> None:
    assert np.array_equal(soft_prediction(np.float32([[1e30, 0]])), [[1, 0]])


@given(logits, st.floats(1, 8), st.floats(0, 2), st.floats(0, 2))
def test_the_loss_is_the_weighted_sum(z: np.ndarray, t: float, alpha: float, beta: float) -> None:
    teacher, labels = z[:, ::-1].copy(), np.arange(len(z))
    whole = distillation_loss(z, teacher, labels, t, alpha, beta)
    assert whole == pytest.approx(alpha * soft_loss(z, teacher, t) + beta * hard_loss(z, labels))


def test_losses_by_hand() -> None:
    even = np.zeros((1, 4), np.float32)
    assert hard_loss(even, np.array([2])) == pytest.approx(np.log(4))
    # Cross-entropy of two even predictions, times 3^2.
    assert soft_loss(even, even, 3.0) == pytest.approx(9 * np.log(4))


def test_the_square_of_the_temperature_keeps_the_gradient() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 1, 10))
    step = 1e-4

    def gradient(t: float) -> np.ndarray:
        unit = np.eye(10)[:, None] * step
        return np.array(
            [(soft_loss(student + u, teacher, t) - soft_loss(student - u, teacher, t)) / 2 / step for u in unit]
        )

    # For high temperatures it is the difference of the logits about their means, over their number, whatever T is.
    wanted = ((student - student.mean()) - (teacher - teacher.mean()))[0] / 10
    assert np.allclose(gradient(200.0), wanted, atol=2e-3)
    assert np.allclose(gradient(400.0), wanted, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"alpha": -1.0},
        {"alpha": 0.0, "beta": 0.0},
        {"epochs": 0},
        {"warm_up": 1.0},
        {"learning_rate": float("inf")},
        {"hold_out": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        DistillOptions(**wrong)  # type: ignore[arg-type]
