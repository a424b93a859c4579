"""Rows with their targets and weights, as the estimators hand them on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from trainers.errors import DataError
from trainers.network.arrays import Array

__all__ = ["Examples", "select_rows", "select_weighted"]

#: x (N, D) float32, y (N,) as the user has it, sample weights (N,) float64 and above 0, or None.
Examples: TypeAlias = tuple[Array, Array, Array | None]


def select_weighted(x: Array, y: Array, sample_weight: Any) -> Examples:
    """Select the rows of positive weight; without weights, which is faster, if all are equal."""
    weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    positive = np.flatnonzero(weights)
    if len(positive) < 2:
        raise DataError(
            f"sample_weight must be above zero in 2 rows or more, got {len(positive)}: "
            "batch norm takes the variance of a batch"
        )
    are_equal = weights[positive].min() == weights[positive].max()
    return select_rows((x, y, None if are_equal else weights), positive)


def select_rows(examples: Examples, rows: Array) -> Examples:
    """Select the examples with the given row numbers."""
    x, y, sample_weight = examples
    return x[rows], y[rows], None if sample_weight is None else sample_weight[rows]
