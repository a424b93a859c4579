"""Validation metrics: sums over a part of the data, and what they come to in the end."""

from __future__ import annotations

import math

import numpy as np

from trainers.network.arrays import Array
from trainers.network.losses import log_probabilities

__all__ = [
    "accuracy_and_log_loss",
    "classification_sums",
    "regression_errors",
    "regression_sums",
]


def classification_sums(logits: Array, y: Array, *, outputs: int) -> Array:
    """How many examples are right, and the sum of -log p(class); shape (2,), float64. Pure.

    Args:
        logits: Shape (N, 1) for two classes, else (N, outputs).
        y: Class index, shape (N,).
        outputs: Number of classes, >= 2.
    """
    if not np.isfinite(logits).all():
        return np.full(2, math.nan)  # nan has no order, and an infinite logit would look perfect
    chosen = logits[:, 0] > 0 if outputs == 2 else logits.argmax(axis=1)
    right = chosen == y
    log_p = np.take_along_axis(log_probabilities(logits, outputs), y[:, None], axis=1)
    return np.array([float(right.sum()), -log_p.sum()])


def accuracy_and_log_loss(sums: Array, *, examples: int) -> tuple[float, float]:
    """Share of right answers in [0, 1], and mean -log p(class) in nats. Nothing is clipped."""
    return float(sums[0]) / examples, float(sums[1]) / examples


def regression_sums(predictions: Array, y: Array) -> Array:
    """Sum of squared and of absolute errors, in standardised units; shape (2,), float64. Pure.

    Args:
        predictions: Shape (N, 1).
        y: Standardised targets, shape (N,).
    """
    errors = predictions[:, 0].astype(np.float64) - y
    return np.array([errors @ errors, np.abs(errors).sum()])


def regression_errors(sums: Array, y: Array, *, scale: float) -> tuple[float, float, float]:
    """Root mean square error, mean absolute error, and R2 = 1 - SSE / SST.

    The errors are in natural units, which are `scale` times standardised ones; R2 has no unit. A
    constant target has no variance to explain: its R2 is 0.

    Args:
        sums: What `regression_sums` gives for all of `y`.
        y: Standardised targets, shape (N,).
        scale: Natural units for one standardised unit.
    """
    squared, absolute = float(sums[0]), float(sums[1])
    wide = y.astype(np.float64)
    total = float(np.square(wide - wide.mean()).sum())
    # Rounding of the mean can leave a constant target a tiny total, hence the two ends. Times
    # `squared`, because a sum that is not finite must not turn into a good 0.
    r2 = 1.0 - squared / total if wide.min() < wide.max() else 0.0 * squared
    return scale * math.sqrt(squared / len(y)), scale * absolute / len(y), r2
