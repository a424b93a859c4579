from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import textbook_network as textbook
from sklearn.datasets import load_digits
from trainer_examples import Trainer, after, blobs, data_for, digest, trainer, waves

from trainers.errors import ConfigError, DataError
from trainers.network.arrays import Array
from trainers.training.batches import compute_batch_bounds
from trainers.training.data import Data
from trainers.training.random_streams import make_generator
from trainers.training.schedules import compute_learning_rate
from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor, select_weights


def digits() -> Data:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float32), y[order]
    return Data(
        task="classification",
        outputs=10,
        x_train=x[:1437],
        y_train=y[:1437],
        x_validation=x[1437:],
        y_validation=y[1437:],
    )


def declared(trained: Trainer) -> list[str]:
    return list(type(trained).metrics)


def test_the_default_classifier_learns_digits_in_ten_epochs() -> None:
    trained = trainer(data=digits(), max_epochs=10)
    for _ in range(10):
        metrics = trained.epoch()
    assert metrics["validation_accuracy"] > 0.95


def test_the_regressor_learns_a_smooth_function() -> None:
    trained = trainer({"learning_rate": 0.01, "batch_size": 32}, data=waves(rows=800))
    for _ in range(20):
        metrics = trained.epoch()
    assert metrics["validation_r2"] > 0.95


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_an_epoch_returns_exactly_the_declared_metrics_as_floats(outputs: int) -> None:
    trained = trainer(data=data_for(outputs))
    metrics = trained.epoch()
    assert list(metrics) == declared(trained)
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())


class Textbook:
    """The whole training, epoch by epoch, from the plain pieces."""

    def __init__(self, w: dict[str, Array], data: Data, optimizer: str) -> None:
        self.w = {name: value.copy() for name, value in w.items()}
        self.data, self.seen = data, 0
        self.rules = {name: textbook.Optimizer(optimizer) for name in w if "running" not in name}

    def epoch(self, epoch: int, *, rate: float, activation: str, weight_decay: float) -> float:
        order = make_generator(3, "shuffle", epoch=epoch).permutation(len(self.data.x_train))
        total = 0.0
        for start, stop in compute_batch_bounds(len(order), 16):
            rows = order[start:stop]
            loss, gradients, caches = textbook.train_pass(
                {name: value for name, value in self.w.items() if "running" not in name},
                self.data.x_train[rows],
                self.data.y_train[rows],
                outputs=self.data.outputs,
                activation=activation,
                epsilon=1e-5,
            )
            total += loss * len(rows)
            self.follow(caches, n=len(rows))
            for name, g in gradients.items():
                if name.endswith(".weight"):
                    g = g + weight_decay * self.w[name]
                self.w[name] = self.rules[name].updated(self.w[name], g, rate)
        return total / len(order)

    def follow(self, caches: list[dict[str, Array]], *, n: int) -> None:
        d = min(0.9, self.seen / (self.seen + 1))
        self.seen += 1
        for i, cache in enumerate(caches, start=1):
            batch = {"mean": cache["mean"], "variance": cache["variance"] * n / (n - 1)}
            for part, value in batch.items():
                name = f"layer_{i}.running_{part}"
                self.w[name] = d * self.w[name] + (1 - d) * value


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop", "adam"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_training_equals_the_textbook_from_the_first_batch_to_the_last(
    outputs: int, optimizer: str, activation: str
) -> None:
    data = data_for(outputs, dtype="float64")  # 65 rows in batches of 16: the last has 17
    config = {
        "optimizer": optimizer,
        "activation": activation,
        "batch_size": 16,
        "units_1": 8,
        "units_2": 6,
        "learning_rate": 0.01,
        "weight_decay": 0.05,
        "schedule": "inverse",
        "schedule_rate": 0.7,
    }
    fast = trainer(config, data=data, seed=3)
    plain = Textbook(select_weights(fast.state()), data, optimizer)
    for epoch in range(3):
        rate = compute_learning_rate(
            "inverse", {"schedule_rate": 0.7}, initial_rate=0.01, epoch=epoch, max_epochs=20
        )
        wanted = plain.epoch(epoch, rate=rate, activation=activation, weight_decay=0.05)
        assert fast.epoch()["train_loss"] == pytest.approx(wanted, rel=1e-7)
    for name, value in select_weights(fast.state()).items():
        np.testing.assert_allclose(value, plain.w[name], rtol=1e-6, atol=1e-8, err_msg=name)


def test_he_and_xavier_start_with_their_variances_in_every_matrix() -> None:
    sizes = {"units_1": 300, "units_2": 200}
    for start in ("he", "xavier"):
        state = trainer({"start": start, **sizes}, data=blobs(columns=100)).state()
        for name in ("layer_1.weight", "layer_2.weight"):
            weight = np.asarray(state[name])
            inputs, outputs = weight.shape
            variance = 2 / inputs if start == "he" else 2 / (inputs + outputs)
            # At least 30 000 draws: 5% is more than six standard errors of a normal's variance.
            assert weight.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("rows", [33, 32, 2, 3])
