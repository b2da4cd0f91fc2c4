"""Knowledge distillation by definition, in NumPy: soft predictions, and what a student is trained to make small.

    q_i = exp(z_i / T) / sum_j exp(z_j / T)             soft prediction of logits z at temperature T
    L_soft = - T^2 sum_i q_i(teacher) log q_i(student)   cross-entropy, both at T
    L_hard = - log q_label(student)                      cross-entropy at T = 1
    L = alpha L_soft + beta L_hard

The gradient of a cross-entropy at temperature T by the student's logits is as 1 / T^2; the factor T^2 keeps the
weight of alpha beside beta the same at every temperature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def log_soft(logits: Array, temperature: float = 1.0) -> NDArray[np.float64]:
    """Logarithms of `soft_prediction`, float64, the same shape."""
    z = logits.astype(np.float64) / temperature
    z -= z.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return found


def soft_prediction(logits: Array, temperature: float = 1.0) -> NDArray[np.float64]:
    """q_i at a temperature along the last axis, float64, the same shape."""
    return np.exp(log_soft(logits, temperature))


def soft_loss(student: Array, teacher: Array, temperature: float) -> float:
    """Mean L_soft of logits [N, classes], the factor T^2 in it."""
    each = -(soft_prediction(teacher, temperature) * log_soft(student, temperature)).sum(axis=-1)
    return float(each.mean() * temperature**2)


def hard_loss(student: Array, labels: NDArray[np.integer]) -> float:
    """Mean L_hard of logits [N, classes] for labels [N]."""
    return float(-np.take_along_axis(log_soft(student), labels[:, None].astype(np.intp), axis=-1).mean())


def distillation_loss(
    student: Array, teacher: Array, labels: NDArray[np.integer], temperature: float, alpha: float, beta: float
) -> float:
    """Mean L = alpha L_soft + beta L_hard."""
    return alpha * soft_loss(student, teacher, temperature) + beta * hard_loss(student, labels)
