"""An added metric reaches the saved model, its intervals and the choice of the objective."""

from __future__ import annotations

from typing import ClassVar

import pytest
from sklearn.metrics import roc_auc_score

from orchestrator.runtime.trainer import choose_objective
from pipelines.data.datasets import read_table
from pipelines.data.model import Model
from pipelines.data.prepare import prepare_table
from trainers.training import metrics
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import METRICS, Metric, declare_metrics
from trainers.training.trainer import BatchNormClassifier, select_weights


def compute_auc(evaluation: Evaluation) -> float:
    """Area under the ROC curve: not a sum over the rows."""
    return float(roc_auc_score(evaluation.targets, evaluation.outputs[:, 0]))


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    auc = Metric(
        name="roc_auc",
        task="classification",
        goal="max",
        bounds=(0.0, 1.0),
        interval="bootstrap",
        compute=compute_auc,
    )
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, auc))


def test_the_saved_model_computes_it_with_its_interval() -> None:
    data = prepare_table(read_table("breast_cancer"), task=None, seed=0)
    trainer = BatchNormClassifier({}, seed=0, data=data.data, max_epochs=2)
    reported = [trainer.epoch() for _ in range(2)][-1]
    model = Model(
        weights=select_weights(trainer.state()),
        config={},
        preprocessing=data.preprocessing,
        trial=0,
        epoch=2,
    )
    computed = model.evaluate(data.data.x_validation, data.data.y_validation)
    assert list(computed) == ["accuracy", "log_loss", "roc_auc"]
    for name, value in computed.items():
        assert value == pytest.approx(reported[f"validation_{name}"], rel=1e-5)
    wanted = roc_auc_score(data.y_test, model.compute_outputs(data.x_test)[:, 1])
    assert model.evaluate(data.x_test, data.y_test)["roc_auc"] == pytest.approx(wanted)
    low, high = model.compute_intervals(data.x_test, data.y_test)["roc_auc"]
    assert low <= wanted <= high


def test_what_decides_by_default_stays_and_the_new_one_decides_if_asked() -> None:
    class Trainer(BatchNormClassifier):
        metrics: ClassVar[dict[str, tuple[type, str]]] = declare_metrics("classification")

    assert choose_objective(Trainer, None) == choose_objective(BatchNormClassifier, None)
    asked = choose_objective(Trainer, "roc_auc")
    assert (asked.metric, asked.maximize) == ("validation_roc_auc", True)
    assert (asked.tie_metric, asked.tie_maximize) == ("validation_accuracy", True)
