"""The trainers behind scikit-learn's interface: for pipelines, grid searches and pickles."""

# ruff: noqa: N803 - X is scikit-learn's name for the features

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral, Real
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils import check_random_state, check_scalar, gen_batches
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from trainers.errors import ConfigError, DataError, TrainerError
from trainers.network.arrays import Array, State
from trainers.network.losses import log_probabilities, probabilities
from trainers.network.network import fold, forward
from trainers.training.data import Data
from trainers.training.settings import Settings, adjusted, read_settings
from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor, weights

__all__ = ["BatchNormMLPClassifier", "BatchNormMLPRegressor"]

Trainer: TypeAlias = BatchNormClassifier | BatchNormRegressor

#: x (N, D) float32, y (N,) as given, sample weights (N,) float64 and above 0, or None.
Examples: TypeAlias = tuple[Array, Array, Array | None]

_BLOCK_ROWS = 4096  # predicted at a time: 2 MiB of float64 for a layer of 64 units


@dataclass(eq=False, repr=False)
class _Parameters(BaseEstimator):  # type: ignore[misc] # scikit-learn is not typed
    """The constructor, which as scikit-learn wants it stores its arguments and does no more."""

    hidden_layer_sizes: int | Sequence[int] = (64, 64)
    _: KW_ONLY
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum_beta: float = 0.9
    rmsprop_decay: float = 0.9
    rmsprop_epsilon: float = 1e-8
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    batchnorm_decay: float = 0.9
    batchnorm_epsilon: float = 1e-5
    batch_size: int = 64
    schedule: str = "constant"
    schedule_rate: float = 0.0
    weight_decay: float = 0.0
    dropout: float = 0.0
    activation: str = "relu"
    start: str | None = None
    max_epochs: int = 100
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    warm_start: bool = False
    random_state: Any = None