def test_a_last_batch_of_one_and_a_set_below_the_batch_size_train(rows: int) -> None:
    metrics = after(2, trainer({"batch_size": 16}, data=blobs(rows=rows))).epoch()
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("rate", [1e38, 1e300])
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop", "adam"])
def test_a_rate_that_diverges_gives_metrics_that_are_not_finite_and_no_warning(
    optimizer: str, outputs: int, rate: float
) -> None:
    config = {"optimizer": optimizer, "learning_rate": rate, "batch_size": 16}
    trained = trainer(config, data=data_for(outputs))
    metrics = after(3, trained).epoch()
    assert list(metrics) == declared(trained)
    assert not all(math.isfinite(value) for value in metrics.values())
    trained.load(trained.state())


def test_a_loss_that_is_not_finite_ends_the_epoch_with_nan_everywhere() -> None:
    trained = trainer(data=blobs())
    state = trained.state()
    trained.load({**state, "output.bias": np.full(3, np.nan, np.float32)})
    assert all(math.isnan(value) for value in trained.epoch().values())
    assert trained.state()["trainer.epochs"] == 1
    assert trained.state()["trainer.steps"] == 0


def test_training_never_writes_into_its_data() -> None:
    data = blobs()
    assert not data.x_train.flags.writeable
    before = data.x_train.copy(), data.x_validation.copy()
    after(2, trainer({"dropout": 0.5}, data=data))
    assert (data.x_train == before[0]).all()
    assert (data.x_validation == before[1]).all()


def test_validation_in_chunks_equals_validation_at_once() -> None:
    data = blobs()
    long = dataclasses.replace(
        data,
        x_validation=np.tile(data.x_validation, (30, 1)),
        y_validation=np.tile(data.y_validation, 30),
    )
    short_metrics, long_metrics = trainer(data=data).epoch(), trainer(data=long).epoch()
    for name, value in short_metrics.items():
        assert long_metrics[name] == pytest.approx(value, rel=1e-5)


def test_early_validation_is_sane_although_the_statistics_decay_slowly() -> None:
    metrics = trainer({"batchnorm_decay": 0.999}, data=digits()).epoch()
    assert metrics["validation_log_loss"] < math.log(10)


def test_r2_of_a_constant_target_is_zero() -> None:
    flat = dataclasses.replace(waves(), y_validation=np.full(40, 0.1, np.float32))
    assert trainer(data=flat).epoch()["validation_r2"] == 0.0


def test_weight_decay_shrinks_the_matrices_and_is_not_in_the_train_loss() -> None:
    config = {"optimizer": "sgd", "batch_size": 65}
    free = trainer({**config}, data=blobs())
    bound = trainer({**config, "weight_decay": 10.0}, data=blobs())
    assert free.epoch()["train_loss"] == bound.epoch()["train_loss"]
    a, b = free.state(), bound.state()
    assert np.linalg.norm(np.asarray(b["layer_1.weight"])) < np.linalg.norm(
        np.asarray(a["layer_1.weight"])
    )
    assert (np.asarray(b["layer_1.gamma"]) == np.asarray(a["layer_1.gamma"])).all()


def test_adjusting_to_the_same_values_changes_no_bit() -> None:
    config = {"dropout": 0.2, "batch_size": 16}
    plain, touched = trainer(config, data=blobs()), trainer(config, data=blobs())
    after(2, plain)
    after(2, touched).adjust({"dropout": 0.2, "batch_size": 16, "learning_rate": 1e-3})
    assert digest(after(2, touched).state()) == digest(after(2, plain).state())


def test_an_adjusted_trainer_goes_on_as_one_built_with_the_new_values() -> None:
    changes = {"learning_rate": 0.02, "batch_size": 8, "dropout": 0.5, "adam_beta1": 0.5}
    adjusted = after(2, trainer(data=blobs()))
    state = adjusted.state()
    adjusted.adjust(changes)
    built = trainer(changes, data=blobs())
    built.load(state)
    assert digest(after(2, adjusted).state()) == digest(after(2, built).state())


@pytest.mark.parametrize(
    "changes", [{"units_1": 3}, {"speed": 1}, {"learning_rate": -1}, {"batch_size": 1}]
)
def test_a_wrong_adjustment_is_an_error_and_changes_nothing(changes: dict[str, object]) -> None:
    trained, plain = after(1, trainer(data=blobs())), after(1, trainer(data=blobs()))
    with pytest.raises(ConfigError):
        trained.adjust({"dropout": 0.5, **changes})
    assert digest(after(1, trained).state()) == digest(after(1, plain).state())


def test_wrong_arguments_are_errors_that_say_what_is_needed() -> None:
    with pytest.raises(ConfigError, match="unknown hyperparameter speed"):
        trainer({"speed": 1}, data=blobs())
    with pytest.raises(ConfigError, match="seed"):
        trainer(data=blobs(), seed=-1)
    with pytest.raises(ConfigError, match="max_epochs"):
        trainer(data=blobs(), max_epochs=0)
    with pytest.raises(DataError, match="BatchNormClassifier needs classification data"):
        BatchNormClassifier({}, seed=0, data=waves(), max_epochs=1)
    with pytest.raises(DataError, match="BatchNormRegressor needs regression data"):
        BatchNormRegressor({}, seed=0, data=blobs(), max_epochs=1)
