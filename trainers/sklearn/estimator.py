"""Training and prediction, which the classifier and the regressor have in common."""

# ruff: noqa: N803 - X is scikit-learn's name for the features

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from trainers.errors import ConfigError, DataError, TrainerError
from trainers.network.arrays import Array, State
from trainers.network.network import fold, forward
from trainers.sklearn.examples import Examples, select_rows, select_weighted
from trainers.sklearn.parameters import Parameters
from trainers.training.data import Data
from trainers.training.settings import HYPERPARAMETERS, apply_changes, read_settings
from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor, select_weights

__all__ = ["BatchNormMLP", "is_stale"]

#: A trainer of either task.
Trainer: TypeAlias = BatchNormClassifier | BatchNormRegressor

#: Rows predicted at a time: 2 MiB of float64 for a layer of 64 units.
_BLOCK_ROWS = 4096


class BatchNormMLP(Parameters, ABC):
    """Training and prediction of both estimators; fitted as soon as there is a trainer's state."""

    trainer_class: type[Trainer]  #: trainer of the estimator's task
    metric: Callable[..., float]  #: function of scikit-learn that `score` computes
    loss_curve_: list[float]  #: mean training loss of each epoch
    _state: State  #: state of the trainer after the last epoch, or after the best one
    _config: dict[str, object]  #: hyperparameters that the state was trained with
    _seed: int  #: seed of the trainer, drawn from `random_state` when training begins

    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Train `max_epochs` epochs, or fewer with early stopping.

        Args:
            X: Dense numbers, shape (N, D) with N >= 2.
            y: Shape (N,).
            sample_weight: Shape (N,), >= 0; only their ratios matter. They weigh the loss and the
                validation score, while batch norm takes its statistics over the rows as they are.
                A row of weight 0 is left out altogether.

        Raises:
            ValueError: If the data or a parameter is wrong, or the first epoch diverges. A later
                one ends training with a ConvergenceWarning, and the state before it is kept.
        """
        check_scalar(self.max_epochs, "max_epochs", Integral, min_val=1)
        if not self.warm_start:
            self.__dict__.pop("_state", None)
        examples, held_out = self._begin(X, y, sample_weight), None
        if self.early_stopping:
            examples, held_out = self._split(examples)
        epochs_before = int(getattr(self, "_state", {}).get("trainer.epochs", 0))
        schedule_end = epochs_before + self.max_epochs
        self._train(self._make_trainer(examples, schedule_end=schedule_end), held_out)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Tell `check_is_fitted` whether there is a trainer's state."""
        return hasattr(self, "_state")

    @abstractmethod
    def _learn_target(self, y: Array, sample_weight: Array | None, classes: Any) -> None:
        """Learn what the network's outputs mean; with `classes` None the classes are those in y."""

    @abstractmethod
    def _encode(self, y: Array) -> Array:
        """Encode targets as a trainer takes them, shape (N,)."""

    @abstractmethod
    def _decode(self, outputs: Array) -> Array:
        """Decode the network's outputs (N, K) to predictions, shape (N,)."""

    def _begin(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Examples:
        """Check the examples, and begin a new training unless there is a state to continue from."""
        is_new = not self.__sklearn_is_fitted__()
        # A value too large for float32 becomes inf, which scikit-learn refuses with a message.
        with np.errstate(over="ignore", invalid="ignore"):
            x, y = validate_data(
                self,
                X,
                y,
                dtype=np.float32,
                ensure_min_samples=2,
                y_numeric=not is_classifier(self),
                reset=is_new,
            )
        examples = (x, y, None) if sample_weight is None else select_weighted(x, y, sample_weight)
        if is_new:
            self._learn_target(examples[1], examples[2], classes)
            self.loss_curve_ = []
            generator = check_random_state(self.random_state)
            self._seed = int(generator.randint(np.iinfo(np.int32).max))
        return examples

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """Split into training and validation rows: the same ones whenever training continues."""
        check_scalar(self.n_iter_no_change, "n_iter_no_change", Integral, min_val=1)
        check_scalar(self.tol, "tol", Real, min_val=0)
        share = self.validation_fraction
        check_scalar(
            share, "validation_fraction", Real, min_val=0, max_val=1, include_boundaries="neither"
        )
        too_few = f"early_stopping with validation_fraction={share} needs more rows"
        try:
            train, held_out = train_test_split(
                np.arange(len(examples[0])),
                test_size=float(share),
                random_state=self._seed,
                stratify=examples[1] if is_classifier(self) else None,
            )
        except ValueError as error:
            raise DataError(f"{too_few}: {error}") from error
        if min(len(train), len(held_out)) < 2:
            raise DataError(
                f"{too_few}: 2 to train on and 2 to validate on, got {len(train)} and "
                f"{len(held_out)}"
            )
        return select_rows(examples, train), select_rows(examples, held_out)

    def _make_trainer(self, examples: Examples, *, schedule_end: int) -> Trainer:
        """Make a trainer for the examples; it continues from the state, if there is one."""
        x, y, sample_weight = examples
        targets, config = self._encode(y), self._read_config()
        shares = None
        if sample_weight is not None:
            shares = (sample_weight / sample_weight.mean()).astype(np.float32)
        data = Data(
            task=self.trainer_class.task,
            outputs=len(self.classes_) if is_classifier(self) else 1,
            x_train=x,
            y_train=targets,
            # A trainer evaluates after each epoch: one row makes that cost nothing.
            x_validation=x[:1],
            y_validation=targets[:1],
            weights_train=shares,
        )
        trainer = self.trainer_class(config, seed=self._seed, data=data, max_epochs=schedule_end)
        if self.__sklearn_is_fitted__():
            changes = {key: config[key] for key in config if config[key] != self._config.get(key)}
            apply_changes(self._config, changes)  # an error if the state would mean something else
            trainer.load(self._state)
        self._config = config
        return trainer

    def _read_config(self) -> dict[str, object]:
        """Read the configuration of a trainer out of the estimator's parameters."""
        try:
            sizes = np.atleast_1d(self.hidden_layer_sizes)
        except ValueError:  # rows of unlike lengths
            sizes = np.empty(0)
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or min(sizes, default=0) < 1:
            raise ConfigError(
                "hidden_layer_sizes must be a whole number >= 1 for each hidden layer, got "
                f"{self.hidden_layer_sizes!r}"
            )
        units = {f"units_{i}": int(size) for i, size in enumerate(sizes, start=1)}
        parameters = self.get_params(deep=False)
        options = {key: parameters[key] for key in HYPERPARAMETERS if key in parameters}
        return {"layers": len(sizes), **units, **options}

    def _train(self, trainer: Trainer, held_out: Examples | None) -> None:
        """Train to the end, or until the score on the held out rows gets no better."""
        scores: list[float] = []
        best: State | None = None
        for _ in range(self.max_epochs):
            if not self._advance(trainer):
                break
            if held_out is None:
                continue
            scores.append(self._score(*held_out))
            if scores[-1] > max(scores[:-1], default=-math.inf):
                best = self._state
            if is_stale(scores, epochs=self.n_iter_no_change, tol=self.tol):
                break
        if best is not None:
            self._state = best
        self.validation_scores_ = None if held_out is None else scores
        self.best_validation_score_ = max(scores, default=None)

    def _train_once(self, examples: Examples) -> Self:
        self._advance(self._make_trainer(examples, schedule_end=self.max_epochs))
        return self

    def _advance(self, trainer: Trainer) -> bool:
        """Train an epoch and keep its state; return False, with a warning, if it diverged."""
        loss, state = trainer.epoch()["train_loss"], trainer.state()
        # The last loss is from before the last step, so the weights are checked, too.
        weights = select_weights(state).values()
        if math.isfinite(loss) and all(np.isfinite(w).all() for w in weights):
            self._state, self.loss_ = state, loss
            self.loss_curve_.append(loss)
            self.n_iter_ = len(self.loss_curve_)
            return True
        message = (
            f"training diverged in epoch {len(self.loss_curve_) + 1}, where the loss or a weight "
            f"is not finite: lower learning_rate={self.learning_rate} or standardise X"
        )
        if not self.__sklearn_is_fitted__():
            raise TrainerError(message)
        warnings.warn(f"{message}; the state before it is kept", ConvergenceWarning, stacklevel=4)
        return False

    def _compute_outputs(self, X: npt.ArrayLike) -> Array:
        """Compute the network's outputs for a user's features, shape (N, K), float64."""
        check_is_fitted(self)
        with np.errstate(over="ignore", invalid="ignore"):
            x = validate_data(self, X, dtype=np.float32, reset=False)
        return self._forward(x)

    def _forward(self, x: Array) -> Array:
        # In float32 an example's outputs would depend on the rows beside it in a digit that counts.
        wide = {name: w.astype(np.float64) for name, w in select_weights(self._state).items()}
        settings = read_settings(self._config)
        layers = fold(wide, epsilon=settings.batchnorm_epsilon)
        return np.concatenate(
            [
                forward(layers, x[rows].astype(np.float64), activation=settings.activation)
                for rows in gen_batches(len(x), _BLOCK_ROWS)
            ]
        )

    def _score(self, x: Array, y: Array, sample_weight: Array | None) -> float:
        predictions = self._decode(self._forward(x))
        return float(type(self).metric(y, predictions, sample_weight=sample_weight))


def is_stale(scores: Sequence[float], *, epochs: int, tol: float) -> bool:
    """Tell whether no score of the last `epochs` is above the best before, by `tol`. Pure."""
    earlier, last = scores[:-epochs], scores[-epochs:]
    return bool(earlier) and not (max(last) > max(earlier) and max(last) >= max(earlier) + tol)
