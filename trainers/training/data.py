"""The arrays that every trial of a run trains on, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.errors import DataError
from trainers.network.arrays import Array

__all__ = ["Data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Training and validation data: arrays only, so that workers share them without a copy.

    The arrays may be read-only and are never written into. x is float32 in use; float64 trains the
    same network in float64, which is how the tests check gradients.

    Raises:
        DataError: If the arrays do not agree with each other or with the task.
    """

    task: str  #: task of the network, "classification" or "regression"
    outputs: int  #: number of classes (>= 2), or 1 for regression
    x_train: Array  #: training features (N, D), imputed, encoded, scaled; N >= 2
    y_train: Array  #: (N,) int64 class index 0..outputs-1, or float32 standardised target
    x_validation: Array  #: validation features (V, D), V >= 1
    y_validation: Array  #: validation targets (V,), coded as y_train
    weights_train: Array | None = None  #: (N,) weight of each example, mean 1; None: 1
    target_mean: float = 0.0  #: regression: natural = target_mean + target_scale * standardised
    target_scale: float = 1.0  #: regression: natural units for one standardised unit; > 0

    def __post_init__(self) -> None:
        """Check each array once, so that the training step does not have to."""
        if self.task not in ("classification", "regression"):
            raise DataError(f"task must be classification or regression, got {self.task!r}")
        if self.task == "classification" and self.outputs < 2:
            raise DataError(f"classification needs outputs >= 2 classes, got {self.outputs}")
        if self.task == "regression" and self.outputs != 1:
            raise DataError(f"regression needs outputs=1, got {self.outputs}")
        if not (math.isfinite(self.target_mean) and 0 < self.target_scale < math.inf):
            raise DataError(
                "target_mean must be finite and target_scale positive, got "
                f"target_mean={self.target_mean}, target_scale={self.target_scale}"
            )
        if len(self.x_train) < 2:
            raise DataError(
                f"x_train needs 2 rows or more, got {len(self.x_train)}: "
                "batch norm takes the variance of a batch"
            )
        if len(self.x_validation) < 1:
            raise DataError("x_validation needs 1 row or more, got 0: split off some rows for it")
        _check_features("x_train", self.x_train, squared=True)
        _check_features("x_validation", self.x_validation)
        columns, dtype = self.x_train.shape[1], self.x_train.dtype
        if self.x_validation.shape[1] != columns or self.x_validation.dtype != dtype:
            raise DataError(
                f"x_validation must have x_train's {columns} columns of {dtype}, got "
                f"{self.x_validation.shape[1]} of {self.x_validation.dtype}"
            )
        if (weights := self.weights_train) is not None and not (
            weights.shape == self.y_train.shape
            and weights.dtype == dtype
            and np.isfinite(weights).all()
            and weights.min() >= 0
            and math.isclose(weights.mean(dtype=np.float64), 1.0, rel_tol=1e-4)
        ):
            raise DataError(
                f"weights_train must be {dtype} of shape {self.y_train.shape}, finite, >= 0 and 1 "
                f"on average, got {weights.dtype} of shape {weights.shape}"
            )
        self._check_targets("y_train", self.y_train, rows=len(self.x_train))
        self._check_targets("y_validation", self.y_validation, rows=len(self.x_validation))

    def _check_targets(self, name: str, y: Array, *, rows: int) -> None:
        if y.shape != (rows,):
            raise DataError(f"{name} must have shape ({rows},) to match its x, got {y.shape}")
        if self.task == "regression":
            if not np.issubdtype(y.dtype, np.floating):
                raise DataError(f"{name} must be floats for regression, got {y.dtype}")
            _check_values(name, y, limit_of=self.x_train.dtype)
        elif not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= self.outputs:
            raise DataError(
                f"{name} must be class indices 0..{self.outputs - 1}, got {y.dtype} "
                f"from {y.min()} to {y.max()}"
            )


def _check_features(name: str, x: Array, *, squared: bool = False) -> None:
    if x.ndim != 2 or x.shape[1] < 1:
        raise DataError(f"{name} must have shape (rows, columns >= 1), got {x.shape}")
    if x.dtype not in (np.float32, np.float64):
        raise DataError(f"{name} must be float32 (or float64), got {x.dtype}: use astype")
    _check_values(name, x, limit_of=x.dtype if squared else None)


def _check_values(name: str, values: Array, *, limit_of: np.dtype[Any] | None) -> None:
    """Refuse values that are not finite, or whose square overflows in `limit_of`.

    A unit whose square overflows would learn nothing, without an error.
    """
    # The two ends show nan and inf too, without a copy of the array.
    largest = max(-float(values.min()), float(values.max()))
    if not math.isfinite(largest):
        raise DataError(f"{name} must be finite, got nan or inf: impute it first")
    limit = float(np.finfo(limit_of).max) ** 0.4 if limit_of is not None else math.inf
    if largest > limit:
        raise DataError(
            f"{name} must lie within +-{limit:.0e} for {limit_of}, got {largest:.0e}: "
            "scale it first"
        )
