"""Inputs at the edge of what a network can be given: right, or an error that says what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trainer_examples import Trainer, blobs, data_for, trainer

from trainers.errors import DataError
from trainers.network.arrays import Array
from trainers.network.network import predict
from trainers.training.data import Data
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import compute_metrics
from trainers.training.trainer import select_weights


def made_of(x: Array, y: Array, *, outputs: int = 2, dtype: str = "float32") -> Data:
    """The same rows for training and for validation."""
    x = np.asarray(x, dtype)
    return Data(
        task="classification",
        outputs=outputs,
        x_train=x,
        y_train=y,
        x_validation=x,
        y_validation=y,
    )


def sides(rows: int = 64) -> tuple[Array, Array]:
    """One feature whose sign is the class."""
    x = np.random.default_rng(0).normal(size=(rows, 1))
    return x, (x[:, 0] > 0).astype(int)


def last_of(trained: Trainer, epochs: int = 20) -> dict[str, float]:
    for _ in range(epochs):
        metrics = trained.epoch()
        assert all(math.isfinite(value) for value in metrics.values())
    return metrics


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_constant_features_change_nothing(activation: str) -> None:
    x, y = sides()
    config = {"batch_size": 16, "optimizer": "sgd", "learning_rate": 0.1, "activation": activation}
    losses = []
    for constant in ([0.0, 0.0, 0.0], [1.0, 5.0, -1e3]):
        columns = np.concatenate([x, np.broadcast_to(constant, (64, 3))], axis=1)
        trained = trainer(config, data=made_of(columns, y, dtype="float64"))
        losses.append([trained.epoch()["train_loss"] for _ in range(10)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_features_that_are_all_constant_leave_the_share_of_each_class() -> None:
    x = np.broadcast_to([0.0, 5.0, -1e3], (64, 3))
    metrics = last_of(trainer({"batch_size": 16, "units_1": 8}, data=made_of(x, sides()[1])), 40)
    assert metrics["train_loss"] == pytest.approx(math.log(2), abs=0.1)


@pytest.mark.parametrize("config", [{"layers": 1, "units_1": 4}, {"layers": 5}])
def test_one_feature_is_enough(config: dict[str, object]) -> None:
    trained = trainer({"batch_size": 8, "learning_rate": 0.01, **config}, data=made_of(*sides()))
    assert last_of(trained, 30)["validation_accuracy"] > 0.8


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("rows", [2, 3, 64])
def test_batches_of_two_and_a_last_one_of_three_train(outputs: int, rows: int) -> None:
    last_of(trainer({"batch_size": 2}, data=data_for(outputs, rows=rows)), 3)


def test_classes_missing_from_batches_or_from_the_validation_part_are_no_trouble() -> None:
    x, y = sides()
    data = made_of(x, np.where(y == 1, 3, 0), outputs=5)  # classes 1, 2 and 4 never come
    assert last_of(trainer({"batch_size": 4}, data=data))["validation_accuracy"] > 0.9


@pytest.mark.parametrize("size", [1e15, 1e-3, 1e-30])
def test_the_size_of_the_features_is_not_the_matter_of_the_network(size: float) -> None:
    x, y = sides()
    metrics = last_of(trainer({"batch_size": 16, "learning_rate": 0.03}, data=made_of(x * size, y)))
    if size > 1e-20:
        assert metrics["validation_accuracy"] > 0.9
    else:  # far below batch norm's epsilon: a constant, by its definition
        assert metrics["train_loss"] == pytest.approx(math.log(2), abs=0.1)


def test_features_whose_squares_overflow_are_refused() -> None:
    x, y = sides()
    with pytest.raises(DataError, match=r"must lie within \+-3e\+15 for float32, got .e\+30"):
        made_of(x * 1e30, y)


def test_features_with_a_large_mean_and_a_small_deviation_are_learnt() -> None:
    x, y = sides(256)
    metrics = last_of(trainer({"learning_rate": 0.03}, data=made_of(1000 + x, y)), 30)
    # Not in validation: the running mean of z, a thousand times a weight, runs after that weight.
    assert metrics["train_loss"] < 0.2


def test_ten_thousand_classes_train() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 4)), rng.integers(0, 10_000, 300)
    trained = trainer({"batch_size": 32, "layers": 1}, data=made_of(x, y, outputs=10_000))
    first, *_, last = (trained.epoch() for _ in range(15))
    assert first["validation_log_loss"] == pytest.approx(math.log(10_000), rel=0.1)
    assert last["train_loss"] < first["train_loss"] - 1


def test_a_weight_of_zero_is_a_row_whose_target_does_not_count() -> None:
    data = blobs(rows=64)
    weight = np.where(np.arange(64) % 2, 2.0, 0.0).astype(np.float32)
    other = np.where(weight > 0, data.y_train, 0)
    shared = {
        "task": "classification",
        "outputs": 3,
        "x_train": data.x_train,
        "x_validation": data.x_validation,
        "y_validation": data.y_validation,
        "weights_train": weight,
    }
    one, two = (
        trainer({"batch_size": 16}, data=Data(y_train=y, **shared)) for y in (data.y_train, other)
    )
    assert [one.epoch() for _ in range(3)] == [two.epoch() for _ in range(3)]


def test_an_infinite_logit_is_no_perfect_prediction() -> None:
    logits, classes = np.array([[np.inf]], np.float32), np.array([1])
    perfect = Evaluation(outputs=logits, targets=classes, classes=2, block_rows=1)
    metrics = compute_metrics("classification", perfect)
    assert list(metrics) == ["accuracy", "log_loss"]
    assert np.isnan([*metrics.values()]).all()


def test_a_network_whose_parameters_are_not_finite_never_says_so_silently() -> None:
    trained = trainer(data=blobs())
    state = trained.state()
    state["layer_1.weight"] = np.full((5, 64), np.nan, np.float32)
    trained.load(state)
    assert all(math.isnan(value) for value in trained.epoch().values())
    outputs = predict(select_weights(state), blobs().x_validation, activation="relu", epsilon=1e-5)
    assert np.isnan(outputs).all()
