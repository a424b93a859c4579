from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from trainer_examples import Trainer, blobs, data_for, trainer, waves

from trainers.network.losses import compute_probabilities
from trainers.network.network import predict
from trainers.training import metrics
from trainers.training.data import Data
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import (
    METRICS,
    Metric,
    compute_metrics,
    declare_metrics,
    find_metric,
    list_metrics,
)
from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor, select_weights


def compute_auc(evaluation: Evaluation) -> float:
    """Area under the ROC curve: not a sum over the rows."""
    return float(roc_auc_score(evaluation.targets, evaluation.outputs[:, 0]))


#: A metric as a reader might add it.
AUC = Metric(
    name="roc_auc",
    task="classification",
    goal="max",
    bounds=(0.0, 1.0),
    interval="bootstrap",
    compute=compute_auc,
)


def evaluation_of(trained: Trainer) -> Evaluation:
    """What the trainer's network gives for all validation rows at once."""
    data = blobs(classes=2)
    weights = select_weights(trained.state())
    outputs = predict(weights, data.x_validation, activation="relu", epsilon=1e-5)
    return Evaluation(outputs=outputs, targets=data.y_validation, classes=2, block_rows=40)


def test_what_decides_and_what_breaks_ties_is_what_it_was() -> None:
    assert list(declare_metrics("classification").items())[:3] == [
        ("train_loss", (float, "none")),
        ("validation_accuracy", (float, "max")),
        ("validation_log_loss", (float, "min")),
    ]
    assert list(declare_metrics("regression").items())[:4] == [
        ("train_loss", (float, "none")),
        ("validation_rmse", (float, "min")),
        ("validation_mae", (float, "min")),
        ("validation_r2", (float, "max")),
    ]
    assert BatchNormClassifier.metrics == declare_metrics("classification")
    assert BatchNormRegressor.metrics == declare_metrics("regression")


def test_a_metric_of_the_whole_validation_set_is_one_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = trainer({"batch_size": 2, "units_1": 8, "units_2": 4}, data=blobs(classes=2))
    before = plain.epoch()
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, AUC))
    trained = trainer({"batch_size": 2, "units_1": 8, "units_2": 4}, data=blobs(classes=2))
    reported = trained.epoch()
    assert list(declare_metrics("classification")) == list(reported)
    assert {name: reported[name] for name in before} == before
    wanted = compute_auc(evaluation_of(trained))
    assert reported["validation_roc_auc"] == pytest.approx(wanted, abs=1e-6)
    assert find_metric("validation_roc_auc") is find_metric("roc_auc") is AUC


def test_a_metric_has_a_name_of_its_own_over_all_tasks() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert find_metric("balanced_accuracy") is None


@given(rows=st.integers(2, 40), outputs=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_metric_is_that_of_scikit_learn_whatever_the_block(
    rows: int, outputs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(rows, 1 if outputs < 3 else outputs)) * 3
    if outputs == 1:
        y = rng.normal(size=rows)
        wanted = {
            "rmse": 2.0 * root_mean_squared_error(y, raw[:, 0]),
            "mae": 2.0 * mean_absolute_error(y, raw[:, 0]),
            "r2": r2_score(y, raw[:, 0]),
        }
    else:
        y = rng.integers(0, outputs, rows)
        p = compute_probabilities(raw, outputs)
        wanted = {
            "accuracy": accuracy_score(y, p.argmax(axis=1)),
            "log_loss": log_loss(y, p, labels=range(outputs)),
        }
    task = "regression" if outputs == 1 else "classification"
    for block_rows in (1, 7, rows):
        evaluation = Evaluation(
            outputs=raw, targets=y, classes=outputs, block_rows=block_rows, target_scale=2.0
        )
        assert compute_metrics(task, evaluation) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_every_reported_value_lies_within_the_bounds_of_its_metric(outputs: int) -> None:
    trained = trainer(data=data_for(outputs))
    for _ in range(3):
        reported = trained.epoch()
        for metric in list_metrics(trained.task):
            low, high = metric.bounds
            assert low <= reported[metric.validation_name] <= high


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("data", [blobs(classes=2), blobs(classes=3), waves()])
def test_outputs_that_are_not_finite_give_no_good_value_in_any_block(
    data: Data, bad: float
) -> None:
    classes = data.outputs
    outputs = np.zeros((9, 1 if classes < 3 else 3))
    outputs[4, 0] = bad
    targets = np.arange(9) % 2 if classes > 1 else np.arange(9.0)
    evaluation = Evaluation(outputs=outputs, targets=targets, classes=classes, block_rows=2)
    with np.errstate(all="ignore"):
        values = compute_metrics(data.task, evaluation)
    assert not any(math.isfinite(value) for value in values.values())
