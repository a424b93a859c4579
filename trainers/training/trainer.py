"""The trainers: a batch-norm network that learns to classify or to predict a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from trainers.errors import ConfigError, DataError, StateError
from trainers.network.arrays import Array, State
from trainers.network.backprop import Backprop, Workspace
from trainers.network.losses import choose_loss, count_network_outputs
from trainers.network.network import Network, fold, forward
from trainers.network.row_broadcast import shorten_buffer
from trainers.training.batches import ShuffledBatches
from trainers.training.data import Data
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import declare_metrics, list_metrics
from trainers.training.optimizers import make_optimizer, prepare_weight_decay
from trainers.training.random_streams import check_seed, make_generator
from trainers.training.schedules import compute_learning_rate
from trainers.training.settings import Settings, apply_changes, read_settings
from trainers.training.state_values import read_array, read_count, read_text

__all__ = ["BatchNormClassifier", "BatchNormRegressor", "select_weights"]

#: Smallest number of validation rows that are evaluated at a time.
_FEWEST_ROWS = 32

#: Prefixes of a state's names that are not weights.
_NOT_WEIGHTS = ("optimizer.", "trainer.")


class _BatchNormTrainer:
    """Trainer of one network; between two epochs it can be saved, moved and adjusted.

    The state holds what was learnt and where training stands (with the seed, from which every
    epoch's random numbers follow), not the hyperparameters: those are the arguments of the
    constructor and of `adjust`, so a state can also continue under others.

    Args:
        config: Hyperparameters, see `settings.Settings`; absent or None is the default.
        seed: In [0, 2**63); same seed, config and data give the same bits.
        data: Not written into, and not copied if x lies row by row in memory.
        max_epochs: Epochs after which the cosine schedule ends; training itself may stop sooner.

    Raises:
        ConfigError: If a hyperparameter, the seed or max_epochs is wrong.
        DataError: If the data is for another task.
    """

    #: Type and goal of what an epoch reports, by name; see `orchestrator.runtime.trainer`.
    metrics: ClassVar[dict[str, tuple[type, str]]]
    task: ClassVar[str]  #: task of the network, "classification" or "regression"

    def __init__(
        self, config: Mapping[str, object], *, seed: int, data: Data, max_epochs: int
    ) -> None:
        if data.task != self.task:
            raise DataError(f"{type(self).__name__} needs {self.task} data, got {data.task}")
        if not isinstance(max_epochs, int) or max_epochs < 1:
            raise ConfigError(f"max_epochs must be a whole number >= 1, got {max_epochs!r}")
        self._settings = read_settings(config)
        self._config = dict(config)
        self._seed = check_seed(seed)
        self._data = data
        self._max_epochs = max_epochs
        self._epochs = 0
        columns, outputs = data.x_train.shape[1], count_network_outputs(data.task, data.outputs)
        self._network = Network((columns, *self._settings.units, outputs), dtype=data.x_train.dtype)
        self._network.draw(make_generator(self._seed, "start"), self._settings.start)
        self._outputs = np.empty((len(data.x_validation), outputs), data.x_train.dtype)
        self._build(self._settings)

    def _build(self, settings: Settings) -> None:
        """Make all that depends on the settings, except the network itself."""
        data, network = self._data, self._network
        self._optimizer = make_optimizer(
            settings.optimizer, settings.numbers, network.parameters, network.gradient
        )
        self._decay = (
            prepare_weight_decay(
                network.gradient[: network.weight_count],
                network.parameters[: network.weight_count],
                settings.weight_decay,
            )
            if settings.weight_decay > 0
            else []
        )
        self._loss = choose_loss(data.task, data.outputs)
        self._batches = ShuffledBatches(
            data.x_train,
            data.y_train,
            loss=self._loss,
            classes=data.outputs,
            batch_size=settings.batch_size,
            weights=data.weights_train,
        )
        self._workspace = Workspace(
            network.widths, rows=self._batches.largest_batch, dtype=data.x_train.dtype
        )
        self._backprops: dict[int, Backprop] = {}

    def epoch(self) -> dict[str, float]:
        """Train one more epoch, then evaluate on the validation data.

        Returns:
            The declared metrics, and no others. After a batch whose loss is not finite the epoch
            ends there and all of them are nan; there is no error and no warning.
        """
        with np.errstate(all="ignore"):
            with shorten_buffer():
                train_loss = self._train()
            self._epochs += 1
            if not math.isfinite(train_loss):
                return dict.fromkeys(self.metrics, math.nan)
            return {"train_loss": train_loss, **self._evaluate()}

    def state(self) -> State:
        """Copy all that the next epoch depends on besides config and data; see `load`."""
        return {
            **{name: view.copy() for name, view in self._network.view_weights().items()},
            **self._optimizer.state(),
            "optimizer.name": self._settings.optimizer,
            "trainer.steps": self._network.statistics.batches,
            "trainer.epochs": self._epochs,
            "trainer.seed": self._seed,
        }

    def load(self, state: Mapping[str, object]) -> None:
        """Continue from a `state` as if training had never stopped, bit for bit.

        The seed of the state replaces that of the constructor. Keys that no `state` has are
        ignored.

        Raises:
            StateError: If the state is of another architecture, dtype or optimizer.
        """
        if (name := read_text(state, "optimizer.name")) != self._settings.optimizer:
            raise StateError(
                f"the state is of optimizer {name!r}, this trainer has "
                f"{self._settings.optimizer!r}: build it with the state's"
            )
        views = self._network.view_weights()
        arrays = {key: read_array(state, key, example=view) for key, view in views.items()}
        if f"layer_{self._network.hidden_layers + 1}.weight" in state:
            raise StateError(f"the state has more than {self._network.hidden_layers} layers")
        steps = read_count(state, "trainer.steps")
        epochs = read_count(state, "trainer.epochs")
        seed = check_seed(read_count(state, "trainer.seed"))
        self._optimizer.load(state)
        for key, view in views.items():
            np.copyto(view, arrays[key])
        self._network.statistics.restart(steps)
        self._epochs, self._seed = epochs, seed

    def __reduce__(self) -> tuple[Callable[..., _BatchNormTrainer], tuple[Any, ...]]:
        """Build copies and pickles anew: their prepared calls must know their own arrays."""
        arguments = (type(self), self._config, self._seed, self._data, self._max_epochs)
        return _rebuild, (*arguments, self.state())

    def adjust(self, changes: Mapping[str, object]) -> None:
        """Continue with other hyperparameters; None sets a hyperparameter to its default.

        Raises:
            ConfigError: If a key cannot be changed once training has begun, or a value is wrong;
                nothing is changed then.
        """
        config = apply_changes(self._config, changes)
        settings = read_settings(config)
        memory = self._optimizer.state()
        self._config, self._settings = config, settings
        self._build(settings)
        self._optimizer.load(memory)

    def _train(self) -> float:
        """Train one epoch and return its mean loss, which is not finite if training diverged.

        The penalty of weight decay is not in the loss.
        """
        settings, statistics = self._settings, self._network.statistics
        step, decay = self._optimizer.step, self._decay
        rate = compute_learning_rate(
            settings.schedule,
            settings.numbers,
            initial_rate=settings.learning_rate,
            epoch=self._epochs,
            max_epochs=self._max_epochs,
        )
        norm_decay, epsilon = settings.batchnorm_decay, settings.batchnorm_epsilon
        shuffling = make_generator(self._seed, "shuffle", epoch=self._epochs)
        dropping = make_generator(self._seed, "dropout", epoch=self._epochs)
        total, rows, backprop = 0.0, 0, None
        try:
            for x, targets, shares in self._batches.draw_epoch(shuffling):
                if backprop is None or len(x) != rows:
                    rows = len(x)
                    backprop = self._prepare_backprop(rows)
                    backprop.begin(dropping)
                loss = backprop(x, targets, shares)
                if not math.isfinite(loss):
                    return loss
                total += loss * rows
                statistics.add(rows=rows, decay=norm_decay, epsilon=epsilon)
                for run in decay:
                    run()
                step(rate)
        finally:
            statistics.settle(decay=norm_decay, epsilon=epsilon)
        return total / len(self._data.x_train)

    def _prepare_backprop(self, rows: int) -> Backprop:
        """Prepare the step for batches of `rows` examples: an epoch has one or two sizes."""
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
        """Compute the validation metrics, with the running statistics."""
        memory, block_rows = self._choose_block()
        self._fill_outputs(memory, block_rows)
        evaluation = Evaluation(
            outputs=self._outputs,
            targets=self._data.y_validation,
            classes=self._data.outputs,
            block_rows=block_rows,
            target_scale=self._data.target_scale,
        )
        return {m.validation_name: m.compute(evaluation) for m in list_metrics(self.task)}

    def _choose_block(self) -> tuple[Array | None, int]:
        """Choose the memory and the number of validation rows that are evaluated at a time.

        As many rows as the memory of a training step has room for; with thousands of classes it has
        none, and new memory is taken (None).
        """
        memory: Array = self._workspace.memory
        rows = memory.size // (2 * max(self._network.widths[1:]))
        return (memory, rows) if rows >= _FEWEST_ROWS else (None, _FEWEST_ROWS)

    def _fill_outputs(self, memory: Array | None, block_rows: int) -> None:
        """Fill `_outputs` with the network's outputs for the validation rows."""
        x, settings = self._data.x_validation, self._settings
        layers = fold(self._network.view_weights(), epsilon=settings.batchnorm_epsilon)
        for first in range(0, len(x), block_rows):
            rows = slice(first, first + block_rows)
            self._outputs[rows] = forward(
                layers, x[rows], activation=settings.activation, memory=memory
            )


class BatchNormClassifier(_BatchNormTrainer):
    """A batch-norm network with softmax, or sigmoid for two classes, and cross-entropy."""

    task = "classification"
    metrics: ClassVar[dict[str, tuple[type, str]]] = declare_metrics(task)


class BatchNormRegressor(_BatchNormTrainer):
    """A batch-norm network with one linear output and half the squared error.

    `train_loss` is in squared standardised units, the validation errors are in natural ones.
    """

    task = "regression"
    metrics: ClassVar[dict[str, tuple[type, str]]] = declare_metrics(task)


def _rebuild(
    trainer_class: type[_BatchNormTrainer],
    config: Mapping[str, object],
    seed: int,
    data: Data,
    max_epochs: int,
    state: State,
) -> _BatchNormTrainer:
    trainer = trainer_class(config, seed=seed, data=data, max_epochs=max_epochs)
    trainer.load(state)
    return trainer


def select_weights(state: Mapping[str, object]) -> dict[str, Array]:
    """Select the part of a `state` that `trainers.network.network.predict` needs. Pure."""
    return {
        key: np.asarray(value) for key, value in state.items() if not key.startswith(_NOT_WEIGHTS)
    }
