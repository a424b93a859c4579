"""Intervals against a normal mean's, and against the coverage they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_runs import searched

from pipelines.data.intervals import (
    bootstrap_interval,
    compute_intervals,
    estimate_interval,
    wilson_interval,
)
from pipelines.see.run import load_run
from pipelines.see.summary import describe_best
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import METRICS, Metric


def test_that_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).standard_normal(2_000)
    evaluation = Evaluation(outputs=values, targets=values, classes=1, block_rows=2_000)
    ends = bootstrap_interval(lambda e: float(e.outputs.mean()), evaluation)
    reach = 1.96 * values.std() / np.sqrt(len(values))
    assert ends == pytest.approx([values.mean() - reach, values.mean() + reach], abs=0.2 * reach)


@pytest.mark.parametrize(("share", "rows"), [(0.5, 40), (0.97, 270), (0.999, 1_000)])
def test_a_shares_interval_holds_the_truth_nineteen_times_of_twenty(
    share: float, rows: int
) -> None:
    seen = np.random.default_rng(0).binomial(rows, share, size=2_000) / rows
    ends = {s: wilson_interval(s, rows) for s in np.unique(seen)}
    held = np.mean([ends[s][0] <= share <= ends[s][1] for s in seen])
    assert 0.92 < held <= 0.99


@pytest.mark.parametrize("data", ["wine", "diabetes"])
def test_every_figure_of_the_best_model_has_one_on_both_splits(data: str, tmp_path: Path) -> None:
    top = describe_best(load_run(searched(tmp_path / "run", data, trials=3)))
    assert top is not None
    for split in ("validation", "test"):
        for name, value in top[split].items():
            low, high = top["intervals"][split][name]
            assert low <= value <= high and low < high


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_every_registered_metric_has_an_interval_within_its_bounds(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    classes = 3 if metric.task == "classification" else 1
    evaluation = Evaluation(
        outputs=rng.normal(size=(60, classes)),
        targets=rng.integers(0, 3, 60) if classes == 3 else rng.normal(size=60),
        classes=classes,
        block_rows=60,
    )
    (ends,) = compute_intervals([metric], evaluation).values()
    low, high = metric.bounds
    assert low <= ends[0] <= metric.compute(evaluation) <= ends[1] <= high


def test_an_interval_without_outputs_needs_a_metric_whose_value_and_rows_are_enough() -> None:
    assert estimate_interval("accuracy", 0.9, 50) == wilson_interval(0.9, 50)
    assert estimate_interval("log_loss", 0.9, 50) is None
    assert estimate_interval("balanced_accuracy", 0.9, 50) is None  # of a user's own trainer