class _BatchNormMLP(_Parameters, ABC):
    """What both estimators share; fitted as soon as there is a trainer's state."""

    trainer_class: type[Trainer]
    metric: Callable[..., float]  #: what `score` computes
    loss_curve_: list[float]
    _state: State
    _config: dict[str, object]  #: the hyperparameters behind the state
    _seed: int

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
        done = int(getattr(self, "_state", {}).get("trainer.epochs", 0))
        self._train(self._trainer(examples, schedule_end=done + self.max_epochs), held_out)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """What `check_is_fitted` asks."""
        return hasattr(self, "_state")

    @abstractmethod
    def _learn_target(self, y: Array, sample_weight: Array | None, classes: Any) -> None:
        """Note what the network's outputs mean; `classes` None are those in y."""

    @abstractmethod
    def _coded(self, y: Array) -> Array:
        """Targets as a trainer takes them, shape (N,)."""

    @abstractmethod
    def _decoded(self, outputs: Array) -> Array:
        """Predictions, shape (N,), from the network's outputs (N, K)."""

    def _begin(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Examples:
        """The examples, checked; prepares for a new training unless there is one to go on with."""
        new = not self.__sklearn_is_fitted__()
        # What is too large for float32 becomes inf, which is refused with the right words.
        with np.errstate(over="ignore", invalid="ignore"):
            x, y = validate_data(
                self,
                X,
                y,
                dtype=np.float32,
                ensure_min_samples=2,
                y_numeric=not is_classifier(self),
                reset=new,
            )
        examples = (x, y, None) if sample_weight is None else _weighted(x, y, sample_weight)
        if new:
            self._learn_target(examples[1], examples[2], classes)
            self.loss_curve_ = []
            generator = check_random_state(self.random_state)
            self._seed = int(generator.randint(np.iinfo(np.int32).max))
        return examples

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """What to train on and what to validate on: the same rows whenever training goes on."""
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
        return _rows(examples, train), _rows(examples, held_out)

    def _trainer(self, examples: Examples, *, schedule_end: int) -> Trainer:
        """A trainer for the examples that stands where the state does, if there is one."""
        x, y, sample_weight = examples
        coded, config = self._coded(y), self._hyperparameters()
        shares = None
        if sample_weight is not None:
            shares = (sample_weight / sample_weight.mean()).astype(np.float32)
        data = Data(
            task=self.trainer_class.task,
            outputs=len(self.classes_) if is_classifier(self) else 1,
            x_train=x,
            y_train=coded,
            # A trainer evaluates after each epoch: one row makes that cost nothing.
            x_validation=x[:1],
            y_validation=coded[:1],
            weights_train=shares,
        )
        trainer = self.trainer_class(config, seed=self._seed, data=data, max_epochs=schedule_end)
        if self.__sklearn_is_fitted__():
            changed = {key: config[key] for key in config if config[key] != self._config.get(key)}
            adjusted(self._config, changed)  # an error if the state would mean something else
            trainer.load(self._state)
        self._config = config
        return trainer

    def _hyperparameters(self) -> dict[str, object]:
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
        given = self.get_params(deep=False)
        others = {f.name: given[f.name] for f in fields(Settings) if f.name in given}
        return {"layers": len(sizes), **units, **others}

    def _train(self, trainer: Trainer, held_out: Examples | None) -> None:
        """Train to the end, or until the score on what was held out gets no better."""
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
            if _stale(scores, epochs=self.n_iter_no_change, tol=self.tol):
                break
        if best is not None:
            self._state = best
        self.validation_scores_ = None if held_out is None else scores
        self.best_validation_score_ = max(scores, default=None)

    def _train_once(self, examples: Examples) -> Self:
        self._advance(self._trainer(examples, schedule_end=self.max_epochs))
        return self

    def _advance(self, trainer: Trainer) -> bool:
        """Train an epoch and keep its state; False, with a warning, if it diverged instead."""
        loss, state = trainer.epoch()["train_loss"], trainer.state()
        # The last loss is from before the last step, so the weights need a look of their own.
        if math.isfinite(loss) and all(np.isfinite(w).all() for w in weights(state).values()):
            self._state, self.loss_ = state, loss
            self.loss_curve_.append(loss)
            self.n_iter_ = len(self.loss_curve_)
            return True
        told = (
            f"training diverged in epoch {len(self.loss_curve_) + 1}, where the loss or a weight "
            f"is not finite: lower learning_rate={self.learning_rate} or standardise X"
        )
        if not self.__sklearn_is_fitted__():
            raise TrainerError(told)
        warnings.warn(f"{told}; the state before it is kept", ConvergenceWarning, stacklevel=4)
        return False

    def _outputs(self, X: npt.ArrayLike) -> Array:
        """The network's outputs for features as a user gives them, shape (N, K), float64."""
        check_is_fitted(self)
        with np.errstate(over="ignore", invalid="ignore"):
            x = validate_data(self, X, dtype=np.float32, reset=False)
        return self._forward(x)

    def _forward(self, x: Array) -> Array:
        # In float32 an example's outputs would depend on the rows beside it in a digit that counts.
        wide = {name: w.astype(np.float64) for name, w in weights(self._state).items()}
        settings = read_settings(self._config)
        layers = fold(wide, epsilon=settings.batchnorm_epsilon)
        return np.concatenate(
            [
                forward(layers, x[rows].astype(np.float64), activation=settings.activation)
                for rows in gen_batches(len(x), _BLOCK_ROWS)
            ]
        )

    def _score(self, x: Array, y: Array, sample_weight: Array | None) -> float:
        predictions = self._decoded(self._forward(x))
        return float(type(self).metric(y, predictions, sample_weight=sample_weight))


class BatchNormMLPClassifier(ClassifierMixin, _BatchNormMLP):  # type: ignore[misc] # as above
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
        early_stopping: Hold rows back, `score` them after each epoch, stop when that has got no
            better and return to the best epoch. `partial_fit` ignores it.
        validation_fraction: Share of the rows held back, in (0, 1); of each class alike.
        n_iter_no_change: Epochs without a gain in the score after which training stops, >= 1.
        tol: The smallest gain that counts.
        warm_start: `fit` goes on from the present state, with its optimizer memory, classes and
            count of epochs. Architecture, optimizer and activation cannot change then.
        random_state: An int, a RandomState, or None for NumPy's global one: of start weights,
            shuffles, dropout and held back rows. Drawn from once, when training begins.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Columns of X; `feature_names_in_` are their names, if X has them.
        n_iter_: Epochs since training began, over all calls that went on from one another.
        loss_curve_: Mean training loss of each; the last is `loss_`.
        validation_scores_: Of each epoch of the last `fit`; None without early stopping.
        best_validation_score_: The largest of them: that of the state which is kept.
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
            classes: All labels there will ever be; needed in the first call only.
            sample_weight: See `fit`.

        Raises:
            ValueError: See `fit`.
        """
        if not self.__sklearn_is_fitted__():
            self.__dict__.pop("classes_", None)  # left by a call that failed
        _check_partial_fit_first_call(self, classes)
        return self._train_once(self._begin(X, y, sample_weight, self.classes_))

    def predict(self, X: npt.ArrayLike) -> Array:
        """The most probable class of each row, shape (N,)."""
        return self._decoded(self._outputs(X))

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Each class's probability, shape (N, classes), in the order of `classes_`."""
        outputs = self._outputs(X)
        return probabilities(outputs, len(self.classes_))

    def predict_log_proba(self, X: npt.ArrayLike) -> Array:
        """The logarithm of `predict_proba`, finite also where a probability rounds to 0."""
        outputs = self._outputs(X)
        return log_probabilities(outputs, len(self.classes_))

    def _learn_target(self, y: Array, sample_weight: Array | None, classes: Any) -> None:
        check_classification_targets(y)
        self.classes_ = np.unique(y) if classes is None else classes
        if len(self.classes_) < 2:
            raise DataError(f"y needs 2 classes or more, got only {self.classes_.tolist()}")

    def _coded(self, y: Array) -> Array:
        codes: Array = LabelEncoder().fit(self.classes_).transform(y)
        return codes

    def _decoded(self, outputs: Array) -> Array:
        labels: Array = self.classes_[probabilities(outputs, len(self.classes_)).argmax(axis=1)]
        return labels


class BatchNormMLPRegressor(RegressorMixin, _BatchNormMLP):  # type: ignore[misc] # as above
    """A batch-norm network that learns to predict a number, as a scikit-learn regressor.

    Targets are standardised inside, by the mean and the deviation of those that training begins
    with, so any unit will do. All else, the parameters too, is as in `BatchNormMLPClassifier`.

    Attributes:
        n_features_in_: Columns of X; `feature_names_in_` are their names, if X has them.
        n_iter_: Epochs since training began, over all calls that went on from one another.
        loss_curve_: Mean of half the squared error of each, in standardised units; the last is
            `loss_`.
        validation_scores_: R2 after each epoch of the last `fit`; None without early stopping.
        best_validation_score_: The largest of them: that of the state which is kept.
    """

    trainer_class = BatchNormRegressor
    metric = staticmethod(r2_score)

    def partial_fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Train one epoch on these rows, from the present state and optimizer memory.

        The first call settles by which mean and deviation targets are standardised: give it rows
        that are like those to come.

        Args:
            X: Shape (N, D) with N >= 2.
            y: Shape (N,).
            sample_weight: See `fit`.

        Raises:
            ValueError: See `fit`.
        """
        return self._train_once(self._begin(X, y, sample_weight))

    def predict(self, X: npt.ArrayLike) -> Array:
        """The predicted number of each row in the unit of y, shape (N,), float64."""
        return self._decoded(self._outputs(X))

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

    def _coded(self, y: Array) -> Array:
        return ((y - self._target_mean) / self._target_scale).astype(np.float32)

    def _decoded(self, outputs: Array) -> Array:
        return outputs[:, 0] * self._target_scale + self._target_mean


def _weighted(x: Array, y: Array, sample_weight: Any) -> Examples:
    """The rows of positive weight; no weights, which is faster, if all are alike."""
    given = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    kept = np.flatnonzero(given)
    if len(kept) < 2:
        raise DataError(
            f"sample_weight must be above zero in 2 rows or more, got {len(kept)}: "
            "batch norm takes the variance of a batch"
        )
    alike = given[kept].min() == given[kept].max()
    return _rows((x, y, None if alike else given), kept)


def _rows(examples: Examples, chosen: Array) -> Examples:
    x, y, sample_weight = examples
    return x[chosen], y[chosen], None if sample_weight is None else sample_weight[chosen]


def _stale(scores: Sequence[float], *, epochs: int, tol: float) -> bool:
    """Whether none of the last `epochs` scores is above the best before them, by `tol`. Pure."""
    before, last = scores[:-epochs], scores[-epochs:]
    return bool(before) and not (max(last) > max(before) and max(last) >= max(before) + tol)
