"""The regressor: a batch-norm network that learns to predict a number."""

# ruff: noqa: N803 - X is scikit-learn's name for the features

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from trainers.errors import DataError
from trainers.network.arrays import Array
from trainers.sklearn.estimator import BatchNormMLP
from trainers.training.trainer import BatchNormRegressor

__all__ = ["BatchNormMLPRegressor"]


class BatchNormMLPRegressor(RegressorMixin, BatchNormMLP):  # type: ignore[misc] # untyped
    """A batch-norm network that learns to predict a number, as a scikit-learn regressor.

    Targets are standardised inside, by the mean and the deviation of the first targets of a
    training, so y can have any unit. All else, the parameters too, is as in
    `BatchNormMLPClassifier`.

    Attributes:
        n_features_in_: Columns of X; `feature_names_in_` are their names, if X has them.
        n_iter_: Epochs since training began, over all calls that continued it.
        loss_curve_: Mean of half the squared error of each epoch, in standardised units; the last
            is `loss_`.
        validation_scores_: R2 after each epoch of the last `fit`; None without early stopping.
        best_validation_score_: The largest of these scores, which is that of the kept state.
    """

    trainer_class = BatchNormRegressor
    metric = staticmethod(r2_score)

    def partial_fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Train one epoch on these rows, from the present state and optimizer memory.

        The first call fixes the mean and the deviation that targets are standardised by: its rows
        should be like those of the later calls.

        Args:
            X: Shape (N, D) with N >= 2.
            y: Shape (N,).
            sample_weight: See `fit`.

        Raises:
            ValueError: See `fit`.
        """
        return self._train_once(self._begin(X, y, sample_weight))

    def predict(self, X: npt.ArrayLike) -> Array:
        """Predict the number of each row in the unit of y, shape (N,), float64."""
        return self._decode(self._compute_outputs(X))

    def _learn_target(self, y: Array, sample_weight: Array | None, classes: Any) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            wide = y.astype(np.float64)[:, None]
            scaler = StandardScaler().fit(wide, sample_weight=sample_weight)
        self._target_mean, self._target_scale = float(scaler.mean_[0]), float(scaler.scale_[0])
        if not math.isfinite(self._target_mean + self._target_scale):
            raise DataError(
                f"y must have a finite variance, got values up to {np.abs(wide).max():.0e}: "
                "give it in a larger unit"
            )

    def _encode(self, y: Array) -> Array:
        return ((y - self._target_mean) / self._target_scale).astype(np.float32)

    def _decode(self, outputs: Array) -> Array:
        return outputs[:, 0] * self._target_scale + self._target_mean
