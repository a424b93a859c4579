"""The trainers: a batch-norm network that learns to classify or to predict a number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from trainers.errors import ConfigError, DataError, StateError
from trainers.network.arrays import Array, State
from trainers.network.backprop import Backprop, Workspace
from trainers.network.losses import loss_class, network_outputs
from trainers.network.network import Network, fold, forward
from trainers.network.spread import short_buffer
from trainers.training import saved
from trainers.training.batches import ShuffledBatches
from trainers.training.data import Data
from trainers.training.metrics import (
    accuracy_and_log_loss,
    classification_sums,
    regression_errors,
    regression_sums,
)
from trainers.training.optimizers import make_optimizer, weight_decay_calls
from trainers.training.random_streams import checked_seed, stream
from trainers.training.schedules import learning_rate
from trainers.training.settings import Settings, adjusted, read_settings

__all__ = ["BatchNormClassifier", "BatchNormRegressor", "weights"]

#: Validation examples at a time, at least.
_FEWEST_ROWS = 32

_NOT_WEIGHTS = ("optimizer.", "trainer.")


class _BatchNormTrainer(ABC):
    """Trains one network epoch by epoch; between two epochs it can be saved, moved and adjusted.

    The state holds what was learnt and where training stands (with the seed, from which every
    epoch's random numbers follow), not the hyperparameters: those are the ones given here and in
    `adjust`, so a state can also go on under others.

    Args:
        config: Hyperparameters, see `settings.Settings`; absent or None is the default.
        seed: In [0, 2**63); same seed, config and data give the same bits.
        data: Not written into, and not copied if x lies row by row in memory.
        max_epochs: Where the cosine schedule ends; training itself may stop sooner.

    Raises:
        ConfigError: If a hyperparameter, the seed or max_epochs is wrong.
        DataError: If the data is for another task.
    """

    metrics: ClassVar[dict[str, tuple[type, str]]]
    task: ClassVar[str]

    def __init__(
        self, config: Mapping[str, object], *, seed: int, data: Data, max_epochs: int
    ) -> None:
        if data.task != self.task:
            raise DataError(f"{type(self).__name__} needs {self.task} data, got {data.task}")
        if not isinstance(max_epochs, int) or max_epochs < 1:
            raise ConfigError(f"max_epochs must be a whole number >= 1, got {max_epochs!r}")
        self._settings = read_settings(config)
        self._config = dict(config)
        self._seed = checked_seed(seed)
        self._data = data
        self._max_epochs = max_epochs
        self._epochs = 0
        columns, outputs = data.x_train.shape[1], network_outputs(data.task, data.outputs)
        self._network = Network((columns, *self._settings.units, outputs), dtype=data.x_train.dtype)
        self._network.draw(stream(self._seed, "start"), self._settings.start)
        self._build(self._settings)

    def _build(self, settings: Settings) -> None:
        """Make all that depends on the settings, except the network itself."""
        data, network = self._data, self._network
        self._optimizer = make_optimizer(settings, network.parameters, network.gradient)
        self._decay = (
            weight_decay_calls(
                network.gradient[: network.weight_count],
                network.parameters[: network.weight_count],
                settings.weight_decay,
            )
            if settings.weight_decay > 0
            else []
        )
        self._loss = loss_class(data.task, data.outputs)
        self._batches = ShuffledBatches(
            data.x_train,
            data.y_train,
            loss=self._loss,
            classes=data.outputs,
            batch_size=settings.batch_size,
            weights=data.weights_train,
        )
        self._workspace = Workspace(
            network.widths, rows=self._batches.largest, dtype=data.x_train.dtype
        )
        self._backprops: dict[int, Backprop] = {}

    def epoch(self) -> dict[str, float]:
        """Train one more epoch, then evaluate on the validation data.

        Returns:
            Exactly the declared metrics. After a batch whose loss is not finite the epoch ends
            there and all of them are nan; there is no error and no warning.
        """
        with np.errstate(all="ignore"):
            with short_buffer():
                train_loss = self._train()
            self._epochs += 1
            if not math.isfinite(train_loss):
                return dict.fromkeys(self.metrics, math.nan)
            return {"train_loss": train_loss, **self._evaluate()}

    def state(self) -> State:
        """All that the next epoch depends on besides config and data, as copies; see `load`."""
        return {
            **{name: view.copy() for name, view in self._network.weights().items()},
            **self._optimizer.state(),
            "optimizer.name": self._settings.optimizer,
            "trainer.steps": self._network.statistics.batches,
            "trainer.epochs": self._epochs,
            "trainer.seed": self._seed,
        }

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state` as if training had never stopped, bit for bit.

        The seed of the state replaces that of the constructor. Keys that no `state` has are
        ignored.

        Raises:
            StateError: If the state is of another architecture, dtype or optimizer.
        """
        if (name := saved.text(state, "optimizer.name")) != self._settings.optimizer:
            raise StateError(
                f"the state is of optimizer {name!r}, this trainer has "
                f"{self._settings.optimizer!r}: build it with the state's"
            )
        views = self._network.weights()
        arrays = {key: saved.array(state, key, like=view) for key, view in views.items()}
        if f"layer_{self._network.hidden_layers + 1}.weight" in state:
            raise StateError(f"the state has more than {self._network.hidden_layers} layers")
        steps = saved.count(state, "trainer.steps")
        epochs = saved.count(state, "trainer.epochs")
        seed = checked_seed(saved.count(state, "trainer.seed"))
        self._optimizer.load(state)
        for key, view in views.items():
            np.copyto(view, arrays[key])
        self._network.statistics.restart(steps)
        self._epochs, self._seed = epochs, seed

    def __reduce__(self) -> tuple[Callable[..., _BatchNormTrainer], tuple[Any, ...]]:
        """Copies and pickles are built anew: their prepared calls must know their own arrays."""
        arguments = (type(self), self._config, self._seed, self._data, self._max_epochs)
        return _rebuilt, (*arguments, self.state())

    def adjust(self, changes: Mapping[str, object]) -> None:
        """Go on with other hyperparameters from the next epoch; None sets one to its default.

        Raises:
            ConfigError: If a key cannot be changed once training has begun, or a value is wrong;
                nothing is changed then.
        """
        config = adjusted(self._config, changes)
        settings = read_settings(config)
        memory = self._optimizer.state()
        self._config, self._settings = config, settings
        self._build(settings)
        self._optimizer.load(memory)

    def _train(self) -> float:
        """Mean loss over the epoch's examples, without the penalty; not finite if it diverged."""
        settings, statistics = self._settings, self._network.statistics
        step, decay = self._optimizer.step, self._decay
        rate = learning_rate(
            settings.schedule,
            initial_rate=settings.learning_rate,
            decay_rate=settings.schedule_rate,
            epoch=self._epochs,
            max_epochs=self._max_epochs,
        )
        kept, epsilon = settings.batchnorm_decay, settings.batchnorm_epsilon
        shuffling = stream(self._seed, "shuffle", epoch=self._epochs)
        dropping = stream(self._seed, "dropout", epoch=self._epochs)
        total, rows, backprop = 0.0, 0, None
        try:
            for x, targets, shares in self._batches.epoch(shuffling):
                if backprop is None or len(x) != rows:
                    rows = len(x)
                    backprop = self._backprop(rows)
                    backprop.begin(dropping)
                loss = backprop(x, targets, shares)
                if not math.isfinite(loss):
                    return loss
                total += loss * rows
                statistics.add(rows=rows, decay=kept, epsilon=epsilon)
                for each in decay:
                    each()
                step(rate)
        finally:
            statistics.settle(decay=kept, epsilon=epsilon)
        return total / len(self._data.x_train)

    def _backprop(self, rows: int) -> Backprop:
        """The step for batches of that size: an epoch has one or two sizes."""
        if rows not in self._backprops:
            self._backprops[rows] = Backprop(
                self._network,
                rows=rows,
                loss=self._loss,
                activation=self._settings.activation,
                epsilon=self._settings.batchnorm_epsilon,
                dropout=self._settings.dropout,
                workspace=self._workspace,
            )
        return self._backprops[rows]

    def _evaluate(self) -> dict[str, float]:
        """The validation metrics, with the running statistics."""
        x, y, settings = self._data.x_validation, self._data.y_validation, self._settings
        layers = fold(self._network.weights(), epsilon=settings.batchnorm_epsilon)
        # As many examples at a time as the memory of a step has room for; with thousands of classes
        # there is none.
        memory: Array | None = self._workspace.memory
        rows = self._workspace.memory.size // (2 * max(self._network.widths[1:]))
        if rows < _FEWEST_ROWS:
            memory, rows = None, _FEWEST_ROWS
        sums = np.zeros(2)
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            outputs = forward(layers, x[part], activation=settings.activation, memory=memory)
            sums += self._sums(outputs, y[part])
        return self._metrics_of(sums)

    @abstractmethod
    def _sums(self, outputs: Array, y: Array) -> Array:
        """What the metrics need from a part of the validation data, shape (2,)."""

    @abstractmethod
    def _metrics_of(self, sums: Array) -> dict[str, float]:
        """The validation metrics from the sums over all parts."""


class BatchNormClassifier(_BatchNormTrainer):
    """A batch-norm network with softmax, or sigmoid for two classes, and cross-entropy."""

    metrics: ClassVar[dict[str, tuple[type, str]]] = {
        "train_loss": (float, "none"),
        "validation_accuracy": (float, "max"),
        "validation_log_loss": (float, "min"),
    }
    task = "classification"

    def _sums(self, outputs: Array, y: Array) -> Array:
        return classification_sums(outputs, y, outputs=self._data.outputs)

    def _metrics_of(self, sums: Array) -> dict[str, float]:
        examples = len(self._data.y_validation)
        accuracy, log_loss = accuracy_and_log_loss(sums, examples=examples)
        return {"validation_accuracy": accuracy, "validation_log_loss": log_loss}


class BatchNormRegressor(_BatchNormTrainer):
    """A batch-norm network with one linear output and half the squared error.

    `train_loss` is in squared standardised units, the validation errors are in natural ones.
    """

    metrics: ClassVar[dict[str, tuple[type, str]]] = {
        "train_loss": (float, "none"),
        "validation_rmse": (float, "min"),
        "validation_mae": (float, "min"),
        "validation_r2": (float, "max"),
    }
    task = "regression"

    def _sums(self, outputs: Array, y: Array) -> Array:
        return regression_sums(outputs, y)

    def _metrics_of(self, sums: Array) -> dict[str, float]:
        rmse, mae, r2 = regression_errors(
            sums, self._data.y_validation, scale=self._data.target_scale
        )
        return {"validation_rmse": rmse, "validation_mae": mae, "validation_r2": r2}


def _rebuilt(
    made: type[_BatchNormTrainer],
    config: Mapping[str, object],
    seed: int,
    data: Data,
    max_epochs: int,
    state: State,
) -> _BatchNormTrainer:
    trainer = made(config, seed=seed, data=data, max_epochs=max_epochs)
    trainer.load(state)
    return trainer


def weights(state: Mapping[str, object]) -> dict[str, Array]:
    """The part of a `state` that `trainers.network.network.predict` needs. Pure."""
    return {
        key: np.asarray(value) for key, value in state.items() if not key.startswith(_NOT_WEIGHTS)
    }
