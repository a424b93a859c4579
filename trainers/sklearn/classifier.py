"""The classifier: a batch-norm network that learns classes."""

# ruff: noqa: N803 - X is scikit-learn's name for the features

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets

from trainers.errors import DataError
from trainers.network.arrays import Array
from trainers.network.losses import compute_log_probabilities, compute_probabilities
from trainers.sklearn.estimator import BatchNormMLP
from trainers.training.trainer import BatchNormClassifier

__all__ = ["BatchNormMLPClassifier"]


class BatchNormMLPClassifier(ClassifierMixin, BatchNormMLP):  # type: ignore[misc] # untyped
    """A batch-norm network that learns classes, as a scikit-learn classifier.

    Training is in float32, so values of X must lie within +-3e15. Features are taken as they are:
    batch norm forgives columns of unlike scales only in part, so standardise them,

        make_pipeline(StandardScaler(), BatchNormMLPClassifier())

    Same data, parameters and `random_state` give the same bits.

    Args:
        hidden_layer_sizes: Units of each hidden layer; a number is a single layer.
        learning_rate: This and all up to `start` are the network's hyperparameters, see
            `trainers.training.settings.Settings`; None is the default.
        max_epochs: Epochs of one `fit`. For `partial_fit`, where the cosine schedule ends.
        early_stopping: Hold rows back, `score` them after each epoch, stop when the score gets no
            better and return to the best epoch. `partial_fit` ignores it.
        validation_fraction: Share of the rows held back, in (0, 1); of each class alike.
        n_iter_no_change: Epochs without a gain in the score after which training stops, >= 1.
        tol: The smallest gain that counts.
        warm_start: `fit` continues from the present state, with its optimizer memory, classes and
            count of epochs. Architecture, optimizer and activation cannot change then.
        random_state: An int, a RandomState, or None for NumPy's global one; source of start
            weights, shuffles, dropout and held back rows. It is used once, when training begins.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Columns of X; `feature_names_in_` are their names, if X has them.
        n_iter_: Epochs since training began, over all calls that continued it.
        loss_curve_: Mean training loss of each epoch; the last is `loss_`.
        validation_scores_: Score of each epoch of the last `fit`; None without early stopping.
        best_validation_score_: The largest of these scores, which is that of the kept state.
    """

    trainer_class = BatchNormClassifier
    metric = staticmethod(accuracy_score)

    def partial_fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Train one epoch on these rows, from the present state and optimizer memory.

        Args:
            X: Shape (N, D) with N >= 2.
            y: Shape (N,).
            classes: All labels of this and all later calls; needed in the first call only.
            sample_weight: See `fit`.

        Raises:
            ValueError: See `fit`.
        """
        if not self.__sklearn_is_fitted__():
            self.__dict__.pop("classes_", None)  # a call that failed leaves them
        _check_partial_fit_first_call(self, classes)
        return self._train_once(self._begin(X, y, sample_weight, self.classes_))

    def predict(self, X: npt.ArrayLike) -> Array:
        """Predict the most probable class of each row, shape (N,)."""
        return self._decode(self._compute_outputs(X))

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Predict each class's probability, shape (N, classes), in the order of `classes_`."""
        outputs = self._compute_outputs(X)
        return compute_probabilities(outputs, len(self.classes_))

    def predict_log_proba(self, X: npt.ArrayLike) -> Array:
        """Predict the log of `predict_proba`, finite also where a probability rounds to 0."""
        outputs = self._compute_outputs(X)
        return compute_log_probabilities(outputs, len(self.classes_))

    def _learn_target(self, y: Array, sample_weight: Array | None, classes: Any) -> None:
        check_classification_targets(y)
        self.classes_ = np.unique(y) if classes is None else classes
        if len(self.classes_) < 2:
            raise DataError(f"y needs 2 classes or more, got only {self.classes_.tolist()}")

    def _encode(self, y: Array) -> Array:
        codes: Array = LabelEncoder().fit(self.classes_).transform(y)
        return codes

    def _decode(self, outputs: Array) -> Array:
        labels: Array = self.classes_[
            compute_probabilities(outputs, len(self.classes_)).argmax(axis=1)
        ]
        return labels
